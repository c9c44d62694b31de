/** BTF as bpftool prints it: the types that the compiler saw in an object, by their numbers. */
import { execFileSync } from 'node:child_process';

export interface BtfType {
  readonly id: number;
  readonly kind: string;
  readonly name: string;
  readonly size?: number;
  readonly type_id?: number;
  readonly nr_elems?: number;
  /** Of an enum; as numbers without a sign, whatever the compiler took them for: so records have them. */
  readonly values?: readonly { readonly name: string; readonly val: number }[];
  readonly members?: readonly {
    readonly name: string;
    readonly type_id: number;
    readonly bits_offset: number;
    readonly bitfield_size?: number;
  }[];
  readonly vars?: readonly { readonly type_id: number }[];
}

export type BtfTypes = ReadonlyMap<number, BtfType>;

const POINTER_BYTES = 8;

/** Every type of a BPF object, in the order of their numbers. */
export function readBtf(objectPath: string): BtfTypes {
  const json = execFileSync('bpftool', ['-j', 'btf', 'dump', 'file', objectPath], { encoding: 'utf8', maxBuffer: 64 << 20 });
  // bpftool writes 1 << 31 as 64 bits with the sign in all upper ones, or as a negative number: more digits than a number has.
  const unsigned = json.replace(/"val":(-?\d+)/g, (_all, digits: string) => `"val":${BigInt.asUintN(32, BigInt(digits))}`);
  return new Map((JSON.parse(unsigned) as { types: BtfType[] }).types.map((type) => [type.id, type]));
}

/** @throws Error where BTF does not have that number. */
export function typeOf(types: BtfTypes, id: number | undefined): BtfType {
  const type = types.get(id ?? 0);
  if (!type) throw new Error(`Cannot read type ${id}: not in BTF`);
  return type;
}

/** The type behind typedefs and qualifiers. */
export function plainType(types: BtfTypes, id: number | undefined): BtfType {
  const type = typeOf(types, id);
  return ['TYPEDEF', 'CONST', 'VOLATILE'].includes(type.kind) ? plainType(types, type.type_id) : type;
}

/** Bytes that a value of the type takes. */
export function bytesOf(types: BtfTypes, id: number | undefined): number {
  const type = plainType(types, id);
  if (type.kind === 'PTR') return POINTER_BYTES;
  if (type.kind === 'ARRAY') return (type.nr_elems ?? 0) * bytesOf(types, type.type_id);
  if (type.size === undefined) throw new Error(`Cannot read the size of ${type.kind} ${type.name}`);
  return type.size;
}

/** The variables of a section of the object, in the order of their numbers. */
export function variablesOf(types: BtfTypes, section: string): BtfType[] {
  const found = [...types.values()].find(({ kind, name }) => kind === 'DATASEC' && name === section);
  return (found?.vars ?? []).map(({ type_id }) => typeOf(types, type_id));
}

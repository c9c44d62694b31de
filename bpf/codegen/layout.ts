/**
 * The layouts of a header as the compiler sees them, read from BTF through bpftool.
 *
 * Refuses what the house rules for layouts that cross a boundary forbid: bit-fields, unions, implicit padding, and pointers, but for
 * those within this process.
 */
import { type BtfType, type BtfTypes, readBtf, typeOf } from './btf.ts';

export interface EnumLayout {
  readonly name: string;
  /** From 0 to 2^32 - 1. Of several, combined by `|`, JavaScript makes a negative number where one has the last bit: `>>> 0` before it is written. */
  readonly values: readonly { readonly name: string; readonly value: number }[];
}

export interface FieldLayout {
  readonly name: string;
  /** Bytes from the start of the struct. */
  readonly offset: number;
  readonly type: FieldType;
}

export type FieldType =
  | { readonly kind: 'integer'; readonly bits: 8 | 16 | 32 | 64; readonly bigEndian: boolean }
  | { readonly kind: 'bytes'; readonly length: number }
  | { readonly kind: 'integers'; readonly bits: 16 | 32; readonly length: number }
  | { readonly kind: 'struct'; readonly name: string; readonly size: number }
  | { readonly kind: 'structs'; readonly name: string; readonly size: number; readonly length: number };

export interface StructLayout {
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  readonly fields: readonly FieldLayout[];
}

export interface Layouts {
  readonly enums: readonly EnumLayout[];
  readonly structs: readonly StructLayout[];
}

/** The types whose byte order is the network's; BTF keeps these names. */
const BIG_ENDIAN = new Set(['__be16', '__be32', '__be64']);

/**
 * Reads every enum and struct of a BPF object's BTF, in the order of their declaration there.
 *
 * @throws Error where a layout is not one that may cross a boundary.
 */
export function readLayouts(objectPath: string, pointers: 'refused' | 'addresses' = 'refused'): Layouts {
  const types = readBtf(objectPath);
  const enums: EnumLayout[] = [];
  const structs: StructLayout[] = [];
  for (const type of types.values()) {
    if (type.kind === 'ENUM' || type.kind === 'ENUM64') enums.push(readEnum(type));
    if (type.kind === 'STRUCT') structs.push(readStruct(type, types));
    if (type.kind === 'UNION' || (type.kind === 'PTR' && pointers === 'refused'))
      throw new Error(`Cannot generate ${type.kind} ${type.name}`);
  }
  return { enums, structs };
}

function readEnum(type: BtfType): EnumLayout {
  if (type.size !== 4) throw new Error(`Cannot generate enum ${type.name}: it does not fit into 32 bits`);
  return { name: type.name, values: (type.values ?? []).map((v) => ({ name: v.name, value: v.val })) };
}

function readStruct(type: BtfType, types: BtfTypes): StructLayout {
  let end = 0;
  const fields = (type.members ?? []).map((member) => {
    if (member.bitfield_size) throw new Error(`Cannot generate ${type.name}.${member.name}: a bit-field`);
    const field = { name: member.name, offset: member.bits_offset / 8, type: resolve(member.type_id, types) };
    if (field.offset !== end) throw new Error(`Cannot generate ${type.name}.${member.name}: padding before it is not written out`);
    end = field.offset + sizeOf(field.type);
    return field;
  });
  if (end !== type.size) throw new Error(`Cannot generate ${type.name}: padding at its end is not written out`);
  return { name: type.name, size: end, fields };
}

function resolve(id: number, types: BtfTypes, bigEndian = false): FieldType {
  const type = typeOf(types, id);
  switch (type.kind) {
    case 'TYPEDEF':
      return resolve(type.type_id ?? 0, types, bigEndian || BIG_ENDIAN.has(type.name));
    case 'PTR':
      return { kind: 'integer', bits: 64, bigEndian: false };
    case 'INT':
      return { kind: 'integer', bits: ((type.size ?? 0) * 8) as 8 | 16 | 32 | 64, bigEndian };
    case 'STRUCT':
      return { kind: 'struct', name: type.name, size: type.size ?? 0 };
    case 'ARRAY': {
      const element = resolve(type.type_id ?? 0, types);
      const length = type.nr_elems ?? 0;
      if (element.kind === 'integer' && element.bits === 8) return { kind: 'bytes', length };
      if (element.kind === 'integer' && element.bits !== 64) return { kind: 'integers', bits: element.bits as 16 | 32, length };
      if (element.kind === 'struct') return { kind: 'structs', name: element.name, size: element.size, length };
      throw new Error(`Cannot generate an array of ${element.kind}`);
    }
    default:
      throw new Error(`Cannot generate a field of kind ${type.kind}`);
  }
}

/** Bytes that a field takes. */
export function sizeOf(type: FieldType): number {
  switch (type.kind) {
    case 'integer':
      return type.bits / 8;
    case 'bytes':
      return type.length;
    case 'integers':
      return (type.bits / 8) * type.length;
    case 'struct':
      return type.size;
    case 'structs':
      return type.size * type.length;
  }
}

/** `verdict_key` → `VerdictKey`. */
export function pascalCase(name: string): string {
  return name.replace(/(^|_)([a-z0-9])/g, (_match, _bar, letter: string) => letter.toUpperCase());
}

/** `expires_ns` → `expiresNs`. */
export function camelCase(name: string): string {
  return name.replace(/_([a-z0-9])/g, (_match, letter: string) => letter.toUpperCase());
}

/** `REASON_PASS_NODE` of enum `reason` → `PASS_NODE`: the enum's name, or all but its last word, is the prefix. */
export function memberName(layout: EnumLayout, value: string): string {
  const whole = `${layout.name.toUpperCase()}_`;
  const shorter = whole.replace(/[A-Z0-9]+_$/, '');
  const prefix = layout.values.every((v) => v.name.startsWith(whole)) ? whole : shorter;
  if (!value.startsWith(prefix)) throw new Error(`Cannot generate ${value}: enum ${layout.name} must prefix its values`);
  return value.slice(prefix.length);
}

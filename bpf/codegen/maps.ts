/** The maps of bpf/maps.h as the compiled object declares them: what they are, the sizes of keys and values, how many entries they have room for. */
import { type BtfType, type BtfTypes, bytesOf, plainType, readBtf, typeOf, variablesOf } from './btf.ts';

export interface MapLayout {
  readonly name: string;
  /** Of enum bpf_map_type. */
  readonly kind: MapKind;
  /** Bytes; 0 where the map has none. A per-CPU map has as many values as there are processors. */
  readonly keyBytes: number;
  readonly valueBytes: number;
  /** Of a ring, its bytes. */
  readonly maxEntries: number;
  /** Whether it outlives the engine. */
  readonly pinned: boolean;
  /** BTF's numbers of the key's and the value's type. */
  readonly key: number | undefined;
  readonly value: number | undefined;
}

/** enum bpf_map_type of <linux/bpf.h>, as far as the programs use it. */
const KINDS = {
  1: 'hash',
  2: 'array',
  3: 'prog_array',
  6: 'percpu_array',
  9: 'lru_hash',
  11: 'lpm_trie',
  15: 'sockmap',
  19: 'cgroup_storage',
  24: 'sk_storage',
  27: 'ringbuf',
} as const;
export type MapKind = (typeof KINDS)[keyof typeof KINDS];

/** Every map of an object, by name. */
export function readMaps(objectPath: string, types: BtfTypes = readBtf(objectPath)): MapLayout[] {
  return variablesOf(types, '.maps')
    .map((variable) => readMap(variable, types))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

function readMap({ name, type_id }: BtfType, types: BtfTypes): MapLayout {
  const members = new Map((plainType(types, type_id).members ?? []).map((member) => [member.name, typeOf(types, member.type_id)]));
  /** `__uint(name, value)` of <bpf/bpf_helpers.h>: a pointer to an array with that many elements. */
  const number = (member: string): number => {
    const pointer = members.get(member);
    return pointer ? (plainType(types, pointer.type_id).nr_elems ?? 0) : 0;
  };
  /** `__type(name, type)`: a pointer to it. */
  const pointee = (member: string): number | undefined => members.get(member)?.type_id;
  const bytes = (member: 'key' | 'value'): number => {
    const type = pointee(member);
    return type === undefined ? number(`${member}_size`) : bytesOf(types, type);
  };
  const kind = KINDS[number('type') as keyof typeof KINDS];
  if (!kind) throw new Error(`Cannot read map ${name}: type ${number('type')} has no name in bpf/codegen/maps.ts`);
  return {
    name,
    kind,
    keyBytes: bytes('key'),
    valueBytes: bytes('value'),
    maxEntries: number('max_entries'),
    pinned: number('pinning') !== 0,
    key: pointee('key'),
    value: pointee('value'),
  };
}

const HEADER = `// Generated from bpf/maps.h by \`npm run generate\`; do not edit.
//
// The maps by name: what kind they are, bytes of a key and of a value, and how many entries they have room for unless the engine
// sizes them; of a ring, its bytes.
`;

export function writeMaps(maps: readonly MapLayout[]): string {
  return [
    HEADER,
    'export const MAPS = {',
    ...maps.map(
      ({ name, kind, keyBytes, valueBytes, maxEntries }) =>
        `  ${name}: { kind: '${kind}', keyBytes: ${keyBytes}, valueBytes: ${valueBytes}, maxEntries: ${maxEntries} },`,
    ),
    '} as const;',
    'export type MapName = keyof typeof MAPS;',
    '',
  ].join('\n');
}

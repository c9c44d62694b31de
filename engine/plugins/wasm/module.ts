/**
 * A module taken apart: its sections in their order, and what of them the host must know before it runs any of it.
 *
 * Bodies are not copied. What only V8 needs to know (that the code is well typed, that data fits) is left to V8.
 */
import { ByteReader, ByteWriter, MalformedWasm } from './binary.ts';
import { Op, skipValueType, step } from './instructions.ts';

export const Section = {
  CUSTOM: 0,
  TYPE: 1,
  IMPORT: 2,
  FUNCTION: 3,
  TABLE: 4,
  MEMORY: 5,
  GLOBAL: 6,
  EXPORT: 7,
  START: 8,
  ELEMENT: 9,
  CODE: 10,
  DATA: 11,
  DATA_COUNT: 12,
} as const;

/** The order that sections must have: the data count comes before the code that needs it. */
const ORDER = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11];
export const HEADER = Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0);
/** More entries than this in a table are memory that nothing else bounds. */
const TABLE_MAX = 65_536;
const FUNCREF = 0x70;

export interface SectionView {
  readonly id: number;
  /** Of the section's id byte, and of its body. */
  readonly start: number;
  readonly from: number;
  readonly end: number;
  /** Of a custom section. */
  readonly name?: string;
}

export interface FunctionType {
  readonly params: readonly number[];
  readonly results: readonly number[];
}

export interface ModuleView {
  readonly bytes: Uint8Array;
  readonly sections: readonly SectionView[];
  readonly types: readonly FunctionType[];
  readonly imports: readonly { readonly module: string; readonly name: string; readonly kind: string; readonly type: number }[];
  /** Type of each function that is not imported. */
  readonly functions: readonly number[];
  readonly memories: readonly { readonly initial: number; readonly maximum: number | undefined; readonly plain: boolean }[];
  readonly globals: number;
  readonly exports: ReadonlyMap<string, { readonly kind: number; readonly index: number }>;
}

const EXTERN_KINDS = ['function', 'table', 'memory', 'global', 'tag'];

/** Takes a module apart. @throws MalformedWasm */
export function parseModule(bytes: Uint8Array): ModuleView {
  if (bytes.length < HEADER.length || HEADER.some((byte, i) => bytes[i] !== byte))
    throw new MalformedWasm('it is not a WebAssembly module of version 1', 0);
  const sections = readSections(bytes);
  const body = (id: number): ByteReader => {
    const section = sections.find((candidate) => candidate.id === id);
    return section ? new ByteReader(bytes, section.from, section.end) : new ByteReader(bytes, 0, 0);
  };
  const view = {
    bytes,
    sections,
    types: readTypes(body(Section.TYPE)),
    imports: readImports(body(Section.IMPORT)),
    functions: readVector(body(Section.FUNCTION), (reader) => reader.u32()),
    memories: readVector(body(Section.MEMORY), readMemory),
    globals: readCount(body(Section.GLOBAL)),
    exports: readExports(body(Section.EXPORT)),
  };
  readVector(body(Section.TABLE), checkTable);
  checkElements(body(Section.ELEMENT), view.imports.length);
  for (const type of view.functions)
    if (!view.types[type]) throw new MalformedWasm(`a function has type ${type}, and there are ${view.types.length}`, 0);
  return view;
}

/** A custom section's content; undefined when there is none of that name. */
export function customSection(view: ModuleView, name: string): Uint8Array | undefined {
  const section = view.sections.find((candidate) => candidate.name === name);
  return section && view.bytes.subarray(section.from, section.end);
}

/** The module with a custom section more, behind the others, in place of one of the same name. */
export function withCustomSection(bytes: Uint8Array, name: string, content: Uint8Array): Uint8Array {
  const out = new ByteWriter(bytes.length + content.length + 64).raw(HEADER);
  for (const section of readSections(bytes)) if (section.name !== name) out.raw(bytes.subarray(section.start, section.end));
  return out.section(Section.CUSTOM, new ByteWriter().text(name).raw(content).take()).take();
}

function readSections(bytes: Uint8Array): SectionView[] {
  const sections: SectionView[] = [];
  const reader = new ByteReader(bytes, HEADER.length);
  let place = -1;
  while (!reader.done) {
    const start = reader.at;
    const id = reader.byte();
    const size = reader.u32();
    const from = reader.at;
    if (size > reader.end - from) throw new MalformedWasm(`section ${id} ends beyond the module: it is truncated`, start);
    reader.skip(size);
    if (id === Section.CUSTOM) {
      const inside = new ByteReader(bytes, from, reader.at);
      const name = inside.name();
      sections.push({ id, start, from: inside.at, end: reader.at, name });
      continue;
    }
    const at = ORDER.indexOf(id);
    if (at < 0) throw new MalformedWasm(`it has section ${id}, which is newer than WebAssembly 2.0`, start);
    if (at <= place) throw new MalformedWasm(`section ${id} is there twice, or out of order`, start);
    place = at;
    sections.push({ id, start, from, end: reader.at });
  }
  return sections;
}

function readCount(reader: ByteReader): number {
  return reader.done ? 0 : reader.u32();
}

function readVector<T>(reader: ByteReader, read: (reader: ByteReader) => T): T[] {
  const items: T[] = [];
  for (let left = readCount(reader); left > 0; left--) items.push(read(reader));
  return items;
}

function readTypes(reader: ByteReader): FunctionType[] {
  const valueTypes = (inner: ByteReader): number[] =>
    readVector(inner, (one) => {
      const at = one.at;
      skipValueType(one);
      return one.bytes[at] as number;
    });
  return readVector(reader, (inner) => {
    if (inner.byte() !== 0x60)
      throw new MalformedWasm('it declares a type that is no function, which is newer than WebAssembly 2.0', inner.at);
    return { params: valueTypes(inner), results: valueTypes(inner) };
  });
}

function readImports(reader: ByteReader): ModuleView['imports'] {
  return readVector(reader, (inner) => {
    const module = inner.name();
    const name = inner.name();
    const kind = EXTERN_KINDS[inner.byte()] ?? 'unknown';
    // Only functions are taken: the rest of an import of another kind need not be understood to refuse it.
    if (kind !== 'function') throw new MalformedWasm(`it imports ${kind} ${module}.${name}; a plugin imports functions only`, inner.at);
    return { module, name, kind, type: inner.u32() };
  });
}

function readMemory(reader: ByteReader): ModuleView['memories'][number] {
  const flags = reader.u32();
  const initial = reader.u32();
  return { initial, maximum: flags & 1 ? reader.u32() : undefined, plain: flags <= 1 };
}

function checkTable(reader: ByteReader): void {
  if (reader.byte() !== FUNCREF) throw new MalformedWasm('it has a table of something other than functions', reader.at);
  const flags = reader.u32();
  const initial = reader.u32();
  if (flags & 1) reader.u32();
  if (flags > 1 || initial > TABLE_MAX)
    throw new MalformedWasm(`it has a table of ${initial} entries; ${TABLE_MAX} are the most`, reader.at);
}

function readExports(reader: ByteReader): Map<string, { kind: number; index: number }> {
  return new Map(readVector(reader, (inner) => [inner.name(), { kind: inner.byte(), index: inner.u32() }] as const));
}

/** Host functions are paid for where they are called by name: none may be reached through a table. */
function checkElements(reader: ByteReader, imports: number): void {
  const functionIndex = (inner: ByteReader): void => {
    if (inner.u32() < imports)
      throw new MalformedWasm('it puts an imported function into a table; call it from a function of your own', inner.at);
  };
  const expression = (inner: ByteReader): void => {
    for (;;) {
      const at = inner.at;
      const op = step(inner);
      if (op === Op.REF_FUNC) functionIndex(new ByteReader(inner.bytes, at + 1, inner.at));
      if (op === Op.END) return;
    }
  };
  readVector(reader, (inner) => {
    const flags = inner.u32();
    if (flags > 7) throw new MalformedWasm('it has an element segment of an unknown kind', inner.at);
    const active = !(flags & 1);
    if (active && flags & 2) inner.u32();
    if (active) expression(inner);
    if (flags & 3) inner.byte();
    readVector(inner, flags & 4 ? expression : functionIndex);
  });
}

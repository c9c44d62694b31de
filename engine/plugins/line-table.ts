/**
 * Where an instruction comes from: the custom section `sluice.lines`, which the author's build makes of the compiler's
 * source map, so that a trap in the engine names the author's file and line without another file.
 *
 * Layout: number of files, their names; number of entries; then, for each, three numbers as differences to the one
 * before (the first unsigned, the others signed): offset from the beginning of the code section's body, file, line.
 */
import { originalOffset } from './fuel.ts';
import { ByteReader, ByteWriter, MalformedWasm } from './wasm/binary.ts';
import { customSection, type ModuleView, Section } from './wasm/module.ts';

export const LINES_SECTION = 'sluice.lines';
const FILES_MAX = 1024;

export interface LineEntry {
  /** From the beginning of the code section's body. */
  readonly offset: number;
  readonly file: number;
  /** From 1. */
  readonly line: number;
}

export function encodeLines(files: readonly string[], entries: readonly LineEntry[]): Uint8Array {
  const out = new ByteWriter(entries.length * 4 + 64).u32(files.length);
  for (const file of files) out.text(file);
  out.u32(entries.length);
  let last: LineEntry = { offset: 0, file: 0, line: 0 };
  for (const entry of entries) {
    out
      .u32(entry.offset - last.offset)
      .u32(zigzag(entry.file - last.file))
      .u32(zigzag(entry.line - last.line));
    last = entry;
  }
  return out.take();
}

/** `index.ts:12` for an offset of the whole module; undefined where the module does not say, or says nonsense. */
function findLine(view: ModuleView, moduleOffset: number): string | undefined {
  const content = customSection(view, LINES_SECTION);
  const code = view.sections.find(({ id }) => id === Section.CODE);
  if (!content || !code) return undefined;
  try {
    return search(new ByteReader(content), moduleOffset - code.from);
  } catch (error) {
    if (error instanceof MalformedWasm) return undefined;
    throw error;
  }
}

/** The author's own lines of a trap, innermost first; of the SDK's where there are no others. `offsets`: in the metered module. */
export function trapLines({ view, offsets: moved }: { view: ModuleView; offsets: Uint32Array }, offsets: readonly number[]): string[] {
  const lines = offsets.map((offset) => findLine(view, originalOffset(moved, offset))).filter((line) => line !== undefined);
  const own = lines.filter((line) => !/^(sdk|~lib)\//.test(line));
  return own.length ? own : lines;
}

function search(reader: ByteReader, offset: number): string | undefined {
  const files: string[] = [];
  const count = reader.u32();
  if (count > FILES_MAX) return undefined;
  for (let i = 0; i < count; i++) files.push(reader.name());
  let [at, file, line] = [0, 0, 0];
  let found: string | undefined;
  for (let left = reader.u32(); left > 0; left--) {
    at += reader.u32();
    if (at > offset) break;
    file += unzigzag(reader.u32());
    line += unzigzag(reader.u32());
    found = files[file] === undefined ? undefined : `${files[file]}:${line}`;
  }
  return found;
}

function zigzag(value: number): number {
  return value < 0 ? -2 * value - 1 : 2 * value;
}

function unzigzag(value: number): number {
  return value % 2 ? -(value + 1) / 2 : value / 2;
}

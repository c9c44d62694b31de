/**
 * Fuel: rewrites a module so that it counts what it executes, and traps when that is more than its budget.
 *
 * One mutable global is appended, which the module's own code cannot name: it was compiled without it. Every function
 * entry and every loop head takes the static weight of its region from it. A wrapper sets the budget and calls
 * sluice_eval, so that no second crossing from JavaScript is needed. An instruction costs 1; what takes longer costs more.
 */
import { HOST_FUNCTIONS } from '../plugin-runtime/abi.ts';
import { ByteReader, ByteWriter, MalformedWasm } from './wasm/binary.ts';
import { EMPTY_BLOCK, Op, step } from './wasm/instructions.ts';
import { HEADER, type ModuleView, Section } from './wasm/module.ts';

/** Exports that the meter adds. */
export const RUN_EXPORT = 'sluice_run';
export const FUEL_EXPORT = 'sluice_fuel';
export const METER_EXPORTS: readonly string[] = [RUN_EXPORT, FUEL_EXPORT];

/** V8 makes a new buffer for each, also when it grows by nothing. */
const GROW_WEIGHT = 4096;
/** Bytes that memory.copy, fill and init move for one unit, as a shift. */
const BULK_SHIFT = 4;
/** A region that weighs more traps with every budget; without a bound its weight would not fit the instruction. */
const WEIGHT_MAX = 0x3fffffff;
const I32 = 0x7f;
const GLOBAL_KIND = 3;
const FUNCTION_KIND = 0;

export interface Metered {
  readonly bytes: Uint8Array;
  /** Where the original's code went: pairs of offset in the rewritten module and in the original, ascending. */
  readonly offsets: Uint32Array;
}

/** Weighs and rewrites a module whose evaluations get `budget` units. @throws MalformedWasm on what cannot be metered. */
export function meter(view: ModuleView, entry: string, budget: number): Metered {
  const entryIndex = view.exports.get(entry)?.index ?? 0;
  const entryType = view.functions[entryIndex - view.imports.length];
  if (entryType === undefined) throw new MalformedWasm(`its export ${entry} is not a function of its own`, 0);
  const fuel = view.globals;
  const code = rewriteCode(view, fuel);
  const wrapper = new ByteWriter().u32(0).byte(Op.I32_CONST).i32(budget).byte(Op.GLOBAL_SET).u32(fuel);
  wrapper.byte(Op.LOCAL_GET).u32(0).byte(Op.CALL).u32(entryIndex).byte(Op.END);
  code.body.block(wrapper.take());

  const wrapperIndex = view.imports.length + view.functions.length;
  const out = new ByteWriter(view.bytes.length * 2).raw(HEADER);
  const add: Readonly<Record<number, Uint8Array>> = {
    [Section.FUNCTION]: new ByteWriter().u32(entryType).take(),
    [Section.GLOBAL]: new ByteWriter().byte(I32).byte(1).byte(Op.I32_CONST).i32(budget).byte(Op.END).take(),
    [Section.EXPORT]: new ByteWriter()
      .text(RUN_EXPORT)
      .byte(FUNCTION_KIND)
      .u32(wrapperIndex)
      .text(FUEL_EXPORT)
      .byte(GLOBAL_KIND)
      .u32(fuel)
      .take(),
  };
  let hasGlobal = false;
  let codeAt = 0;
  for (const section of view.sections) {
    if (section.id === Section.CUSTOM) continue;
    if (!hasGlobal && section.id > Section.MEMORY && section.id !== Section.GLOBAL) {
      out.section(
        Section.GLOBAL,
        new ByteWriter()
          .u32(1)
          .raw(add[Section.GLOBAL] as Uint8Array)
          .take(),
      );
      hasGlobal = true;
    }
    if (section.id === Section.GLOBAL) hasGlobal = true;
    const addition = add[section.id];
    if (addition) out.section(section.id, appended(view, section, addition, section.id === Section.EXPORT ? 2 : 1));
    else if (section.id === Section.CODE) {
      const body = code.body.take();
      out.section(section.id, body);
      codeAt = out.length - body.length;
    } else out.raw(view.bytes.subarray(section.start, section.end));
  }
  const offsets = Uint32Array.from(code.offsets, (offset, i) => (i % 2 ? offset : offset + codeAt));
  return { bytes: out.take().slice(), offsets };
}

/** The offset in the original module of one in the rewritten module, such as a trap's. */
export function originalOffset(offsets: Uint32Array, rewritten: number): number {
  let low = 0;
  let high = offsets.length / 2;
  while (high - low > 1) {
    const middle = (low + high) >>> 1;
    if ((offsets[middle * 2] as number) <= rewritten) low = middle;
    else high = middle;
  }
  return offsets.length ? (offsets[low * 2 + 1] as number) + rewritten - (offsets[low * 2] as number) : rewritten;
}

/** A section that is a vector, with `count` items more at its end. */
function appended(view: ModuleView, section: { from: number; end: number }, items: Uint8Array, count: number): Uint8Array {
  const reader = new ByteReader(view.bytes, section.from, section.end);
  return new ByteWriter(section.end - section.from + items.length + 8)
    .u32(reader.u32() + count)
    .raw(view.bytes.subarray(reader.at, section.end))
    .raw(items)
    .take();
}

/** Something to insert before the instruction at an offset of the original. */
interface Mark {
  readonly at: number;
  /** Units of a region that begins here; 0 = a bulk operation, which pays for its length. */
  weight: number;
}

function rewriteCode(view: ModuleView, fuel: number): { body: ByteWriter; offsets: number[] } {
  const section = view.sections.find(({ id }) => id === Section.CODE);
  if (!section) throw new MalformedWasm('it has no code', 0);
  const reader = new ByteReader(view.bytes, section.from, section.end);
  const count = reader.u32();
  if (count !== view.functions.length)
    throw new MalformedWasm(`it declares ${view.functions.length} functions and has ${count}`, section.from);
  const body = new ByteWriter(view.bytes.length * 2).u32(count + 1);
  const offsets: number[] = [];
  for (const type of view.functions) {
    const size = reader.u32();
    const from = reader.at;
    reader.skip(size);
    const params = view.types[type]?.params.length ?? 0;
    rewriteFunction(new ByteReader(view.bytes, from, reader.at), { params, fuel, imports: view.imports }, body, offsets);
  }
  return { body, offsets };
}

interface FunctionPlace {
  readonly params: number;
  readonly fuel: number;
  readonly imports: ModuleView['imports'];
}

function rewriteFunction(reader: ByteReader, place: FunctionPlace, body: ByteWriter, offsets: number[]): void {
  const { bytes, end } = reader;
  const groups = reader.u32();
  const localsFrom = reader.at;
  let locals = 0;
  for (let i = 0; i < groups; i++) {
    locals += reader.u32();
    reader.skip(1);
  }
  const codeFrom = reader.at;
  const marks = weigh(reader, locals, place.imports);
  const scratch = marks.some((mark) => mark.weight === 0);
  const out = new ByteWriter((end - codeFrom) * 2 + 64);
  out.u32(scratch ? groups + 1 : groups).raw(bytes.subarray(localsFrom, codeFrom));
  if (scratch) out.u32(1).byte(I32);
  const pieces: number[] = [];
  marks.forEach((mark, i) => {
    if (mark.weight) writeCharge(out, place.fuel, mark.weight);
    else writeBulkCharge(out, place.fuel, place.params + locals);
    pieces.push(out.length, mark.at);
    out.raw(bytes.subarray(mark.at, marks[i + 1]?.at ?? end));
  });
  const code = out.take();
  body.u32(code.length);
  for (let i = 0; i < pieces.length; i += 2) offsets.push(body.length + (pieces[i] as number), pieces[i + 1] as number);
  body.raw(code);
}

/** Where to charge, and how much. The first region is the function; each loop is one of its own, paid at every turn. */
function weigh(reader: ByteReader, locals: number, imports: ModuleView['imports']): Mark[] {
  const whole: Mark = { at: reader.at, weight: 1 + locals };
  const marks: Mark[] = [whole];
  const open: Mark[] = [whole];
  while (!reader.done) {
    const at = reader.at;
    const op = step(reader);
    const region = open.at(-1);
    if (!region) throw new MalformedWasm('a function has code behind its end', at);
    region.weight += 1;
    switch (op) {
      case Op.LOOP: {
        const loop: Mark = { at: reader.at, weight: 1 };
        marks.push(loop);
        open.push(loop);
        break;
      }
      case Op.BLOCK:
      case Op.IF:
        open.push(region);
        break;
      case Op.END:
        open.pop();
        break;
      case Op.CALL: {
        const callee = imports[new ByteReader(reader.bytes, at + 1, reader.at).u32()];
        if (callee) region.weight += HOST_FUNCTIONS.get(`${callee.module}.${callee.name}`)?.weight ?? 0;
        break;
      }
      case Op.MEMORY_GROW:
        region.weight += GROW_WEIGHT;
        break;
      case Op.MEMORY_COPY:
      case Op.MEMORY_FILL:
      case Op.MEMORY_INIT:
        marks.push({ at, weight: 0 });
    }
  }
  if (open.length) throw new MalformedWasm('a function does not end', reader.at);
  return marks;
}

function writeCharge(out: ByteWriter, fuel: number, weight: number): void {
  out.byte(Op.GLOBAL_GET).u32(fuel).byte(Op.I32_CONST).i32(Math.min(weight, WEIGHT_MAX)).byte(Op.I32_SUB).byte(Op.GLOBAL_SET).u32(fuel);
  writeCheck(out, fuel);
}

/** On the stack is a length in bytes; it stays there. */
function writeBulkCharge(out: ByteWriter, fuel: number, scratch: number): void {
  out.byte(Op.LOCAL_TEE).u32(scratch).byte(Op.GLOBAL_GET).u32(fuel).byte(Op.LOCAL_GET).u32(scratch);
  out.byte(Op.I32_CONST).i32(BULK_SHIFT).byte(Op.I32_SHR_U).byte(Op.I32_SUB).byte(Op.GLOBAL_SET).u32(fuel);
  writeCheck(out, fuel);
}

function writeCheck(out: ByteWriter, fuel: number): void {
  out.byte(Op.GLOBAL_GET).u32(fuel).byte(Op.I32_CONST).i32(0).byte(Op.I32_LT_S);
  out.byte(Op.IF).byte(EMPTY_BLOCK).byte(Op.UNREACHABLE).byte(Op.END);
}

/** A compiled BPF object, as far as finding the tail calls and the loops in it goes: 64-bit little-endian ELF, sections, symbols, relocations. */
import { readFileSync } from 'node:fs';

interface Section {
  readonly name: string;
  readonly type: number;
  readonly offset: number;
  readonly size: number;
  readonly link: number;
  /** Of relocations: the section that they are about. */
  readonly info: number;
}

interface Symbol {
  readonly name: string;
  readonly type: number;
  readonly section: number;
  readonly value: number;
  readonly size: number;
}

export interface TailCall {
  readonly program: string;
  /** The program array, or undefined where the instructions before the call do not say. */
  readonly map: string | undefined;
  readonly index: number | undefined;
}

const [SYMBOLS, RELOCATIONS] = [2, 9];
const FUNCTION = 2;
const INSTRUCTION = 8;
const LOAD_64 = 0x18;
const MOVE_CONSTANT = 0xb7;
const CALL = 0x85;
const EXIT = 0x95;
const GOTO = 0x05;
/** Classes of instructions: BPF_JMP and BPF_JMP32. */
const JUMPS: ReadonlySet<number> = new Set([5, 6]);
/** BPF_FUNC_tail_call */
const TAIL_CALL = 12;

/** Every tail call of an object, in the order of its instructions. */
export function readTailCalls(path: string): TailCall[] {
  return mapFunctions(path, ({ code, symbol, relocations }) => callsOf(code, symbol, relocations()));
}

/**
 * Loops that Linux 6.1 refuses: it goes through the instructions as its verifier does (check_cfg), and lists where one that is no jump
 * leads back to the head of a loop. As `function: instruction`, counted from the function's first.
 */
export function findRefusedLoops(path: string): string[] {
  return mapFunctions(path, ({ code, symbol }) => refusedLoops(code.subarray(symbol.value, symbol.value + symbol.size), symbol.name));
}

interface CompiledFunction {
  /** The section's instructions. */
  readonly code: Buffer;
  readonly symbol: Symbol;
  readonly relocations: () => ReadonlyMap<number, string>;
}

function mapFunctions<Found>(path: string, find: (compiled: CompiledFunction) => readonly Found[]): Found[] {
  const bytes = readFileSync(path);
  const sections = readSections(bytes);
  const table = sections.find(({ type }) => type === SYMBOLS);
  if (!table) throw new Error(`${path} has no symbols`);
  const symbols = readSymbols(bytes, table, sections[table.link] as Section);
  return sections.flatMap((section, index) => {
    const code = bytes.subarray(section.offset, section.offset + section.size);
    const relocations = (): ReadonlyMap<number, string> => readRelocations(bytes, sections, index, symbols);
    return symbols
      .filter((symbol) => symbol.section === index && symbol.type === FUNCTION)
      .flatMap((symbol) => find({ code, symbol, relocations }));
  });
}

/** Where an instruction leads, in the verifier's order; `jumps`: whether it may lead back to the head of a loop. */
function waysOf(code: Buffer, at: number): { readonly to: readonly number[]; readonly jumps: boolean } {
  const opcode = code[at * INSTRUCTION] as number;
  const target = at + 1 + code.readInt16LE(at * INSTRUCTION + 2);
  if (!JUMPS.has(opcode & 7) || opcode === CALL) return { to: [at + 1], jumps: false };
  if (opcode === EXIT) return { to: [], jumps: true };
  return { to: opcode === GOTO ? [target] : [at + 1, target], jumps: true };
}

function refusedLoops(code: Buffer, name: string): string[] {
  const refused: string[] = [];
  /** 1: on the way to where we are; 2: all behind it was seen. */
  const seen = new Uint8Array(code.length / INSTRUCTION + 1);
  const way: { readonly at: number; readonly ways: ReturnType<typeof waysOf>; next: number }[] = [];
  const enter = (at: number): void => {
    seen[at] = 1;
    way.push({ at, ways: waysOf(code, at), next: 0 });
  };
  enter(0);
  for (let here = way.at(-1); here; here = way.at(-1)) {
    const to = here.ways.to[here.next++];
    if (to === undefined) {
      seen[here.at] = 2;
      way.pop();
    } else if (!seen[to]) enter(to);
    else if (seen[to] === 1 && !here.ways.jumps) refused.push(`${name}: ${here.at}`);
  }
  return refused;
}

/** `enter_<stage>` writes map and index right before its call: whoever calls otherwise has neither here. */
function callsOf(code: Buffer, { name, value, size }: Symbol, relocations: ReadonlyMap<number, string>): TailCall[] {
  const calls: TailCall[] = [];
  for (let at = value; at < value + size; at += code[at] === LOAD_64 ? 2 * INSTRUCTION : INSTRUCTION) {
    if (code[at] !== CALL || code[at + 1] !== 0 || code.readInt32LE(at + 4) !== TAIL_CALL) continue;
    const [load, move] = [at - 3 * INSTRUCTION, at - INSTRUCTION];
    const isPlain = code[move] === MOVE_CONSTANT && code[move + 1] === 3 && code[load] === LOAD_64 && ((code[load + 1] ?? 0) & 0xf) === 2;
    calls.push({
      program: name,
      map: isPlain ? relocations.get(load) : undefined,
      index: isPlain ? code.readInt32LE(move + 4) : undefined,
    });
  }
  return calls;
}

function readSections(bytes: Buffer): Section[] {
  const [start, size, count, names] = [
    Number(bytes.readBigUInt64LE(40)),
    bytes.readUInt16LE(58),
    bytes.readUInt16LE(60),
    bytes.readUInt16LE(62),
  ];
  const headers = Array.from({ length: count }, (_, i) => {
    const at = start + i * size;
    const long = (offset: number): number => Number(bytes.readBigUInt64LE(at + offset));
    return {
      name: bytes.readUInt32LE(at),
      type: bytes.readUInt32LE(at + 4),
      offset: long(24),
      size: long(32),
      link: bytes.readUInt32LE(at + 40),
      info: bytes.readUInt32LE(at + 44),
    };
  });
  return headers.map((header) => ({ ...header, name: textAt(bytes, (headers[names]?.offset ?? 0) + header.name) }));
}

function readSymbols(bytes: Buffer, table: Section, names: Section): Symbol[] {
  return Array.from({ length: table.size / 24 }, (_, i) => {
    const at = table.offset + i * 24;
    return {
      name: textAt(bytes, names.offset + bytes.readUInt32LE(at)),
      type: bytes.readUInt8(at + 4) & 0xf,
      section: bytes.readUInt16LE(at + 6),
      value: Number(bytes.readBigUInt64LE(at + 8)),
      size: Number(bytes.readBigUInt64LE(at + 16)),
    };
  });
}

/** Offset in a section → the symbol that is put there. */
function readRelocations(bytes: Buffer, sections: readonly Section[], index: number, symbols: readonly Symbol[]): Map<number, string> {
  const found = new Map<number, string>();
  for (const section of sections) {
    if (section.type !== RELOCATIONS || section.info !== index) continue;
    for (let at = section.offset; at < section.offset + section.size; at += 16)
      found.set(Number(bytes.readBigUInt64LE(at)), symbols[bytes.readUInt32LE(at + 12)]?.name ?? '');
  }
  return found;
}

function textAt(bytes: Buffer, at: number): string {
  return bytes.toString('latin1', at, bytes.indexOf(0, at));
}

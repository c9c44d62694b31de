/**
 * Steps over one instruction at a time. What is not known here is refused: the fuel meter must understand every
 * instruction that it lets pass. Known: the core of WebAssembly 2.0 without what changes tables at run time.
 */
import { type ByteReader, MalformedWasm } from './binary.ts';

export const Op = {
  UNREACHABLE: 0x00,
  BLOCK: 0x02,
  LOOP: 0x03,
  IF: 0x04,
  END: 0x0b,
  CALL: 0x10,
  CALL_INDIRECT: 0x11,
  LOCAL_GET: 0x20,
  LOCAL_TEE: 0x22,
  GLOBAL_GET: 0x23,
  GLOBAL_SET: 0x24,
  MEMORY_GROW: 0x40,
  I32_CONST: 0x41,
  I32_LT_S: 0x48,
  I32_SUB: 0x6b,
  I32_SHR_U: 0x76,
  REF_FUNC: 0xd2,
  MEMORY_INIT: 0xfc08,
  MEMORY_COPY: 0xfc0a,
  MEMORY_FILL: 0xfc0b,
} as const;

/** A block without parameters and results. */
export const EMPTY_BLOCK = 0x40;

const UNSUPPORTED: readonly (readonly [first: number, last: number, what: string])[] = [
  [0x06, 0x0a, 'exception handling'],
  [0x12, 0x15, 'tail calls or typed function references'],
  [0x18, 0x19, 'exception handling'],
  [0x1f, 0x1f, 'exception handling'],
  [0x25, 0x26, 'changing a table'],
  [0xd3, 0xd6, 'typed function references'],
  [0xfb, 0xfb, 'garbage collection'],
  [0xfe, 0xfe, 'threads'],
];

function unsupported(op: number, at: number): MalformedWasm {
  const what = UNSUPPORTED.find(([first, last]) => op >= first && op <= last)?.[2];
  return new MalformedWasm(
    `it uses instruction 0x${op.toString(16)}${what ? ` (${what})` : ''}, which cannot be metered; build for WebAssembly 2.0 without ${what ?? 'newer features'}`,
    at,
  );
}

/** Reads one instruction; returns its opcode, those of prefix 0xfc as 0xfc00 | number. Immediates are stepped over. */
export function step(reader: ByteReader): number {
  const at = reader.at;
  const op = reader.byte();
  if (op >= 0x45 && op <= 0xc4) return op;
  if (op >= 0x28 && op <= 0x3e) {
    skipMemoryArgument(reader);
    return op;
  }
  switch (op) {
    case 0x00:
    case 0x01:
    case 0x05:
    case 0x0b:
    case 0x0f:
    case 0x1a:
    case 0x1b:
    case 0xd1:
      return op;
    case 0x02:
    case 0x03:
    case 0x04:
      skipBlockType(reader);
      return op;
    case 0x0c:
    case 0x0d:
    case 0x10:
    case 0x20:
    case 0x21:
    case 0x22:
    case 0x23:
    case 0x24:
    case 0xd2:
      reader.u32();
      return op;
    case 0x3f:
    case 0x40:
      if (reader.byte() !== 0) throw new MalformedWasm('it uses several memories; one is taken', at);
      return op;
    case 0x41:
    case 0x42:
      reader.skipNumber();
      return op;
    case 0xd0:
      skipValueType(reader);
      return op;
    case 0x11:
      reader.u32();
      reader.u32();
      return op;
    case 0x0e:
      for (let labels = reader.u32() + 1; labels > 0; labels--) reader.u32();
      return op;
    case 0x1c:
      for (let types = reader.u32(); types > 0; types--) skipValueType(reader);
      return op;
    case 0x43:
      reader.skip(4);
      return op;
    case 0x44:
      reader.skip(8);
      return op;
    case 0xfc:
      return stepBulk(reader, at);
    case 0xfd:
      return stepVector(reader, at);
  }
  throw unsupported(op, at);
}

function stepBulk(reader: ByteReader, at: number): number {
  const op = reader.u32();
  if (op <= 7) return 0xfc00 | op;
  const immediates = { 8: 2, 9: 1, 10: 2, 11: 1 }[op];
  if (immediates === undefined)
    throw new MalformedWasm(`it changes a table at run time (0xfc ${op}), which cannot be metered; fill tables with element segments`, at);
  for (let i = 0; i < immediates; i++) reader.u32();
  return 0xfc00 | op;
}

function stepVector(reader: ByteReader, at: number): number {
  const op = reader.u32();
  if (op > 0xff) throw new MalformedWasm('it uses relaxed SIMD, whose results differ between machines; build without it', at);
  if (op <= 11 || op === 92 || op === 93) skipMemoryArgument(reader);
  else if (op === 12 || op === 13) reader.skip(16);
  else if (op >= 21 && op <= 34) reader.skip(1);
  else if (op >= 84 && op <= 91) {
    skipMemoryArgument(reader);
    reader.skip(1);
  }
  return 0xfd00 | op;
}

function skipMemoryArgument(reader: ByteReader): void {
  if (reader.u32() & 0x40) throw new MalformedWasm('it uses several memories; one is taken', reader.at);
  reader.skipNumber();
}

function skipBlockType(reader: ByteReader): void {
  const first = reader.bytes[reader.at] as number;
  // A type index is a number that is not negative: its first byte either goes on or lacks the sign.
  if (first & 0x80 || first < 0x40) reader.u32();
  else if (first === EMPTY_BLOCK) reader.skip(1);
  else skipValueType(reader);
}

/** i32, i64, f32, f64, v128, funcref, externref: what takes one byte. */
export function skipValueType(reader: ByteReader): void {
  const at = reader.at;
  const type = reader.byte();
  if ((type < 0x7b || type > 0x7f) && type !== 0x70 && type !== 0x6f)
    throw new MalformedWasm(`it uses value type 0x${type.toString(16)}, which is newer than WebAssembly 2.0`, at);
}

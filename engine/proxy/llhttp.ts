/**
 * Node's own HTTP/1 parser (llhttp, as WebAssembly of undici), for whole heads and for the framing of chunked bodies.
 *
 * It is strict: none of its lenient flags is set. A head is parsed when all of it is there, with one call and no copy but the
 * one into the parser's memory, so that hostile senders of single bytes cost nothing but their bytes.
 */
import { createRequire } from 'node:module';

/** enum llhttp_type */
export const REQUEST = 1;
export const RESPONSE = 2;
/** enum llhttp_errno */
const OK = 0;
const PAUSED = 21;
const PAUSED_UPGRADE = 22;

/** As Node's own server takes twice as much as by default, and nginx with its own. */
export const HEAD_BYTES_MAX = 32 * 1024;
export const HEADERS_MAX = 128;
/** Of a body, parsed at once. */
const WINDOW = 64 * 1024;

interface Exports {
  readonly memory: WebAssembly.Memory;
  _initialize?(): void;
  malloc(bytes: number): number;
  llhttp_alloc(type: number): number;
  llhttp_free(parser: number): void;
  llhttp_reset(parser: number): void;
  llhttp_execute(parser: number, at: number, length: number): number;
  llhttp_resume(parser: number): void;
  llhttp_get_error_pos(parser: number): number;
  llhttp_get_error_reason(parser: number): number;
  llhttp_get_http_major(parser: number): number;
  llhttp_get_http_minor(parser: number): number;
  llhttp_get_method(parser: number): number;
  llhttp_get_status_code(parser: number): number;
}

/** Says why a message is no HTTP, or two readers could read it differently. */
export class HttpError extends Error {}

/** Where the parts of the head are that was parsed last, as offsets into it. */
export const spans = {
  count: 0,
  nameAt: new Int32Array(HEADERS_MAX),
  nameEnd: new Int32Array(HEADERS_MAX),
  valueAt: new Int32Array(HEADERS_MAX),
  valueEnd: new Int32Array(HEADERS_MAX),
  targetAt: 0,
  targetEnd: 0,
};

/** The kind of bytes that the parser runs over: its callbacks note heads, and of bodies only the end. */
let reading: 'head' | 'body' = 'head';
/** Set where a value comes in two pieces: it was folded, or there are too many. */
let refused = '';

const loaded = load();
const { wasm } = loaded;
const window = wasm.malloc(WINDOW);
let memory = Buffer.from(wasm.memory.buffer);
const parsers = [0, wasm.llhttp_alloc(REQUEST), wasm.llhttp_alloc(RESPONSE)] as const;

function load(): { wasm: Exports } {
  const require = createRequire(import.meta.url);
  const bytes = require('undici/lib/llhttp/llhttp_simd-wasm.js') as Buffer<ArrayBuffer>;
  const nothing = (): number => 0;
  const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), {
    env: {
      wasm_on_message_begin: nothing,
      wasm_on_status: nothing,
      wasm_on_body: nothing,
      wasm_on_url: (_parser: number, at: number, length: number): number => {
        spans.targetAt = at - window;
        spans.targetEnd = spans.targetAt + length;
        return 0;
      },
      wasm_on_header_field: (_parser: number, at: number, length: number): number => noteName(at - window, length),
      wasm_on_header_value: (_parser: number, at: number, length: number): number => noteValue(at - window, length),
      wasm_on_headers_complete: nothing,
      wasm_on_message_complete: (): number => (reading === 'body' ? PAUSED : 0),
    },
  });
  const exported = instance.exports as unknown as Exports;
  exported._initialize?.();
  return { wasm: exported };
}

function noteName(at: number, length: number): number {
  if (reading !== 'head') return 0;
  const { count } = spans;
  if (count >= HEADERS_MAX) {
    refused = 'too many headers';
    return -1;
  }
  spans.nameAt[count] = at;
  spans.nameEnd[count] = at + length;
  spans.valueAt[count] = spans.valueEnd[count] = -1;
  spans.count = count + 1;
  return 0;
}

function noteValue(at: number, length: number): number {
  if (reading !== 'head') return 0;
  const last = spans.count - 1;
  if (last < 0 || spans.valueAt[last] !== -1) {
    refused = 'a folded header';
    return -1;
  }
  spans.valueAt[last] = at;
  spans.valueEnd[last] = at + length;
  return 0;
}

function copyIn(bytes: Buffer, from: number, to: number): void {
  if (!memory.length) memory = Buffer.from(wasm.memory.buffer);
  bytes.copy(memory, window, from, to);
}

function problemOf(parser: number): string {
  const at = wasm.llhttp_get_error_reason(parser);
  return refused || (at ? memory.toString('latin1', at, memory.indexOf(0, at)) : 'not HTTP/1');
}

/** First line of the head that was parsed last. */
export interface StartLine {
  readonly minor: number;
  /** Of a request: number of its method. Of a response: its status. */
  readonly code: number;
}

/** Parses a head with the empty line at its end. Its parts are in `spans`. @throws HttpError */
export function parseHead(type: typeof REQUEST | typeof RESPONSE, bytes: Buffer, from: number, to: number): StartLine {
  const parser = parsers[type];
  wasm.llhttp_reset(parser);
  copyIn(bytes, from, to);
  spans.count = 0;
  spans.targetAt = spans.targetEnd = 0;
  refused = '';
  reading = 'head';
  const result = wasm.llhttp_execute(parser, window, to - from);
  if (result !== OK && result !== PAUSED_UPGRADE) throw new HttpError(problemOf(parser));
  if (wasm.llhttp_get_http_major(parser) !== 1) throw new HttpError('not HTTP/1');
  const minor = wasm.llhttp_get_http_minor(parser);
  return { minor, code: type === REQUEST ? wasm.llhttp_get_method(parser) : wasm.llhttp_get_status_code(parser) };
}

const PRIMER = Buffer.from('POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n');

/** Finds the end of one chunked body, trailers included. */
export class ChunkReader {
  #parser: number;

  constructor() {
    this.#parser = wasm.llhttp_alloc(REQUEST);
    reading = 'body';
    copyIn(PRIMER, 0, PRIMER.length);
    wasm.llhttp_execute(this.#parser, window, PRIMER.length);
  }

  /** Reads on. Returns where the body ends, or -1 when it goes on behind these bytes. @throws HttpError */
  read(bytes: Buffer, from: number): number {
    reading = 'body';
    refused = '';
    for (let at = from; at < bytes.length; ) {
      const to = Math.min(bytes.length, at + WINDOW);
      copyIn(bytes, at, to);
      const result = wasm.llhttp_execute(this.#parser, window, to - at);
      if (result === PAUSED) return at + wasm.llhttp_get_error_pos(this.#parser) - window;
      if (result !== OK) throw new HttpError(problemOf(this.#parser));
      at = to;
    }
    return -1;
  }

  /** Gives its memory back; it must not be used afterwards. */
  close(): void {
    if (this.#parser) wasm.llhttp_free(this.#parser);
    this.#parser = 0;
  }
}

/** Reading a client's requests in HTTP/1 as they come: where a head ends, and which bytes of the input are a request's body. */
import { append } from './append-bytes.ts';
import { Body } from './body.ts';
import { type RequestHead, readRequest } from './head.ts';
import { HEAD_BYTES_MAX, HttpError } from './llhttp.ts';

const END_OF_HEAD = Buffer.from('\r\n\r\n');
const CR = 13;
const LF = 10;
/** First words of HTTP/2 without TLS (RFC 9113, 3.4). */
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const EMPTY = Buffer.alloc(0);

/** A request that is not taken, and how it is answered. */
export class RefusedRequest extends Error {
  readonly status: number;

  constructor(status: number, reason: string) {
    super(reason);
    this.status = status;
  }
}

export class RequestReader {
  #input: Buffer = EMPTY;
  /** So much of the input was searched for the end of a head. */
  #searched = 0;
  /** The client has said something that HTTP/2 does not begin with. */
  #speaksHttp1 = false;
  #head: RequestHead | undefined;
  #headEnd = 0;
  #body: Body | undefined;

  /** Bytes that were not taken yet. */
  get length(): number {
    return this.#input.length;
  }

  /** No head was looked for in these bytes. */
  get untouched(): boolean {
    return this.#searched === 0;
  }

  /** Nothing of the last request's body is to come. */
  get complete(): boolean {
    return this.#body?.complete !== false;
  }

  add(bytes: Buffer): void {
    this.#input = this.#input.length ? append(this.#input, bytes) : bytes;
  }

  /** Copies what is left of bytes that are somebody else's after this turn. */
  own(lends: (bytes: Buffer) => boolean): void {
    if (this.#input.length && lends(this.#input)) this.#input = append(EMPTY, this.#input);
  }

  /** Whether the client speaks HTTP/2, as far as can be told: `maybe`, where more must be seen. */
  speaksHttp2(): boolean | 'maybe' {
    if (this.#speaksHttp1) return false;
    const length = Math.min(this.#input.length, PREFACE.length);
    if (this.#input.compare(PREFACE, 0, length, 0, length) !== 0) {
      this.#speaksHttp1 = true;
      return false;
    }
    return length === PREFACE.length || 'maybe';
  }

  /** Everything that was not taken, for somebody else. */
  takeAll(): Buffer {
    const all = this.#input;
    this.#consume(all.length);
    return all;
  }

  /** Reads the head of the next request; undefined as long as it is not all there. @throws RefusedRequest */
  readHead(): RequestHead | undefined {
    while (this.#input[0] === CR && this.#input[1] === LF) this.#consume(2);
    const found = this.#input.indexOf(END_OF_HEAD, Math.max(0, this.#searched - 3));
    const end = found < 0 ? this.#input.length : found + END_OF_HEAD.length;
    if (end > HEAD_BYTES_MAX) throw new RefusedRequest(431, 'the head of the request is too long');
    this.#searched = found < 0 ? end : 0;
    if (found < 0) return undefined;
    try {
      this.#head = readRequest(this.#input, 0, end);
    } catch (error) {
      if (!(error instanceof HttpError)) throw error;
      throw new RefusedRequest(400, error.message);
    }
    this.#headEnd = end;
    this.#body = new Body(this.#head.body);
    return this.#head;
  }

  /** Takes the head that was read, as it goes on, with what is there of the body. @throws RefusedRequest */
  takeHead(): Buffer {
    const { rewritten } = this.#head as RequestHead;
    const input = this.#input;
    const end = this.#headEnd;
    const taken = this.#takeOfBody(end);
    this.#consume(end + taken);
    if (!rewritten) return firstOf(input, end + taken);
    return taken ? Buffer.concat([rewritten, input.subarray(end, end + taken)]) : rewritten;
  }

  /** Passes over the head that was read and what is there of the body. Returns whether that is all of it. */
  skipRequest(): boolean {
    let taken = 0;
    try {
      taken = this.#takeOfBody(this.#headEnd);
    } catch (error) {
      // Bytes that follow are not read any more: the connection ends with its answer.
      if (!(error instanceof RefusedRequest)) throw error;
      return false;
    }
    this.#consume(this.#headEnd + taken);
    return this.complete;
  }

  /** Takes what is there of the body. @throws RefusedRequest */
  takeBody(): Buffer {
    const input = this.#input;
    const taken = this.#takeOfBody(0);
    this.#consume(taken);
    return firstOf(input, taken);
  }

  /** Gives up what it holds; nothing more is read of the request. */
  close(): void {
    this.#body?.close();
  }

  #takeOfBody(from: number): number {
    try {
      return this.#body?.take(this.#input, from) ?? 0;
    } catch (error) {
      if (!(error instanceof HttpError)) throw error;
      throw new RefusedRequest(400, 'broken chunks');
    }
  }

  #consume(bytes: number): void {
    this.#input = bytes === this.#input.length ? EMPTY : this.#input.subarray(bytes);
    this.#searched = 0;
  }
}

/** The first bytes, which most often are all. */
function firstOf(bytes: Buffer, count: number): Buffer {
  return count === bytes.length ? bytes : bytes.subarray(0, count);
}

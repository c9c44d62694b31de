/** Reading a backend's answer in HTTP/1 as it comes: its head, interim ones before it, and where its body ends. */
import { append } from './append-bytes.ts';
import { Body } from './body.ts';
import { type RequestHead, type ResponseHead, readResponse, UNTIL_CLOSE } from './head.ts';
import { HEAD_BYTES_MAX, HttpError } from './llhttp.ts';

const END_OF_HEAD = Buffer.from('\r\n\r\n');
const NOTHING = Buffer.alloc(0);
const SWITCHING_PROTOCOLS = 101;
const FIRST_FINAL = 200;

/** How far an answer is. */
export const Progress = {
  /** More of it is to come. */
  PARTIAL: 0,
  COMPLETE: 1,
  /** Complete, and something came behind it, where nothing may. */
  OVERRUN: 2,
  /** From `rest` on both sides talk to each other in another protocol. */
  SWITCHED: 3,
} as const;
export type Progress = (typeof Progress)[keyof typeof Progress];

/** Whoever gets the answer. */
export interface AnswerSink {
  /** Its connection ends with this answer, which says so. */
  readonly leaves: boolean;
  write(bytes: Buffer): void;
}

export class AnswerReader {
  readonly #request: RequestHead;
  readonly #cookie: string;
  readonly #sink: AnswerSink;
  #pending: Buffer | undefined;
  #body: Body | undefined;
  /** Of the final answer, or of one that switches protocols, once it is there. */
  head: ResponseHead | undefined;
  /** After a switch: bytes behind the head. */
  rest: Buffer = NOTHING;

  /** `cookie`: is set with the answer; empty where none is. */
  constructor(request: RequestHead, cookie: string, sink: AnswerSink) {
    this.#request = request;
    this.#cookie = cookie;
    this.#sink = sink;
  }

  /** The backend has said nothing that counts: whoever else is asked may say it. */
  get silent(): boolean {
    return !this.head && !this.#pending;
  }

  /** The end of the connection is the answer's. */
  get endsWithConnection(): boolean {
    return this.head?.body === UNTIL_CLOSE;
  }

  /** Passes on what is there. @throws HttpError where it is no answer */
  read(bytes: Buffer): Progress {
    if (this.head) return this.#readBody(bytes);
    return this.#readHeads(this.#pending ? append(this.#pending, bytes) : bytes, this.#pending?.length ?? 0);
  }

  /** Gives up what it holds. */
  close(): void {
    this.#body?.close();
  }

  /** `seen`: so much was searched before for the end of a head. */
  #readHeads(bytes: Buffer, seen: number): Progress {
    for (let from = 0; ; ) {
      const found = bytes.indexOf(END_OF_HEAD, Math.max(from, seen - 3));
      if (found < 0) {
        if (bytes.length - from > HEAD_BYTES_MAX) throw new HttpError('a head without an end');
        this.#pending = this.#pending && !from ? bytes : append(NOTHING, bytes.subarray(from));
        return Progress.PARTIAL;
      }
      const end = found + END_OF_HEAD.length;
      if (end - from > HEAD_BYTES_MAX) throw new HttpError('a head that is too long');
      const head = readResponse(bytes, from, end, this.#request.method, this.#request.keepAlive && !this.#sink.leaves);
      this.#pending = undefined;
      if (head.status === SWITCHING_PROTOCOLS) return this.#switch(head, bytes, from, end);
      if (head.status >= FIRST_FINAL) return this.#begin(head, bytes, from, end);
      // Interim answers are passed on, but to those who do not know them.
      if (!this.#request.old) this.#sink.write(head.rewritten ?? bytes.subarray(from, end));
      from = end;
      seen = end;
      if (from === bytes.length) return Progress.PARTIAL;
    }
  }

  #switch(head: ResponseHead, bytes: Buffer, from: number, end: number): Progress {
    this.head = head;
    if (!this.#request.upgrade) return Progress.SWITCHED;
    this.#sink.write(bytes.subarray(from, end));
    this.rest = bytes.subarray(end);
    return Progress.SWITCHED;
  }

  #begin(head: ResponseHead, bytes: Buffer, from: number, end: number): Progress {
    this.head = head;
    this.#body = new Body(head.body);
    const lines = this.#addedLines();
    const taken = this.#body.take(bytes, end);
    if (!head.rewritten && !lines) this.#sink.write(partOf(bytes, from, end + taken));
    else {
      const kept = head.rewritten ?? bytes.subarray(from, end);
      // Lines are added before the empty one.
      this.#sink.write(lines ? Buffer.concat([kept.subarray(0, kept.length - 2), Buffer.from(`${lines}\r\n`, 'latin1')]) : kept);
      if (taken) this.#sink.write(bytes.subarray(end, end + taken));
    }
    return this.#progressAt(bytes, end + taken);
  }

  #addedLines(): string {
    const cookie = this.#cookie && `set-cookie: ${this.#cookie}\r\n`;
    return this.#sink.leaves && this.#request.keepAlive ? `${cookie}connection: close\r\n` : cookie;
  }

  #readBody(bytes: Buffer): Progress {
    const taken = this.#body?.take(bytes, 0) ?? 0;
    this.#sink.write(partOf(bytes, 0, taken));
    return this.#progressAt(bytes, taken);
  }

  #progressAt(bytes: Buffer, at: number): Progress {
    if (!this.#body?.complete) return Progress.PARTIAL;
    // Bytes behind the answer would be taken for the next one.
    return at === bytes.length ? Progress.COMPLETE : Progress.OVERRUN;
  }
}

/** Most often it is all. */
function partOf(bytes: Buffer, from: number, to: number): Buffer {
  return from === 0 && to === bytes.length ? bytes : bytes.subarray(from, to);
}

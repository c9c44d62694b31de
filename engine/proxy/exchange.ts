/**
 * One request and its answer, between a client's connection and a backend's.
 *
 * Bytes go through as they come, as fast as the slower side takes them. A backend that dies before it has said anything is
 * followed by another one, once, where the request can be sent again; after that the client is told so, never left waiting.
 */
import type { BackendConnection, BackendUser } from './backend-connection.ts';
import type { Backend } from './backends.ts';
import { Body } from './body.ts';
import type { Clock } from './clock.ts';
import type { Decision } from './decider.ts';
import { isIdempotent, type RequestHead, type ResponseHead, readResponse, UNTIL_CLOSE } from './head.ts';
import { append } from './inbox.ts';
import { HEAD_BYTES_MAX, HttpError } from './llhttp.ts';

const END_OF_HEAD = Buffer.from('\r\n\r\n');
const NOTHING = Buffer.alloc(0);
/** A backend on the same network accepts at once; one that has not by then is not there. */
const CONNECT_MS = 2000;
/** Of connections that never were. */
const NOT_CONNECTED: ReadonlySet<string> = new Set(['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'ETIMEDOUT', 'EACCES', 'EPERM']);

/** The client's side. */
export interface ExchangeClient {
  /** False: it takes no more for now; onClientDrain() follows. */
  write(bytes: Buffer): boolean;
  /** Its connection ends with this answer. */
  readonly leaves: boolean;
  /** Everything that is to come of the answer has been written. `reusable`: the client may send its next request. */
  onAnswered(exchange: Exchange, reusable: boolean): void;
  /** Nothing was answered, and nothing will be. */
  onFailed(exchange: Exchange, status: number, reason: string): void;
  /** The answer broke off. */
  onBroken(exchange: Exchange, reason: string): void;
  /** Both sides talk to each other from here on; `rest` has been said already. */
  onSwitched(exchange: Exchange, connection: BackendConnection, rest: Buffer): void;
  pauseRequest(): void;
  resumeRequest(): void;
}

/** Where connections come from. */
export interface ExchangeBackends {
  /** A backend for one more try: another one than `except` where there is one; undefined where there is none. */
  choose(decision: Decision, except: Backend | undefined): Backend | undefined;
  take(backend: Backend, fresh: boolean): BackendConnection;
  give(connection: BackendConnection): void;
  noteFailure(backend: Backend): void;
  noteRetry(): void;
}

export class Exchange implements BackendUser {
  readonly head: RequestHead;
  readonly startedMs: number;
  /** The answer's status, once it is there. */
  status = 0;
  backend: Backend | undefined;
  bytesIn = 0;
  bytesOut = 0;
  /** When it is given up unless something happens. */
  deadlineMs: number;
  readonly #client: ExchangeClient;
  readonly #backends: ExchangeBackends;
  readonly decision: Decision;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  #connection: BackendConnection | undefined;
  /** Everything that was sent is kept, so that it can be sent again. */
  #repeatable = true;
  #tries = 0;
  #requestComplete = false;
  #pending: Buffer | undefined;
  #body: Body | undefined;
  #answer: ResponseHead | undefined;
  #over = false;

  constructor(head: RequestHead, decision: Decision, client: ExchangeClient, backends: ExchangeBackends, clock: Clock, timeoutMs: number) {
    this.head = head;
    this.decision = decision;
    this.#client = client;
    this.#backends = backends;
    this.#clock = clock;
    this.startedMs = clock.nowMs;
    this.#timeoutMs = timeoutMs;
    this.deadlineMs = clock.nowMs + timeoutMs;
  }

  /** Sends the head, and of the body what came with it. */
  start(first: Buffer): void {
    this.#connect(undefined, false);
    if (!this.#over) this.send(first);
  }

  /** Sends more of the request. */
  send(bytes: Buffer): void {
    if (this.#over || !bytes.length) return;
    this.bytesIn += bytes.length;
    const connection = this.#connection;
    if (!connection) return;
    if (this.#repeatable) this.#repeatable = connection.keep(bytes);
    if (!connection.stream.write(bytes)) this.#client.pauseRequest();
  }

  /** The request is complete. */
  endRequest(): void {
    this.#requestComplete = true;
  }

  onClientDrain(): void {
    this.#connection?.stream.pause(false);
  }

  /** The client is gone. */
  abort(): void {
    this.#finish();
    this.#connection?.close();
  }

  /** Looks at the clock: gives up what takes too long. */
  check(nowMs: number): void {
    if (this.#over) return;
    const connection = this.#connection;
    if (connection && nowMs - connection.startedMs > CONNECT_MS && !connection.stream.connected) connection.fail('ETIMEDOUT');
    else if (nowMs > this.deadlineMs) this.#fail(504, 'the backend does not answer');
  }

  onBackendDrain(): void {
    this.#client.resumeRequest();
  }

  onAnswer(bytes: Buffer): void {
    if (this.#over) return;
    this.deadlineMs = this.#clock.nowMs + this.#timeoutMs;
    try {
      if (this.#answer) this.#forward(bytes, 0);
      else this.#readHead(this.#pending ? append(this.#pending, bytes) : bytes, this.#pending?.length ?? 0);
    } catch (error) {
      if (!(error instanceof HttpError)) throw error;
      this.#fail(502, `the backend's answer is no HTTP: ${error.message}`);
    }
  }

  onAnswerEnd(): void {
    if (this.#answer?.body === UNTIL_CLOSE) this.#complete();
    else this.#connection?.fail('');
  }

  onBackendGone(code: string, kept: Buffer): void {
    if (this.#over) return;
    const { backend } = this;
    this.#connection = undefined;
    const never = NOT_CONNECTED.has(code);
    if (backend && never) this.#backends.noteFailure(backend);
    const silent = !this.#answer && !this.#pending;
    // What was never sent can be sent; what may have been done already only where doing it twice does no harm.
    if (silent && this.#tries < 2 && this.#repeatable && (never || isIdempotent(this.head.method))) {
      this.#backends.noteRetry();
      this.#connect(never ? backend : undefined, true, code);
      if (this.#over) return;
      const again = this.#connection as BackendConnection | undefined;
      again?.keep(kept);
      again?.stream.write(kept);
      this.#client.resumeRequest();
      return;
    }
    this.#fail(never ? 503 : 502, never ? `the backend cannot be reached${code && ` (${code})`}` : 'the backend broke off');
  }

  #connect(except: Backend | undefined, fresh: boolean, code = ''): void {
    this.#tries += 1;
    const backend = this.#backends.choose(this.decision, except);
    // Nobody waits twice for the same one.
    if (backend && backend === except && code === 'ETIMEDOUT') {
      this.#fail(503, 'the backend cannot be reached (ETIMEDOUT)');
      return;
    }
    if (!backend) {
      this.#fail(503, 'there is no backend that is ready and allowed');
      return;
    }
    this.backend = backend;
    try {
      this.#connection = this.#backends.take(backend, fresh);
    } catch (error) {
      this.#fail(503, `no connection can be made: ${(error as Error).message}`);
      return;
    }
    this.#connection.begin(this);
  }

  #readHead(bytes: Buffer, seen: number): void {
    let from = 0;
    for (;;) {
      const found = bytes.indexOf(END_OF_HEAD, Math.max(from, seen - 3));
      if (found < 0) {
        if (bytes.length - from > HEAD_BYTES_MAX) throw new HttpError('a head without an end');
        this.#pending = this.#pending && !from ? bytes : append(NOTHING, bytes.subarray(from));
        return;
      }
      const end = found + END_OF_HEAD.length;
      if (end - from > HEAD_BYTES_MAX) throw new HttpError('a head that is too long');
      const answer = readResponse(bytes, from, end, this.head.method, this.head.keepAlive && !this.#client.leaves);
      this.#pending = undefined;
      if (answer.status === 101) {
        this.#switch(answer, bytes.subarray(from, end), bytes.subarray(end));
        return;
      }
      if (answer.status >= 200) {
        this.#begin(answer, bytes, from, end);
        return;
      }
      // Interim answers are passed on, but to those who do not know them.
      if (!this.head.old) this.#write(answer.rewritten ?? bytes.subarray(from, end));
      from = end;
      seen = end;
      if (from === bytes.length) return;
    }
  }

  #begin(answer: ResponseHead, bytes: Buffer, from: number, end: number): void {
    this.#answer = answer;
    this.status = answer.status;
    this.#body = new Body(answer.body);
    const { cookie } = this.decision;
    const lines = `${cookie && `set-cookie: ${cookie}\r\n`}${this.#client.leaves && this.head.keepAlive ? 'connection: close\r\n' : ''}`;
    const taken = this.#body.take(bytes, end);
    const { rewritten } = answer;
    if (!rewritten && !lines) this.#write(from === 0 && end + taken === bytes.length ? bytes : bytes.subarray(from, end + taken));
    else {
      const head = rewritten ?? bytes.subarray(from, end);
      // Lines are added before the empty one.
      this.#write(lines ? Buffer.concat([head.subarray(0, head.length - 2), Buffer.from(`${lines}\r\n`, 'latin1')]) : head);
      if (taken) this.#write(bytes.subarray(end, end + taken));
    }
    this.#afterBody(bytes, end + taken);
  }

  #forward(bytes: Buffer, from: number): void {
    const taken = this.#body?.take(bytes, from) ?? 0;
    this.#write(from === 0 && taken === bytes.length ? bytes : bytes.subarray(from, from + taken));
    this.#afterBody(bytes, from + taken);
  }

  #afterBody(bytes: Buffer, at: number): void {
    if (!this.#body?.complete) return;
    // Behind the answer nothing may come: what does would be taken for the next one.
    this.#complete(at === bytes.length);
  }

  #write(bytes: Buffer): void {
    this.bytesOut += bytes.length;
    if (!this.#client.write(bytes)) this.#connection?.stream.pause(true);
  }

  #complete(clean = true): void {
    const connection = this.#connection;
    const reusable = this.#requestComplete && this.head.keepAlive && this.#answer?.body !== UNTIL_CLOSE;
    this.#finish();
    if (connection) {
      if (clean && this.#requestComplete && this.#answer?.keepAlive) {
        connection.stream.pause(false);
        this.#backends.give(connection);
      } else connection.close();
    }
    this.#client.onAnswered(this, reusable);
  }

  #switch(answer: ResponseHead, head: Buffer, rest: Buffer): void {
    const connection = this.#connection as BackendConnection;
    this.status = answer.status;
    if (!this.head.upgrade) {
      this.#fail(502, 'the backend changes the protocol without being asked');
      return;
    }
    this.#write(head);
    this.#finish();
    this.#client.onSwitched(this, connection, rest);
  }

  #fail(status: number, reason: string): void {
    if (this.#over) return;
    const broken = this.#answer !== undefined;
    this.#finish();
    this.#connection?.close();
    if (broken) this.#client.onBroken(this, reason);
    else {
      this.status = status;
      this.#client.onFailed(this, status, reason);
    }
  }

  #finish(): void {
    this.#over = true;
    this.#body?.close();
  }
}

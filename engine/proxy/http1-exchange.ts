/**
 * One request and its answer in HTTP/1, between a client's connection and a backend's.
 *
 * Bytes go through as they come, as fast as the slower side takes them. A backend that dies before it has said anything is
 * followed by another one, once, where the request can be sent again; after that the client is told so, never left waiting.
 *
 * The client's connection owns it and calls it; what becomes of the exchange is returned there, or told by onOutcome() where it
 * comes of what the backend did. An exchange never calls its client while it is called by it.
 */

import { next } from '../transitions.ts';
import { Attempts, type AttemptsParts, isUnreached, type Unanswered } from './attempts.ts';
import type { BackendConnection, BackendUser } from './backend-connection.ts';
import type { BackendPool } from './backend-pool.ts';
import type { Backend } from './backends.ts';
import type { Clock } from './clock.ts';
import { EXCHANGE, type ExchangeState } from './exchange-states.ts';
import { isIdempotent, type RequestHead } from './head.ts';
import { AnswerReader, type AnswerSink, Progress } from './http1-answer.ts';
import { HttpError } from './llhttp.ts';
import type { RequestVerdict } from './request-verdict.ts';
import type { TaggedFlow } from './tagged-flow.ts';
import type { Timeouts } from './timeouts.ts';

/** How an exchange ended. */
export type Outcome =
  /** Everything of the answer has been written. `reusable`: the client may send its next request. */
  | { readonly is: 'answered'; readonly reusable: boolean }
  /** Nothing was answered, and nothing will be. */
  | ({ readonly is: 'failed' } & Unanswered)
  /** The answer broke off. */
  | { readonly is: 'broken'; readonly reason: string }
  /** Both sides talk to each other from here on; the backend has said `rest` already. */
  | { readonly is: 'switched'; readonly connection: BackendConnection; readonly rest: Buffer };

const ANSWERED: Outcome = { is: 'answered', reusable: true };
const ANSWERED_LAST: Outcome = { is: 'answered', reusable: false };

/** The connection that a request came on. */
export interface ExchangeClient {
  readonly flow: TaggedFlow;
  /** It ends with this answer. */
  readonly leaves: boolean;
  /** False: it takes no more for now; drained() follows. */
  write(bytes: Buffer): boolean;
  /** More of the request can be sent, after send() has returned false or the backend was another one. */
  onBackendDrain(): void;
  /** Told where nobody was there to return it to. */
  onOutcome(exchange: Http1Exchange, outcome: Outcome): void;
}

export interface ExchangeParts extends AttemptsParts {
  readonly clock: Clock;
  readonly timeouts: Timeouts;
  readonly pool: Pick<BackendPool, 'take' | 'give'>;
}

export class Http1Exchange implements BackendUser, AnswerSink {
  readonly head: RequestHead;
  readonly verdict: RequestVerdict;
  readonly startedMs: number;
  /** The answer's status, once it is there. */
  status = 0;
  bytesIn = 0;
  bytesOut = 0;
  readonly #client: ExchangeClient;
  readonly #parts: ExchangeParts;
  readonly #attempts: Attempts;
  readonly #answer: AnswerReader;
  #state: ExchangeState = 'asking';
  /** When it is given up unless something happens. */
  #deadlineMs: number;
  #connection: BackendConnection | undefined;
  /** Everything that was sent is kept, so that it can be sent again. */
  #keeps = true;
  #requestComplete = false;

  constructor(head: RequestHead, verdict: RequestVerdict, client: ExchangeClient, parts: ExchangeParts) {
    this.head = head;
    this.verdict = verdict;
    this.#client = client;
    this.#parts = parts;
    this.#attempts = new Attempts(parts, client, verdict);
    this.#answer = new AnswerReader(head, verdict.cookie, this);
    this.startedMs = parts.clock.nowMs;
    this.#deadlineMs = this.startedMs + parts.timeouts.exchange;
  }

  /** The backend that was asked last. */
  get backend(): Backend | undefined {
    return this.#attempts.backend;
  }

  get leaves(): boolean {
    return this.#client.leaves;
  }

  /** Sends the head, and of the body what came with it. Returns how it ended, where it did at once. */
  start(first: Buffer): Outcome | undefined {
    const backend = this.#attempts.first(this.#parts.clock.nowMs);
    const outcome = this.#connect(backend, false);
    if (!outcome) this.send(first);
    return outcome;
  }

  /** Sends more of the request. Returns whether more can be sent at once: else the client is told when. */
  send(bytes: Buffer): boolean {
    this.bytesIn += bytes.length;
    const connection = this.#connection;
    if (!connection) return true;
    if (this.#keeps) this.#keeps = connection.keep(bytes);
    return connection.socket.write(bytes);
  }

  /** The request is complete. */
  endRequest(): void {
    this.#requestComplete = true;
  }

  /** Something has happened: its time begins anew. */
  touch(): void {
    this.#deadlineMs = this.#parts.clock.nowMs + this.#parts.timeouts.exchange;
  }

  /** The client takes more of the answer. */
  drained(): void {
    this.#connection?.socket.pause(false);
  }

  /** The client is gone. */
  abort(): void {
    this.#finish();
    this.#connection?.close();
  }

  /** Looks at the clock: gives up what takes too long. Returns how it ended, where it did. */
  check(nowMs: number): Outcome | undefined {
    const connection = this.#connection;
    if (connection && !connection.socket.connected && nowMs - connection.startedMs > this.#parts.timeouts.connect)
      return this.#lose('ETIMEDOUT', connection.giveUp());
    return nowMs > this.#deadlineMs ? this.#fail(504, 'the backend does not answer') : undefined;
  }

  onBackendDrain(): void {
    this.#client.onBackendDrain();
  }

  onAnswer(bytes: Buffer): void {
    this.touch();
    this.#tell(this.#read(bytes));
  }

  onAnswerEnd(): void {
    if (this.#answer.endsWithConnection) this.#tell(this.#complete(true));
    else if (this.#connection) this.#tell(this.#lose('', this.#connection.giveUp()));
  }

  onBackendGone(code: string, kept: Buffer): void {
    this.#tell(this.#lose(code, kept));
  }

  /** Passes a part of the answer on. */
  write(bytes: Buffer): void {
    if (this.#state === 'asking' && this.#answer.head) this.#beginAnswer(this.#answer.head.status);
    this.bytesOut += bytes.length;
    if (!this.#client.write(bytes)) this.#connection?.socket.pause(true);
  }

  #tell(outcome: Outcome | undefined): void {
    if (outcome) this.#client.onOutcome(this, outcome);
  }

  #beginAnswer(status: number): void {
    this.status = status;
    this.#state = next(EXCHANGE, this.#state, 'answer');
  }

  #read(bytes: Buffer): Outcome | undefined {
    let progress: Progress;
    try {
      progress = this.#answer.read(bytes);
    } catch (error) {
      if (!(error instanceof HttpError)) throw error;
      return this.#fail(502, `the backend's answer is no HTTP: ${error.message}`);
    }
    if (progress === Progress.PARTIAL) return undefined;
    return progress === Progress.SWITCHED ? this.#switch() : this.#complete(progress === Progress.COMPLETE);
  }

  /** The connection to the backend was lost, which had been sent `kept`: another one takes its place, where that is possible. */
  #lose(code: string, kept: Buffer): Outcome | undefined {
    this.#connection = undefined;
    const unreached = isUnreached(code);
    const repeatable = this.#answer.silent && this.#keeps && (unreached || isIdempotent(this.head.method));
    const backend = this.#attempts.next(code, unreached, repeatable, this.#parts.clock.nowMs);
    const outcome = this.#connect(backend, true);
    if (outcome) return outcome;
    const connection = this.#connection as BackendConnection | undefined;
    connection?.keep(kept);
    connection?.socket.write(kept);
    this.#client.onBackendDrain();
    return undefined;
  }

  #connect(backend: Backend | undefined, fresh: boolean): Outcome | undefined {
    if (!backend) {
      const { status, reason } = this.#attempts.unanswered as Unanswered;
      return this.#fail(status, reason);
    }
    try {
      this.#connection = this.#parts.pool.take(this.#client.flow, backend, fresh, this.#parts.clock.nowMs);
    } catch (error) {
      return this.#fail(503, `no connection can be made: ${(error as Error).message}`);
    }
    this.#connection.begin(this);
    return undefined;
  }

  /** `clean`: nothing came behind the answer. */
  #complete(clean: boolean): Outcome {
    const connection = this.#connection;
    const reusable = this.#requestComplete && this.head.keepAlive && !this.#answer.endsWithConnection;
    this.#finish();
    if (connection) {
      if (clean && this.#requestComplete && this.#answer.head?.keepAlive) {
        connection.socket.pause(false);
        this.#parts.pool.give(connection, this.#parts.clock.nowMs);
      } else connection.close();
    }
    return reusable ? ANSWERED : ANSWERED_LAST;
  }

  #switch(): Outcome | undefined {
    if (!this.head.upgrade) return this.#fail(502, 'the backend changes the protocol without being asked');
    const connection = this.#connection as BackendConnection;
    this.#finish();
    return { is: 'switched', connection, rest: this.#answer.rest };
  }

  #fail(status: number, reason: string): Outcome {
    const broken = this.#state === 'answering';
    this.#finish();
    this.#connection?.close();
    if (broken) return { is: 'broken', reason };
    this.status = status;
    return { is: 'failed', status, reason };
  }

  #finish(): void {
    this.#state = next(EXCHANGE, this.#state, 'finish');
    this.#answer.close();
  }
}

/**
 * A client's connection that speaks HTTP/1: its requests, one after the other, each decided and sent where it goes.
 *
 * Events come from three sides: the client's socket, the exchange under way, and the clock. Each is worked off to its end before the
 * next one: an exchange returns how it ended where it is called from here, and tells it by onOutcome() only where a backend's socket
 * is the cause; sockets tell nothing while they are called.
 */
import type { ProxySocket, SocketHandler } from '../kernel/proxy-socket.ts';
import { next, type Transitions } from '../transitions.ts';
import type { BackendConnection } from './backend-connection.ts';
import type { Backend } from './backends.ts';
import type { Client, Clients } from './clients.ts';
import type { RequestHead } from './head.ts';
import { answeredBy, answeredHere } from './http1-answered.ts';
import { type ExchangeClient, type ExchangeParts, Http1Exchange, type Outcome } from './http1-exchange.ts';
import { RefusedRequest, RequestReader } from './http1-requests.ts';
import { ownAnswer } from './own-answer.ts';
import type { RequestCounts } from './request-counts.ts';
import type { RequestVerdict } from './request-verdict.ts';
import type { Routing } from './routing.ts';
import type { TaggedFlow } from './tagged-flow.ts';
import { Tunnel } from './tunnel.ts';

export type ClientState = 'reading' | 'sending' | 'waiting' | 'leaving' | 'tunnel' | 'gone';
type ClientEvent = 'head' | 'complete' | 'answered' | 'leave' | 'switch' | 'forget';

/**
 * Of a client's connection:
 *
 *     reading -> sending     head: a head has come, and is on its way to a backend; of the body something is still to come
 *     reading -> waiting     complete: a request has come, all of it
 *     sending -> waiting     complete: the rest of the body has come
 *     waiting -> reading     answered
 *     reading -> leaving     leave: its last answer is written, nothing follows; but the client may not have read it yet
 *     sending -> leaving     leave
 *     waiting -> leaving     leave
 *     sending -> tunnel      switch: it speaks another protocol from here on
 *     waiting -> tunnel      switch
 *     reading -> gone        forget: handed over, closed, or broken off
 *     sending -> gone        forget
 *     waiting -> gone        forget
 *     leaving -> gone        forget
 *     tunnel -> gone         forget
 */
export const CLIENT: Transitions<ClientState, ClientEvent> = {
  reading: { head: 'sending', complete: 'waiting', leave: 'leaving', forget: 'gone' },
  sending: { complete: 'waiting', leave: 'leaving', switch: 'tunnel', forget: 'gone' },
  waiting: { answered: 'reading', leave: 'leaving', switch: 'tunnel', forget: 'gone' },
  leaving: { forget: 'gone' },
  tunnel: { forget: 'gone' },
  gone: {},
};

/** Bytes that a client sends ahead of an answer are kept up to here; then it is not read. */
const AHEAD_MAX = 64 * 1024;
/** Rest of a request that was answered early: so much is read and thrown away, so that the client sees its answer. */
const DISCARD_MAX = 1024 * 1024;
/** As nginx calls it: the client did not wait for its answer. */
const CLIENT_GONE = 499;

/** Everything that connections are served with: one for all of a thread. */
export interface ClientParts extends ExchangeParts {
  readonly routing: Pick<Routing, 'decide' | 'choose' | 'noteFailure'>;
  readonly requests: Pick<RequestCounts, 'counts' | 'note'>;
  readonly clients: Pick<Clients, 'remove'>;
  /** Whether bytes are somebody else's after this turn. */
  readonly lends: (bytes: Buffer) => boolean;
  /** A client that speaks HTTP/2 is somebody else's from now on, with its descriptor and what it has said. */
  readonly handOver: (fd: number, first: Buffer, flow: TaggedFlow) => void;
}

export class Http1Client implements Client, ExchangeClient, SocketHandler {
  flow: TaggedFlow;
  readonly #socket: ProxySocket;
  readonly #parts: ClientParts;
  readonly #reader = new RequestReader();
  #state: ClientState = 'reading';
  /** While it is sending or waiting. */
  #exchange: Http1Exchange | undefined;
  /** While it is a tunnel: at its other end. */
  #partner: Backend | undefined;
  /** Of reading: when a head must be there, or the next request begin. Of leaving: when the client must be gone. */
  #deadlineMs: number;
  /** Of leaving: so much more is read. */
  #discardLeft = DISCARD_MAX;
  /** The client says no more. */
  #ended = false;
  #leaves = false;

  constructor(socket: ProxySocket, flow: TaggedFlow, parts: ClientParts) {
    this.flow = flow;
    this.#socket = socket;
    this.#parts = parts;
    this.#deadlineMs = parts.clock.nowMs + parts.timeouts.head;
    socket.handler = this;
  }

  get state(): ClientState {
    return this.#state;
  }

  get leaves(): boolean {
    return this.#leaves;
  }

  /** Looks at the clock: ends what takes too long. */
  check(nowMs: number): void {
    if (this.#exchange) {
      const outcome = this.#exchange.check(nowMs);
      if (outcome) this.onOutcome(this.#exchange, outcome);
    } else if (this.#state === 'reading' && nowMs > this.#deadlineMs) {
      if (this.#reader.length) this.#refuse(408, 'the head of the request did not come in time');
      else this.destroy();
    } else if (this.#state === 'leaving' && nowMs > this.#deadlineMs) {
      if (!this.#socket.blocked) this.#leave();
      // Of its last answer something waits: as long as any answer may.
      else if (nowMs > this.#deadlineMs + this.#parts.timeouts.exchange) this.destroy();
    }
  }

  /** The one that answers the request under way, or is at the other end of a tunnel. */
  backends(): Iterable<Backend> {
    const backend = this.#partner ?? this.#exchange?.backend;
    return backend ? [backend] : [];
  }

  /** Lets the request under way finish, and no other one begin. */
  drain(): void {
    this.#leaves = true;
    if (this.#state === 'tunnel') this.destroy();
    else if (!this.#exchange) this.#beginLeaving();
  }

  destroy(): void {
    this.#socket.reset();
    this.#forget();
  }

  onData(bytes: Buffer): void {
    if (this.#state === 'leaving') {
      this.#discardLeft -= bytes.length;
      if (this.#discardLeft <= 0) this.destroy();
      return;
    }
    this.#exchange?.touch();
    this.#reader.add(bytes);
    this.#advance();
    this.#reader.own(this.#parts.lends);
  }

  onEnd(): void {
    this.#ended = true;
    if (!this.#exchange) this.#beginLeaving();
    else if (this.#state === 'sending') this.destroy();
  }

  onDrain(): void {
    this.#exchange?.drained();
  }

  onGone(): void {
    this.#forget();
  }

  write(bytes: Buffer): boolean {
    return this.#socket.write(bytes);
  }

  onBackendDrain(): void {
    this.#socket.pause(false);
  }

  onOutcome(exchange: Http1Exchange, outcome: Outcome): void {
    this.#settle(exchange, outcome);
    this.#advance();
  }

  /** Goes on with what there is, as far as it reaches. */
  #advance(): void {
    while (this.#state === 'reading' ? this.#readRequest() : this.#state === 'sending' && this.#sendBody());
    // The answer is to come; requests that the client sends meanwhile wait.
    if (this.#state === 'waiting' && this.#reader.length > AHEAD_MAX) this.#socket.pause(true);
  }

  /** Returns whether there may be more to do. */
  #readRequest(): boolean {
    const reader = this.#reader;
    if (!reader.length) return false;
    const other = reader.speaksHttp2();
    if (other === true) this.#handOver();
    if (other) return false;
    const { untouched } = reader;
    try {
      const head = reader.readHead();
      if (head) this.#begin(head);
      else if (untouched && reader.length) this.#deadlineMs = this.#parts.clock.nowMs + this.#parts.timeouts.head;
      return head !== undefined;
    } catch (error) {
      if (!(error instanceof RefusedRequest)) throw error;
      this.#refuse(error.status, error.message);
      return false;
    }
  }

  #handOver(): void {
    const { clients, handOver } = this.#parts;
    const first = Buffer.from(this.#reader.takeAll());
    this.#state = next(CLIENT, this.#state, 'forget');
    clients.remove(this);
    handOver(this.#socket.take(), first, this.flow);
  }

  /** Sends a request on, as far as it is there. @throws RefusedRequest */
  #begin(head: RequestHead): void {
    const { routing, clock } = this.#parts;
    const verdict = routing.decide(this.flow, head, clock.nowMs);
    if (!verdict.allowed) {
      this.#answerHere(head, verdict);
      return;
    }
    const first = this.#reader.takeHead();
    const exchange = new Http1Exchange(head, verdict, this, this.#parts);
    this.#exchange = exchange;
    if (this.#reader.complete) exchange.endRequest();
    this.#state = next(CLIENT, this.#state, this.#reader.complete ? 'complete' : 'head');
    const outcome = exchange.start(first);
    if (outcome) this.#settle(exchange, outcome);
  }

  /** Returns whether there may be more to do. */
  #sendBody(): boolean {
    if (!this.#reader.length) return false;
    const exchange = this.#exchange as Http1Exchange;
    let bytes: Buffer;
    try {
      bytes = this.#reader.takeBody();
    } catch (error) {
      if (!(error instanceof RefusedRequest)) throw error;
      exchange.abort();
      this.#refuse(error.status, error.message);
      return false;
    }
    const { complete } = this.#reader;
    if (complete) {
      exchange.endRequest();
      this.#state = next(CLIENT, this.#state, 'complete');
    }
    if (bytes.length && !exchange.send(bytes)) this.#socket.pause(true);
    return complete;
  }

  /** Every way that a request that was sent on ends. */
  #settle(exchange: Http1Exchange, outcome: Outcome): void {
    if (outcome.is === 'answered') {
      this.#note(exchange, exchange.status, '');
      if (outcome.reusable && !this.#leaves && !(this.#ended && !this.#reader.length)) this.#rest();
      else this.#beginLeaving();
    } else if (outcome.is === 'failed') {
      const { status, reason } = outcome;
      this.#note(exchange, status, reason);
      const kept = exchange.head.keepAlive && !this.#leaves && this.#reader.complete;
      this.#socket.write(ownAnswer(status, reason, `${reason}\n`, { kept, bodiless: exchange.head.method === 'HEAD' }));
      if (kept) this.#rest();
      else this.#beginLeaving();
    } else if (outcome.is === 'broken') {
      this.#note(exchange, exchange.status, outcome.reason);
      this.#exchange = undefined;
      // An answer that ends too early must not look like one that is complete.
      this.destroy();
    } else {
      this.#note(exchange, exchange.status, '');
      this.#beginTunnel(exchange, outcome.connection, outcome.rest);
    }
  }

  /** An answer of our own to a request that was read. */
  #answerHere(head: RequestHead, verdict: RequestVerdict): void {
    const { status, body, reason } = verdict;
    const kept = this.#reader.skipRequest() && head.keepAlive;
    this.#socket.write(ownAnswer(status, reason, body, { kept, bodiless: head.method === 'HEAD' }));
    this.#noteHere(head, verdict, status, reason);
    if (kept) this.#restartIdle();
    else this.#beginLeaving();
  }

  /** An answer to what is no request, or comes too late; the connection ends with it. */
  #refuse(status: number, reason: string): void {
    const { counts } = this.#parts.requests;
    if (status === 408) counts.timeouts += 1;
    else counts.malformed += 1;
    this.#socket.write(ownAnswer(status, reason, '', { kept: false, bodiless: false }));
    this.#noteHere(undefined, undefined, status, reason);
    this.#beginLeaving();
  }

  /** Waits for the next request, of which something may be there already. */
  #rest(): void {
    this.#exchange = undefined;
    this.#state = next(CLIENT, this.#state, 'answered');
    this.#restartIdle();
    this.#socket.pause(false);
  }

  #restartIdle(): void {
    const { clock, timeouts } = this.#parts;
    this.#deadlineMs = clock.nowMs + (this.#reader.length ? timeouts.head : timeouts.idle);
  }

  #beginTunnel(exchange: Http1Exchange, connection: BackendConnection, rest: Buffer): void {
    this.#exchange = undefined;
    this.#partner = exchange.backend;
    this.#state = next(CLIENT, this.#state, 'switch');
    new Tunnel(this.#socket, connection, () => this.#forget()).begin(this.#reader.takeAll(), rest);
  }

  /**
   * Says that nothing follows, and reads on for a while: a reset would take the answer along. When both sides have said so it is
   * gone, and until then it counts.
   */
  #beginLeaving(): void {
    this.#exchange = undefined;
    if (this.#state !== 'leaving') this.#state = next(CLIENT, this.#state, 'leave');
    this.#deadlineMs = this.#parts.clock.nowMs + this.#parts.timeouts.head;
    this.#reader.takeAll();
    this.#reader.close();
    this.#socket.end();
    this.#socket.pause(false);
  }

  /** Closes it, when everything is sent. */
  #leave(): void {
    this.#socket.close();
    this.#forget();
  }

  /** Nothing more is heard of it. */
  #forget(): void {
    if (this.#state === 'gone') return;
    this.#state = next(CLIENT, this.#state, 'forget');
    const exchange = this.#exchange;
    this.#exchange = undefined;
    if (exchange) {
      exchange.abort();
      this.#note(exchange, CLIENT_GONE, 'the client broke off');
    }
    this.#reader.close();
    this.#parts.clients.remove(this);
  }

  #note(exchange: Http1Exchange, status: number, reason: string): void {
    const { requests, clock } = this.#parts;
    requests.note(this.flow, exchange.verdict, answeredBy(exchange, status, reason), clock.nowMs);
  }

  #noteHere(head: RequestHead | undefined, verdict: RequestVerdict | undefined, status: number, reason: string): void {
    const { requests, clock } = this.#parts;
    requests.note(this.flow, verdict, answeredHere(head, status, reason, clock.nowMs), clock.nowMs);
  }
}

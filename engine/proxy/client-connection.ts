/** A client's connection that speaks HTTP/1: its requests, one after the other, each decided and sent where it goes. */
import type { ProxySocket, SocketHandler } from '../kernel/proxy-socket.ts';
import type { BackendConnection } from './backend-connection.ts';
import type { Backend } from './backends.ts';
import { Body } from './body.ts';
import type { Clock } from './clock.ts';
import type { Decision } from './decider.ts';
import type { Client, Timeouts } from './desk.ts';
import { Exchange, type ExchangeBackends, type ExchangeClient } from './exchange.ts';
import { type RequestHead, readRequest } from './head.ts';
import { append } from './inbox.ts';
import { HEAD_BYTES_MAX, HttpError } from './llhttp.ts';
import type { Request } from './messages.ts';
import { Tunnel } from './tunnel.ts';

const END_OF_HEAD = Buffer.from('\r\n\r\n');
const CR = 13;
const LF = 10;
/** What a client sends ahead of an answer is kept up to here; then it is not read. */
const AHEAD_MAX = 64 * 1024;
/** Rest of a request that was answered early: so much is read and thrown away, so that the client sees its answer. */
const DISCARD_MAX = 1024 * 1024;
/** First words of HTTP/2 without TLS (RFC 9113, 3.4). */
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

/** What a connection is served by. */
export interface ClientService {
  readonly timeouts: Timeouts;
  readonly clock: Clock;
  decide(request: Request): Decision;
  readonly backends: ExchangeBackends;
  /** A request has its answer, or what there is of it. */
  note(
    head: RequestHead | undefined,
    decision: Decision | undefined,
    exchange: Exchange | undefined,
    local: { status: number; reason: string; startedMs: number },
  ): void;
  /** It speaks HTTP/2: somebody else takes it over, with what was read. */
  takeOver(stream: ProxySocket, first: Buffer): void;
  onClosed(): void;
}

const EMPTY = Buffer.alloc(0);
/** As nginx calls it: the client did not wait for its answer. */
const CLIENT_GONE = 499;

export class ClientConnection implements Client, ExchangeClient, SocketHandler {
  readonly #stream: ProxySocket;
  readonly #lends: (bytes: Buffer) => boolean;
  readonly #service: ClientService;
  #input: Buffer = EMPTY;
  /** How much of the input was searched for the end of a head. */
  #searched = 0;
  #exchange: Exchange | undefined;
  #decision: Decision | undefined;
  #body: Body | undefined;
  #deadlineMs: number;
  #ended = false;
  #leaves = false;
  #discarding = 0;
  #begun = false;
  #advancing = false;
  #over = false;
  #tunnelled: Backend | undefined;

  /** `lends`: whether bytes are somebody else's after this turn. */
  constructor(stream: ProxySocket, lends: (bytes: Buffer) => boolean, service: ClientService) {
    this.#stream = stream;
    this.#lends = lends;
    this.#service = service;
    this.#deadlineMs = service.clock.nowMs + service.timeouts.head;
    stream.handler = this;
  }

  /** Looks at the clock: closes what takes too long. */
  check(nowMs: number): void {
    if (this.#exchange) this.#exchange.check(nowMs);
    else if (nowMs <= this.#deadlineMs) return;
    else if (!this.#discarding) {
      if (this.#input.length) this.#refuse(408, 'the head of the request did not come in time');
      else this.destroy();
    } else if (!this.#stream.blocked) this.#leave();
    // Of its last answer something waits: as long as any answer may.
    else if (nowMs > this.#deadlineMs + this.#service.timeouts.exchange) this.destroy();
  }

  /** Who answers the request under way, or is at the other end of a tunnel. */
  backends(): Iterable<Backend> {
    const backend = this.#tunnelled ?? this.#exchange?.backend;
    return backend ? [backend] : [];
  }

  /** Lets the request under way finish, and no other one begin. */
  drain(): void {
    this.#leaves = true;
    if (this.#exchange) return;
    if (this.#tunnelled) this.destroy();
    else this.#close();
  }

  destroy(): void {
    this.#stream.reset();
    this.#forget();
  }

  onData(bytes: Buffer): void {
    if (this.#discarding) {
      this.#discarding -= bytes.length;
      if (this.#discarding <= 0) this.destroy();
      return;
    }
    if (this.#exchange) this.#exchange.deadlineMs = this.#service.clock.nowMs + this.#service.timeouts.exchange;
    this.#input = this.#input.length ? append(this.#input, bytes) : bytes;
    this.#advance();
    if (this.#input.length && this.#lends(this.#input)) this.#input = append(EMPTY, this.#input);
  }

  onEnd(): void {
    this.#ended = true;
    if (!this.#exchange) this.#close();
    else if (this.#body?.complete === false) this.destroy();
  }

  onDrain(): void {
    this.#exchange?.onClientDrain();
  }

  onGone(): void {
    this.#forget();
  }

  /** Closes it, when everything is sent. */
  #leave(): void {
    this.#stream.close();
    this.#forget();
  }

  /** Nothing more is heard of it. */
  #forget(): void {
    if (this.#over) return;
    this.#over = true;
    const exchange = this.#exchange;
    this.#exchange = undefined;
    if (exchange) {
      exchange.abort();
      this.#note(exchange, CLIENT_GONE, 'the client broke off');
    }
    this.#body?.close();
    this.#service.onClosed();
  }

  /** Goes on with what there is, as far as it reaches. */
  #advance(): void {
    if (this.#advancing) return;
    this.#advancing = true;
    while (this.#step());
    this.#advancing = false;
  }

  /** Returns whether there may be more to do. */
  #step(): boolean {
    if (this.#discarding || this.#over) return false;
    if (this.#exchange) return this.#body?.complete === false ? this.#sendBody() : this.#wait();
    if (!this.#input.length) return false;
    if (!this.#begun && this.#isPreface()) return false;
    while (this.#input[0] === CR && this.#input[1] === LF) this.#consume(2);
    const found = this.#input.indexOf(END_OF_HEAD, Math.max(0, this.#searched - 3));
    if (found < 0) {
      if (!this.#searched && this.#input.length) this.#deadlineMs = this.#service.clock.nowMs + this.#service.timeouts.head;
      this.#searched = this.#input.length;
      if (this.#searched > HEAD_BYTES_MAX) this.#refuse(431, 'the head of the request is too long');
      return false;
    }
    const end = found + END_OF_HEAD.length;
    this.#searched = 0;
    if (end > HEAD_BYTES_MAX) this.#refuse(431, 'the head of the request is too long');
    else this.#begin(end);
    return true;
  }

  /** Whether the client speaks HTTP/2, or may: then it is not for us to read. */
  #isPreface(): boolean {
    const length = Math.min(this.#input.length, PREFACE.length);
    if (this.#input.compare(PREFACE, 0, length, 0, length) !== 0) {
      this.#begun = true;
      return false;
    }
    if (length < PREFACE.length) return true;
    const first = Buffer.from(this.#input);
    this.#input = EMPTY;
    this.#over = true;
    this.#service.takeOver(this.#stream, first);
    return true;
  }

  #begin(end: number): void {
    let head: RequestHead;
    try {
      head = readRequest(this.#input, 0, end);
    } catch (error) {
      if (!(error instanceof HttpError)) throw error;
      this.#refuse(400, error.message);
      return;
    }
    const { clock, timeouts } = this.#service;
    const decision = this.#service.decide(head);
    this.#decision = decision;
    this.#body = new Body(head.body);
    if (!decision.allowed) {
      this.#answerHere(head, decision, end, clock.nowMs);
      return;
    }
    const exchange = new Exchange(head, decision, this, this.#service.backends, clock, timeouts.exchange);
    this.#exchange = exchange;
    let taken: number;
    try {
      taken = this.#body.take(this.#input, end);
    } catch {
      this.#exchange = undefined;
      this.#refuse(400, 'broken chunks');
      return;
    }
    const input = this.#input;
    this.#consume(end + taken);
    if (this.#body.complete) exchange.endRequest();
    const { rewritten } = head;
    const body = rewritten && taken ? input.subarray(end, end + taken) : undefined;
    exchange.start(rewritten ? (body ? Buffer.concat([rewritten, body]) : rewritten) : firstOf(input, end + taken));
  }

  #sendBody(): boolean {
    if (!this.#input.length) return false;
    const { exchange, body, input } = { exchange: this.#exchange as Exchange, body: this.#body as Body, input: this.#input };
    let taken: number;
    try {
      taken = body.take(input, 0);
    } catch {
      this.#exchange = undefined;
      exchange.abort();
      this.#refuse(400, 'broken chunks');
      return false;
    }
    this.#consume(taken);
    if (body.complete) exchange.endRequest();
    exchange.send(taken === input.length ? input : input.subarray(0, taken));
    return body.complete;
  }

  /** The answer is to come; what the client sends meanwhile waits. */
  #wait(): boolean {
    if (this.#input.length > AHEAD_MAX) this.#stream.pause(true);
    return false;
  }

  #consume(bytes: number): void {
    this.#input = bytes === this.#input.length ? EMPTY : this.#input.subarray(bytes);
    this.#searched = 0;
  }

  /** An answer of our own to a request that was read. */
  #answerHere(head: RequestHead, { status, body, reason }: Decision, end: number, nowMs: number): void {
    let taken = 0;
    try {
      taken = this.#body?.take(this.#input, end) ?? 0;
    } catch {
      // What follows is not read any more: the connection ends with this answer.
    }
    this.#consume(end + taken);
    const whole = this.#body?.complete === true;
    const keep = whole && head.keepAlive;
    this.#stream.write(answerOf(status, reason, head.method === 'HEAD' ? '' : body, keep, Buffer.byteLength(body)));
    this.#service.note(head, this.#decision, undefined, { status, reason, startedMs: nowMs });
    this.#body?.close();
    if (!keep) this.#close();
    else this.#rest();
  }

  /** An answer to what is no request, or comes too late; the connection ends with it. */
  #refuse(status: number, reason: string): void {
    this.#body?.close();
    this.#stream.write(answerOf(status, reason, '', false, 0));
    this.#service.note(undefined, undefined, undefined, { status, reason, startedMs: this.#service.clock.nowMs });
    this.#input = EMPTY;
    this.#close();
  }

  /**
   * Says that nothing follows, and reads on for a while: a reset would take the answer along. When both sides have said so it is
   * gone, and until then it counts.
   */
  #close(): void {
    this.#discarding = DISCARD_MAX;
    this.#deadlineMs = this.#service.clock.nowMs + this.#service.timeouts.head;
    this.#input = EMPTY;
    this.#stream.end();
    this.#stream.pause(false);
  }

  /** Waits for the next request. */
  #rest(): void {
    this.#exchange = undefined;
    this.#searched = 0;
    const { timeouts } = this.#service;
    this.#deadlineMs = this.#service.clock.nowMs + (this.#input.length ? timeouts.head : timeouts.idle);
  }

  get leaves(): boolean {
    return this.#leaves;
  }

  write(bytes: Buffer): boolean {
    return this.#stream.write(bytes);
  }

  onAnswered(exchange: Exchange, reusable: boolean): void {
    this.#note(exchange, exchange.status, '');
    this.#rest();
    if (!reusable || this.#leaves || (this.#ended && !this.#input.length)) {
      this.#body?.close();
      this.#close();
      return;
    }
    this.#stream.pause(false);
    this.#advance();
  }

  onFailed(exchange: Exchange, status: number, reason: string): void {
    this.#note(exchange, status, reason);
    const keep = exchange.head.keepAlive && !this.#leaves && this.#body?.complete === true;
    this.#stream.write(answerOf(status, reason, exchange.head.method === 'HEAD' ? '' : `${reason}\n`, keep, Buffer.byteLength(reason) + 1));
    this.#rest();
    if (!keep) this.#close();
    else {
      this.#stream.pause(false);
      this.#advance();
    }
  }

  onBroken(exchange: Exchange, reason: string): void {
    this.#note(exchange, exchange.status, reason);
    this.#exchange = undefined;
    // An answer that ends too early must not look like one that is complete.
    this.destroy();
  }

  onSwitched(exchange: Exchange, connection: BackendConnection, rest: Buffer): void {
    this.#note(exchange, exchange.status, '');
    this.#exchange = undefined;
    this.#tunnelled = exchange.backend;
    this.#deadlineMs = Number.POSITIVE_INFINITY;
    const input = this.#input;
    this.#input = EMPTY;
    new Tunnel(this.#stream, connection, () => this.#forget()).begin(input, rest);
  }

  pauseRequest(): void {
    this.#stream.pause(true);
  }

  resumeRequest(): void {
    this.#stream.pause(false);
  }

  #note(exchange: Exchange, status: number, reason: string): void {
    this.#service.note(exchange.head, this.#decision, exchange, { status, reason, startedMs: exchange.startedMs });
  }
}

/** The first bytes, which most often are all. */
function firstOf(bytes: Buffer, count: number): Buffer {
  return count === bytes.length ? bytes : bytes.subarray(0, count);
}

/** An answer of the proxy's own; why is told in a header. */
export function answerOf(status: number, reason: string, body: string, keep: boolean, length: number): Buffer {
  const lines = [
    `HTTP/1.1 ${status} ${STATUS_TEXTS[status] ?? 'Refused'}`,
    'server: sluice',
    `x-sluice-reason: ${headerText(reason)}`,
    'content-type: text/plain; charset=utf-8',
    `content-length: ${length}`,
    ...(keep ? [] : ['connection: close']),
  ];
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n${body}`);
}

/** A text as a header may have it. */
export function headerText(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, 512);
}

const STATUS_TEXTS: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  403: 'Forbidden',
  404: 'Not Found',
  408: 'Request Timeout',
  431: 'Request Header Fields Too Large',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
};

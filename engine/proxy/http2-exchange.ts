/**
 * One request and its answer in HTTP/2: a stream of a client's connection, and one of a backend's. It goes through the states of
 * EXCHANGE, as one of HTTP/1 does, and is tried with backends in the same way; Node's streams carry the bytes.
 */
import { type ClientHttp2Stream, constants, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import { next } from '../transitions.ts';
import { Attempts, type AttemptsParts, type Unanswered } from './attempts.ts';
import type { Backend } from './backends.ts';
import { EXCHANGE, type ExchangeState } from './exchange-states.ts';
import type { BackendSession, Http2Backends } from './http2-backends.ts';
import { requestOf } from './http2-request.ts';
import type { Request } from './messages.ts';
import { headerText, REASON_HEADER, TEXT_TYPE } from './own-answer.ts';
import type { RequestCounts } from './request-counts.ts';
import type { RequestVerdict } from './request-verdict.ts';
import type { Routing } from './routing.ts';
import type { TaggedFlow } from './tagged-flow.ts';
import type { Timeouts } from './timeouts.ts';

const { HTTP2_HEADER_STATUS, NGHTTP2_CANCEL, NGHTTP2_FLAG_END_STREAM, NGHTTP2_NO_ERROR, NGHTTP2_PROTOCOL_ERROR, NGHTTP2_REFUSED_STREAM } =
  constants;

export interface Http2ExchangeParts extends AttemptsParts {
  readonly routing: Pick<Routing, 'decide' | 'choose' | 'noteFailure'>;
  readonly requests: Pick<RequestCounts, 'note'>;
  readonly backends: Pick<Http2Backends, 'take'>;
  readonly timeouts: Timeouts;
}

/** The connection that the stream is of. */
export interface Http2ExchangeClient {
  readonly flow: TaggedFlow;
  /** Descriptor of its socket. */
  readonly fd: number;
}

export class Http2Exchange {
  readonly #parts: Http2ExchangeParts;
  readonly #client: Http2ExchangeClient;
  readonly #stream: ServerHttp2Stream;
  readonly #headers: IncomingHttpHeaders;
  readonly #startedMs = performance.now();
  readonly #request: Request | undefined;
  #verdict: RequestVerdict | undefined;
  #state: ExchangeState = 'asking';
  /** Of the answer, once it is there. */
  #status = 0;
  #bytesIn = 0;
  #bytesOut = 0;
  /** The backend that carries it, once there is one. */
  backend: Backend | undefined;
  /** Gives back what it takes of its backend. */
  #release = (): void => {};

  constructor(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, client: Http2ExchangeClient, parts: Http2ExchangeParts) {
    this.#stream = stream;
    this.#headers = headers;
    this.#client = client;
    this.#parts = parts;
    this.#request = requestOf(headers);
  }

  /** Decides it, and carries it to its backend; returns when that has begun, or it is answered here. */
  async start(): Promise<void> {
    if (!this.#request) {
      this.#stream.close(NGHTTP2_PROTOCOL_ERROR);
      return;
    }
    const verdict = this.#parts.routing.decide(this.#client.flow, this.#request, this.#startedMs);
    this.#verdict = verdict;
    if (!verdict.allowed) {
      this.#answerHere(verdict.status, verdict.reason, verdict.body, undefined);
      return;
    }
    const attempts = new Attempts(this.#parts, this.#client, verdict);
    const session = await this.#connect(attempts);
    if (this.#stream.destroyed) return;
    if (session && attempts.backend) this.#forward(session, attempts.backend);
    else {
      const { status, reason } = attempts.unanswered as Unanswered;
      this.#answerHere(status, reason, '', attempts.backend);
    }
  }

  /** A connection to one of the backends; undefined where there is none, or nobody waits for it any more. */
  async #connect(attempts: Attempts): Promise<BackendSession | undefined> {
    let backend = attempts.first(performance.now());
    while (backend && !this.#stream.destroyed) {
      try {
        return await this.#parts.backends.take(this.#client.fd, this.#client.flow, backend);
      } catch (error) {
        backend = attempts.next((error as NodeJS.ErrnoException).code ?? '', true, true, performance.now());
      }
    }
    return undefined;
  }

  #forward(upstream: BackendSession, backend: Backend): void {
    let out: ClientHttp2Stream;
    try {
      out = upstream.session.request(this.#headers, { endStream: this.#stream.endAfterHeaders });
    } catch (error) {
      this.#answerHere(503, `no stream can be opened: ${(error as Error).message}`, '', backend);
      return;
    }
    this.backend = backend;
    backend.active += 1;
    upstream.streams += 1;
    // As long as anything happens on either side, it goes on.
    const timer = setTimeout(() => this.#giveUp(out), this.#parts.timeouts.exchange);
    this.#release = () => {
      clearTimeout(timer);
      backend.active -= 1;
      upstream.streams -= 1;
      upstream.idleSinceMs = performance.now();
    };
    out.on('error', () => {});
    this.#passAnswer(out, timer);
    this.#passBodies(out, timer);
    this.#passEnds(out);
  }

  #passAnswer(out: ClientHttp2Stream, timer: NodeJS.Timeout): void {
    const stream = this.#stream;
    // Interim answers: 103 and its like, and 100 by itself.
    const interim = (headers: IncomingHttpHeaders): void => {
      if (!stream.destroyed && !stream.headersSent) stream.additionalHeaders(headers);
    };
    out.on('headers', interim);
    out.on('continue', () => interim({ [HTTP2_HEADER_STATUS]: '100' }));
    out.on('response', (answered, flags) => {
      timer.refresh();
      if (this.#state !== 'asking') return;
      this.#state = next(EXCHANGE, this.#state, 'answer');
      this.#status = Number(answered[HTTP2_HEADER_STATUS]);
      if (stream.destroyed) {
        out.close(NGHTTP2_CANCEL);
        return;
      }
      const cookie = this.#verdict?.cookie;
      const cookies = cookie ? { 'set-cookie': [...(answered['set-cookie'] ?? []), cookie] } : {};
      // An answer without a body says in its head what others say behind it, and must end with that: so gRPC tells an error.
      const ends = (flags & NGHTTP2_FLAG_END_STREAM) !== 0;
      stream.respond({ ...answered, ...cookies }, ends ? { endStream: true } : { waitForTrailers: true });
    });
    let trailers: IncomingHttpHeaders = {};
    out.on('trailers', (sent) => (trailers = sent));
    stream.on('wantTrailers', () => stream.sendTrailers(trailers));
  }

  #passBodies(out: ClientHttp2Stream, timer: NodeJS.Timeout): void {
    this.#stream.on('data', (chunk: Buffer) => {
      timer.refresh();
      this.#bytesIn += chunk.length;
    });
    out.on('data', (chunk: Buffer) => {
      timer.refresh();
      this.#bytesOut += chunk.length;
    });
    this.#stream.pipe(out);
    out.pipe(this.#stream);
  }

  #passEnds(out: ClientHttp2Stream): void {
    const stream = this.#stream;
    out.on('close', () => {
      const broken = out.rstCode !== NGHTTP2_NO_ERROR || !this.#status;
      this.#finish(broken ? 'the backend broke off' : '', 502);
      if (broken && !stream.destroyed) stream.close(out.rstCode || NGHTTP2_REFUSED_STREAM);
    });
    stream.on('close', () => {
      if (!out.destroyed && !out.readableEnded) out.close(stream.rstCode || NGHTTP2_CANCEL);
      this.#finish(stream.rstCode ? 'the client broke off' : '', 502);
    });
  }

  #giveUp(out: ClientHttp2Stream): void {
    const answering = this.#state === 'answering';
    this.#finish(answering ? 'nothing has come from either side' : 'the backend does not answer', 504);
    out.close(NGHTTP2_CANCEL);
    if (answering) this.#stream.close(NGHTTP2_CANCEL);
  }

  /** It is over: noted where it has its answer, else answered with `failure`. */
  #finish(reason: string, failure: number): void {
    if (this.#state === 'over') return;
    this.#release();
    if (this.#state === 'asking') {
      if (this.#stream.destroyed) this.#state = next(EXCHANGE, this.#state, 'finish');
      else this.#answerHere(failure, reason, '', this.backend);
      return;
    }
    this.#state = next(EXCHANGE, this.#state, 'finish');
    this.#note(this.#status, reason, this.backend, this.#bytesIn, this.#bytesOut);
  }

  #answerHere(status: number, reason: string, body: string, backend: Backend | undefined): void {
    this.#state = next(EXCHANGE, this.#state, 'finish');
    const stream = this.#stream;
    if (!stream.destroyed && !stream.headersSent)
      stream.respond({ [HTTP2_HEADER_STATUS]: status, 'content-type': TEXT_TYPE, [REASON_HEADER]: headerText(reason) });
    stream.end(body);
    this.#note(status, reason, backend, 0, body.length);
  }

  #note(status: number, reason: string, backend: Backend | undefined, bytesIn: number, bytesOut: number): void {
    const { method = '', host = '', path = '' } = this.#request ?? {};
    const answered = {
      protocol: 'HTTP/2',
      method,
      host,
      path,
      status,
      reason,
      backend: backend?.name ?? '',
      startedMs: this.#startedMs,
      bytesIn,
      bytesOut,
    } as const;
    this.#parts.requests.note(this.#client.flow, this.#verdict, answered, performance.now());
  }
}

/** A client's connection that speaks HTTP/2, with the streams on it. */
import { constants, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import type { Backend } from './backends.ts';
import type { Client } from './clients.ts';
import { Http2Exchange, type Http2ExchangeClient, type Http2ExchangeParts } from './http2-exchange.ts';
import type { TaggedFlow } from './tagged-flow.ts';

export class Http2Client implements Client, Http2ExchangeClient {
  flow: TaggedFlow;
  readonly fd: number;
  readonly #session: ServerHttp2Session;
  readonly #open = new Map<ServerHttp2Stream, Http2Exchange>();

  constructor(fd: number, flow: TaggedFlow, session: ServerHttp2Session, parts: Http2ExchangeParts) {
    this.fd = fd;
    this.flow = flow;
    this.#session = session;
    session.on('error', () => {});
    session.setTimeout(parts.timeouts.idle, () => {
      if (!this.#open.size) session.close();
    });
    session.on('stream', (stream, headers) => {
      stream.on('error', () => {});
      stream.on('close', () => this.#open.delete(stream));
      const exchange = new Http2Exchange(stream, headers, this, parts);
      this.#open.set(stream, exchange);
      exchange.start().catch(() => stream.close(constants.NGHTTP2_INTERNAL_ERROR));
    });
  }

  /** Node looks at the clock, for sessions and streams. */
  check(): void {}

  backends(): Iterable<Backend> {
    return [...this.#open.values()].flatMap(({ backend }) => backend ?? []);
  }

  drain(): void {
    this.#session.close();
  }

  destroy(): void {
    this.#session.destroy();
  }
}

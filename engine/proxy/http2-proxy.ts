/**
 * Clients that speak HTTP/2 without TLS, such as gRPC: each stream is decided like a request of HTTP/1, and goes to a backend over
 * HTTP/2 from the client's address.
 */
import { constants, performServerHandshake, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import { Socket } from 'node:net';
import type { SocketEnds } from '../native.gen.ts';
import type { Backend } from './backends.ts';
import type { Client, Clients } from './clients.ts';
import { type ConnectBeside, Http2Backends } from './http2-backends.ts';
import { type Http2Client, Http2Exchange, type Http2ExchangeParts } from './http2-exchange.ts';
import type { RequestCounts } from './request-counts.ts';
import type { Routing } from './routing.ts';
import type { TaggedFlow } from './tagged-flow.ts';
import { TIMEOUTS, type Timeouts } from './timeouts.ts';

/** Streams of one client at once. */
const STREAMS_MAX = 256;
const HEADER_PAIRS_MAX = 128;
/** Kept of one client at once. */
const SESSION_MB = 2;
const SETTINGS = { enablePush: false, maxConcurrentStreams: STREAMS_MAX, maxHeaderListSize: 32 * 1024 };

export interface Http2ProxyParts {
  readonly routing: Pick<Routing, 'find' | 'decide' | 'choose' | 'noteFailure'>;
  readonly clients: Pick<Clients, 'admits' | 'add' | 'remove'>;
  readonly requests: Pick<RequestCounts, 'counts' | 'note'>;
  readonly connect: ConnectBeside;
  readonly timeouts?: Timeouts;
}

export class Http2Proxy {
  readonly #routing: Http2ProxyParts['routing'];
  readonly #clients: Http2ProxyParts['clients'];
  readonly #backends: Http2Backends;
  readonly #parts: Http2ExchangeParts;

  constructor({ routing, clients, requests, connect, timeouts = TIMEOUTS }: Http2ProxyParts) {
    this.#routing = routing;
    this.#clients = clients;
    this.#backends = new Http2Backends(connect, timeouts.connect);
    this.#parts = { routing, requests, counts: requests.counts, backends: this.#backends, timeouts };
  }

  /** Serves a client whose first bytes were read already. */
  serve(fd: number, first: Buffer, ends: SocketEnds): void {
    const socket = new Socket({ fd, readable: true, writable: true });
    socket.on('error', () => {});
    const flow = this.#routing.find(ends);
    if (!this.#clients.admits(flow)) {
      socket.resetAndDestroy();
      return;
    }
    socket.unshift(first);
    const session = performServerHandshake(socket, {
      settings: SETTINGS,
      maxHeaderListPairs: HEADER_PAIRS_MAX,
      maxSessionMemory: SESSION_MB,
    });
    const client = new Http2Connection(fd, flow, session, this.#parts);
    this.#clients.add(client);
    session.on('close', () => this.#clients.remove(client));
  }

  /** Lets nobody use a connection to a backend again: whoever allowed it may not any more. Streams on them end first. */
  renew(): void {
    this.#backends.renew();
  }

  /** Closes connections that nobody uses. */
  sweep(nowMs: number): void {
    this.#backends.sweep(nowMs);
  }

  close(): void {
    this.#backends.close();
  }
}

/** A client's connection, with the streams on it. */
class Http2Connection implements Client, Http2Client {
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

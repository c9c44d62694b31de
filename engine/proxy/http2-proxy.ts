/**
 * Clients that speak HTTP/2 without TLS, such as gRPC: each stream is decided like a request of HTTP/1, and goes to a backend over
 * HTTP/2 from the client's address.
 */
import { performServerHandshake } from 'node:http2';
import { Socket } from 'node:net';
import type { SocketEnds } from '../native.gen.ts';
import type { Clients } from './clients.ts';
import { type ConnectBeside, Http2Backends } from './http2-backends.ts';
import { Http2Client } from './http2-client.ts';
import type { Http2ExchangeParts } from './http2-exchange.ts';
import type { RequestCounts } from './request-counts.ts';
import type { Routing } from './routing.ts';
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
    const client = new Http2Client(fd, flow, session, this.#parts);
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

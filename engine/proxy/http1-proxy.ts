/** The proxy for HTTP/1: takes clients' connections, and serves each by the rule that policy tags it with. */
import type { ProxySocket } from '../kernel/proxy-socket.ts';
import { type ListeningNetwork, ProxySockets } from '../kernel/proxy-sockets.ts';
import type { SocketEnds } from '../native.gen.ts';
import { BackendPool } from './backend-pool.ts';
import type { Clients } from './clients.ts';
import { Clock } from './clock.ts';
import { type ClientParts, Http1Client } from './http1-client.ts';
import type { RequestCounts } from './request-counts.ts';
import type { Routing } from './routing.ts';
import { endsOf } from './tagged-flow.ts';
import { TIMEOUTS } from './timeouts.ts';

const SWEEP_MS = 250;

export interface Http1ProxyParts {
  readonly routing: Routing;
  readonly clients: Clients;
  readonly requests: RequestCounts;
  /** The sockets that listen. */
  readonly network: ListeningNetwork;
  /** A client that speaks HTTP/2 is somebody else's, with its descriptor and what it has said. */
  readonly handOver: (fd: number, first: Buffer, ends: SocketEnds) => void;
  /** Told of a defect. */
  readonly failed: (error: Error) => void;
}

export class Http1Proxy {
  readonly #routing: Routing;
  readonly #clients: Clients;
  readonly #requests: RequestCounts;
  readonly #sockets: ProxySockets;
  readonly #pool: BackendPool;
  readonly #clock = new Clock();
  readonly #parts: ClientParts;
  #sweptMs = 0;
  #refused = 0;

  constructor({ routing, clients, requests, network, handOver, failed }: Http1ProxyParts) {
    this.#routing = routing;
    this.#clients = clients;
    this.#requests = requests;
    const sockets = new ProxySockets(network, {
      accepted: (socket, ends) => this.#accept(socket, ends),
      woke: () => void this.#clock.advance(),
      failed,
    });
    this.#sockets = sockets;
    this.#pool = new BackendPool((from, to, port) => sockets.connect(from, to, port));
    this.#parts = {
      clock: this.#clock,
      timeouts: TIMEOUTS,
      routing,
      requests,
      counts: requests.counts,
      clients,
      pool: this.#pool,
      lends: (bytes) => sockets.lends(bytes),
      handOver: (fd, first, flow) => handOver(fd, first, endsOf(flow)),
    };
  }

  /** Other threads wake this one by it, and clean up behind it. */
  get handle(): number {
    return this.#sockets.handle;
  }

  /** Serves what there is; waits at most that long for it. */
  turn(timeoutMs: number): void {
    this.#sockets.turn(timeoutMs);
    const { nowMs } = this.#clock;
    if (nowMs - this.#sweptMs < SWEEP_MS) return;
    this.#sweptMs = nowMs;
    this.#clients.sweep(nowMs);
    this.#pool.sweep(nowMs);
    const { counts } = this.#requests;
    counts.backends = this.#pool.open;
    counts.refusedClients += this.#sockets.refused - this.#refused;
    this.#refused = this.#sockets.refused;
    this.#sockets.dispatch();
  }

  /** Lets nobody use a connection to a backend again: whoever allowed it may not any more. */
  renew(): void {
    this.#pool.clear();
  }

  #accept(socket: ProxySocket, ends: SocketEnds): void {
    const flow = this.#routing.find(ends);
    if (this.#clients.admits(flow)) this.#clients.add(new Http1Client(socket, flow, this.#parts));
    else socket.reset();
  }
}

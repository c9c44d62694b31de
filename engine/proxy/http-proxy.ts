/** The proxy for HTTP/1: takes clients' connections, and serves each by the rule that policy tags it with. */
import type { ProxySocket } from '../kernel/proxy-socket.ts';
import { type ListeningNetwork, ProxySockets } from '../kernel/proxy-sockets.ts';
import type { SocketEnds } from '../native.gen.ts';
import { BackendPool } from './backend-pool.ts';
import { ClientConnection, type ClientService } from './client-connection.ts';
import { Clock } from './clock.ts';
import { type Desk, TIMEOUTS, type Timeouts } from './desk.ts';
import type { ExchangeBackends } from './exchange.ts';
import type { ProxyPolicy } from './messages.ts';
import type { Party } from './party.ts';

const SWEEP_MS = 250;

export interface HttpProxyParts {
  readonly desk: Desk;
  /** The sockets that listen. */
  readonly network: ListeningNetwork;
  /** A client that speaks HTTP/2 is somebody else's, with its descriptor and what it has said. */
  readonly handOver: (fd: number, first: Buffer, ends: SocketEnds) => void;
  /** Told of a defect. */
  readonly failed: (error: Error) => void;
  readonly timeouts?: Timeouts;
}

export class HttpProxy {
  readonly #desk: Desk;
  readonly #streams: ProxySockets;
  readonly #pool: BackendPool;
  readonly #handOver: HttpProxyParts['handOver'];
  readonly #timeouts: Timeouts;
  readonly #clock = new Clock();
  #sweptMs = 0;
  #refused = 0;

  constructor({ desk, network, handOver, failed, timeouts }: HttpProxyParts) {
    this.#desk = desk;
    this.#handOver = handOver;
    this.#timeouts = timeouts ?? TIMEOUTS;
    this.#streams = new ProxySockets(network, {
      accepted: (stream, ends) => this.#accept(stream, ends),
      woke: () => void this.#clock.advance(),
      failed,
    });
    this.#pool = new BackendPool((from, to, port) => this.#streams.connect(from, to, port));
  }

  /** By which other threads wake this one. */
  get handle(): number {
    return this.#streams.handle;
  }

  /** Serves what there is; waits at most that long for it. */
  turn(timeoutMs: number): void {
    this.#streams.turn(timeoutMs);
    const { nowMs } = this.#clock;
    if (nowMs - this.#sweptMs < SWEEP_MS) return;
    this.#sweptMs = nowMs;
    this.#desk.sweep(nowMs);
    this.#pool.sweep(nowMs);
    const { counts } = this.#desk.tally;
    counts.backends = this.#pool.open;
    counts.refusedClients += this.#streams.refused - this.#refused;
    this.#refused = this.#streams.refused;
    this.#streams.dispatch();
  }

  /** Takes over another revision of policy. */
  setPolicy(policy: ProxyPolicy): void {
    this.#desk.setPolicy(policy);
    this.renew();
  }

  /** Lets nobody use a connection to a backend again: who allowed it may not any more. */
  renew(): void {
    this.#pool.clear();
  }

  #accept(stream: ProxySocket, ends: SocketEnds): void {
    const desk = this.#desk;
    const party = desk.find(ends);
    if (!party || !desk.hasRoom(party)) {
      desk.tally.counts.refusedClients += 1;
      stream.reset();
      return;
    }
    const current = (): Party => desk.partyOf(client) ?? party;
    const service: ClientService = {
      timeouts: this.#timeouts,
      decide: (request) => desk.decide(current(), request, this.#clock.nowMs),
      clock: this.#clock,
      backends: this.#backendsFor(current),
      note: (head, decision, exchange, { status, reason, startedMs }) => {
        if (!head) desk.tally.counts[status === 408 ? 'timeouts' : 'malformed'] += 1;
        desk.note(current(), decision, this.#clock.nowMs, {
          protocol: head?.old ? 'HTTP/1.0' : 'HTTP/1.1',
          method: head?.method ?? '',
          host: head?.host ?? '',
          path: head?.path ?? '',
          status,
          reason,
          backend: exchange?.backend,
          startedMs,
          bytesIn: exchange?.bytesIn ?? 0,
          bytesOut: exchange?.bytesOut ?? 0,
        });
      },
      takeOver: (taken, first) => {
        desk.remove(client);
        this.#handOver(taken.take(), first, ends);
      },
      onClosed: () => desk.remove(client),
    };
    const client = new ClientConnection(stream, (bytes) => this.#streams.lends(bytes), service);
    desk.add(client, party);
  }

  #backendsFor(party: () => Party): ExchangeBackends {
    const desk = this.#desk;
    return {
      choose: (decision, except) => desk.choose(party(), decision, except, this.#clock.nowMs),
      take: (backend, fresh) => this.#pool.take(party(), backend, fresh, this.#clock.nowMs),
      give: (connection) => this.#pool.give(connection, this.#clock.nowMs),
      noteFailure: (backend) => desk.noteFailure(backend, this.#clock.nowMs),
      noteRetry: () => void (desk.tally.counts.retries += 1),
    };
  }
}

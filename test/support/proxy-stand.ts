/** A proxy for HTTP/1 with clients and backends that the test plays: no socket, no policy, a clock that stands. */
import { Reason } from '../../engine/abi.gen.ts';
import { BackendPool } from '../../engine/proxy/backend-pool.ts';
import type { Backend } from '../../engine/proxy/backends.ts';
import type { Client } from '../../engine/proxy/clients.ts';
import { Clock } from '../../engine/proxy/clock.ts';
import { type ClientParts, Http1Client } from '../../engine/proxy/http1-client.ts';
import type { Request } from '../../engine/proxy/messages.ts';
import { type Answered, RequestCounts } from '../../engine/proxy/request-counts.ts';
import type { RequestVerdict } from '../../engine/proxy/request-verdict.ts';
import type { TaggedFlow } from '../../engine/proxy/tagged-flow.ts';
import type { Timeouts } from '../../engine/proxy/timeouts.ts';
import { FakeSocket } from './fake-sockets.ts';

export const TIMES: Timeouts = { head: 10, idle: 75, exchange: 60, connect: 2 };

export const ALLOWED: RequestVerdict = {
  allowed: true,
  cause: Reason.PASS_VERDICT,
  route: '',
  to: undefined,
  status: 0,
  body: '',
  reason: '',
  cookie: '',
  audited: false,
  plugin: 0,
  version: '',
};

export function backendOf(name: string): Backend {
  return { key: name, name, address: new Uint8Array(16), port: 80, active: 0, restsUntil: 0, gone: false };
}

export function flowOf(endpoint: number, clientKey = `client ${endpoint}`): TaggedFlow {
  const address = new Uint8Array(16);
  return {
    source: address,
    destination: address,
    sourceKey: clientKey,
    destinationKey: 'there',
    words: new Int32Array(8),
    hash: 0,
    sourcePort: 40_000,
    destinationPort: 80,
    sourceIdentity: 1,
    destinationIdentity: 2,
    endpoint,
    process: false,
    clientKey,
    service: '',
    rule: { id: 7, name: 'a rule', requests: { rules: [] }, plugins: new Map() } as unknown as TaggedFlow['rule'],
    reachable: new Map(),
  };
}

/** Everything that a test sees and says. */
export class ProxyStand {
  readonly clock = new Clock();
  readonly requests = new RequestCounts();
  readonly noted: Answered[] = [];
  readonly clients = new Set<Client>();
  readonly handedOver: { fd: number; first: string }[] = [];
  /** Sockets to backends, as they were begun. */
  readonly upstreams: FakeSocket[] = [];
  /** Backends that there are; the one after `except` is chosen. */
  backends: Backend[] = [backendOf('one')];
  readonly failed: string[] = [];
  verdict: (request: Request) => RequestVerdict = () => ALLOWED;
  /** Of sockets to backends: whether they are connected at once. */
  connects = true;
  /** Why no socket can be made. */
  problem: Error | undefined;
  readonly pool = new BackendPool(() => {
    if (this.problem) throw this.problem;
    const socket = new FakeSocket();
    socket.connected = this.connects;
    this.upstreams.push(socket);
    return socket;
  });
  readonly parts: ClientParts;

  constructor() {
    this.clock.nowMs = 1000;
    const { requests } = this;
    this.parts = {
      clock: this.clock,
      timeouts: TIMES,
      routing: {
        decide: (_flow, request) => this.verdict(request),
        choose: (_flow, _verdict, except) => this.backends.find((each) => each !== except) ?? this.backends[0],
        noteFailure: ({ name }) => void this.failed.push(name),
      },
      requests: {
        counts: requests.counts,
        note: (flow, verdict, answered, nowMs) => {
          this.noted.push(answered);
          requests.note(flow, verdict, answered, nowMs);
        },
      },
      counts: requests.counts,
      clients: { remove: (client) => void this.clients.delete(client) },
      pool: this.pool,
      lends: () => true,
      handOver: (fd, first) => void this.handedOver.push({ fd, first: first.toString('latin1') }),
    };
  }

  /** A client that has connected. */
  connect(): { client: Http1Client; socket: FakeSocket } {
    const socket = new FakeSocket();
    const client = new Http1Client(socket, flowOf(1), this.parts);
    this.clients.add(client);
    return { client, socket };
  }

  /** The socket to a backend that was begun last. */
  get upstream(): FakeSocket {
    return this.upstreams.at(-1) as FakeSocket;
  }

  /** Lets time pass, and has the clock looked at. */
  pass(ms: number): void {
    this.clock.nowMs += ms;
    for (const client of [...this.clients]) client.check(this.clock.nowMs);
  }
}

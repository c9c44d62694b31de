/**
 * Clients that are connected, in either version of HTTP: how many there may be, and what becomes of them when policy changes or the
 * engine stops. Their number has a bound, in all and of one endpoint: whoever is beyond is refused and counted.
 */
import type { Backend } from './backends.ts';
import type { ProxyCounts } from './messages.ts';
import type { Routing } from './routing.ts';
import { endsOf, type TaggedFlow } from './tagged-flow.ts';

export const CLIENTS_MAX = 32_768;
/** Of one endpoint: half of all. */
export const CLIENTS_OF_ENDPOINT_MAX = CLIENTS_MAX / 2;

/** A client's connection. */
export interface Client {
  /** Set anew when policy has changed. */
  flow: TaggedFlow;
  /** Looks at the clock: ends what takes too long. */
  check(nowMs: number): void;
  /** Whoever answers it now. */
  backends(): Iterable<Backend>;
  /** Lets requests under way finish, and no other begin. */
  drain(): void;
  destroy(): void;
}

export class Clients {
  /** With the endpoint that each was counted for. */
  readonly #clients = new Map<Client, number>();
  readonly #ofEndpoint = new Map<number, number>();
  readonly #counts: Pick<ProxyCounts, 'clients' | 'refusedClients'>;

  constructor(counts: Pick<ProxyCounts, 'clients' | 'refusedClients'>) {
    this.#counts = counts;
  }

  /** Whether a connection may be served: policy tags its flow, and there is room for one more. One that may not be is counted. */
  admits(flow: TaggedFlow | undefined): flow is TaggedFlow {
    if (flow && this.#clients.size < CLIENTS_MAX && (this.#ofEndpoint.get(flow.endpoint) ?? 0) < CLIENTS_OF_ENDPOINT_MAX) return true;
    this.#counts.refusedClients += 1;
    return false;
  }

  add(client: Client): void {
    const { endpoint } = client.flow;
    this.#clients.set(client, endpoint);
    this.#ofEndpoint.set(endpoint, (this.#ofEndpoint.get(endpoint) ?? 0) + 1);
    this.#counts.clients = this.#clients.size;
  }

  remove(client: Client): void {
    const endpoint = this.#clients.get(client);
    if (endpoint === undefined) return;
    this.#clients.delete(client);
    const left = (this.#ofEndpoint.get(endpoint) ?? 1) - 1;
    if (left) this.#ofEndpoint.set(endpoint, left);
    else this.#ofEndpoint.delete(endpoint);
    this.#counts.clients = this.#clients.size;
  }

  /** Asks policy about everybody anew: whose flow is not tagged any more is to go, whoever is connected to a forbidden backend goes at once. */
  judgeAgain(routing: Pick<Routing, 'find' | 'permits'>): void {
    for (const client of [...this.#clients.keys()]) {
      const flow = routing.find(endsOf(client.flow));
      if (!flow) client.drain();
      else if ([...client.backends()].some((backend) => !routing.permits(flow, backend))) client.destroy();
      else client.flow = flow;
    }
  }

  /** Whether anybody waits for an answer. */
  get busy(): boolean {
    for (const client of this.#clients.keys()) for (const _backend of client.backends()) return true;
    return false;
  }

  /** Whether nobody is connected. */
  get idle(): boolean {
    return !this.#clients.size;
  }

  /** Lets requests under way finish, and no other begin. */
  drain(): void {
    for (const client of [...this.#clients.keys()]) client.drain();
  }

  sweep(nowMs: number): void {
    for (const client of this.#clients.keys()) client.check(nowMs);
  }

  close(): void {
    for (const client of [...this.#clients.keys()]) client.destroy();
  }
}

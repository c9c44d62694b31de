/**
 * What both versions of HTTP have in common: who is connected and by which rule, who may take what, what is noted of it.
 *
 * Connections have a bound, in all and of one endpoint: who is beyond is refused and counted.
 */
import type { ProxyNetwork } from '../kernel/proxy-network.ts';
import type { SocketEnds } from '../native.gen.ts';
import { formatAddress } from '../policy/address.ts';
import { type Backend, Backends } from './backends.ts';
import type { Decider, Decision } from './decider.ts';
import type { AccessRecord, ExplainedRequest, ProxyPolicy, Request } from './messages.ts';
import { type Party, Policy } from './party.ts';
import type { Tally } from './tally.ts';

export const CLIENTS_MAX = 32_768;
/** Of one endpoint: half of all. */
export const CLIENTS_OF_ENDPOINT_MAX = CLIENTS_MAX / 2;

/** How long what may take; milliseconds. */
export interface Timeouts {
  /** All of a head, from its first byte. */
  readonly head: number;
  /** Between two requests. */
  readonly idle: number;
  /** Until something happens on either side, while a request is under way. */
  readonly exchange: number;
}

export const TIMEOUTS: Timeouts = { head: 10_000, idle: 75_000, exchange: 60_000 };

/** A client's connection. */
export interface Client {
  /** Looks at the clock: ends what takes too long. */
  check(nowMs: number): void;
  /** Who answers it now. */
  backends(): Iterable<Backend>;
  /** Lets what is under way finish, and nothing new begin. */
  drain(): void;
  destroy(): void;
}

/** A request with its answer, or what there is of it. */
export interface Noted extends Pick<AccessRecord, 'protocol' | 'method' | 'host' | 'path' | 'status' | 'reason'> {
  readonly backend: Backend | undefined;
  readonly startedMs: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
}

export interface DeskParts {
  readonly network: Pick<ProxyNetwork, 'judge'>;
  readonly decider: Decider;
  readonly tally: Tally;
}

export class Desk {
  readonly tally: Tally;
  readonly #decider: Decider;
  readonly #policy: Policy;
  readonly #backends = new Backends(formatAddress);
  readonly #clients = new Map<Client, Party>();
  readonly #ofEndpoint = new Map<number, number>();

  constructor({ network, decider, tally }: DeskParts) {
    this.#policy = new Policy(network);
    this.#decider = decider;
    this.tally = tally;
  }

  /** Takes over another revision of policy. Who is connected is asked about anew, and goes where it is not tagged any more. */
  setPolicy(policy: ProxyPolicy): void {
    this.#policy.set(policy);
    this.#backends.set(policy.sets);
    this.#decider.sets = policy.sets;
    this.#decider.forget();
    for (const [client, party] of this.#clients) {
      const now = this.find({
        remote: party.source,
        remotePort: party.sourcePort,
        local: party.destination,
        localPort: party.destinationPort,
        endpoint: party.process ? party.endpoint : 0,
      });
      if (!now) client.drain();
      else if ([...client.backends()].some((backend) => !this.#policy.permits(now, backend))) client.destroy();
      else this.#clients.set(client, now);
    }
  }

  /** Who is at both ends; undefined where policy does not have requests decided. */
  find(ends: SocketEnds): Party | undefined {
    return this.#policy.find(ends);
  }

  /** Whether one more client of an endpoint may be served. */
  hasRoom({ endpoint }: Party): boolean {
    return this.#clients.size < CLIENTS_MAX && (this.#ofEndpoint.get(endpoint) ?? 0) < CLIENTS_OF_ENDPOINT_MAX;
  }

  add(client: Client, party: Party): void {
    this.#clients.set(client, party);
    this.#ofEndpoint.set(party.endpoint, (this.#ofEndpoint.get(party.endpoint) ?? 0) + 1);
    this.tally.counts.clients = this.#clients.size;
  }

  remove(client: Client): void {
    const party = this.#clients.get(client);
    if (!party) return;
    this.#clients.delete(client);
    const left = (this.#ofEndpoint.get(party.endpoint) ?? 1) - 1;
    if (left) this.#ofEndpoint.set(party.endpoint, left);
    else this.#ofEndpoint.delete(party.endpoint);
    this.tally.counts.clients = this.#clients.size;
  }

  /** What is known of a client by now. */
  partyOf(client: Client): Party | undefined {
    return this.#clients.get(client);
  }

  decide(party: Party, request: Request, nowMs: number): Decision {
    return this.#decider.decide(party.rule, party, request, nowMs);
  }

  /** A backend for what was decided: another one than `except`, where there is one. */
  choose(party: Party, { to }: Decision, except: Backend | undefined, nowMs: number): Backend | undefined {
    const ref = to && this.#backends.pick(to, party.hash);
    if (to && !ref) return undefined;
    const permitted = (backend: Backend): boolean => this.#policy.permits(party, backend);
    if (ref) return this.#backends.choose(this.#backends.of(ref), permitted, except, nowMs);
    if (party.service) return this.#backends.choose(this.#backends.named(party.service), permitted, except, nowMs);
    const single = this.#backends.single(party.destination, party.destinationPort);
    return permitted(single) ? single : undefined;
  }

  /** What would become of a request; undefined where policy does not have it decided. */
  explain(ends: SocketEnds, request: Request, nowMs: number): ExplainedRequest | undefined {
    const party = this.#policy.find(ends);
    if (!party) return undefined;
    const { allowed, status, route, to, cookie, version, reason } = this.#decider.explain(party.rule, party, request, nowMs);
    const named = to
      ? to.filter(({ weight }) => weight).flatMap((ref) => this.#backends.of(ref))
      : party.service
        ? this.#backends.named(party.service)
        : [this.#backends.single(party.destination, party.destinationPort)];
    const reachable = allowed ? named.filter((backend) => this.#policy.permits(party, backend)) : [];
    return { allowed, status, route, backends: reachable.map(({ name }) => name), cookie, version, reason };
  }

  noteFailure(backend: Backend, nowMs: number): void {
    this.#backends.noteFailure(backend, nowMs);
  }

  note(party: Party, decision: Decision | undefined, nowMs: number, noted: Noted): void {
    const ms = nowMs - noted.startedMs;
    const backend = noted.backend?.name ?? '';
    const way = { rule: party.rule.id, route: decision?.route ?? '', backend, version: decision?.version ?? '' };
    this.tally.add(way, noted.status, ms, noted.bytesIn, noted.bytesOut, () => ({
      timeMs: Date.now(),
      source: party.source,
      destination: party.destination,
      sourcePort: party.sourcePort,
      destinationPort: party.destinationPort,
      sourceIdentity: party.sourceIdentity,
      destinationIdentity: party.destinationIdentity,
      rule: party.rule.id,
      plugin: decision?.plugin ?? 0,
      protocol: noted.protocol,
      method: noted.method,
      host: noted.host,
      path: noted.path,
      status: noted.status,
      allowed: decision?.allowed === true,
      audited: decision?.audited === true,
      reason: noted.reason || (decision?.reason ?? ''),
      route: way.route,
      backend,
      version: way.version,
      durationUs: Math.round(ms * 1000),
    }));
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

  /** Lets what is under way finish, and nothing new begin. */
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

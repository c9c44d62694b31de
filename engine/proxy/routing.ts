/** Where requests go, for both versions of HTTP: whose flow it is, what is decided of each request, which backend takes it. */
import type { ProxyNetwork } from '../kernel/proxy-network.ts';
import type { SocketEnds } from '../native.gen.ts';
import { formatAddress } from '../policy/address.ts';
import { type Backend, Backends } from './backends.ts';
import type { Decider } from './decider.ts';
import type { KernelVerdicts } from './kernel-verdicts.ts';
import type { ExplainedRequest, ProxyPolicy, Request } from './messages.ts';
import type { RequestVerdict } from './request-verdict.ts';
import { type TaggedFlow, TaggedFlows } from './tagged-flow.ts';

export interface RoutingParts {
  readonly network: Pick<ProxyNetwork, 'judge'>;
  readonly decider: Decider;
  readonly kernel: KernelVerdicts;
}

export class Routing {
  readonly #decider: Decider;
  readonly #kernel: KernelVerdicts;
  readonly #flows: TaggedFlows;
  readonly #backends = new Backends(formatAddress);

  constructor({ network, decider, kernel }: RoutingParts) {
    this.#flows = new TaggedFlows(network);
    this.#decider = decider;
    this.#kernel = kernel;
  }

  /** Takes over another revision of policy. */
  setPolicy(policy: ProxyPolicy): void {
    this.#flows.set(policy);
    this.#backends.set(policy.sets);
    this.#kernel.sets = policy.sets;
    this.#decider.forget();
  }

  /** The flow of a connection; undefined where policy does not have its requests decided. */
  find(ends: SocketEnds): TaggedFlow | undefined {
    return this.#flows.find(ends);
  }

  /** Whether a flow's client may be connected to a backend. */
  permits(flow: TaggedFlow, backend: Backend): boolean {
    return this.#flows.permits(flow, backend);
  }

  decide(flow: TaggedFlow, request: Request, nowMs: number): RequestVerdict {
    return this.#decider.decide(flow, request, nowMs);
  }

  /** A backend for a request that is allowed: another one than `except`, where there is one. */
  choose(flow: TaggedFlow, { to }: RequestVerdict, except: Backend | undefined, nowMs: number): Backend | undefined {
    const ref = to && this.#backends.pick(to, flow.hash);
    if (to && !ref) return undefined;
    const permitted = (backend: Backend): boolean => this.#flows.permits(flow, backend);
    if (ref) return this.#backends.choose(this.#backends.of(ref), permitted, except, nowMs);
    if (flow.service) return this.#backends.choose(this.#backends.named(flow.service), permitted, except, nowMs);
    const single = this.#backends.single(flow.destination, flow.destinationPort);
    return permitted(single) ? single : undefined;
  }

  /** Notes that a backend could not be reached: it rests, where there are others. */
  noteFailure(backend: Backend, nowMs: number): void {
    this.#backends.noteFailure(backend, nowMs);
  }

  /** The fate of a request that nobody has sent; undefined where policy does not have it decided. */
  explain(ends: SocketEnds, request: Request, nowMs: number): ExplainedRequest | undefined {
    const flow = this.#flows.find(ends);
    if (!flow) return undefined;
    const { allowed, status, route, to, cookie, version, reason } = this.#decider.explain(flow, request, nowMs);
    const named = to
      ? to.filter(({ weight }) => weight).flatMap((ref) => this.#backends.of(ref))
      : flow.service
        ? this.#backends.named(flow.service)
        : [this.#backends.single(flow.destination, flow.destinationPort)];
    const reachable = allowed ? named.filter((backend) => this.#flows.permits(flow, backend)) : [];
    return { allowed, status, route, backends: reachable.map(({ name }) => name), cookie, version, reason };
  }
}

/**
 * Keeps the kernel in line with the source: read, load plugins, compile, program, and say what is not in force.
 *
 * One run at a time; a run that is asked for while another goes on sees everything that was in the source by then.
 */
import { networkInterfaces } from 'node:os';
import { EngineError, messageOf } from '../errors.ts';
import type { Place } from '../kernel/datapath.ts';
import type { Applied, PlacedEndpoint, PolicyState } from '../kernel/policy-maps.ts';
import type { Logger } from '../log.ts';
import { Feed } from '../observe/feed.ts';
import type { ToWorker } from '../plugin-runtime/messages.ts';
import type { Declaration } from '../plugins/version.ts';
import { addressKey, formatAddress, parseAddress } from '../policy/address.ts';
import type { ClusterChanges, CompiledEndpoint, Compiler } from '../policy/compile.ts';
import { formatOrigin } from '../policy/rules.ts';
import { formatProblem, type HostPolicy, type Pod, type Problem, type Snapshot } from '../policy/snapshot.ts';
import type { ProxyPolicy } from '../proxy/messages.ts';
import { policyText, proxyPolicy } from '../proxy/proxy-policy.ts';
import type { HostEndpoints } from './host-firewall.ts';

export interface ReconcilerParts {
  readonly source: { read(): Snapshot };
  /** It may know the source's first snapshot already. */
  readonly compiler: Compiler;
  readonly plugins: {
    sync(declarations: readonly Declaration[]): Promise<{ name: string; reason: string }[]>;
    readonly ids: ReadonlyMap<string, number>;
  };
  readonly workers: {
    setCluster(change: Omit<Extract<ToWorker, { type: 'cluster' }>, 'type'>): void;
    /** What the proxy goes by; after what the kernel goes by is in force. */
    setPolicy(policy: ProxyPolicy): void;
  };
  readonly maps: { apply(state: PolicyState): Applied };
  readonly hostFirewall: { next(wanted: readonly HostPolicy[], problems: Problem[]): HostEndpoints | undefined };
  readonly findPlace: (place: Place) => number | undefined;
  readonly log: Logger;
}

export interface EndpointView {
  readonly pod: string;
  /** Id of the endpoint: of an interface its index. */
  readonly id: number;
  readonly interface?: string;
  readonly cgroup?: string;
  readonly identity: number;
  readonly isolated: { readonly ingress: boolean; readonly egress: boolean };
}

export interface Status {
  /** Counts runs that changed something. */
  readonly revision: number;
  readonly appliedAt: string;
  readonly endpoints: readonly EndpointView[];
  /** What is in the source and not in force as meant. */
  readonly problems: readonly Problem[];
}

/** Something that people should hear of once. */
export interface PolicyEvent {
  /** ISO 8601. */
  readonly time: string;
  readonly type: 'applied' | 'problem' | 'resolved';
  readonly object: string;
  readonly message: string;
}

const EVENTS_MAX = 1024;
/** An interface that is not there yet may come: looked for this often. */
const PENDING_MS = 500;

interface PlacedEndpoints {
  readonly endpoints: Map<number, PlacedEndpoint>;
  readonly views: EndpointView[];
  readonly ids: ReadonlyMap<Pod, number>;
}

export class Reconciler {
  readonly #parts: ReconcilerParts;
  readonly events = new Feed<PolicyEvent>(EVENTS_MAX);
  readonly #compiler: Compiler;
  #status: Status = { revision: 0, appliedAt: '', endpoints: [], problems: [] };
  #running: Promise<Status> | undefined;
  #following: Promise<Status> | undefined;
  #pending: Place[] = [];
  readonly #pendingTimer: NodeJS.Timeout;
  #told = new Map<string, Problem>();
  #durationMs = 0;
  /** What the proxy goes by; empty: nothing. */
  #proxyText = '';

  constructor(parts: ReconcilerParts) {
    this.#parts = parts;
    this.#compiler = parts.compiler;
    this.#pendingTimer = setInterval(() => this.#lookForPending(), PENDING_MS);
  }

  get status(): Status {
    return this.#status;
  }

  get compiled(): Compiler {
    return this.#compiler;
  }

  /** Of the last run. */
  get durationMs(): number {
    return this.#durationMs;
  }

  /** Puts in force what is in the source now, and returns what that came to. */
  run(): Promise<Status> {
    if (!this.#running) {
      this.#running = this.#runOnce().finally(() => (this.#running = undefined));
      return this.#running;
    }
    // The run under way may have read the source already: one more will see it, for everybody who asks by then.
    this.#following ??= this.#running.then(
      () => this.#runNext(),
      () => this.#runNext(),
    );
    return this.#following;
  }

  close(): void {
    clearInterval(this.#pendingTimer);
  }

  #lookForPending(): void {
    if (!this.#pending.some((place) => this.#parts.findPlace(place) !== undefined)) return;
    this.#pending = [];
    void this.run().catch((error: unknown) => this.#parts.log.error({ err: error }, 'policy not put in force'));
  }

  #runNext(): Promise<Status> {
    this.#following = undefined;
    return this.run();
  }

  async #runOnce(): Promise<Status> {
    const { source, plugins } = this.#parts;
    const started = performance.now();
    const snapshot = source.read();
    const problems = [...snapshot.problems];
    for (const { name, reason } of await plugins.sync(snapshot.plugins))
      problems.push({ file: '', line: 0, object: `PolicyPlugin ${name}`, reason });

    const compiler = this.#compiler;
    const host = this.#parts.hostFirewall.next(snapshot.hostPolicies, problems);
    compiler.update(withHost(snapshot, host), plugins.ids, nodeAddresses());
    problems.push(...unknownPlugins(compiler.snapshot, plugins.ids), ...compiler.requests.problems, ...compileProblems(compiler));
    const { endpoints, views, ids } = this.#placeEndpoints(problems, host);
    let applied = this.#apply(endpoints);
    if (!applied.failures.length && compiler.retire()) {
      const later = this.#apply(this.#placeEndpoints([], host).endpoints);
      applied = { changes: applied.changes + later.changes, failures: later.failures };
    }
    for (const failure of applied.failures) problems.push({ file: '', line: 0, object: '', reason: failure.message });
    this.#tellProxy(ids, applied);

    this.#durationMs = performance.now() - started;
    const revision = this.#status.revision + (applied.changes || !this.#status.revision ? 1 : 0);
    this.#status = { revision, appliedAt: new Date().toISOString(), endpoints: views, problems };
    this.#logOutcome(applied, problems);
    return this.#status;
  }

  /** Puts in force what the compiler holds. Who is behind an identity is known before the kernel can ask, and as long as it can. */
  #apply(endpoints: ReadonlyMap<number, PlacedEndpoint>): Applied {
    const changes = this.#compiler.takeChanges();
    const { workers, maps } = this.#parts;
    workers.setCluster({ ...describeChanges(changes), identitiesGone: [], serverNames: this.#compiler.serverNames });
    const applied = maps.apply({ ...this.#compiler.maps, endpoints });
    workers.setCluster({ identities: [], pods: [], identitiesGone: changes.identitiesGone });
    return applied;
  }

  /** Has the proxy judge by what is in force now, where it has anything to do. */
  #tellProxy(ids: ReadonlyMap<Pod, number>, applied: Applied): void {
    const policy = proxyPolicy(this.#compiler, ids, this.#parts.plugins.ids);
    const text = policyText(policy);
    if (text === this.#proxyText && (!text || !applied.changes)) return;
    this.#proxyText = text;
    this.#parts.workers.setPolicy(policy);
  }

  /** Endpoints where they are on this node; what is not there yet is a problem, and looked for. */
  #placeEndpoints(problems: Problem[], host: HostEndpoints | undefined): PlacedEndpoints {
    const endpoints = new Map<number, PlacedEndpoint>();
    const ids = new Map<Pod, number>();
    const views: EndpointView[] = [];
    this.#pending = [];
    for (const endpoint of this.#compiler.endpoints.values()) {
      if (endpoint.pod === host?.fallback?.confirmed) continue;
      const place = placeOf(endpoint);
      const where = 'cgroup' in place ? `cgroup ${place.cgroup}` : `interface ${place.interface}`;
      const object = endpoint.pod.hostPolicies ? 'host firewall' : `Pod ${endpoint.pod.namespace}/${endpoint.pod.name}`;
      const id = this.#parts.findPlace(place);
      if (id === undefined) {
        problems.push({ file: '', line: 0, object, reason: `no ${where} here`, pending: true });
        this.#pending.push(place);
      } else if (endpoints.has(id)) {
        problems.push({ file: '', line: 0, object, reason: `${where} belongs to another pod already` });
      } else {
        endpoints.set(id, { value: endpoint.value, place, ...this.#fallbackOf(endpoint, host) });
        ids.set(endpoint.pod, id);
        views.push(viewOf(endpoint, id, place));
      }
    }
    return { endpoints, views, ids };
  }

  /** What the host's endpoint falls back to, while a change of its policy is pending. */
  #fallbackOf({ pod }: CompiledEndpoint, host: HostEndpoints | undefined): Pick<PlacedEndpoint, 'fallback'> {
    const fallback = pod === host?.current ? host.fallback : undefined;
    const value = fallback && this.#compiler.endpoints.get(fallback.confirmed)?.value;
    return value ? { fallback: { value, atNs: fallback.confirmByNs } } : {};
  }

  #tell(type: PolicyEvent['type'], object: string, message: string): void {
    this.events.add({ time: new Date().toISOString(), type, object, message });
  }

  #logOutcome(applied: Applied, problems: readonly Problem[]): void {
    const { log } = this.#parts;
    const told = new Map(problems.map((problem) => [formatProblem(problem), problem]));
    for (const [message, problem] of told)
      if (!this.#told.has(message)) {
        log.warn({ ...problem }, 'not in force');
        this.#tell('problem', problem.object, message);
      }
    for (const [message, problem] of this.#told) if (!told.has(message)) this.#tell('resolved', problem.object, message);
    this.#told = told;
    if (applied.changes) this.#tell('applied', '', `revision ${this.#status.revision}: ${applied.changes} map entries`);
    if (applied.changes)
      log.info(
        {
          revision: this.#status.revision,
          changes: applied.changes,
          endpoints: this.#status.endpoints.length,
          problems: problems.length,
          ms: Math.round(this.#durationMs),
        },
        'policy in force',
      );
  }
}

/** Names for addresses and rules, as the last run knows them. */
export function namesOf(reconciler: Reconciler, pluginName: (id: number) => string, domain: (hash: bigint) => string) {
  return {
    domain,
    address: formatAddress,
    pod: (bytes: Uint8Array) => {
      const pod = reconciler.compiled.podsByAddress.get(addressKey(bytes));
      return pod ? `${pod.namespace}/${pod.name}` : '';
    },
    rule: (id: number) => formatOrigin(reconciler.compiled.origins.get(id)),
    plugin: (id: number) => (id ? pluginName(id) : ''),
  };
}

/** The snapshot with the node itself as an endpoint, where that is asked for. */
function withHost(snapshot: Snapshot, host: HostEndpoints | undefined): Snapshot {
  if (!host) return snapshot;
  const pods = [host.current, ...(host.fallback ? [host.fallback.confirmed] : [])];
  return { ...snapshot, pods: [...snapshot.pods, ...pods] };
}

function placeOf({ pod }: CompiledEndpoint): Place {
  return pod.cgroup === undefined ? { interface: pod.interface ?? '' } : { cgroup: pod.cgroup };
}

function viewOf({ pod, identity, ruleSets }: CompiledEndpoint, id: number, place: Place): EndpointView {
  const [ingress, egress] = ruleSets.map((ruleSet) => pod.quarantined === true || ruleSet?.isolated === true) as [boolean, boolean];
  return { pod: pod.hostPolicies ? pod.name : `${pod.namespace}/${pod.name}`, id, ...place, identity, isolated: { ingress, egress } };
}

function describeChanges({
  identities,
  pods,
}: ClusterChanges): Omit<Parameters<ReconcilerParts['workers']['setCluster']>[0], 'identitiesGone'> {
  return {
    identities: identities.map((identity) => ({
      id: identity.id,
      namespace: identity.namespace ?? '',
      labels: [...identity.labels].map(([key, value]) => `${key}=${value}`).join('\n'),
    })),
    pods: [...pods].map(([address, pod]) => [address, pod?.name ?? ''] as const),
  };
}

function compileProblems(compiler: Compiler): Problem[] {
  const problem = (object: string, reason: string): Problem => ({ file: '', line: 0, object, reason });
  const conflicts = [...compiler.conflicts].map(([notAsked, asked]) =>
    problem(
      formatOrigin(compiler.origins.get(notAsked)),
      `tags flows that ${formatOrigin(compiler.origins.get(asked))} tags for another plugin: only that one is asked`,
    ),
  );
  const contested = compiler.contested.map(({ address, pods: [first, ...others] }) =>
    problem(
      others.map((pod) => `Pod ${pod.namespace}/${pod.name}`).join(', '),
      `has the address ${address} of pod ${first?.namespace}/${first?.name}: the address counts as that one's`,
    ),
  );
  const untrusted =
    compiler.named.inUse && !compiler.resolvers.entries.size
      ? [
          problem(
            '',
            'domain names match nothing: no resolver is trusted; name one with --resolver, or give its pod the annotation sluice.dev/resolver: "true"',
          ),
        ]
      : [];
  return [...conflicts, ...contested, ...untrusted];
}

function unknownPlugins(snapshot: Snapshot, ids: ReadonlyMap<string, number>): Problem[] {
  const problems: Problem[] = [];
  for (const policy of snapshot.pluginPolicies)
    for (const rule of Object.values(policy.rules).flat())
      for (const name of new Set([rule.plugin, ...(rule.requests?.rules ?? []).map((each) => each.plugin)]))
        if (name && !ids.has(name))
          problems.push({
            file: '',
            line: 0,
            object: `${policy.kind} ${policy.namespace}/${policy.name}`,
            reason: `no PolicyPlugin ${name}: what it tags is denied`,
          });
  return problems;
}

/** The addresses of this network namespace: traffic between a pod and its node always passes. */
export function nodeAddresses(): Uint8Array[] {
  try {
    return Object.values(networkInterfaces()).flatMap((entries) => (entries ?? []).flatMap((entry) => parseAddress(entry.address) ?? []));
  } catch (error) {
    throw new EngineError('KERNEL_CALL', `Cannot list this node's addresses: ${messageOf(error)}`, error);
  }
}

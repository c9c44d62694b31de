/**
 * Keeps the kernel in line with the sources: take what changed, have plugins follow, compile, program, and say what is not in
 * force.
 *
 * A run does all of that at once and waits for nobody: while a new version of a plugin is tried, policy about it goes on with
 * the version before, or the plugin's failure policy where there is none yet.
 */

import type { EngineError } from '../errors.ts';
import type { Place } from '../kernel/datapath.ts';
import type { Applied, PolicyState } from '../kernel/policy-maps.ts';
import type { Logger } from '../log.ts';
import { Feed } from '../observe/feed.ts';
import type { ToWorker } from '../plugin-runtime/messages.ts';
import type { Declaration } from '../plugins/version.ts';
import { addressKey, formatAddress } from '../policy/address.ts';
import type { ClusterChanges, Compiler } from '../policy/compile.ts';
import { objectName } from '../policy/object-name.ts';
import type { HostPolicy, Node, ObjectChange, Pod, PolicyPlugin } from '../policy/objects.ts';
import { engineProblem, formatProblem, objectProblem, type Problem, ProblemLedger, viewProblem } from '../policy/problem.ts';
import { formatOrigin } from '../policy/rules.ts';
import type { ProxyPolicy } from '../proxy/messages.ts';
import { proxyPolicy } from '../proxy/proxy-policy.ts';
import type { HostEndpoints } from './host-firewall.ts';
import { type EndpointView, Placement, type PodFinder } from './placement.ts';

export interface ReconcilerParts {
  /** Changes of the cluster's objects. */
  readonly feed: {
    /** Resolves when everything that is in the sources at the time of the call can be taken. */
    catchUp(): Promise<void>;
    take(): ObjectChange[];
    readonly problems: ProblemLedger;
  };
  /** It may know what the sources said first already. */
  readonly compiler: Compiler;
  readonly plugins: {
    /** Ids of what is declared are there when it returns; resolves when every version was tried. */
    sync(declarations: readonly Declaration[]): Promise<unknown>;
    readonly ids: ReadonlyMap<string, number>;
    readonly problems: readonly { readonly name: string; readonly reason: string; readonly pending?: boolean }[];
  };
  readonly workers: {
    setCluster(change: Omit<Extract<ToWorker, { type: 'cluster' }>, 'type'>): void;
    /** Gives the proxy its policy; the kernel's is in force by then. */
    setPolicy(policy: ProxyPolicy): void;
  };
  readonly maps: { apply(state: PolicyState): Applied };
  readonly hostFirewall: { next(policies: readonly HostPolicy[], node: Node | undefined, problems: Problem[]): HostEndpoints | undefined };
  readonly findPlace: (place: Place) => number | undefined;
  /** Of pods whose place nothing names. */
  readonly podPlaces: PodFinder;
  readonly nodeAddresses: () => readonly Uint8Array[];
  readonly log: Logger;
}

export interface Status {
  /** Counts runs that changed something. */
  readonly revision: number;
  readonly appliedAt: string;
  readonly endpoints: readonly EndpointView[];
  /** Problems of what is in the source and not in force as meant. */
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
/** Nothing says that an interface or a cgroup comes or goes: they are looked for this often. */
const PLACES_MS = 500;

export class Reconciler {
  readonly events = new Feed<PolicyEvent>(EVENTS_MAX);
  readonly #parts: ReconcilerParts;
  readonly #compiler: Compiler;
  readonly #placement: Placement;
  readonly #problems = new ProblemLedger();
  /** From start() on: an engine that does not come that far has nothing to look for. */
  #placesTimer: NodeJS.Timeout | undefined;
  readonly #declared: Map<string, PolicyPlugin>;
  readonly #hostPolicies: Map<string, HostPolicy>;
  /** This one, as it was told last: what is for it does not fall because nobody tells of it for a while. */
  #node: Node | undefined;
  /** Taken, and not compiled yet. */
  #changes: ObjectChange[] = [];
  /** Pods that stand for the host, and their keys. */
  readonly #hosts = new Map<Pod, string>();
  #hostsMade = 0;
  /** Endpoints whose place may be another one. */
  #moved: readonly Pod[] = [];
  #trials: Promise<unknown> = Promise.resolve();
  #scheduled: NodeJS.Immediate | undefined;
  #ran = false;
  #closed = false;
  #revision = 0;
  #appliedAt = '';
  #durationMs = 0;
  /** The policy that the proxy was told last, and the ids of plugins in it; none where no rule is about requests. */
  #proxyPolicy: ProxyPolicy | undefined;
  #proxyPlugins = '';

  constructor(parts: ReconcilerParts) {
    this.#parts = parts;
    this.#compiler = parts.compiler;
    this.#placement = new Placement(parts.findPlace, parts.podPlaces);
    this.#declared = new Map(parts.compiler.cluster.of('PolicyPlugin'));
    this.#hostPolicies = new Map(parts.compiler.cluster.of('HostPolicy'));
    this.#node = parts.compiler.cluster.of('Node').get(parts.compiler.nodeName ?? '');
  }

  get status(): Status {
    return {
      revision: this.#revision,
      appliedAt: this.#appliedAt,
      endpoints: this.#placement.views,
      problems: this.#ledgers.flatMap((ledger) => ledger.all),
    };
  }

  /** The pod whose endpoint has this id; undefined where the kernel has none. */
  endpointOwner(id: number): Pod | undefined {
    return this.#placement.ownerOf(id);
  }

  get compiled(): Compiler {
    return this.#compiler;
  }

  /** Of the last run. */
  get durationMs(): number {
    return this.#durationMs;
  }

  /** Puts in force what the sources have told by now. */
  run(): void {
    const started = performance.now();
    clearImmediate(this.#scheduled);
    this.#scheduled = undefined;
    this.#changes.push(...this.#parts.feed.take());
    this.#followPlugins();
    const host = this.#followHost();
    const changes = [...this.#changes, ...this.#hostChanges(host)];
    this.#compiler.update(changes, this.#parts.plugins.ids, this.#parts.nodeAddresses());
    this.#changes = [];
    const outcome = this.#apply(host);
    if (!outcome.failures.length && this.#compiler.retire()) add(outcome, this.#apply(host));
    this.#tellProxy(outcome);
    this.#durationMs = performance.now() - started;
    this.#noteOutcome(outcome);
    this.#ran = true;
  }

  /** Runs soon, once for all who ask by then. */
  schedule(): void {
    if (this.#closed) return;
    this.#scheduled ??= setImmediate(() => this.#runLogged());
  }

  /**
   * Puts in force what is in the sources at the time of the call, as start() does.
   *
   * @throws EngineError `TIMEOUT` when a source cannot say what that is; what it told before is in force.
   */
  async settle(): Promise<Status> {
    await this.#parts.feed.catchUp();
    return await this.start();
  }

  /** Puts in force what the sources have told by now, and the versions of plugins that it declares, once they were tried. */
  async start(): Promise<Status> {
    this.#placesTimer ??= setInterval(() => this.#lookForPlaces(), PLACES_MS);
    // What an earlier engine attached is detached unless it is known where it is.
    await this.#placement.look(this.#compiler.endpoints.keys());
    this.#runAnew();
    await this.#trials;
    this.#runAnew();
    return this.status;
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#placesTimer);
    clearImmediate(this.#scheduled);
  }

  get #ledgers(): readonly ProblemLedger[] {
    return [this.#parts.feed.problems, this.#compiler.problems, this.#placement.problems, this.#problems];
  }

  #runLogged(): void {
    try {
      this.run();
    } catch (error) {
      this.#parts.log.error({ err: error }, 'policy not put in force');
    }
  }

  #runAnew(): void {
    if (this.#closed) return;
    this.#moved = this.#placement.recheck();
    this.run();
  }

  #lookForPlaces(): void {
    if (!this.#ran) return;
    this.#moved = this.#placement.recheck();
    if (this.#moved.length) this.#runLogged();
  }

  /** Has plugins follow what is declared. Nobody waits for their trials: another run says what they came to. */
  #followPlugins(): void {
    const changed = follow(this.#declared, this.#changes, 'PolicyPlugin');
    if (this.#ran && !changed) return;
    this.#trials = this.#parts.plugins.sync([...this.#declared.values()]).then(
      () => this.schedule(),
      (error: unknown) => this.#parts.log.error({ err: error }, 'plugins not in line with the sources'),
    );
  }

  #followHost(): HostEndpoints | undefined {
    follow(this.#hostPolicies, this.#changes, 'HostPolicy');
    for (const { kind, key, value } of this.#changes) if (kind === 'Node' && key === this.#compiler.nodeName && value) this.#node = value;
    const problems: Problem[] = [];
    const host = this.#parts.hostFirewall.next([...this.#hostPolicies.values()], this.#node, problems);
    this.#problems.set('host firewall', problems);
    return host;
  }

  /** The node itself as an endpoint, where that is asked for, and as what it falls back to. */
  #hostChanges(host: HostEndpoints | undefined): ObjectChange[] {
    const wanted = new Set(host ? [host.current, ...(host.fallback ? [host.fallback.confirmed] : [])] : []);
    const gone = [...this.#hosts].filter(([pod]) => !wanted.has(pod));
    for (const [pod] of gone) this.#hosts.delete(pod);
    const came = [...wanted].filter((pod) => !this.#hosts.has(pod));
    for (const pod of came) this.#hosts.set(pod, `/host ${(this.#hostsMade += 1)}`);
    return [
      ...gone.map(([, key]): ObjectChange => ({ kind: 'Pod', key, value: undefined })),
      ...came.map((pod): ObjectChange => ({ kind: 'Pod', key: this.#hosts.get(pod) as string, value: pod })),
    ];
  }

  /** Puts in force what the compiler holds. Who is behind an identity is known before the kernel can ask, and as long as it can. */
  #apply(host: HostEndpoints | undefined): Outcome {
    const { workers, maps } = this.#parts;
    const changes = this.#compiler.takeChanges();
    const placed = this.#placement.update(this.#compiler.endpoints, new Set([...changes.endpoints, ...this.#moved]), host);
    this.#moved = [];
    const described = describeChanges(changes);
    if (described) workers.setCluster(described);
    const applied = maps.apply({
      ...this.#compiler.maps,
      endpoints: this.#placement.placed,
      ownsAddress: (id, address) =>
        this.#compiler.ownerHere(address, (pod) => this.#placement.isPlaced(pod)) === this.#placement.ownerOf(id),
      sameEndpoints: !placed,
    });
    if (changes.identitiesGone.length)
      workers.setCluster({ identities: [], pods: [], services: [], identitiesGone: changes.identitiesGone });
    return { ...applied, requests: changes.requests || placed };
  }

  /** Has the proxy judge by what is in force now, where it has anything to do. */
  #tellProxy({ changes, requests }: Outcome): void {
    const { plugins, workers } = this.#parts;
    const inUse = this.#compiler.requestRules.size > 0;
    if (!inUse && !this.#proxyPolicy) return;
    const pluginsText = [...plugins.ids].join();
    const known = inUse && !requests && pluginsText === this.#proxyPlugins ? this.#proxyPolicy : undefined;
    if (known && !changes) return;
    const policy = known ?? proxyPolicy(this.#compiler, this.#placement.ids, plugins.ids);
    this.#proxyPolicy = inUse ? policy : undefined;
    this.#proxyPlugins = pluginsText;
    workers.setPolicy(policy);
  }

  #noteOutcome({ changes, failures }: Outcome): void {
    this.#problems.set(
      'maps',
      failures.map(({ message }) => engineProblem('', message)),
    );
    this.#problems.set(
      'plugins',
      this.#parts.plugins.problems.map(({ name, reason, pending }) => objectProblem({ kind: 'PolicyPlugin', name }, reason, pending)),
    );
    const { log } = this.#parts;
    for (const ledger of this.#ledgers) {
      const { found, resolved } = ledger.takeChanges();
      for (const problem of found) log.warn({ ...this.#tellProblem('problem', problem) }, 'not in force');
      for (const problem of resolved) this.#tellProblem('resolved', problem);
    }
    // A state that did not land as a whole is not called applied.
    if (failures.length) return;
    this.#appliedAt = new Date().toISOString();
    if (!changes && this.#revision) return;
    this.#revision += 1;
    if (!changes) return;
    this.#tell('applied', '', `revision ${this.#revision}: ${changes} map entries`);
    const [endpoints, problems] = [this.#placement.placed.size, this.#ledgers.reduce((sum, { size }) => sum + size, 0)];
    log.info({ revision: this.#revision, changes, endpoints, problems, ms: Math.round(this.#durationMs) }, 'policy in force');
  }

  #tellProblem(type: 'problem' | 'resolved', problem: Problem): ReturnType<typeof viewProblem> {
    const view = viewProblem(problem);
    this.#tell(type, view.object, formatProblem(view));
    return view;
  }

  #tell(type: PolicyEvent['type'], object: string, message: string): void {
    this.events.add({ time: new Date().toISOString(), type, object, message });
  }
}

/** The outcome of putting something in force, and whether the proxy has to go by other rules, backends or endpoints. */
interface Outcome {
  changes: number;
  failures: readonly EngineError[];
  requests: boolean;
}

function add(total: Outcome, more: Outcome): void {
  total.changes += more.changes;
  total.failures = [...total.failures, ...more.failures];
  total.requests ||= more.requests;
}

/** Takes over the changes of a kind; returns whether there are any. */
function follow<T extends PolicyPlugin | HostPolicy>(
  known: Map<string, T>,
  changes: readonly ObjectChange[],
  kind: ObjectChange['kind'],
): boolean {
  const own = changes.filter((change) => change.kind === kind);
  for (const { key, value } of own)
    if (value) known.set(key, value as T);
    else known.delete(key);
  return own.length > 0;
}

/** Names for addresses and rules, as the last run knows them. */
export function namesOf(reconciler: Reconciler, pluginName: (id: number) => string, domain: (hash: bigint) => string) {
  return {
    domain,
    address: formatAddress,
    pod: (bytes: Uint8Array) => {
      const pod = reconciler.compiled.podsByAddress.get(addressKey(bytes));
      return pod ? objectName(pod) : '';
    },
    endpoint: (id: number) => {
      const pod = reconciler.endpointOwner(id);
      return pod ? objectName(pod) : '';
    },
    rule: (id: number) => formatOrigin(reconciler.compiled.origins.get(id)),
    plugin: (id: number) => (id ? pluginName(id) : ''),
  };
}

/** The changes as threads are told them; undefined where there are none. */
function describeChanges({
  identities,
  pods,
  services,
  serverNames,
}: ClusterChanges): Parameters<ReconcilerParts['workers']['setCluster']>[0] | undefined {
  if (!identities.length && !pods.size && !services.size && !serverNames) return undefined;
  return {
    identities: identities.map((identity) => ({
      id: identity.id,
      namespace: identity.namespace ?? '',
      labels: [...identity.labels].map(([key, value]) => `${key}=${value}`).join('\n'),
    })),
    pods: [...pods].map(([address, pod]) => [address, pod && { name: pod.name, serviceAccount: pod.serviceAccount ?? '' }] as const),
    services: [...services].map(([address, name]) => [address, name ?? ''] as const),
    identitiesGone: [],
    ...(serverNames && { serverNames }),
  };
}

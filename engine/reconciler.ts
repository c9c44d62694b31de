/**
 * Keeps the kernel in line with the source: read, load plugins, compile, program, and say what is not in force.
 *
 * One run at a time; a run that is asked for while another goes on sees everything that was in the source by then.
 */
import { networkInterfaces } from 'node:os';
import { EngineError, messageOf } from './errors.ts';
import type { IdentityEntry } from './flow/messages.ts';
import type { Applied, PolicyState } from './kernel/policy-maps.ts';
import type { Logger } from './log.ts';
import type { Declaration } from './plugins/registry.ts';
import { addressKey, formatAddress, parseAddress } from './policy/address.ts';
import { type Compiled, compile } from './policy/compile.ts';
import type { RuleOrigin } from './policy/rule-set.ts';
import { EMPTY_SNAPSHOT, formatProblem, type Problem, type Snapshot } from './policy/snapshot.ts';

export interface ReconcilerParts {
  readonly source: { read(): Snapshot };
  readonly plugins: {
    sync(declarations: readonly Declaration[]): Promise<{ name: string; reason: string }[]>;
    readonly ids: ReadonlyMap<string, number>;
  };
  readonly workers: { setCluster(identities: readonly IdentityEntry[], pods: readonly (readonly [string, string])[]): void };
  readonly maps: { apply(state: PolicyState): Applied };
  readonly findInterface: (name: string) => number | undefined;
  readonly log: Logger;
}

export interface EndpointView {
  readonly pod: string;
  readonly interface: string;
  readonly ifindex: number;
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

/** An interface that is not there yet may come: looked for this often. */
const PENDING_MS = 500;

export class Reconciler {
  readonly #parts: ReconcilerParts;
  #compiled: Compiled = compile(EMPTY_SNAPSHOT, new Map(), []);
  #status: Status = { revision: 0, appliedAt: '', endpoints: [], problems: [] };
  #running: Promise<Status> | undefined;
  #following: Promise<Status> | undefined;
  readonly #pending = new Set<string>();
  readonly #pendingTimer: NodeJS.Timeout;
  #logged = new Set<string>();
  #durationMs = 0;

  constructor(parts: ReconcilerParts) {
    this.#parts = parts;
    this.#pendingTimer = setInterval(() => this.#lookForPending(), PENDING_MS);
  }

  get status(): Status {
    return this.#status;
  }

  get compiled(): Compiled {
    return this.#compiled;
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
    for (const name of this.#pending)
      if (this.#parts.findInterface(name) !== undefined) {
        this.#pending.clear();
        void this.run().catch((error: unknown) => this.#parts.log.error({ err: error }, 'policy not put in force'));
        return;
      }
  }

  #runNext(): Promise<Status> {
    this.#following = undefined;
    return this.run();
  }

  async #runOnce(): Promise<Status> {
    const { source, plugins, workers, maps, findInterface } = this.#parts;
    const started = performance.now();
    this.#pending.clear();
    const snapshot = source.read();
    const problems = [...snapshot.problems];
    for (const { name, reason } of await plugins.sync(snapshot.plugins))
      problems.push({ file: '', line: 0, object: `PolicyPlugin ${name}`, reason });
    problems.push(...unknownPlugins(snapshot, plugins.ids));

    const compiled = compile(snapshot, plugins.ids, nodeAddresses());
    problems.push(...conflictProblems(compiled));
    workers.setCluster(
      identityEntries(compiled),
      [...compiled.podsByAddress].map(([address, pod]) => [address, pod.name] as const),
    );

    const endpoints = new Map<number, Buffer>();
    const views: EndpointView[] = [];
    for (const endpoint of compiled.endpoints) {
      const pod = `${endpoint.pod.namespace}/${endpoint.pod.name}`;
      const ifindex = findInterface(endpoint.interface);
      if (ifindex === undefined) {
        problems.push({ file: '', line: 0, object: `Pod ${pod}`, reason: `no interface ${endpoint.interface} here`, pending: true });
        this.#pending.add(endpoint.interface);
        continue;
      }
      if (endpoints.has(ifindex)) {
        problems.push({
          file: '',
          line: 0,
          object: `Pod ${pod}`,
          reason: `interface ${endpoint.interface} belongs to another pod already`,
        });
        continue;
      }
      endpoints.set(ifindex, endpoint.value);
      const [ingress, egress] = [endpoint.ruleSets[0].isolated, endpoint.ruleSets[1].isolated];
      views.push({ pod, interface: endpoint.interface, ifindex, identity: endpoint.identity, isolated: { ingress, egress } });
    }
    const applied = maps.apply({
      ports: compiled.ports,
      policies: compiled.policies,
      networks: compiled.networks,
      peers: compiled.peers,
      endpoints,
    });
    for (const failure of applied.failures) problems.push({ file: '', line: 0, object: '', reason: failure.message });

    this.#compiled = compiled;
    this.#durationMs = performance.now() - started;
    const revision = this.#status.revision + (applied.changes || !this.#status.revision ? 1 : 0);
    this.#status = { revision, appliedAt: new Date().toISOString(), endpoints: views, problems };
    this.#logOutcome(applied, problems);
    return this.#status;
  }

  #logOutcome(applied: Applied, problems: readonly Problem[]): void {
    const { log } = this.#parts;
    const told = new Set<string>();
    for (const problem of problems) {
      const text = formatProblem(problem);
      told.add(text);
      if (!this.#logged.has(text)) log.warn({ ...problem }, 'not in force');
    }
    this.#logged = told;
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

/** `NetworkPolicy shop/web ingress[0]` */
export function formatOrigin(origin: RuleOrigin | undefined): string {
  return origin
    ? `${origin.kind} ${origin.namespace}/${origin.name} ${origin.direction === 0 ? 'ingress' : 'egress'}[${origin.index}]`
    : '';
}

/** Names for addresses and rules, as the last run knows them. */
export function namesOf(reconciler: Reconciler, pluginName: (id: number) => string) {
  return {
    address: formatAddress,
    pod: (bytes: Uint8Array) => {
      const pod = reconciler.compiled.podsByAddress.get(addressKey(bytes));
      return pod ? `${pod.namespace}/${pod.name}` : '';
    },
    rule: (id: number) => formatOrigin(reconciler.compiled.origins.get(id)),
    plugin: (id: number) => (id ? pluginName(id) : ''),
  };
}

function identityEntries(compiled: Compiled): IdentityEntry[] {
  return [...compiled.identities.values()].map((identity) => ({
    id: identity.id,
    namespace: identity.namespace ?? '',
    labels: [...identity.labels].map(([key, value]) => `${key}=${value}`).join('\n'),
  }));
}

function conflictProblems(compiled: Compiled): Problem[] {
  return [...compiled.conflicts].map(([notAsked, asked]) => ({
    file: '',
    line: 0,
    object: formatOrigin(compiled.origins.get(notAsked)),
    reason: `tags flows that ${formatOrigin(compiled.origins.get(asked))} tags for another plugin: only that one is asked`,
  }));
}

function unknownPlugins(snapshot: Snapshot, ids: ReadonlyMap<string, number>): Problem[] {
  const problems: Problem[] = [];
  for (const policy of snapshot.pluginPolicies)
    for (const rule of Object.values(policy.rules).flat())
      if (rule.plugin && !ids.has(rule.plugin))
        problems.push({
          file: '',
          line: 0,
          object: `PluginPolicy ${policy.namespace}/${policy.name}`,
          reason: `no PolicyPlugin ${rule.plugin}: what it tags is denied`,
        });
  return problems;
}

/** The addresses of this network namespace: traffic between a pod and its node always passes. */
function nodeAddresses(): Uint8Array[] {
  try {
    return Object.values(networkInterfaces()).flatMap((entries) => (entries ?? []).flatMap((entry) => parseAddress(entry.address) ?? []));
  } catch (error) {
    throw new EngineError('KERNEL_CALL', `Cannot list this node's addresses: ${messageOf(error)}`, error);
  }
}

/** Which policies select an endpoint, in the order in which they are asked. Only those are tried that could. */
import { Direction } from '../abi.gen.ts';
import { type ClusterDelta, namespaceLabels, type Replaced } from './cluster.ts';
import type { ClusterPolicy, NamedPort, Namespace, PluginPolicy, Pod, Policy } from './objects.ts';
import type { Membership } from './rule-set.ts';
import type { PolicyRules, RuleBook } from './rules.ts';
import { matches } from './selector.ts';
import { SelectorIndex, type SelectorScope } from './selector-index.ts';

type Namespaced = Policy | PluginPolicy;

export class Selection {
  readonly #book: RuleBook;
  readonly #namespaces: ReadonlyMap<string, Namespace>;
  readonly #policies = new SelectorIndex<Policy>();
  readonly #pluginPolicies = new SelectorIndex<PluginPolicy>();
  readonly #everywhere = new Set<PluginPolicy>();
  readonly #clusterPolicies = new SelectorIndex<ClusterPolicy>();

  /** `namespaces` is the cluster's, and changes with it. */
  constructor(book: RuleBook, namespaces: ReadonlyMap<string, Namespace>) {
    this.#book = book;
    this.#namespaces = namespaces;
  }

  /** Takes over what came, changed and went. */
  update(delta: Pick<ClusterDelta, 'NetworkPolicy' | 'ClusterNetworkPolicy' | 'PluginPolicy'>): void {
    replaceIn(this.#policies, delta.NetworkPolicy, scopeOf);
    replaceIn(this.#clusterPolicies, delta.ClusterNetworkPolicy, ({ subject }) => subject);
    const isEverywhere = (policy: PluginPolicy | undefined): boolean => policy?.everywhere === true;
    for (const { before, after } of delta.PluginPolicy) {
      if (before && isEverywhere(before)) this.#everywhere.delete(before);
      if (after && isEverywhere(after)) this.#everywhere.add(after);
    }
    replaceIn(this.#pluginPolicies, delta.PluginPolicy, scopeOf, (policy) => !isEverywhere(policy));
  }

  /** Why a pod is closed, whatever policies say; undefined where they decide. */
  closes(pod: Pod): string | undefined {
    if (pod.quarantined) return 'its manifest is damaged: the pod is closed';
    return this.#namespaces.get(pod.namespace)?.quarantined ? 'labels of its namespace are damaged: the pod is closed' : undefined;
  }

  /** Whether a NetworkPolicy or PluginPolicy is about a pod. */
  isSelected(policy: Namespaced, pod: Pod): boolean {
    if ('everywhere' in policy && policy.everywhere) return true;
    return policy.namespace === pod.namespace && matches(policy.selector, pod.labels);
  }

  isSubject({ subject }: ClusterPolicy, pod: Pod): boolean {
    if (pod.hostNetwork && !pod.cgroup) return false;
    return matches(subject.namespaces, namespaceLabels(this.#namespaces, pod.namespace)) && matches(subject.pods, pod.labels);
  }

  /** The members of the rule set of one direction; undefined where nothing isolates or tags. */
  of(pod: Pod, direction: Direction): Membership | undefined {
    const book = this.#book;
    if (pod.hostPolicies) return membershipOf(direction, present(pod.hostPolicies.map((policy) => book.host(policy, direction))), []);
    const ofNamespace = namespaceLabels(this.#namespaces, pod.namespace);
    const candidates = <T>(index: SelectorIndex<T>): T[] => [...index.candidates(pod.namespace, pod.labels, ofNamespace)];
    // Where two have one priority, the API leaves the order open: by name.
    const cluster = candidates(this.#clusterPolicies)
      .filter((policy) => policy.rules[direction]?.length && this.isSubject(policy, pod))
      .sort((a, b) => a.priority - b.priority || byName(a, b));
    const inTier = (tier: ClusterPolicy['tier']): (PolicyRules | undefined)[] =>
      cluster.filter((policy) => policy.tier === tier).map((policy) => book.cluster(policy, direction));
    // The first policy to allow a flow takes the credit, whatever order they came in.
    const selecting = <P extends Namespaced>(policies: readonly P[]): P[] =>
      policies.filter((policy) => policy.rules[direction] && this.isSelected(policy, pod)).sort(byName);
    const members = present([
      ...inTier('Admin'),
      ...selecting(candidates(this.#policies)).map((policy) => book.network(policy, direction)),
      ...inTier('Baseline'),
      // Policies of one namespace go before those that are about everybody.
      ...[...selecting(candidates(this.#pluginPolicies)), ...selecting([...this.#everywhere])].map((policy) =>
        policy.rules[direction]?.length ? book.plugin(policy, direction) : undefined,
      ),
    ]);
    const named = direction === Direction.INGRESS && members.some(({ byPortName }) => byPortName);
    return membershipOf(direction, members, named ? pod.ports : []);
  }
}

function scopeOf({ namespace, selector }: Namespaced): SelectorScope {
  return { namespace, pods: selector };
}

function replaceIn<T>(
  index: SelectorIndex<T>,
  replaced: readonly Replaced<T>[],
  scope: (item: T) => SelectorScope,
  isIn: (item: T) => boolean = () => true,
): void {
  for (const { before, after } of replaced) {
    if (before && isIn(before)) index.remove(before, scope(before));
    if (after && isIn(after)) index.add(after, scope(after));
  }
}

function byName(
  a: { readonly name: string; readonly namespace?: string },
  b: { readonly name: string; readonly namespace?: string },
): number {
  if (a.name !== b.name) return a.name < b.name ? -1 : 1;
  return (a.namespace ?? '') < (b.namespace ?? '') ? -1 : Number(a.namespace !== b.namespace);
}

function present(members: readonly (PolicyRules | undefined)[]): PolicyRules[] {
  return members.filter((member) => member !== undefined);
}

function membershipOf(direction: Direction, members: readonly PolicyRules[], ownPorts: readonly NamedPort[]): Membership | undefined {
  if (!members.length) return undefined;
  const ports = ownPorts.map((port) => `${port.name}/${port.protocol}=${port.port}`).sort();
  return { key: JSON.stringify([direction, members.map((member) => member.key), ports]), direction, members, ownPorts };
}

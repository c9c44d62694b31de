/** Which policies select an endpoint, in the order in which they are asked. */
import { Direction } from '../abi.gen.ts';
import { namespaceLabels } from './peer-index.ts';
import type { Membership } from './rule-set.ts';
import { namesIn } from './rule-set.ts';
import type { PolicyRules, RuleBook } from './rules.ts';
import { matches } from './selector.ts';
import type { ClusterPolicy, NamedPort, PluginPolicy, Pod, Policy, Snapshot } from './snapshot.ts';

export class Selection {
  readonly #book: RuleBook;
  #snapshot: Snapshot | undefined;
  #policies = new Map<string, Policy[]>();
  #pluginPolicies = new Map<string, PluginPolicy[]>();
  #everywhere: readonly PluginPolicy[] = [];
  #clusterPolicies: readonly ClusterPolicy[] = [];

  constructor(book: RuleBook) {
    this.#book = book;
  }

  setSnapshot(snapshot: Snapshot): void {
    if (snapshot.policies !== this.#snapshot?.policies) this.#policies = byNamespace(snapshot.policies);
    if (snapshot.pluginPolicies !== this.#snapshot?.pluginPolicies) {
      this.#pluginPolicies = byNamespace(snapshot.pluginPolicies.filter((policy) => !policy.everywhere));
      this.#everywhere = snapshot.pluginPolicies.filter((policy) => policy.everywhere);
    }
    // Where two have one priority, the API leaves the order open: by name.
    if (snapshot.clusterPolicies !== this.#snapshot?.clusterPolicies)
      this.#clusterPolicies = [...snapshot.clusterPolicies].sort((a, b) => a.priority - b.priority || (a.name < b.name ? -1 : 1));
    this.#snapshot = snapshot;
  }

  /** What the rule set of one direction is made of; undefined where nothing isolates or tags. */
  of(pod: Pod, direction: Direction): Membership | undefined {
    const book = this.#book;
    if (pod.hostPolicies) return membershipOf(direction, present(pod.hostPolicies.map((policy) => book.host(policy, direction))), []);
    const cluster = this.#clusterPolicies.filter((policy) => this.#isSubject(policy, pod));
    const inTier = (tier: ClusterPolicy['tier']): (PolicyRules | undefined)[] =>
      cluster.filter((policy) => policy.tier === tier && policy.rules[direction]?.length).map((policy) => book.cluster(policy, direction));
    const selecting = <P extends Policy | PluginPolicy>(policies: Map<string, P[]>): P[] =>
      (policies.get(pod.namespace) ?? []).filter((policy) => matches(policy.selector, pod.labels));
    const members = present([
      ...inTier('Admin'),
      ...selecting(this.#policies).map((policy) => book.network(policy, direction)),
      ...inTier('Baseline'),
      // What is about the endpoints of one namespace goes before what is about everybody's.
      ...[...selecting(this.#pluginPolicies), ...this.#everywhere].map((policy) =>
        policy.rules[direction]?.length ? book.plugin(policy, direction) : undefined,
      ),
    ]);
    const named = direction === Direction.INGRESS && members.some((member) => member.rules.some((rule) => namesIn(rule.ports).length));
    return membershipOf(direction, members, named ? pod.ports : []);
  }

  #isSubject({ subject }: ClusterPolicy, pod: Pod): boolean {
    if (pod.hostNetwork && !pod.cgroup) return false;
    const namespaces = this.#snapshot?.namespaces ?? new Map();
    return matches(subject.namespaces, namespaceLabels(namespaces, pod.namespace)) && matches(subject.pods, pod.labels);
  }
}

function present(members: readonly (PolicyRules | undefined)[]): PolicyRules[] {
  return members.filter((member) => member !== undefined);
}

function membershipOf(direction: Direction, members: readonly PolicyRules[], ownPorts: readonly NamedPort[]): Membership | undefined {
  if (!members.length) return undefined;
  const ports = ownPorts.map((port) => `${port.name}/${port.protocol}=${port.port}`).sort();
  return { key: JSON.stringify([direction, members.map((member) => member.key), ports]), direction, members, ownPorts };
}

function byNamespace<P extends { readonly namespace: string; readonly name: string }>(policies: readonly P[]): Map<string, P[]> {
  const found = new Map<string, P[]>();
  for (const policy of policies) {
    const list = found.get(policy.namespace);
    if (list) list.push(policy);
    else found.set(policy.namespace, [policy]);
  }
  // The first policy to allow a flow takes the credit, whichever file it was read from.
  for (const list of found.values()) list.sort((a, b) => (a.name < b.name ? -1 : 1));
  return found;
}

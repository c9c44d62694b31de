/**
 * Rule sets: which rules hold for one direction of an endpoint, and what they say about each peer identity.
 *
 * Endpoints with the same rules share a rule set: its id is a hash of the rules as written, not of who matches them,
 * so that a pod that comes or goes changes single entries and not the id.
 */
import { Action, Direction, Identity, type Rule } from '../abi.gen.ts';
import type { IdentityInfo } from '../identity/identities.ts';
import type { PeerIndex } from './peer-index.ts';
import { ALLOWED, DENIED, EVERY_PORT, type PortRange, PortTable } from './port-table.ts';
import { matches } from './selector.ts';
import type { AskRule, Peer, PluginPolicy, Pod, Policy, PolicyRule, PortSpec, Snapshot } from './snapshot.ts';
import type { StableIds } from './stable-id.ts';

/** Where a rule comes from, to be shown to people. */
export interface RuleOrigin {
  readonly kind: 'NetworkPolicy' | 'PluginPolicy';
  readonly namespace: string;
  readonly name: string;
  readonly direction: Direction;
  /** Position in the policy's list of that direction. */
  readonly index: number;
}

export interface SourcedRule {
  readonly id: number;
  readonly namespace: string;
  readonly peers?: readonly Peer[];
  /** Absent: every port. Named ports are left only where the peer gives the name. */
  readonly ports?: readonly PortSpec[];
  /** What the rule puts on a flow. */
  readonly rule: Rule;
  readonly overrides: boolean;
}

export interface RuleSet {
  /** 0 when nothing isolates or tags. */
  readonly id: number;
  /** Whether what no rule allows is denied. */
  readonly isolated: boolean;
  readonly allows: readonly SourcedRule[];
  readonly asks: readonly SourcedRule[];
}

/** What rule sets are made from, prepared once for a snapshot. */
export class RuleSets {
  readonly origins = new Map<number, RuleOrigin>();
  readonly #snapshot: Snapshot;
  readonly #pluginIds: ReadonlyMap<string, number>;
  readonly #ids: StableIds;

  constructor(snapshot: Snapshot, pluginIds: ReadonlyMap<string, number>, ids: StableIds) {
    this.#snapshot = snapshot;
    this.#pluginIds = pluginIds;
    this.#ids = ids;
  }

  /** The policies that select a pod, in the order in which the first to allow a flow takes the credit. */
  selecting<P extends { namespace: string; selector: Policy['selector'] }>(policies: readonly P[], pod: Pod): P[] {
    return policies.filter((policy) => policy.namespace === pod.namespace && matches(policy.selector, pod.labels));
  }

  /** The rule set of one direction of an endpoint. */
  of(pod: Pod, direction: Direction): RuleSet {
    if (pod.quarantined) return { id: this.#ids.get('rule set of nothing'), isolated: true, allows: [], asks: [] };
    const policies = this.selecting(this.#snapshot.policies, pod).filter((policy) => policy.rules[direction]);
    const tagging = this.selecting(this.#snapshot.pluginPolicies, pod).filter((policy) => policy.rules[direction]?.length);
    if (!policies.length && !tagging.length) return { id: 0, isolated: false, allows: [], asks: [] };
    const allows = policies.flatMap((policy) => this.#allows(policy, pod, direction));
    const asks = tagging.flatMap((policy) => this.#asks(policy, pod, direction));
    const isolated = policies.length > 0;
    return { id: this.#ids.get(`rule set ${JSON.stringify([isolated, allows, asks])}`), isolated, allows, asks };
  }

  #allows(policy: Policy, pod: Pod, direction: Direction): SourcedRule[] {
    return (policy.rules[direction] ?? []).map((rule, index) => {
      const id = this.#origin({ kind: 'NetworkPolicy', namespace: policy.namespace, name: policy.name, direction, index });
      return this.#sourced(rule, pod, direction, policy.namespace, { ...ALLOWED, id }, false);
    });
  }

  #asks(policy: PluginPolicy, pod: Pod, direction: Direction): SourcedRule[] {
    return (policy.rules[direction] ?? []).map((rule: AskRule, index) => {
      const id = this.#origin({ kind: 'PluginPolicy', namespace: policy.namespace, name: policy.name, direction, index });
      const plugin = this.#pluginIds.get(rule.plugin);
      // A plugin that nobody declared can answer nothing, not even by its failure policy.
      const tag: Rule = plugin === undefined ? { ...DENIED, id } : { id, plugin, action: Action.ASK, context: rule.context };
      return this.#sourced(rule, pod, direction, policy.namespace, tag, policy.overrides);
    });
  }

  #sourced(rule: PolicyRule, pod: Pod, direction: Direction, namespace: string, tag: Rule, overrides: boolean): SourcedRule {
    const ports = direction === Direction.INGRESS ? rule.ports?.flatMap((port) => resolveOwnPort(port, pod)) : rule.ports;
    return { id: tag.id, namespace, ...(rule.peers && { peers: rule.peers }), ...(ports && { ports }), rule: tag, overrides };
  }

  #origin(origin: RuleOrigin): number {
    const id = this.#ids.get(`rule ${JSON.stringify(origin)}`);
    this.origins.set(id, origin);
    return id;
  }
}

/** Two rules that tag one flow for different plugins: only the first is asked. */
export type Conflict = (asked: number, notAsked: number) => void;

/** The port tables of a rule set: one for each identity that a rule names, and one for all others under Identity.ANY. */
export function portTables(ruleSet: RuleSet, peers: PeerIndex, conflict: Conflict): Map<number, PortTable> {
  const rules = [...ruleSet.allows, ...ruleSet.asks];
  const named = new Map<SourcedRule, ReadonlySet<IdentityInfo>>();
  const identities = new Map<number, IdentityInfo | undefined>([[Identity.ANY, undefined]]);
  for (const rule of rules) {
    const matched = rule.peers ? peers.matching(rule.peers, rule.namespace) : peers.naming(rule.ports ?? []);
    named.set(rule, matched);
    for (const identity of matched) identities.set(identity.id, identity);
  }

  const byIdentity = new Map<number, SourcedRule[]>();
  for (const id of identities.keys()) byIdentity.set(id, []);
  // In the rules' order, so that the first rule to allow takes the credit in every table.
  for (const rule of rules) {
    if (!rule.peers) for (const list of byIdentity.values()) list.push(rule);
    else for (const identity of named.get(rule) ?? []) byIdentity.get(identity.id)?.push(rule);
  }

  const tables = new Map<number, PortTable>();
  for (const [id, applicable] of byIdentity) tables.set(id, paintTable(ruleSet.isolated, applicable, identities.get(id), conflict));
  return tables;
}

function paintTable(isolated: boolean, rules: readonly SourcedRule[], identity: IdentityInfo | undefined, conflict: Conflict): PortTable {
  const table = new PortTable(isolated ? DENIED : ALLOWED);
  for (const sourced of rules) {
    const tags = sourced.rule.action !== Action.ALLOW;
    for (const range of rangesOf(sourced.ports, identity))
      table.paint(range, (before) => {
        if (!tags) return before.action === Action.DENY ? sourced.rule : before;
        if (before.action === Action.ASK && before.plugin !== sourced.rule.plugin) conflict(before.id, sourced.id);
        const open = before.action === Action.ALLOW || (sourced.overrides && before.action === Action.DENY);
        return open ? sourced.rule : before;
      });
  }
  return table;
}

function rangesOf(ports: readonly PortSpec[] | undefined, identity: IdentityInfo | undefined): PortRange[] {
  if (!ports) return [EVERY_PORT];
  return ports.flatMap((port) => {
    if (!('name' in port)) return [port];
    const number = identity?.ports.get(`${port.name}/${port.protocol}`);
    return number === undefined ? [] : [{ protocol: port.protocol, first: number, last: number }];
  });
}

function resolveOwnPort(port: PortSpec, pod: Pod): PortSpec[] {
  if (!('name' in port)) return [port];
  return pod.ports
    .filter((named) => named.name === port.name && named.protocol === port.protocol)
    .map((named) => ({ protocol: named.protocol, first: named.port, last: named.port }));
}

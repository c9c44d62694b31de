/**
 * Why a flow passes or not: for each of its two ends the tier, policy and rule that decide, from the compiled state that the
 * kernel was given. For a pod that is no endpoint here, what its own node would compile.
 */

import { Abi, Action, Context, Direction, Identity, type Rule } from '../abi.gen.ts';
import { addressKey, formatAddress } from './address.ts';
import type { CompiledEndpoint, Compiler } from './compile.ts';
import { findIdentity, findNamedRule } from './decide.ts';
import { covers } from './domain-name.ts';
import { accountOf, type IdentityInfo } from './identities.ts';
import { NetworkIndex } from './network-index.ts';
import { selectorText, selectsOne } from './node-peers.ts';
import { objectName } from './object-name.ts';
import type { Peer, Pod } from './objects.ts';
import { matchesPeer } from './peer-index.ts';
import { ALLOWED, decideTable, type PlacedRule } from './port-table.ts';
import { type Membership, resolvePorts } from './rule-set.ts';
import { formatOrigin, type RuleOrigin } from './rules.ts';

/** One side of a flow: an address, and the pod that has it. */
export interface Party {
  readonly address: Uint8Array;
  readonly pod?: Pod;
  /** As the one who sends knows it, where that is asked. */
  readonly name?: string;
  /** Ids of the patterns under which the one who sends knows it. */
  readonly patterns?: readonly number[];
  /** Nobody has resolved the name: the address stands for any. */
  readonly unresolved?: boolean;
}

export interface Question {
  readonly source: Party;
  readonly destination: Party;
  /** IP protocol number. */
  readonly protocol: number;
  readonly port: number;
}

/** The opinion of one end of the flow. */
export interface EndExplanation {
  readonly direction: Direction;
  readonly pod: Pod;
  /** Absent for a pod that is not enforced here. */
  readonly endpoint?: CompiledEndpoint;
  readonly action: Action;
  readonly tier: 'admin' | 'network' | 'baseline' | 'plugin' | 'none';
  /** `NetworkPolicy shop/web ingress[0]`, or empty where no rule decides. */
  readonly rule: string;
  readonly reason: string;
  /** It never comes to a rule, in the kernel neither: a pod that talks to itself. */
  readonly beforePolicy?: boolean;
  /** The rule that the kernel should find, for an endpoint that something isolates or tags. */
  readonly expected?: { readonly ruleSet: number; readonly identity: number; readonly rule: Rule };
}

/** The ends that have an opinion: the pod that sends, the pod that receives. */
export function explain(compiler: Compiler, question: Question, nodeAddresses: readonly Uint8Array[]): EndExplanation[] {
  const { source, destination } = question;
  const nodes = new Set(nodeAddresses.map(addressKey));
  const ends: EndExplanation[] = [];
  if (source.pod) ends.push(explainEnd(compiler, question, source.pod, destination, Direction.EGRESS, nodes));
  if (destination.pod) ends.push(explainEnd(compiler, question, destination.pod, source, Direction.INGRESS, nodes));
  return ends;
}

function explainEnd(
  compiler: Compiler,
  { protocol, port }: Question,
  pod: Pod,
  peer: Party,
  direction: Direction,
  nodes: ReadonlySet<string>,
): EndExplanation {
  const endpoint = compiler.endpoints.get(pod);
  const end = { direction, pod, ...(endpoint && { endpoint }) };
  const unconditional = (reason: string): EndExplanation => ({ ...end, action: Action.ALLOW, tier: 'none', rule: '', reason });
  if (pod.hostNetwork && !pod.cgroup)
    return unconditional('shares the network of its node, and has no cgroup annotation: nothing is enforced');
  if (pod.addresses.some((address) => addressKey(address) === addressKey(peer.address)))
    return { ...unconditional('no policy is about what a pod sends to itself'), beforePolicy: true };
  const closed = compiler.closes(pod);
  if (closed) return { ...end, action: Action.DENY, tier: 'none', rule: '', reason: closed };
  const membership = compiler.membership(pod, direction);
  if (!membership) return unconditional('no policy selects it for this direction');
  if (nodes.has(addressKey(peer.address))) {
    if (direction === Direction.INGRESS) return unconditional('the node of a pod always reaches it');
    if (pod.cgroup !== undefined) return unconditional('a process always reaches its own node');
  }
  const ruleSet = endpoint?.ruleSets[direction];
  const identity = findIdentity(compiler, peer.address);
  const patterns = direction === Direction.EGRESS ? (peer.patterns ?? []) : [];
  const rule = ruleSet
    ? findNamedRule(compiler, ruleSet.id, patterns, { identity, protocol, port })
    : trace(compiler, membership, peer, protocol, port);
  return {
    ...end,
    ...verdictOf(rule ?? { ...ALLOWED, action: Action.DENY }, compiler.origins, membership),
    ...(ruleSet && rule && { expected: { ruleSet: ruleSet.id, identity, rule } }),
  };
}

function verdictOf(
  rule: Rule,
  origins: ReadonlyMap<number, RuleOrigin>,
  membership: Membership,
): Pick<EndExplanation, 'action' | 'tier' | 'rule' | 'reason'> {
  const origin = origins.get(rule.id);
  if (origin?.index !== undefined) {
    const other = rule.context === Context.HTTP ? 'has each request decided' : 'has a plugin asked';
    const asks = rule.plugin === Abi.SERVER_NAMES ? 'has its server name read' : other;
    const words = { [Action.ALLOW]: 'allows it', [Action.DENY]: 'denies it', [Action.ASK]: asks }[rule.action as Action];
    return { action: rule.action as Action, tier: origin.tier, rule: formatOrigin(origin), reason: `${formatOrigin(origin)} ${words}` };
  }
  if (rule.action === Action.ALLOW)
    return { action: Action.ALLOW, tier: 'none', rule: '', reason: 'no rule is about it, and nothing isolates the pod' };
  const names = membership.members.filter(({ tier }) => tier === 'network').map(objectName);
  return {
    action: Action.DENY,
    tier: 'network',
    rule: formatOrigin(origin),
    reason: `isolated by NetworkPolicy ${names.join(', ')}, and no rule allows it`,
  };
}

/** Decides without compiled entries, rule by rule. */
function trace(compiler: Compiler, membership: Membership, peer: Party, protocol: number, port: number): Rule | undefined {
  const { direction, members, ownPorts } = membership;
  const identity = identityOf(compiler, membership, peer);
  const isolating = members.some(({ tier }) => tier === 'network');
  const isMeant = (each: Peer, own: string): boolean =>
    each.kind === 'names'
      ? peer.name !== undefined && each.patterns.some((pattern) => covers(pattern, peer.name as string))
      : matchesPeer(each, own, identity, compiler.cluster.namespaces);
  const placed = members
    .flatMap((member) => member.rules)
    .filter((rule) => rule.peers?.some((each) => isMeant(each, rule.namespace)) ?? true)
    .map(
      (sourced): PlacedRule => ({
        sourced,
        ...(sourced.ports && { ranges: resolvePorts(sourced.ports, direction === Direction.INGRESS ? ownPorts : identity) }),
      }),
    );
  const table = decideTable(placed, isolating ? { ...ALLOWED, action: Action.DENY } : undefined);
  return table.ranges.find((range) => range.protocol === protocol && range.first <= port && port <= range.last)?.rule ?? table.other;
}

function identityOf(compiler: Compiler, { members }: Membership, { address, pod }: Party): IdentityInfo {
  const index = new NetworkIndex();
  const nodes = new Set<string>();
  const bearers = [...compiler.nodesAt(addressKey(address))];
  for (const peer of members.flatMap((member) => member.rules).flatMap((rule) => rule.peers ?? []))
    if (peer.kind === 'network') for (const network of [peer.network, ...peer.except]) index.add(network);
    else if (peer.kind === 'nodes' && selectsOne(peer.nodes, bearers)) nodes.add(selectorText(peer.nodes));
  return {
    id: Identity.ANY,
    ...(pod && { namespace: pod.namespace, serviceAccount: accountOf(pod) }),
    labels: pod?.labels ?? new Map(),
    networks: index.containing(address),
    nodes: [...nodes],
    ports: new Map((pod?.ports ?? []).map((named) => [`${named.name}/${named.protocol}`, named.port])),
  };
}

/** `shop/web`, the name that was asked about, or the address. */
export function formatParty({ address, pod, name }: Party): string {
  return name ?? (pod ? objectName(pod) : formatAddress(address));
}

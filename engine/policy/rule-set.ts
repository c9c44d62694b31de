/**
 * A rule set: what the policies that select an endpoint say about each peer identity, for one direction. Endpoints with the
 * same policies share it.
 *
 * Its id names the policies, not what they say: a rule that changes rewrites the entries that it is about, each from what
 * the old policy said to what the new one says, with nothing in between.
 */
import { Action, Direction, Identity, type Rule } from '../abi.gen.ts';
import type { Network } from './address.ts';
import { difference } from './array-diff.ts';
import { type EntryMap, u32Key } from './entry-map.ts';
import type { IdentityInfo } from './identities.ts';
import type { NamedPort, PortSpec, Selector } from './objects.ts';
import type { AddressPeer, PeerIndex, PeerMatch, PeerUser } from './peer-index.ts';
import { decideTable, type PlacedRule, type PortRange, type PortTables } from './port-table.ts';
import type { PolicyRules, SourcedRule } from './rules.ts';

/** A list of things that rules name, counted by who names them. */
interface Listing<T> {
  add(item: T): void;
  remove(item: T): void;
}

/** The parts that rule sets are written with. */
export interface RuleSetWriter {
  readonly peers: PeerIndex;
  readonly identities: ReadonlyMap<number, IdentityInfo>;
  readonly policies: EntryMap;
  readonly tables: PortTables;
  /** Networks, and selectors of nodes, that rules name. */
  readonly networks: Listing<Network>;
  readonly nodes: Listing<Selector>;
  /** The id of the rule that stands for "no rule allows it". */
  readonly isolation: (key: string, policies: readonly PolicyRules[], direction: Direction) => number;
  /** Called when entries of a rule set are not up to date, or it is gone: refresh() is to be called. */
  readonly noteStale: (ruleSet: RuleSet) => void;
}

/** The policies and ports that an endpoint's rule set is made of. */
export interface Membership {
  /** Names policies and own ports: equal keys, one rule set. */
  readonly key: string;
  readonly direction: Direction;
  readonly members: readonly PolicyRules[];
  /** The endpoint's own named ports, which rules for what it receives mean. */
  readonly ownPorts: readonly NamedPort[];
}

type Decided = ReturnType<typeof decideTable>;

export class RuleSet implements PeerUser {
  readonly id: number;
  readonly direction: Direction;
  readonly #writer: RuleSetWriter;
  readonly #matches = new Map<SourcedRule, readonly PeerMatch[]>();
  /** The same the other way round. */
  readonly #rulesOf = new Map<PeerMatch, Set<SourcedRule>>();
  /** Rules that are about anyone. */
  readonly #forAnyone = new Set<SourcedRule>();
  /** Rules that have a plugin asked about DNS answers. */
  readonly #answering = new Set<SourcedRule>();
  /** Domain names and wildcards → how many rules are about them. */
  readonly #patterns = new Map<string, number>();
  /** Place of each policy, by its key. */
  readonly #places: ReadonlyMap<string, number>;
  /** Identity → the port table that its entry points at. */
  readonly #written = new Map<number, number>();
  /** Identity → rules that tag a flow which another rule tags for another plugin already, and the one that is asked instead. */
  readonly #conflicts = new Map<number, ReadonlyMap<number, number>>();
  #membership: Membership;
  readonly #isolated: Rule | undefined;
  #stale = new Set<number>();
  #allStale = false;

  constructor(id: number, membership: Membership, writer: RuleSetWriter) {
    this.id = id;
    this.direction = membership.direction;
    this.#membership = { ...membership, members: [] };
    this.#writer = writer;
    this.#places = new Map(membership.members.map(({ key }, place) => [key, place]));
    const isolating = membership.members.filter((member) => member.tier === 'network');
    this.#isolated = isolating.length
      ? { id: writer.isolation(membership.key, isolating, this.direction), plugin: 0, action: Action.DENY, context: 0 }
      : undefined;
    this.noteIdentity(Identity.ANY);
    this.setMembers(membership.members);
  }

  /** Whether what no rule allows is denied. */
  get isolated(): boolean {
    return this.#isolated !== undefined;
  }

  /** Rules that tag a flow which another rule tags for another plugin already: rule id → the one that is asked instead. */
  get conflicts(): ReadonlyMap<number, number> {
    const [first, ...others] = this.answerRules;
    const notAsked = others.filter(({ dnsPlugin }) => dnsPlugin !== first?.dnsPlugin);
    // For several peers several others may be asked: of these always the same is named, in whatever order the peers came.
    const ofFlows = [...this.#conflicts.values()].flatMap((conflicts) => [...conflicts]).sort(([, a], [, b]) => b - a);
    return new Map([...ofFlows, ...notAsked.map(({ id }) => [id, first?.id ?? 0] as const)]);
  }

  /** As it was made of last. */
  get membership(): Membership {
    return this.#membership;
  }

  /** Domain names and wildcards that its rules are about. */
  get patterns(): Pick<ReadonlyMap<string, number>, 'has' | 'size' | 'keys'> {
    return this.#patterns;
  }

  /** Rules that have a plugin asked about DNS answers: the first one counts. */
  get answerRules(): readonly SourcedRule[] {
    return this.#inOrder([...this.#answering]);
  }

  /** Takes over what the policies say now; they are the same policies as before. */
  setMembers(members: readonly PolicyRules[]): void {
    const before = this.#membership.members;
    this.#membership = { ...this.#membership, members };
    const differences = members.flatMap((member, i) => (member === before[i] ? [] : [difference(before[i]?.rules ?? [], member.rules)]));
    // New ones come first: a network that both an old and a new rule name stays listed.
    for (const { added } of differences) for (const rule of added) this.#acquire(rule);
    for (const { removed } of differences) for (const rule of removed) this.#release(rule);
  }

  noteIdentity(identity: number): void {
    if (!this.#stale.size && !this.#allStale) this.#writer.noteStale(this);
    this.#stale.add(identity);
  }

  /** Brings the entries up to date. */
  refresh(): void {
    if (this.#allStale) this.#markAll();
    const decided = new Map<string, Decided>();
    for (const identity of this.#stale) this.#write(identity, decided);
    this.#stale.clear();
  }

  /** Takes every entry away. */
  remove(): void {
    for (const rule of [...this.#matches.keys()]) this.#release(rule);
    for (const [identity, portTable] of this.#written) {
      this.#writer.policies.delete(policyKey(this.id, identity));
      if (portTable) this.#writer.tables.release(portTable);
    }
    this.#written.clear();
    this.#conflicts.clear();
    this.#stale.clear();
    this.#allStale = false;
    this.#writer.noteStale(this);
  }

  #acquire(rule: SourcedRule): void {
    const { peers } = this.#writer;
    this.#list(rule, 'add');
    const matches = addressPeers(rule).map((peer) => peers.acquire(peer, rule.namespace, this));
    const names = this.direction === Direction.EGRESS ? namesIn(rule.ports) : [];
    if (!rule.peers && names.length) matches.push(peers.acquire({ kind: 'naming', names }, '', this));
    this.#matches.set(rule, matches);
    for (const match of matches) {
      const rules = this.#rulesOf.get(match);
      if (rules) rules.add(rule);
      else this.#rulesOf.set(match, new Set([rule]));
    }
    if (!rule.peers) this.#forAnyone.add(rule);
    if (rule.dnsPlugin !== undefined) this.#answering.add(rule);
    for (const pattern of patternsOf(rule)) this.#patterns.set(pattern, (this.#patterns.get(pattern) ?? 0) + 1);
    this.#noteRule(rule, matches);
  }

  #release(rule: SourcedRule): void {
    const matches = this.#matches.get(rule) ?? [];
    this.#noteRule(rule, matches);
    this.#matches.delete(rule);
    for (const match of matches) {
      const rules = this.#rulesOf.get(match);
      rules?.delete(rule);
      if (!rules?.size) this.#rulesOf.delete(match);
      this.#writer.peers.release(match, this);
    }
    this.#forAnyone.delete(rule);
    this.#answering.delete(rule);
    for (const pattern of patternsOf(rule)) {
      const left = (this.#patterns.get(pattern) ?? 0) - 1;
      if (left > 0) this.#patterns.set(pattern, left);
      else this.#patterns.delete(pattern);
    }
    this.#list(rule, 'remove');
  }

  /** Has it known what a rule names, or forgotten. */
  #list({ peers = [] }: SourcedRule, how: 'add' | 'remove'): void {
    for (const peer of peers)
      if (peer.kind === 'network') for (const network of [peer.network, ...peer.except]) this.#writer.networks[how](network);
      else if (peer.kind === 'nodes') this.#writer.nodes[how](peer.nodes);
  }

  #noteRule(rule: SourcedRule, matches: readonly PeerMatch[]): void {
    if (!rule.peers) {
      if (!this.#stale.size && !this.#allStale) this.#writer.noteStale(this);
      this.#allStale = true;
    } else for (const match of matches) for (const identity of this.#writer.peers.identitiesOf(match)) this.noteIdentity(identity.id);
  }

  /** A rule about anyone is about every identity that has an entry of its own, or gets one. */
  #markAll(): void {
    this.#allStale = false;
    this.#stale.add(Identity.ANY);
    for (const identity of this.#written.keys()) this.#stale.add(identity);
    for (const match of this.#rulesOf.keys()) for (const identity of this.#writer.peers.identitiesOf(match)) this.#stale.add(identity.id);
  }

  /** Writes the entry of an identity, or takes it away where it is one of all others. */
  #write(identity: number, decided: Map<string, Decided>): void {
    const rules = this.#rulesAbout(identity);
    const before = this.#written.get(identity);
    if (rules) {
      const table = this.#decide(rules, this.#writer.identities.get(identity), decided);
      const { entry, portTable } = this.#writer.tables.write(table);
      this.#writer.policies.set(policyKey(this.id, identity), entry);
      this.#written.set(identity, portTable);
      if (table.conflicts.size) this.#conflicts.set(identity, table.conflicts);
      else this.#conflicts.delete(identity);
    } else {
      this.#writer.policies.delete(policyKey(this.id, identity));
      this.#written.delete(identity);
      this.#conflicts.delete(identity);
    }
    if (before) this.#writer.tables.release(before);
  }

  /** The rules about an identity, in order; undefined where no peer of a rule stands for it. */
  #rulesAbout(id: number): readonly SourcedRule[] | undefined {
    if (id === Identity.ANY) return this.#inOrder([...this.#forAnyone]);
    const identity = this.#writer.identities.get(id);
    if (!identity) return undefined;
    const found = new Set<SourcedRule>();
    for (const rules of this.#writer.peers.ofIdentity(identity, this.#rulesOf)) for (const rule of rules) found.add(rule);
    if (!found.size) return undefined;
    for (const rule of this.#forAnyone) found.add(rule);
    return this.#inOrder([...found]);
  }

  /** As their policies are asked, and as these have them. */
  #inOrder(rules: SourcedRule[]): SourcedRule[] {
    if (rules.length < 2) return rules;
    const place = ({ policy }: SourcedRule): number => this.#places.get(policy) ?? 0;
    const part = ({ origin }: SourcedRule): number => Number(origin.damaged ?? false);
    return rules.sort((a, b) => place(a) - place(b) || (a.origin.index ?? 0) - (b.origin.index ?? 0) || part(a) - part(b));
  }

  #decide(rules: readonly SourcedRule[], identity: IdentityInfo | undefined, decided: Map<string, Decided>): Decided {
    const placed = rules.map((rule) => this.#place(rule, identity));
    // Peers with the same rules mean the same ports, unless they give names to them.
    const key = placed.some((rule) => rule.byName) ? undefined : rules.map(({ id }) => id).join();
    const known = key === undefined ? undefined : decided.get(key);
    if (known) return known;
    const table = decideTable(placed, this.#isolated);
    if (key !== undefined) decided.set(key, table);
    return table;
  }

  #place(sourced: SourcedRule, identity: IdentityInfo | undefined): PlacedRule & { byName: boolean } {
    if (!sourced.ports) return { sourced, byName: false };
    const byName = sourced.ports.some((port) => 'name' in port);
    if (!byName) return { sourced, ranges: sourced.ports as readonly PortRange[], byName };
    return {
      sourced,
      ranges: resolvePorts(sourced.ports, this.direction === Direction.INGRESS ? this.#membership.ownPorts : identity),
      byName,
    };
  }
}

function patternsOf({ peers }: SourcedRule): string[] {
  return (peers ?? []).flatMap((peer) => (peer.kind === 'names' ? peer.patterns : []));
}

function addressPeers(rule: SourcedRule): AddressPeer[] {
  return (rule.peers ?? []).filter((peer) => peer.kind !== 'names');
}

/** Key of the policies map: struct policy_key. */
export function policyKey(ruleSet: number, identity: number): string {
  return u32Key(ruleSet) + u32Key(identity);
}

/** `name/protocol` of the ports that are names. */
export function namesIn(ports: readonly PortSpec[] | undefined): string[] {
  return (ports ?? []).flatMap((port) => ('name' in port ? [`${port.name}/${port.protocol}`] : []));
}

/** The ranges that ports mean: a name is a port of the destination, or of nobody. */
export function resolvePorts(ports: readonly PortSpec[], destination: IdentityInfo | readonly NamedPort[] | undefined): PortRange[] {
  return ports.flatMap((port) => {
    if (!('name' in port)) return [port];
    const { protocol, name } = port;
    const numbers = Array.isArray(destination)
      ? destination.filter((named: NamedPort) => named.name === name && named.protocol === protocol).map((named: NamedPort) => named.port)
      : [(destination as IdentityInfo | undefined)?.ports.get(`${name}/${protocol}`)];
    return numbers.flatMap((number: number | undefined) => (number === undefined ? [] : [{ protocol, first: number, last: number }]));
  });
}

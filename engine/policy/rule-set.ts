/**
 * A rule set: what the policies that select an endpoint say about each peer identity, for one direction. Endpoints with the
 * same policies share it.
 *
 * Its id names the policies, not what they say: a rule that changes rewrites the entries that it is about, each from what
 * the old policy said to what the new one says, with nothing in between.
 */
import { Action, Direction, Identity, type Rule } from '../abi.gen.ts';
import { difference } from './array-diff.ts';
import type { EntryMap } from './entry-map.ts';
import type { IdentityInfo } from './identities.ts';
import type { AddressPeer, PeerIndex, PeerMatch, PeerUser } from './peer-index.ts';
import { decideTable, type PlacedRule, type PortRange, type PortTables } from './port-table.ts';
import type { PolicyRules, SourcedRule } from './rules.ts';
import type { NamedPort, Peer, PortSpec } from './snapshot.ts';

/** What rule sets are written with. */
export interface RuleSetWriter {
  readonly peers: PeerIndex;
  readonly identities: ReadonlyMap<number, IdentityInfo>;
  readonly policies: EntryMap;
  readonly tables: PortTables;
  /** Networks that rules name. */
  readonly networks: {
    add(network: Extract<Peer, { kind: 'network' }>['network']): void;
    remove(network: Extract<Peer, { kind: 'network' }>['network']): void;
  };
  /** The id of the rule that stands for "no rule allows it". */
  readonly isolation: (key: string, policies: readonly PolicyRules[], direction: Direction) => number;
}

/** What an endpoint's rule set is made of. */
export interface Membership {
  /** Names policies and own ports: equal keys, one rule set. */
  readonly key: string;
  readonly direction: Direction;
  readonly members: readonly PolicyRules[];
  /** The endpoint's own named ports, which rules for what it receives mean. */
  readonly ownPorts: readonly NamedPort[];
}

/** So many identities are tried on each rule; for more, each rule is asked for its own. */
const FEW = 16;

/** Rules about one identity, as positions in the list of all. */
type Applicable = number[];

export class RuleSet implements PeerUser {
  readonly id: number;
  readonly direction: Direction;
  readonly #writer: RuleSetWriter;
  readonly #matches = new Map<SourcedRule, readonly PeerMatch[]>();
  /** Identity → the port table that its entry points at. */
  readonly #written = new Map<number, number>();
  readonly #conflicts = new Map<number, number>();
  #membership: Membership;
  #patterns: ReadonlySet<string> = new Set();
  #rules: readonly SourcedRule[] = [];
  #isolated: Rule | undefined;
  #stale = new Set<number>([Identity.ANY]);
  #allStale = false;

  constructor(id: number, membership: Membership, writer: RuleSetWriter) {
    this.id = id;
    this.direction = membership.direction;
    this.#membership = { ...membership, members: [] };
    this.#writer = writer;
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
    return new Map([...this.#conflicts, ...notAsked.map(({ id }) => [id, first?.id ?? 0] as const)]);
  }

  /** As it was made of last. */
  get membership(): Membership {
    return this.#membership;
  }

  /** Domain names and wildcards that its rules are about. */
  get patterns(): ReadonlySet<string> {
    return this.#patterns;
  }

  /** Rules that have a plugin asked about DNS answers: the first one counts. */
  get answerRules(): readonly SourcedRule[] {
    return this.#rules.filter((rule) => rule.dnsPlugin !== undefined);
  }

  /** Takes over what the policies say now; they are the same policies as before. */
  setMembers(members: readonly PolicyRules[]): void {
    const before = this.#membership.members;
    if (members.length === before.length && members.every((member, i) => member === before[i])) return;
    this.#membership = { ...this.#membership, members };
    const isolating = members.filter((member) => member.tier === 'network');
    this.#isolated = isolating.length
      ? { id: this.#writer.isolation(this.#membership.key, isolating, this.direction), plugin: 0, action: Action.DENY, context: 0 }
      : undefined;
    const rules = members.flatMap((member) => member.rules);
    const { removed, added } = difference(this.#rules, rules);
    this.#rules = rules;
    this.#patterns = new Set(rules.flatMap((rule) => rule.peers ?? []).flatMap((peer) => (peer.kind === 'names' ? peer.patterns : [])));
    // What comes first: a network that both an old and a new rule name stays listed.
    for (const rule of added) this.#acquire(rule);
    for (const rule of removed) this.#release(rule);
  }

  noteIdentity(identity: number): void {
    this.#stale.add(identity);
  }

  /** Brings the entries up to date. */
  refresh(): void {
    if (this.#allStale) this.#markAll();
    if (!this.#stale.size) return;
    this.#conflicts.clear();
    const decided = new Map<string, ReturnType<typeof decideTable>>();
    for (const [identity, applicable] of this.#applicable()) {
      const before = this.#written.get(identity);
      if (applicable) {
        const { entry, portTable } = this.#writer.tables.write(this.#decide(applicable, this.#writer.identities.get(identity), decided));
        this.#writer.policies.set(policyKey(this.id, identity), entry);
        this.#written.set(identity, portTable);
      } else {
        this.#writer.policies.delete(policyKey(this.id, identity));
        this.#written.delete(identity);
      }
      if (before) this.#writer.tables.release(before);
    }
    this.#stale.clear();
  }

  /** Takes every entry away. */
  remove(): void {
    for (const rule of this.#rules) this.#release(rule);
    for (const [identity, portTable] of this.#written) {
      this.#writer.policies.delete(policyKey(this.id, identity));
      if (portTable) this.#writer.tables.release(portTable);
    }
    this.#written.clear();
  }

  #acquire(rule: SourcedRule): void {
    const { peers, networks } = this.#writer;
    const matches = addressPeers(rule).map((peer) => {
      if (peer.kind === 'network') for (const network of [peer.network, ...peer.except]) networks.add(network);
      return peers.acquire(peer, rule.namespace, this);
    });
    const names = this.direction === Direction.EGRESS ? namesIn(rule.ports) : [];
    if (!rule.peers && names.length) matches.push(peers.acquire({ kind: 'naming', names }, '', this));
    this.#matches.set(rule, matches);
    this.#noteRule(rule, matches);
  }

  #release(rule: SourcedRule): void {
    const matches = this.#matches.get(rule) ?? [];
    this.#noteRule(rule, matches);
    this.#matches.delete(rule);
    for (const match of matches) this.#writer.peers.release(match, this);
    for (const peer of rule.peers ?? [])
      if (peer.kind === 'network') for (const network of [peer.network, ...peer.except]) this.#writer.networks.remove(network);
  }

  #noteRule(rule: SourcedRule, matches: readonly PeerMatch[]): void {
    if (!rule.peers) this.#allStale = true;
    else for (const match of matches) for (const identity of this.#writer.peers.identitiesOf(match)) this.#stale.add(identity.id);
  }

  #markAll(): void {
    this.#allStale = false;
    this.#stale.add(Identity.ANY);
    for (const identity of this.#written.keys()) this.#stale.add(identity);
    for (const matches of this.#matches.values())
      for (const match of matches) for (const identity of this.#writer.peers.identitiesOf(match)) this.#stale.add(identity.id);
  }

  /** For each stale identity the rules about it, in order; undefined where it is one of all others. */
  #applicable(): Map<number, Applicable | undefined> {
    const { peers, identities } = this.#writer;
    const found = new Map<number, Applicable | undefined>([...this.#stale].map((identity) => [identity, []]));
    const special = new Set<number>([Identity.ANY]);
    const few = this.#stale.size <= FEW ? [...this.#stale].flatMap((id) => identities.get(id) ?? []) : undefined;
    this.#rules.forEach((rule, index) => {
      if (!rule.peers) for (const applicable of found.values()) applicable?.push(index);
      for (const match of this.#matches.get(rule) ?? [])
        for (const identity of few ?? peers.identitiesOf(match)) {
          const applicable = found.get(identity.id);
          if (!applicable || (few && !peers.standsFor(match, identity))) continue;
          special.add(identity.id);
          if (applicable.at(-1) !== index) applicable.push(index);
        }
    });
    for (const identity of found.keys()) if (!special.has(identity)) found.set(identity, undefined);
    return found;
  }

  #decide(
    applicable: Applicable,
    identity: IdentityInfo | undefined,
    decided: Map<string, ReturnType<typeof decideTable>>,
  ): ReturnType<typeof decideTable> {
    const placed = applicable.map((index) => this.#place(this.#rules[index] as SourcedRule, identity));
    // Peers with the same rules mean the same ports, unless they give names to them.
    const key = placed.some((rule) => rule.byName) ? undefined : applicable.join();
    let table = key === undefined ? undefined : decided.get(key);
    if (!table) {
      table = decideTable(placed, this.#isolated, (asked, notAsked) => this.#conflicts.set(notAsked, asked));
      if (key !== undefined) decided.set(key, table);
    }
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

function addressPeers(rule: SourcedRule): AddressPeer[] {
  return (rule.peers ?? []).filter((peer) => peer.kind !== 'names');
}

/** Key of the policies map: struct policy_key. */
export function policyKey(ruleSet: number, identity: number): string {
  return u32Key(ruleSet) + u32Key(identity);
}

/** The number as its four bytes in memory. */
function u32Key(value: number): string {
  return String.fromCharCode(value & 255, (value >>> 8) & 255, (value >>> 16) & 255, value >>> 24);
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

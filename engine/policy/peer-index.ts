/**
 * Which identities the peers in rules stand for. Kept up to date: an identity that comes or goes tells the rule sets whose
 * peers it matches, and only peers and identities that could match are tried.
 */
import { namespaceLabels } from './cluster.ts';
import type { IdentityInfo } from './identities.ts';
import { selectorText } from './node-peers.ts';
import { objectName } from './object-name.ts';
import type { AccountRef, Namespace, Peer } from './objects.ts';
import { peerText } from './rules.ts';
import { matches } from './selector.ts';
import { SelectorIndex, type SelectorScope } from './selector-index.ts';
import { addTo, removeFrom } from './set-map.ts';

/** Who wants to know which identities a peer gained or lost. */
export interface PeerUser {
  noteIdentity(identity: number): void;
}

/** A peer that an address has by itself, whatever name it is known by. */
export type AddressPeer = Exclude<Peer, { kind: 'names' }>;

/** A peer that names what an identity is in: networks, nodes by a selector, a service account. Its identities are found by that. */
type GroupPeer = Exclude<AddressPeer, { kind: 'pods' }>;

/** A peer of rules, or the pods that give a name to a port: a rule for anyone means another port for each of them. */
export type Matcher = AddressPeer | { readonly kind: 'naming'; readonly names: readonly string[] };

/** One peer in use. */
export interface PeerMatch {
  readonly key: string;
  readonly matcher: Matcher;
  /** Namespace of the policy. */
  readonly own: string;
  /** Absent where they are found by the groups that the peer names. */
  readonly identities?: Set<IdentityInfo>;
  /** How often each acquired it. */
  readonly users: Map<PeerUser, number>;
}

export class PeerIndex {
  readonly #namespaces: ReadonlyMap<string, Namespace>;
  readonly #inUse = new Map<string, PeerMatch>();
  /** Found by the group, by labels, and by the names of ports. */
  readonly #byGroup = new Map<string, Set<PeerMatch>>();
  readonly #bySelector = new SelectorIndex<PeerMatch>();
  readonly #byPortName = new Map<string, Set<PeerMatch>>();
  readonly #identitiesByGroup = new Map<string, Set<IdentityInfo>>();
  readonly #identitiesByNamespace = new Map<string, Set<IdentityInfo>>();
  readonly #identitiesByLabel = new Map<string, Set<IdentityInfo>>();
  readonly #identitiesByPortName = new Map<string, Set<IdentityInfo>>();
  /** The peers that identities match, but for groups. */
  readonly #matched = new Map<IdentityInfo, Set<PeerMatch>>();

  /** `namespaces` is the cluster's, and changes with it. */
  constructor(namespaces: ReadonlyMap<string, Namespace>) {
    this.#namespaces = namespaces;
  }

  addIdentity(identity: IdentityInfo): void {
    for (const [index, key] of this.#indexKeys(identity)) addTo(index, key, identity);
    for (const match of this.#groupMatches(identity)) tell(match, identity);
    for (const match of this.#candidates(identity))
      if (this.#matches(match, identity)) {
        this.#join(match, identity);
        tell(match, identity);
      }
  }

  removeIdentity(identity: IdentityInfo): void {
    for (const match of this.#groupMatches(identity)) tell(match, identity);
    for (const [index, key] of this.#indexKeys(identity)) removeFrom(index, key, identity);
    for (const match of this.#matched.get(identity) ?? []) {
      match.identities?.delete(identity);
      tell(match, identity);
    }
    this.#matched.delete(identity);
  }

  /** Tries the identities of namespaces again whose labels are not what they were. */
  relabel(namespaces: Iterable<string>): void {
    for (const name of namespaces)
      for (const identity of this.#identitiesByNamespace.get(name) ?? []) {
        for (const match of [...(this.#matched.get(identity) ?? [])])
          if (!this.#matches(match, identity)) {
            match.identities?.delete(identity);
            this.#matched.get(identity)?.delete(match);
            tell(match, identity);
          }
        for (const match of this.#candidates(identity))
          if (!match.identities?.has(identity) && this.#matches(match, identity)) {
            this.#join(match, identity);
            tell(match, identity);
          }
      }
  }

  /** The identities of a peer, for a user who is told of changes until it is released. */
  acquire(matcher: Matcher, own: string, user: PeerUser): PeerMatch {
    const key = matcher.kind === 'naming' ? `naming ${matcher.names.join()}` : `${isAboutOwn(matcher) ? own : ''} ${peerText(matcher)}`;
    let match = this.#inUse.get(key);
    if (!match) this.#inUse.set(key, (match = this.#begin(key, matcher, own)));
    match.users.set(user, (match.users.get(user) ?? 0) + 1);
    return match;
  }

  release(match: PeerMatch, user: PeerUser): void {
    const left = (match.users.get(user) ?? 0) - 1;
    if (left > 0) match.users.set(user, left);
    else match.users.delete(user);
    if (match.users.size) return;
    const { matcher } = match;
    this.#inUse.delete(match.key);
    if (matcher.kind === 'naming') for (const name of matcher.names) removeFrom(this.#byPortName, name, match);
    else if (matcher.kind === 'pods') this.#bySelector.remove(match, scopeOf(matcher, match.own));
    else for (const group of groupsNamed(matcher, match.own)) removeFrom(this.#byGroup, group, match);
    for (const identity of match.identities ?? []) removeFrom(this.#matched, identity, match);
  }

  /** The identities that a peer in use stands for. */
  identitiesOf(match: PeerMatch): Iterable<IdentityInfo> {
    const { matcher, own, identities } = match;
    if (identities) return identities;
    if (matcher.kind === 'pods' || matcher.kind === 'naming') return [];
    const [group, ...others] = groupsNamed(matcher, own);
    const inside = this.#identitiesByGroup.get(group ?? '') ?? [];
    // No identity is in two groups that one peer names.
    const inAny = others.length ? [...inside, ...others.flatMap((other) => [...(this.#identitiesByGroup.get(other) ?? [])])] : inside;
    return matcher.kind === 'network' && matcher.except.length ? [...inAny].filter((identity) => this.#matches(match, identity)) : inAny;
  }

  /** Of these peers the ones that stand for the identity, in no order. `among` has what each of them is to the caller. */
  *ofIdentity<T>(identity: IdentityInfo, among: ReadonlyMap<PeerMatch, T>): Iterable<T> {
    const matched = this.#matched.get(identity);
    // Whichever is less: what the identity matches anywhere, or what the caller has.
    if (matched && matched.size > among.size) {
      for (const [match, value] of among) if (matched.has(match)) yield value;
    } else
      for (const match of matched ?? []) {
        const value = among.get(match);
        if (value !== undefined) yield value;
      }
    for (const match of this.#groupMatches(identity)) {
      const value = among.get(match);
      if (value !== undefined) yield value;
    }
  }

  #begin(key: string, matcher: Matcher, own: string): PeerMatch {
    if (matcher.kind !== 'pods' && matcher.kind !== 'naming') {
      const match: PeerMatch = { key, matcher, own, users: new Map() };
      for (const group of groupsNamed(matcher, own)) addTo(this.#byGroup, group, match);
      return match;
    }
    const match: PeerMatch = { key, matcher, own, users: new Map(), identities: new Set() };
    if (matcher.kind === 'naming') for (const name of matcher.names) addTo(this.#byPortName, name, match);
    else this.#bySelector.add(match, scopeOf(matcher, own));
    for (const identity of this.#possible(matcher, own)) if (this.#matches(match, identity)) this.#join(match, identity);
    return match;
  }

  #join(match: PeerMatch, identity: IdentityInfo): void {
    match.identities?.add(identity);
    addTo(this.#matched, identity, match);
  }

  *#indexKeys(identity: IdentityInfo): Iterable<[Map<string, Set<IdentityInfo>>, string]> {
    for (const group of groupsAround(identity)) yield [this.#identitiesByGroup, group];
    if (identity.namespace === undefined) return;
    yield [this.#identitiesByNamespace, identity.namespace];
    for (const [key, value] of identity.labels) yield [this.#identitiesByLabel, `${key}=${value}`];
    for (const name of identity.ports.keys()) yield [this.#identitiesByPortName, name];
  }

  *#groupMatches(identity: IdentityInfo): Iterable<PeerMatch> {
    for (const group of groupsAround(identity))
      for (const match of this.#byGroup.get(group) ?? []) if (this.#matches(match, identity)) yield match;
  }

  /** Peers that could stand for a pod's identity; several names of ports may find one twice. */
  *#candidates(identity: IdentityInfo): Iterable<PeerMatch> {
    if (identity.namespace === undefined) return;
    yield* this.#bySelector.candidates(identity.namespace, identity.labels, namespaceLabels(this.#namespaces, identity.namespace));
    for (const name of identity.ports.keys()) yield* this.#byPortName.get(name) ?? [];
  }

  /** The identities that a new peer could stand for. */
  *#possible(matcher: Exclude<Matcher, GroupPeer>, own: string): Iterable<IdentityInfo> {
    if (matcher.kind === 'naming') {
      for (const name of matcher.names) yield* this.#identitiesByPortName.get(name) ?? [];
      return;
    }
    const label = matcher.pods.find(({ operator }) => operator === 'In');
    const labelled = label?.values.map((value) => this.#identitiesByLabel.get(`${label.key}=${value}`) ?? new Set<IdentityInfo>());
    const within = matcher.namespaces === 'own' ? (this.#identitiesByNamespace.get(own) ?? new Set<IdentityInfo>()) : undefined;
    if (labelled && (!within || labelled.reduce((sum, { size }) => sum + size, 0) < within.size))
      for (const found of labelled) yield* found;
    else if (within) yield* within;
    else
      for (const [name, identities] of this.#identitiesByNamespace)
        if (matcher.namespaces === 'own' || matches(matcher.namespaces, namespaceLabels(this.#namespaces, name))) yield* identities;
  }

  #matches({ matcher, own }: PeerMatch, identity: IdentityInfo): boolean {
    return matchesPeer(matcher, own, identity, this.#namespaces);
  }
}

/** Whether a peer in a policy of the namespace `own` stands for an identity. */
export function matchesPeer(matcher: Matcher, own: string, identity: IdentityInfo, namespaces: ReadonlyMap<string, Namespace>): boolean {
  const { namespace } = identity;
  switch (matcher.kind) {
    case 'network':
      return (
        identity.networks.includes(matcher.network.text) && !matcher.except.some((network) => identity.networks.includes(network.text))
      );
    case 'nodes':
      return identity.nodes.includes(selectorText(matcher.nodes));
    case 'serviceAccounts':
      return matcher.accounts.some((account) => accountName(account, own) === identity.serviceAccount);
    case 'naming':
      return matcher.names.some((name) => identity.ports.has(name));
    case 'pods':
      if (namespace === undefined) return false;
      if (matcher.namespaces === 'own' ? namespace !== own : !matches(matcher.namespaces, namespaceLabels(namespaces, namespace)))
        return false;
      return matches(matcher.pods, identity.labels);
  }
}

/** Whether another namespace's policy means something else by the same peer. */
function isAboutOwn(peer: AddressPeer): boolean {
  if (peer.kind === 'serviceAccounts') return peer.accounts.some(({ namespace }) => namespace === undefined);
  return peer.kind === 'pods' && peer.namespaces === 'own';
}

/** The groups that a peer in a policy of the namespace `own` names. */
function groupsNamed(peer: GroupPeer, own: string): readonly string[] {
  switch (peer.kind) {
    case 'network':
      return [peer.network.text];
    case 'nodes':
      return [`nodes ${selectorText(peer.nodes)}`];
    case 'serviceAccounts':
      return [...new Set(peer.accounts.map((account) => `account ${accountName(account, own)}`))];
  }
}

/** The groups that an identity is in, in the same words. */
function* groupsAround({ networks, nodes, serviceAccount }: IdentityInfo): Iterable<string> {
  yield* networks;
  for (const node of nodes) yield `nodes ${node}`;
  if (serviceAccount !== undefined) yield `account ${serviceAccount}`;
}

function accountName(account: AccountRef, own: string): string {
  return objectName({ namespace: account.namespace ?? own, name: account.name });
}

function scopeOf({ namespaces, pods }: Extract<Matcher, { kind: 'pods' }>, own: string): SelectorScope {
  return namespaces === 'own' ? { namespace: own, pods } : { namespaces, pods };
}

function tell(match: PeerMatch, identity: IdentityInfo): void {
  for (const user of match.users.keys()) user.noteIdentity(identity.id);
}

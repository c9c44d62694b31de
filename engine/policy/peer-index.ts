/**
 * Which identities the peers in rules stand for. Kept up to date: an identity that comes or goes tells the rule sets whose
 * peers it matches, and only peers and identities that could match are tried.
 */
import { namespaceLabels } from './cluster.ts';
import type { IdentityInfo } from './identities.ts';
import type { Namespace, Peer } from './objects.ts';
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

/** A peer of rules, or the pods that give a name to a port: a rule for anyone means another port for each of them. */
export type Matcher = AddressPeer | { readonly kind: 'naming'; readonly names: readonly string[] };

/** One peer in use. */
export interface PeerMatch {
  readonly key: string;
  readonly matcher: Matcher;
  /** Namespace of the policy. */
  readonly own: string;
  /** Of a network absent: who is in it is found by the network. */
  readonly identities?: Set<IdentityInfo>;
  /** How often each acquired it. */
  readonly users: Map<PeerUser, number>;
}

export class PeerIndex {
  readonly #namespaces: ReadonlyMap<string, Namespace>;
  readonly #inUse = new Map<string, PeerMatch>();
  /** Found by the network, by labels, and by the names of ports. */
  readonly #byNetwork = new Map<string, Set<PeerMatch>>();
  readonly #bySelector = new SelectorIndex<PeerMatch>();
  readonly #byPortName = new Map<string, Set<PeerMatch>>();
  readonly #identitiesByNetwork = new Map<string, Set<IdentityInfo>>();
  readonly #identitiesByNamespace = new Map<string, Set<IdentityInfo>>();
  readonly #identitiesByLabel = new Map<string, Set<IdentityInfo>>();
  readonly #identitiesByPortName = new Map<string, Set<IdentityInfo>>();
  /** The peers that identities match, but for networks. */
  readonly #matched = new Map<IdentityInfo, Set<PeerMatch>>();

  /** `namespaces` is the cluster's, and changes with it. */
  constructor(namespaces: ReadonlyMap<string, Namespace>) {
    this.#namespaces = namespaces;
  }

  addIdentity(identity: IdentityInfo): void {
    for (const [index, key] of this.#indexKeys(identity)) addTo(index, key, identity);
    for (const match of this.#networkMatches(identity)) tell(match, identity);
    for (const match of this.#candidates(identity))
      if (this.#matches(match, identity)) {
        this.#join(match, identity);
        tell(match, identity);
      }
  }

  removeIdentity(identity: IdentityInfo): void {
    for (const match of this.#networkMatches(identity)) tell(match, identity);
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
    const key =
      matcher.kind === 'naming'
        ? `naming ${matcher.names.join()}`
        : `${matcher.kind === 'pods' && matcher.namespaces === 'own' ? own : ''} ${peerText(matcher)}`;
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
    if (matcher.kind === 'network') removeFrom(this.#byNetwork, matcher.network.text, match);
    else if (matcher.kind === 'naming') for (const name of matcher.names) removeFrom(this.#byPortName, name, match);
    else this.#bySelector.remove(match, scopeOf(matcher, match.own));
    for (const identity of match.identities ?? []) removeFrom(this.#matched, identity, match);
  }

  /** The identities that a peer in use stands for. */
  identitiesOf(match: PeerMatch): Iterable<IdentityInfo> {
    if (match.identities) return match.identities;
    if (match.matcher.kind !== 'network') return [];
    const inside = this.#identitiesByNetwork.get(match.matcher.network.text) ?? [];
    return match.matcher.except.length ? [...inside].filter((identity) => this.#matches(match, identity)) : inside;
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
    for (const match of this.#networkMatches(identity)) {
      const value = among.get(match);
      if (value !== undefined) yield value;
    }
  }

  #begin(key: string, matcher: Matcher, own: string): PeerMatch {
    const match: PeerMatch = { key, matcher, own, users: new Map(), ...(matcher.kind !== 'network' && { identities: new Set() }) };
    if (matcher.kind === 'network') {
      addTo(this.#byNetwork, matcher.network.text, match);
      return match;
    }
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
    for (const network of identity.networks) yield [this.#identitiesByNetwork, network];
    if (identity.namespace === undefined) return;
    yield [this.#identitiesByNamespace, identity.namespace];
    for (const [key, value] of identity.labels) yield [this.#identitiesByLabel, `${key}=${value}`];
    for (const name of identity.ports.keys()) yield [this.#identitiesByPortName, name];
  }

  *#networkMatches(identity: IdentityInfo): Iterable<PeerMatch> {
    for (const network of identity.networks)
      for (const match of this.#byNetwork.get(network) ?? []) if (this.#matches(match, identity)) yield match;
  }

  /** Peers that could stand for a pod's identity; several names of ports may find one twice. */
  *#candidates(identity: IdentityInfo): Iterable<PeerMatch> {
    if (identity.namespace === undefined) return;
    yield* this.#bySelector.candidates(identity.namespace, identity.labels, namespaceLabels(this.#namespaces, identity.namespace));
    for (const name of identity.ports.keys()) yield* this.#byPortName.get(name) ?? [];
  }

  /** The identities that a new peer could stand for. */
  *#possible(matcher: Exclude<Matcher, { kind: 'network' }>, own: string): Iterable<IdentityInfo> {
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
    case 'naming':
      return matcher.names.some((name) => identity.ports.has(name));
    case 'pods':
      if (namespace === undefined) return false;
      if (matcher.namespaces === 'own' ? namespace !== own : !matches(matcher.namespaces, namespaceLabels(namespaces, namespace)))
        return false;
      return matches(matcher.pods, identity.labels);
  }
}

function scopeOf({ namespaces, pods }: Extract<Matcher, { kind: 'pods' }>, own: string): SelectorScope {
  return namespaces === 'own' ? { namespace: own, pods } : { namespaces, pods };
}

function tell(match: PeerMatch, identity: IdentityInfo): void {
  for (const user of match.users.keys()) user.noteIdentity(identity.id);
}

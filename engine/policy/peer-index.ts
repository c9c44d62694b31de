/**
 * Which identities the peers in rules stand for. Kept up to date: an identity that comes or goes tells the rule sets whose
 * peers it matches.
 */
import type { IdentityInfo } from './identities.ts';
import { peerText } from './rules.ts';
import { matches } from './selector.ts';
import type { Namespace, Peer } from './snapshot.ts';

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
  /** One for each time that it was acquired. */
  readonly users: PeerUser[];
}

/** A namespace without an object of its own still has its name. */
export function namespaceLabels(namespaces: ReadonlyMap<string, Namespace>, name: string): Namespace['labels'] {
  return namespaces.get(name)?.labels ?? new Map([['kubernetes.io/metadata.name', name]]);
}

export class PeerIndex {
  readonly #inUse = new Map<string, PeerMatch>();
  /** The matches of networks are found by the network, all others are tried. */
  readonly #byNetwork = new Map<string, PeerMatch[]>();
  readonly #others = new Set<PeerMatch>();
  readonly #identitiesByNetwork = new Map<string, IdentityInfo[]>();
  readonly #identitiesByNamespace = new Map<string, IdentityInfo[]>();
  #namespaces: ReadonlyMap<string, Namespace> = new Map();

  addIdentity(identity: IdentityInfo): void {
    for (const network of identity.networks) addTo(this.#identitiesByNetwork, network, identity);
    if (identity.namespace !== undefined) addTo(this.#identitiesByNamespace, identity.namespace, identity);
    for (const match of this.#candidates(identity))
      if (this.#matches(match, identity)) {
        match.identities?.add(identity);
        tell(match, identity);
      }
  }

  removeIdentity(identity: IdentityInfo): void {
    for (const network of identity.networks) removeFrom(this.#identitiesByNetwork, network, identity);
    if (identity.namespace !== undefined) removeFrom(this.#identitiesByNamespace, identity.namespace, identity);
    for (const match of this.#candidates(identity))
      if (match.identities ? match.identities.delete(identity) : this.#matches(match, identity)) tell(match, identity);
  }

  /** Labels of namespaces; `changed` names those whose labels are not what they were. */
  setNamespaces(namespaces: ReadonlyMap<string, Namespace>, changed: Iterable<string>): void {
    this.#namespaces = namespaces;
    for (const name of changed)
      for (const identity of this.#identitiesByNamespace.get(name) ?? [])
        for (const match of this.#others) {
          const matched = this.#matches(match, identity);
          if (matched === match.identities?.has(identity)) continue;
          if (matched) match.identities?.add(identity);
          else match.identities?.delete(identity);
          tell(match, identity);
        }
  }

  /** The identities of a peer, for a user who is told of changes until it is released. */
  acquire(matcher: Matcher, own: string, user: PeerUser): PeerMatch {
    const key =
      matcher.kind === 'naming'
        ? `naming ${matcher.names.join()}`
        : `${matcher.kind === 'pods' && matcher.namespaces === 'own' ? own : ''} ${peerText(matcher)}`;
    let match = this.#inUse.get(key);
    if (!match) {
      match = { key, matcher, own, users: [] };
      if (matcher.kind === 'network') addTo(this.#byNetwork, matcher.network.text, match);
      else {
        const found = match;
        match = { ...match, identities: new Set([...this.#possible(matcher, own)].filter((identity) => this.#matches(found, identity))) };
        this.#others.add(match);
      }
      this.#inUse.set(key, match);
    }
    match.users.push(user);
    return match;
  }

  release(match: PeerMatch, user: PeerUser): void {
    match.users.splice(match.users.indexOf(user), 1);
    if (match.users.length) return;
    this.#inUse.delete(match.key);
    if (match.matcher.kind === 'network') removeFrom(this.#byNetwork, match.matcher.network.text, match);
    else this.#others.delete(match);
  }

  /** The identities that a peer in use stands for. */
  identitiesOf(match: PeerMatch): Iterable<IdentityInfo> {
    if (match.identities) return match.identities;
    if (match.matcher.kind !== 'network') return [];
    const inside = this.#identitiesByNetwork.get(match.matcher.network.text) ?? [];
    return match.matcher.except.length ? inside.filter((identity) => this.#matches(match, identity)) : inside;
  }

  /** Whether the identity is one of them. */
  standsFor(match: PeerMatch, identity: IdentityInfo): boolean {
    return match.identities ? match.identities.has(identity) : this.#matches(match, identity);
  }

  *#candidates(identity: IdentityInfo): Iterable<PeerMatch> {
    for (const network of identity.networks) yield* this.#byNetwork.get(network) ?? [];
    if (identity.namespace !== undefined) yield* this.#others;
  }

  *#possible(matcher: Matcher, own: string): Iterable<IdentityInfo> {
    if (matcher.kind === 'pods' && matcher.namespaces === 'own') yield* this.#identitiesByNamespace.get(own) ?? [];
    else for (const identities of this.#identitiesByNamespace.values()) yield* identities;
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

function tell(match: PeerMatch, identity: IdentityInfo): void {
  for (const user of match.users) user.noteIdentity(identity.id);
}

function addTo<K, V>(index: Map<K, V[]>, key: K, value: V): void {
  const values = index.get(key);
  if (values) values.push(value);
  else index.set(key, [value]);
}

/** The order of what is left means nothing. */
function removeFrom<K, V>(index: Map<K, V[]>, key: K, value: V): void {
  const values = index.get(key) ?? [];
  const at = values.indexOf(value);
  if (at < 0) return;
  const last = values.pop();
  if (at < values.length && last !== undefined) values[at] = last;
  if (!values.length) index.delete(key);
}

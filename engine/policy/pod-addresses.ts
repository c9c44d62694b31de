/**
 * Whose an address is: a node's, else the first pod's by name that says it has it; and with that the identity of every
 * address of the cluster, which is the map peers. Also which addresses are this node's, and whose answers to DNS queries are believed.
 */

import { addressKey, formatAddress, lastKey, type Network } from './address.ts';
import type { Replaced } from './cluster.ts';
import { EntryMap, u32 } from './entry-map.ts';
import type { Identities, IdentityInfo } from './identities.ts';
import type { NetworkIndex } from './network-index.ts';
import type { NodePeers } from './node-peers.ts';
import { objectName } from './object-name.ts';
import type { Node, Pod } from './objects.ts';
import { objectProblem, type ProblemLedger } from './problem.ts';
import { SortedKeys } from './sorted-keys.ts';

/** The index of what rules name, and who is told what comes of it. */
interface PodAddressesParts {
  readonly identities: Identities;
  readonly networks: NetworkIndex;
  readonly nodes: NodePeers;
  readonly problems: ProblemLedger;
}

export class PodAddresses {
  readonly peers = new EntryMap();
  /** Addresses of this node. */
  readonly ownNode = new EntryMap();
  /** Addresses of trusted resolvers. */
  readonly resolvers = new EntryMap();
  /** Address key → the pod that has it. */
  readonly owners = new Map<string, Pod>();
  readonly #identities: Identities;
  readonly #networks: NetworkIndex;
  readonly #nodes: NodePeers;
  readonly #problems: ProblemLedger;
  readonly #sorted = new SortedKeys();
  /** Every pod that says it has an address. */
  readonly #claims = new Map<string, Pod[]>();
  readonly #identityAt = new Map<string, IdentityInfo>();
  /** How many say that a resolver is trusted. */
  readonly #resolverUsers = new Map<string, number>();
  /** Addresses whose owner is to be found again. */
  readonly #touched = new Set<string>();
  #changed = new Map<string, Pod | undefined>();

  /** `resolvers`: addresses that are trusted whatever the cluster has, 16 bytes each. */
  constructor(parts: PodAddressesParts, resolvers: readonly Uint8Array[]) {
    this.#identities = parts.identities;
    this.#networks = parts.networks;
    this.#nodes = parts.nodes;
    this.#problems = parts.problems;
    for (const address of resolvers) this.trust(addressKey(address), 1);
  }

  /** Takes over nodes and pods that came, changed or went, and the addresses that this node has. */
  update(nodes: readonly Replaced<Node>[], pods: readonly Replaced<Pod>[], nodeAddresses: readonly Uint8Array[]): void {
    for (const key of this.#nodes.update(nodes)) this.#touched.add(key);
    this.#setOwnNode(new Set(nodeAddresses.map(addressKey)));
    for (const { before, after } of pods) {
      if (before && isPeer(before)) this.#withdraw(before);
      if (after && isPeer(after)) this.#claim(after);
    }
    for (const key of this.#touched) this.#settle(key);
    this.#identify(this.#touched);
    this.#touched.clear();
  }

  /** Gives new identities to what lies in networks that policy began or ceased to name. */
  renameWithin(networks: readonly Network[]): void {
    for (const network of networks) this.#identify(this.#sorted.between(network.key, lastKey(network)));
  }

  /** Gives new identities to nodes' addresses that selectors in rules began or ceased to be about. */
  renameNodes(): void {
    this.#identify(this.#nodes.takeChanged());
  }

  /** Addresses whose pod changed since this was asked last; undefined: nobody's any more. */
  takeChanged(): ReadonlyMap<string, Pod | undefined> {
    const changed = this.#changed;
    this.#changed = new Map();
    return changed;
  }

  #setOwnNode(keys: ReadonlySet<string>): void {
    for (const key of [...this.ownNode.entries.keys()])
      if (!keys.has(key)) {
        this.ownNode.delete(key);
        this.#touched.add(key);
      }
    for (const key of keys)
      if (!this.ownNode.find(key)) {
        this.ownNode.set(key, u32(1));
        this.#touched.add(key);
      }
  }

  /** Takes over that something more, or less, says that the answers from an address are believed. */
  trust(key: string, by: 1 | -1): void {
    const count = (this.#resolverUsers.get(key) ?? 0) + by;
    if (count) this.#resolverUsers.set(key, count);
    else this.#resolverUsers.delete(key);
    if (count) this.resolvers.set(key, u32(1));
    else this.resolvers.delete(key);
  }

  #claim(pod: Pod): void {
    for (const address of pod.addresses) {
      const key = addressKey(address);
      if (pod.resolver) this.trust(key, 1);
      const claims = [...(this.#claims.get(key) ?? []), pod];
      this.#claims.set(key, claims.length > 1 ? claims.sort((a, b) => (objectName(a) < objectName(b) ? -1 : 1)) : claims);
      this.#touched.add(key);
    }
  }

  #withdraw(pod: Pod): void {
    for (const address of pod.addresses) {
      const key = addressKey(address);
      if (pod.resolver) this.trust(key, -1);
      const left = (this.#claims.get(key) ?? []).filter((claimant) => claimant !== pod);
      if (left.length) this.#claims.set(key, left);
      else this.#claims.delete(key);
      this.#touched.add(key);
    }
  }

  /** Decides whose an address is. */
  #settle(key: string): void {
    const claimants = this.#claims.get(key) ?? [];
    const [node] = this.#nodes.at(key) ?? [];
    const ofNode = node !== undefined || this.ownNode.find(key) !== undefined;
    const owner = ofNode ? undefined : claimants[0];
    const bearer = owner ? `pod ${objectName(owner)}` : node ? `node ${node.name}` : 'this node';
    this.#problems.set(
      `address ${key}`,
      claimants
        .filter((pod) => pod !== owner)
        .map(({ namespace, name }) =>
          objectProblem(
            { kind: 'Pod', namespace, name },
            `has the address ${formatAddress(Buffer.from(key, 'latin1'))} of ${bearer}: the address counts as that one's`,
          ),
        ),
    );
    if (owner || node) this.#sorted.add(key);
    else this.#sorted.remove(key);
    if (owner === this.owners.get(key)) return;
    if (owner) this.owners.set(key, owner);
    else this.owners.delete(key);
    this.#changed.set(key, owner);
  }

  /** Finds the identities of addresses again. What is needed is taken before what is not is given back: it stays the same. */
  #identify(keys: Iterable<string>): void {
    const released: IdentityInfo[] = [];
    for (const key of keys) {
      const before = this.#identityAt.get(key);
      const now = this.#acquire(key);
      if (before) released.push(before);
      if (now) {
        this.#identityAt.set(key, now);
        this.peers.set(key, u32(now.id));
      } else {
        this.#identityAt.delete(key);
        this.peers.delete(key);
      }
    }
    for (const identity of released) this.#identities.release(identity);
  }

  /** The identity of an address that has another one than the networks around it. */
  #acquire(key: string): IdentityInfo | undefined {
    const pod = this.owners.get(key);
    const selecting = pod ? [] : this.#nodes.selecting(key);
    if (!pod && !selecting.length) return undefined;
    const networks = this.#networks.containing(Buffer.from(key, 'latin1'));
    return pod ? this.#identities.acquirePod(pod, networks) : this.#identities.acquireNode(selecting, networks);
  }
}

/** Whether the pod has addresses of its own that are its. */
function isPeer(pod: Pod): boolean {
  return !pod.ended && !pod.hostNetwork;
}

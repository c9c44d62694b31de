/** Which identities a rule's peers stand for. Each distinct peer is looked up once for a snapshot. */
import type { IdentityInfo } from '../identity/identities.ts';
import { matches } from './selector.ts';
import type { Namespace, Peer, PortSpec } from './snapshot.ts';

export class PeerIndex {
  readonly #pods: readonly IdentityInfo[];
  readonly #byNetwork = new Map<string, IdentityInfo[]>();
  readonly #namespaces: ReadonlyMap<string, Namespace>;
  readonly #cache = new Map<string, readonly IdentityInfo[]>();

  constructor(identities: Iterable<IdentityInfo>, namespaces: ReadonlyMap<string, Namespace>) {
    const all = [...identities];
    this.#pods = all.filter((identity) => identity.namespace !== undefined);
    this.#namespaces = namespaces;
    for (const identity of all)
      for (const network of identity.networks) {
        const list = this.#byNetwork.get(network);
        if (list) list.push(identity);
        else this.#byNetwork.set(network, [identity]);
      }
  }

  /** The identities that any of the peers stands for; `own` is the policy's namespace. */
  matching(peers: readonly Peer[], own: string): Set<IdentityInfo> {
    const found = new Set<IdentityInfo>();
    for (const peer of peers) for (const identity of this.#matchingOne(peer, own)) found.add(identity);
    return found;
  }

  /** The identities that give a name to one of the ports: a rule for anyone means another port for each of them. */
  naming(ports: readonly PortSpec[]): Set<IdentityInfo> {
    const names = ports.flatMap((port) => ('name' in port ? [`${port.name}/${port.protocol}`] : []));
    return new Set(names.length ? this.#pods.filter((identity) => names.some((name) => identity.ports.has(name))) : []);
  }

  #matchingOne(peer: Peer, own: string): readonly IdentityInfo[] {
    if (peer.kind === 'network') {
      const inside = this.#byNetwork.get(peer.network.text) ?? [];
      if (!peer.except.length) return inside;
      const except = new Set(peer.except.map((network) => network.text));
      return inside.filter((identity) => !identity.networks.some((network) => except.has(network)));
    }
    const key = JSON.stringify([peer.namespaces === 'own' ? own : peer.namespaces, peer.pods]);
    let found = this.#cache.get(key);
    if (!found) {
      const { namespaces, pods } = peer;
      found = this.#pods.filter((identity) => {
        const namespace = identity.namespace as string;
        const inNamespace = namespaces === 'own' ? namespace === own : matches(namespaces, this.#labelsOf(namespace));
        return inNamespace && matches(pods, identity.labels);
      });
      this.#cache.set(key, found);
    }
    return found;
  }

  /** A namespace without an object of its own still has its name. */
  #labelsOf(namespace: string): Namespace['labels'] {
    return this.#namespaces.get(namespace)?.labels ?? new Map([['kubernetes.io/metadata.name', namespace]]);
  }
}

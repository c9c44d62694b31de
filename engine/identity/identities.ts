/**
 * Identities: what policy knows of a peer, as a number. Peers that no policy can tell apart share one.
 *
 * A pod's is its namespace, labels and named ports, with the listed networks that its address is in; any other
 * address's is the listed networks alone.
 */
import { Identity } from '../abi.gen.ts';
import type { Network, NetworkIndex } from '../policy/address.ts';
import type { Labels, Pod } from '../policy/snapshot.ts';
import type { StableIds } from '../policy/stable-id.ts';

export interface IdentityInfo {
  readonly id: number;
  /** Absent for what is no pod. */
  readonly namespace?: string;
  readonly labels: Labels;
  /** Texts of the listed networks around it. */
  readonly networks: readonly string[];
  /** `name/protocol` → port. */
  readonly ports: ReadonlyMap<string, number>;
}

const NOTHING = { labels: new Map(), networks: [], ports: new Map() } as const;

export class Identities {
  readonly index: NetworkIndex;
  readonly #ids: StableIds;
  readonly #known = new Map<string, IdentityInfo>();

  constructor(index: NetworkIndex, ids: StableIds) {
    this.index = index;
    this.#ids = ids;
  }

  /** Every identity given so far. */
  all(): Iterable<IdentityInfo> {
    return this.#known.values();
  }

  /** The identity of a pod at one of its addresses. */
  ofPod(pod: Pod, address: Uint8Array | undefined): IdentityInfo {
    const networks = address ? this.index.containing(address) : [];
    const ports = pod.ports.map((port) => [`${port.name}/${port.protocol}`, port.port] as const).sort();
    const labels = [...pod.labels].sort(([a], [b]) => (a < b ? -1 : 1));
    const text = JSON.stringify(['pod', pod.namespace, labels, networks, ports]);
    return this.#give(text, { namespace: pod.namespace, labels: pod.labels, networks, ports: new Map(ports) });
  }

  /** The identity of addresses in a network that are no pod's. */
  ofNetwork(network: Network): IdentityInfo {
    const networks = this.index.containing(network.address, network.bits);
    if (!networks.length) return { ...NOTHING, id: Identity.WORLD };
    return this.#give(JSON.stringify(['network', networks]), { ...NOTHING, networks });
  }

  #give(text: string, info: Omit<IdentityInfo, 'id'>): IdentityInfo {
    let known = this.#known.get(text);
    if (!known) this.#known.set(text, (known = { ...info, id: this.#ids.get(text) }));
    return known;
  }
}

/**
 * Identities: what policy knows of a peer, as a number. Peers that no policy can tell apart share one.
 *
 * A pod's is its namespace, labels, service account and named ports, with the listed networks that its address is in; a node's is
 * the selectors of rules that select it, with these networks; any other address's is the networks alone.
 */
import { objectName } from './object-name.ts';
import type { Labels, Pod } from './objects.ts';
import type { StableIds } from './stable-id.ts';

export interface IdentityInfo {
  readonly id: number;
  /** Absent for what is no pod. */
  readonly namespace?: string;
  readonly labels: Labels;
  /** Texts of the listed networks around it. */
  readonly networks: readonly string[];
  /** Texts of the selectors that select it as a node. */
  readonly nodes: readonly string[];
  /** `namespace/name` of a pod's. */
  readonly serviceAccount?: string;
  /** `name/protocol` → port. */
  readonly ports: ReadonlyMap<string, number>;
}

/** Who must know which identities there are. */
export interface IdentityListener {
  addIdentity(identity: IdentityInfo): void;
  removeIdentity(identity: IdentityInfo): void;
}

const NOTHING = { labels: new Map<string, string>(), ports: new Map<string, number>() };
const NO_NODES: readonly string[] = [];
/** As the API server fills in where a pod names none. */
const DEFAULT_ACCOUNT = 'default';

/** An identity in use. */
interface Counted extends IdentityInfo {
  readonly text: string;
  users: number;
}

/** The text that names a pod among others, but for the networks around it. */
interface PodText {
  readonly text: string;
  readonly serviceAccount: string;
  readonly ports: ReadonlyMap<string, number>;
}

export class Identities {
  readonly #known = new Map<number, Counted>();
  readonly #ids: StableIds;
  readonly #listeners: readonly IdentityListener[];
  readonly #podTexts = new WeakMap<Pod, PodText>();

  constructor(ids: StableIds, listeners: readonly IdentityListener[]) {
    this.#ids = ids;
    this.#listeners = listeners;
  }

  /** By id. */
  get known(): ReadonlyMap<number, IdentityInfo> {
    return this.#known;
  }

  /** The identity of a pod inside these networks; to be released when the pod leaves or its networks change. */
  acquirePod(pod: Pod, networks: readonly string[]): IdentityInfo {
    let own = this.#podTexts.get(pod);
    if (!own) this.#podTexts.set(pod, (own = podText(pod)));
    const { text, ports, serviceAccount } = own;
    return this.#acquire(networks.length ? `${text} ${networks.join()}` : text, {
      namespace: pod.namespace,
      labels: pod.labels,
      networks,
      nodes: NO_NODES,
      serviceAccount,
      ports,
    });
  }

  /** The identity of addresses in these networks that are no pod's and no node's. */
  acquireNetworks(networks: readonly string[]): IdentityInfo {
    return this.#acquire(`networks ${networks.join()}`, { ...NOTHING, networks, nodes: NO_NODES });
  }

  /** The identity of addresses of nodes that these selectors select, in these networks. */
  acquireNode(nodes: readonly string[], networks: readonly string[]): IdentityInfo {
    return this.#acquire(JSON.stringify(['nodes', nodes, networks]), { ...NOTHING, networks, nodes });
  }

  release({ id }: IdentityInfo): void {
    const known = this.#known.get(id);
    if (!known || --known.users) return;
    this.#known.delete(id);
    this.#ids.drop(known.text);
    for (const listener of this.#listeners) listener.removeIdentity(known);
  }

  #acquire(text: string, about: Omit<IdentityInfo, 'id'>): IdentityInfo {
    const id = this.#ids.get(text);
    let known = this.#known.get(id);
    if (known) {
      known.users += 1;
      return known;
    }
    known = { ...about, id, text, users: 1 };
    this.#known.set(id, known);
    for (const listener of this.#listeners) listener.addIdentity(known);
    return known;
  }
}

function podText(pod: Pod): PodText {
  const ports = pod.ports.map((port) => [`${port.name}/${port.protocol}`, port.port] as const).sort();
  const labels = [...pod.labels].sort(([a], [b]) => (a < b ? -1 : 1));
  const serviceAccount = accountOf(pod);
  return {
    text: JSON.stringify(['pod', serviceAccount, labels, ports]),
    serviceAccount,
    ports: new Map(ports),
  };
}

/** `namespace/name` of the ServiceAccount that a pod runs as. */
export function accountOf({ namespace, serviceAccount = DEFAULT_ACCOUNT }: Pick<Pod, 'namespace' | 'serviceAccount'>): string {
  return objectName({ namespace, name: serviceAccount });
}

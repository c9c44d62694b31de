/** The cluster's own DNS: the Service that the configuration names answers, and who takes its queries now; nobody else becomes a resolver by that. */
import { addressKey } from './address.ts';
import type { BackendSets } from './backend-sets.ts';
import type { Cluster } from './cluster.ts';
import { setName } from './requests.ts';

const DNS_PORT = 53;

export class ClusterResolver {
  readonly #cluster: Cluster;
  readonly #sets: BackendSets;
  readonly #service: string;
  #trusted: ReadonlySet<string> = new Set();

  /** `service`: `namespace/name`; empty: there is none. */
  constructor(cluster: Cluster, sets: BackendSets, service: string) {
    this.#cluster = cluster;
    this.#sets = sets;
    this.#service = service;
  }

  /** Says which addresses became resolvers, and which are none any more. The sets are up to date. */
  update(trust: (address: string, by: 1 | -1) => void): void {
    const now = new Set(this.#addresses().map(addressKey));
    for (const key of now) if (!this.#trusted.has(key)) trust(key, 1);
    for (const key of this.#trusted) if (!now.has(key)) trust(key, -1);
    this.#trusted = now;
  }

  #addresses(): Uint8Array[] {
    const service = this.#cluster.of('Service').get(this.#service);
    if (!service) return [];
    const ports = service.ports.filter(({ port }) => port === DNS_PORT);
    if (!ports.length) return [];
    // One that terminates still has queries to answer, whoever takes new ones.
    const slices = [...(this.#cluster.slicesOf(this.#service)?.values() ?? [])];
    return [
      ...service.addresses,
      ...slices.flatMap(({ endpoints }) => endpoints.map(({ address }) => address)),
      ...ports.flatMap(({ port, protocol }) => {
        const name = setName({ service: this.#service, port, protocol });
        return (this.#sets.sets.get(name)?.backends ?? []).map(({ address }) => address);
      }),
    ];
  }
}

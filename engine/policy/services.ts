/**
 * Where Services take connections, which is the map services: at their cluster addresses, at addresses of the world around, at ports
 * of every node; and by that, of which Services there are backend sets.
 */
import { ServicePort as Port, serviceCodec, serviceKeyCodec } from '../abi.gen.ts';
import { addressKey, formatAddress } from './address.ts';
import type { BackendSets } from './backend-sets.ts';
import type { Replaced } from './cluster.ts';
import { EntryMap } from './entry-map.ts';
import { objectName } from './object-name.ts';
import type { Service, ServicePort } from './objects.ts';
import { type SetRef, setName } from './requests.ts';

/** Under this address stand the ports of all nodes. */
const EVERY_NODE = new Uint8Array(16);
/** Addresses of a node at which nobody else asks for it. */
const OWN_AFFAIR = /^(127\.|::1$|fe80:|169\.254\.)/i;

/** What a Service says of an address and port. Of several the lowest rank counts, then the first by name. */
interface Claim {
  readonly rank: number;
  readonly set: string;
  readonly affinityS: number;
}

/** A cluster address is the Service's alone; any other it only says that it has. */
const RANK = { cluster: 0, external: 1 } as const;

export class Services {
  readonly entries = new EntryMap();
  readonly #sets: BackendSets;
  /** Key of the map → by the Service and port that say so. */
  readonly #claims = new Map<string, Map<string, Claim>>();
  readonly #touched = new Set<string>();
  #nodeKeys: ReadonlySet<string> = new Set();

  constructor(sets: BackendSets) {
    this.#sets = sets;
  }

  /** Takes over Services that came, changed or went, and which addresses are nodes'. */
  update(services: readonly Replaced<Service>[], nodeAddresses: readonly Uint8Array[]): void {
    for (const { before, after } of services) {
      // What it keeps stays what it is.
      if (after) this.#sets.want(setsOf(after), 1, 'service');
      if (before) this.#sets.want(setsOf(before), -1, 'service');
      if (before) this.#claim(before, false);
      if (after) this.#claim(after, true);
    }
    const nodeKeys = new Set(nodeAddresses.filter((address) => !OWN_AFFAIR.test(formatAddress(address))).map(addressKey));
    for (const key of this.#nodeKeys) if (!nodeKeys.has(key)) this.entries.delete(nodeKey(key));
    for (const key of nodeKeys) this.entries.set(nodeKey(key), serviceValue(0, 0));
    this.#nodeKeys = nodeKeys;
  }

  /** Writes what changed; the sets are up to date. */
  write(): void {
    for (const key of this.#touched) {
      const [first] = [...(this.#claims.get(key)?.values() ?? [])].sort((a, b) => a.rank - b.rank || (a.set < b.set ? -1 : 1));
      const id = first && this.#sets.idOf(first.set);
      if (first && id !== undefined) this.entries.set(key, serviceValue(id, first.affinityS));
      else this.entries.delete(key);
    }
    this.#touched.clear();
  }

  #claim(service: Service, is: boolean): void {
    for (const port of service.ports)
      for (const [key, claim] of claimsOf(service, port)) {
        const claims = this.#claims.get(key) ?? new Map<string, Claim>();
        if (is) claims.set(`${claim.rank} ${claim.set}`, claim);
        else claims.delete(`${claim.rank} ${claim.set}`);
        if (claims.size) this.#claims.set(key, claims);
        else this.#claims.delete(key);
        this.#touched.add(key);
      }
  }
}

/** The key of an address, port and protocol in the map. */
export function serviceKey(address: Uint8Array, port: number, protocol: number): string {
  const bytes = Buffer.alloc(serviceKeyCodec.size);
  serviceKeyCodec.write(bytes, 0, { address, port, protocol });
  return bytes.toString('latin1');
}

/** The set that clients of the cluster have at the Service's own addresses, and the one for whoever comes by another one: that is all of it. */
function refsOf(service: Service, { port, protocol }: ServicePort): { readonly cluster: SetRef; readonly external: SetRef } {
  const external = { service: objectName(service), port, protocol };
  return { cluster: service.localOnly ? { ...external, local: true } : external, external };
}

function setsOf(service: Service): SetRef[] {
  return service.ports.flatMap((port) => {
    const { cluster, external } = refsOf(service, port);
    const isAsked = port.nodePort !== undefined || (service.externalAddresses?.length ?? 0) > 0;
    return [...(service.addresses.length ? [cluster] : []), ...(isAsked ? [external] : [])];
  });
}

function claimsOf(service: Service, port: ServicePort): [key: string, Claim][] {
  const { cluster, external } = refsOf(service, port);
  const affinityS = service.affinityS ?? 0;
  const at = (address: Uint8Array, number: number, rank: number, ref: SetRef): [string, Claim] => [
    serviceKey(address, number, port.protocol),
    { rank, set: setName(ref), affinityS },
  ];
  return [
    ...service.addresses.map((address) => at(address, port.port, RANK.cluster, cluster)),
    ...(service.externalAddresses ?? []).map((address) => at(address, port.port, RANK.external, external)),
    ...(port.nodePort === undefined ? [] : [at(EVERY_NODE, port.nodePort, RANK.cluster, external)]),
  ];
}

function nodeKey(address: string): string {
  return serviceKey(Buffer.from(address, 'latin1'), Port.NODE, 0);
}

function serviceValue(set: number, affinityS: number): Buffer {
  const bytes = Buffer.alloc(serviceCodec.size);
  serviceCodec.write(bytes, 0, { set, affinityS });
  return bytes;
}

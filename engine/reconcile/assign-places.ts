/**
 * Whose a veth is, of the pods that an API says run on this node.
 *
 * A pod can be root in its own network namespace: it can take any address, rename, add, move and delete what is there. So a pod is
 * found by, in this order,
 *
 * 1. what the container runtime noted when it made the pod's network, which no pod writes: the node's end by its name, else the veths that
 *    lead to the namespace. Whatever such a note speaks of is nobody else's.
 * 2. what it had before. A veth is its pod's until the veth or the pod is gone: taking its address away, moving its end into a namespace
 *    of its own, or taking another pod's address changes nothing about that.
 * 3. its addresses, where exactly one veth that is nobody's yet leads to them, and to no other pod's. Where several do, any of
 *    them may be the liar: none is believed and all are closed, so that a pod gains nothing by another's address, neither that
 *    pod's place nor an open one.
 *
 * By 3 alone a pod that takes its own address away before it is found has no place. That is reported, and 1 does not have it: where
 * the runtime keeps notes, 3 decides nothing.
 */
import type { Place } from '../kernel/datapath.ts';
import type { Veth, VethReading } from '../kernel/veths.ts';
import { addressKey, formatAddress } from '../policy/address.ts';
import { objectName } from '../policy/object-name.ts';
import type { Pod } from '../policy/objects.ts';
import type { SandboxRecord } from './sandbox-records.ts';

/** A place with the id of the endpoint there. */
export interface Site {
  readonly id: number;
  readonly place: Place;
}

/** Where a pod is. */
export interface Found {
  /** None where it is not found; several where it has several veths, or where several could be its. */
  readonly sites: readonly Site[];
  /** Nobody knows which of them is its: nothing passes there. */
  readonly closed?: boolean;
  readonly problem?: { readonly reason: string; readonly pending: boolean };
}

/** What there is on the node at one moment. */
export interface Surroundings extends VethReading {
  readonly records: readonly SandboxRecord[];
}

/** The places of all these pods. `before`: as they were the last time, by the pods' names. */
export function assignPlaces(
  pods: Iterable<Pod>,
  surroundings: Surroundings,
  before: ReadonlyMap<string, { readonly pod: Pod; readonly found: Found }>,
): Map<Pod, Found> {
  const all = [...pods];
  const noted = new Notes(surroundings);
  const owned = new Map<Pod, readonly Veth[]>();
  const taken = new Set(noted.veths);
  const byIndex = new Map(surroundings.veths.map((veth) => [veth.ifindex, veth]));
  for (const pod of all) {
    const own = noted.of(pod);
    const kept = keptOf(pod, before.get(objectName(pod)), byIndex).filter((veth) => !taken.has(veth) || own.includes(veth));
    // A pod whose addresses nobody knows yet could not send from any of them.
    owned.set(pod, own.length && pod.addresses.length ? own : kept);
    for (const veth of kept) taken.add(veth);
  }
  const claimed = new Map(all.map((pod) => [pod, noted.of(pod).length ? [] : addressesBeside(pod, owned.get(pod) as readonly Veth[])]));
  const claims = claimsOn(
    surroundings.veths.filter((veth) => !taken.has(veth)),
    claimed,
  );
  return new Map(all.map((pod) => [pod, foundOf(pod, owned.get(pod) as readonly Veth[], claims)]));
}

/** The addresses of a pod that none of its own veths leads to: who takes one that the pod still has, takes nothing from it. */
function addressesBeside({ addresses }: Pod, own: readonly Veth[]): string[] {
  const there = new Set(own.flatMap((veth) => veth.addresses));
  return addresses.map(addressKey).filter((key) => !there.has(key));
}

/** What the runtime noted, as veths. */
class Notes {
  /** Every veth that is somebody's by them. */
  readonly veths = new Set<Veth>();
  readonly #byPod = new Map<string, { readonly uid: string | undefined; readonly veths: readonly Veth[] }[]>();

  constructor({ veths, networks, records }: Surroundings) {
    const byName = new Map(veths.map((veth) => [veth.name, veth]));
    const byNetwork = Map.groupBy(veths, ({ network }) => network);
    for (const record of records) {
      const named = record.interfaces.flatMap((name) => byName.get(name) ?? []);
      const network = record.network === undefined ? undefined : networks.get(record.network);
      const found = named.length || network === undefined ? named : (byNetwork.get(network) ?? []);
      if (!found.length) continue;
      for (const veth of found) this.veths.add(veth);
      const name = objectName(record);
      this.#byPod.set(name, [...(this.#byPod.get(name) ?? []), { uid: record.uid, veths: found }]);
    }
  }

  /** Those of the pod's uid; where no note has it, of its name: the uid of a static pod is another one in the API. */
  of(pod: Pod): readonly Veth[] {
    const named = this.#byPod.get(objectName(pod)) ?? [];
    const own = named.filter(({ uid }) => uid !== undefined && uid === pod.uid);
    return [...new Set((own.length ? own : named).flatMap(({ veths }) => veths))];
  }
}

/** The veths that a pod had and that are still there. Those that could have been another pod's are looked at anew. */
function keptOf(
  pod: Pod,
  before: { readonly pod: Pod; readonly found: Found } | undefined,
  byIndex: ReadonlyMap<number, Veth>,
): readonly Veth[] {
  if (!before || before.pod.uid !== pod.uid || before.found.closed) return [];
  return before.found.sites.flatMap(({ id, place }) => {
    const veth = byIndex.get(id);
    return veth && 'interface' in place && place.end?.startsWith(endOf(veth)) ? [veth] : [];
  });
}

/** Veths by the pods that have an address behind them, and the other way round. */
interface Claims {
  readonly veths: ReadonlyMap<Pod, readonly Veth[]>;
  readonly pods: ReadonlyMap<Veth, readonly Pod[]>;
}

function claimsOn(veths: readonly Veth[], addresses: ReadonlyMap<Pod, readonly string[]>): Claims {
  const byAddress = new Map<string, Veth[]>();
  for (const veth of veths) for (const key of new Set(veth.addresses)) byAddress.set(key, [...(byAddress.get(key) ?? []), veth]);
  const claimed = new Map([...addresses].map(([pod, keys]) => [pod, [...new Set(keys.flatMap((key) => byAddress.get(key) ?? []))]]));
  const claimants = new Map<Veth, Pod[]>();
  for (const [pod, own] of claimed) for (const veth of own) claimants.set(veth, [...(claimants.get(veth) ?? []), pod]);
  return { veths: claimed, pods: claimants };
}

function foundOf(pod: Pod, owned: readonly Veth[], claims: Claims): Found {
  const claimed = claims.veths.get(pod) ?? [];
  const veths = [...owned, ...claimed];
  const others = new Set(
    claimed
      .flatMap((veth) => claims.pods.get(veth) ?? [])
      .filter((other) => other !== pod)
      .map(objectName),
  );
  const sites = veths.map(siteOf);
  if (!sites.length) return pod.addresses.length ? { sites, problem: { reason: missing(pod), pending: true } } : { sites };
  if (!claimed.length || (veths.length === 1 && !others.size)) return { sites };
  const names = veths.map(({ name }) => name).join(', ');
  const reason = others.size
    ? `${names} leads to addresses of ${[...others].join(', ')} as well, and the container runtime does not say whose it is: closed`
    : `${names} lead to its addresses, and the container runtime does not say which is its: all are closed`;
  return { sites, closed: true, problem: { reason, pending: false } };
}

function missing(pod: Pod): string {
  const addresses = pod.addresses.map(formatAddress).join(' or ');
  return `not found on this node, nothing is enforced: the container runtime has no record of it, and no veth of the node leads to ${addresses}`;
}

function siteOf(veth: Veth): Site {
  return { id: veth.ifindex, place: { interface: veth.name, end: `${endOf(veth)}${veth.network}:${veth.peer}` } };
}

/** The node's end, as no pod can change it: an index and a name may have another bearer by now. */
function endOf({ name, hardware }: Veth): string {
  return `${name} ${hardware} `;
}

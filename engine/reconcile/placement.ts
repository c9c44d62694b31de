/**
 * Where the endpoints of this node are: each at an interface or a cgroup, which has an id while it is there. A file names the place; that of
 * a pod that an API names is found (pod-places.ts). What is not there yet is a problem, and looked for; of two endpoints at one place the one
 * has it that had it before, else the first by name.
 */

import { isDeepStrictEqual } from 'node:util';
import type { Place } from '../kernel/datapath.ts';
import type { PlacedEndpoint } from '../kernel/policy-maps.ts';
import type { CompiledEndpoint } from '../policy/compile.ts';
import { objectName } from '../policy/object-name.ts';
import type { Pod } from '../policy/objects.ts';
import { engineProblem, objectProblem, type Problem, ProblemLedger } from '../policy/problem.ts';
import { addTo, removeFrom } from '../policy/set-map.ts';
import type { Found, Site } from './assign-places.ts';
import type { HostEndpoints } from './host-firewall.ts';
import { isLookedFor, type PodPlaces } from './pod-places.ts';

export interface EndpointView {
  readonly pod: string;
  /** Id of the endpoint: of an interface its index. */
  readonly id: number;
  readonly interface?: string;
  readonly cgroup?: string;
  readonly identity: number;
  readonly isolated: { readonly ingress: boolean; readonly egress: boolean };
}

/** An endpoint and where it is. */
interface Wanted {
  readonly endpoint: CompiledEndpoint;
  readonly found: Found;
}

/** Who knows where pods are whose place nothing names. */
export type PodFinder = Pick<PodPlaces, 'update' | 'find' | 'lookSoon' | 'look'>;

export class Placement {
  /** The endpoints that the kernel should have, by id. */
  readonly placed = new Map<number, PlacedEndpoint>();
  readonly problems = new ProblemLedger();
  readonly #find: (place: Place) => number | undefined;
  readonly #pods: PodFinder;
  readonly #wanted = new Map<Pod, Wanted>();
  /** Everybody who says that a place is his, by its id. */
  readonly #claims = new Map<number, Set<Pod>>();
  readonly #owners = new Map<number, Pod>();
  #host: HostEndpoints | undefined;

  constructor(find: (place: Place) => number | undefined, pods: PodFinder) {
    this.#find = find;
    this.#pods = pods;
  }

  /** Endpoint id of a pod that has its place; one of them where it has several. */
  get ids(): ReadonlyMap<Pod, number> {
    return new Map([...this.#owners].map(([id, pod]) => [pod, id]));
  }

  /** Whose the endpoint of this id is; undefined where the kernel has none. */
  ownerOf(id: number): Pod | undefined {
    return this.#owners.get(id);
  }

  /** Whether a pod has its place. */
  isPlaced(pod: Pod): boolean {
    return this.#wanted.get(pod)?.found.sites.some(({ id }) => this.#owners.get(id) === pod) ?? false;
  }

  get views(): EndpointView[] {
    return [...this.#owners].map(([id, pod]) => viewOf(id, this.#wanted.get(pod) as Wanted));
  }

  /** Takes over endpoints that came, changed or went, and what the host falls back to. Returns whether anything is placed otherwise. */
  update(endpoints: ReadonlyMap<Pod, CompiledEndpoint>, changed: ReadonlySet<Pod>, host: HostEndpoints | undefined): boolean {
    const hosts = [this.#host, host].flatMap((each) => (each ? [each.current, each.fallback?.confirmed] : []));
    this.#host = host;
    const moved = this.#pods.update(changed, (pod) => endpoints.has(pod));
    const pods = new Set([...changed, ...moved, ...hosts.filter((pod) => pod !== undefined)]);
    const stale = new Set<number>();
    // Those that go come first: who is replaced by his like has the same name.
    for (const pod of pods) this.#leave(pod, stale);
    for (const pod of pods) {
      const endpoint = endpoints.get(pod);
      // The host's fallback is no endpoint of its own.
      if (endpoint && pod !== host?.fallback?.confirmed) this.#enter(endpoint, stale);
    }
    for (const id of stale) this.#settle(id, endpoints);
    return stale.size > 0;
  }

  /** Looks for every place again; returns the endpoints that are elsewhere than when this was done last, as far as that is known at once. */
  recheck(): Pod[] {
    return [...this.#wanted].flatMap(([pod, { found }]) => {
      if (!isLookedFor(pod)) return isDeepStrictEqual(this.#named(pod).sites, found.sites) ? [] : [pod];
      if (!found.sites.every(({ id, place }) => this.#find(place) === id)) this.#pods.lookSoon();
      return [];
    });
  }

  /** Has the places of pods found that nothing names, before they are told. @throws EngineError `KERNEL_CALL` */
  look(pods: Iterable<Pod>): Promise<void> {
    return this.#pods.look(pods);
  }

  #leave(pod: Pod, stale: Set<number>): void {
    const wanted = this.#wanted.get(pod);
    if (!wanted) return;
    this.#wanted.delete(pod);
    this.problems.set(`place of ${objectName(pod)}`, []);
    this.problems.set(`claim of ${objectName(pod)}`, []);
    for (const { id } of wanted.found.sites) {
      removeFrom(this.#claims, id, pod);
      stale.add(id);
    }
  }

  #enter(endpoint: CompiledEndpoint, stale: Set<number>): void {
    const { pod } = endpoint;
    const found = isLookedFor(pod) ? this.#pods.find(pod) : this.#named(pod);
    this.#wanted.set(pod, { endpoint, found });
    const { problem } = found;
    this.problems.set(`place of ${objectName(pod)}`, problem ? [problemOf(pod, problem.reason, problem.pending)] : []);
    for (const { id } of found.sites) {
      addTo(this.#claims, id, pod);
      stale.add(id);
    }
  }

  #named({ cgroup, interface: name = '' }: Pod): Found {
    const place = cgroup === undefined ? { interface: name } : { cgroup };
    const id = this.#find(place);
    return id === undefined ? { sites: [], problem: { reason: `no ${textOf(place)} here`, pending: true } } : { sites: [{ id, place }] };
  }

  /** Leaves a place to its owner while he says that it is his, also as another object of his name; else gives it to the first by name. */
  #settle(id: number, endpoints: ReadonlyMap<Pod, CompiledEndpoint>): void {
    const holder = this.#owners.get(id);
    const rank = (pod: Pod): string => `${holder && objectName(pod) === objectName(holder) ? 0 : 1} ${objectName(pod)}`;
    const [owner, ...others] = [...(this.#claims.get(id) ?? [])].sort((a, b) => (rank(a) < rank(b) ? -1 : 1));
    for (const pod of others) {
      const wanted = this.#wanted.get(pod) as Wanted;
      const reason = `${textOf(siteOf(wanted, id).place)} belongs to another pod already`;
      // Of a place that could be anybody's, it is said why.
      if (!wanted.found.closed) this.problems.set(`claim of ${objectName(pod)}`, [problemOf(pod, reason, false)]);
    }
    if (!owner) {
      this.placed.delete(id);
      this.#owners.delete(id);
      return;
    }
    this.problems.set(`claim of ${objectName(owner)}`, []);
    const wanted = this.#wanted.get(owner) as Wanted;
    this.#owners.set(id, owner);
    this.placed.set(id, {
      value: wanted.endpoint.value,
      place: siteOf(wanted, id).place,
      ...(wanted.found.closed && { closed: true }),
      ...this.#fallbackOf(owner, endpoints),
    });
  }

  /** The fallback of the host's endpoint, while a change of its policy is pending. */
  #fallbackOf(pod: Pod, endpoints: ReadonlyMap<Pod, CompiledEndpoint>): Pick<PlacedEndpoint, 'fallback'> {
    const fallback = pod === this.#host?.current ? this.#host.fallback : undefined;
    const value = fallback && endpoints.get(fallback.confirmed)?.value;
    return value ? { fallback: { value, atNs: fallback.confirmByNs } } : {};
  }
}

function siteOf({ found }: Wanted, id: number): Site {
  return found.sites.find((site) => site.id === id) as Site;
}

function textOf(place: Place): string {
  return 'cgroup' in place ? `cgroup ${place.cgroup}` : `interface ${place.interface}`;
}

function problemOf(pod: Pod, reason: string, pending: boolean): Problem {
  if (pod.hostPolicies) return { ...engineProblem('host firewall', reason), ...(pending && { pending }) };
  return objectProblem({ kind: 'Pod', namespace: pod.namespace, name: pod.name }, reason, pending);
}

function viewOf(id: number, wanted: Wanted): EndpointView {
  const { pod, identity, closed: shut, ruleSets } = wanted.endpoint;
  const [ingress, egress] = ruleSets.map((ruleSet) => shut || wanted.found.closed === true || ruleSet?.isolated === true) as [
    boolean,
    boolean,
  ];
  const { place } = siteOf(wanted, id);
  const where = 'cgroup' in place ? { cgroup: place.cgroup } : { interface: place.interface };
  return { pod: objectName(pod), id, ...where, identity, isolated: { ingress, egress } };
}

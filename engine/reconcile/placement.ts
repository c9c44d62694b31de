/**
 * Where the endpoints of this node are: each at an interface or a cgroup, which has an id while it is there. What is not there
 * yet is a problem, and looked for; of two endpoints at one place the one has it that
 * had it before, else the first by name.
 */

import type { Place } from '../kernel/datapath.ts';
import type { PlacedEndpoint } from '../kernel/policy-maps.ts';
import type { CompiledEndpoint } from '../policy/compile.ts';
import { objectName } from '../policy/object-name.ts';
import type { Pod } from '../policy/objects.ts';
import { engineProblem, objectProblem, type Problem, ProblemLedger } from '../policy/problem.ts';
import type { HostEndpoints } from './host-firewall.ts';

export interface EndpointView {
  readonly pod: string;
  /** Id of the endpoint: of an interface its index. */
  readonly id: number;
  readonly interface?: string;
  readonly cgroup?: string;
  readonly identity: number;
  readonly isolated: { readonly ingress: boolean; readonly egress: boolean };
}

/** An endpoint and the place that it should have; no id: that is not there. */
interface Wanted {
  readonly endpoint: CompiledEndpoint;
  readonly place: Place;
  readonly id: number | undefined;
}

export class Placement {
  /** The endpoints that the kernel should have, by id. */
  readonly placed = new Map<number, PlacedEndpoint>();
  readonly problems = new ProblemLedger();
  readonly #find: (place: Place) => number | undefined;
  readonly #wanted = new Map<Pod, Wanted>();
  /** Everybody who says that a place is his, by its id. */
  readonly #claims = new Map<number, Set<Pod>>();
  readonly #owners = new Map<number, Pod>();
  #host: HostEndpoints | undefined;

  constructor(find: (place: Place) => number | undefined) {
    this.#find = find;
  }

  /** Endpoint id of a pod that has its place. */
  get ids(): ReadonlyMap<Pod, number> {
    return new Map([...this.#owners].map(([id, pod]) => [pod, id]));
  }

  /** Whose the endpoint of this id is; undefined where the kernel has none. */
  ownerOf(id: number): Pod | undefined {
    return this.#owners.get(id);
  }

  /** Whether a pod has its place. */
  isPlaced(pod: Pod): boolean {
    const id = this.#wanted.get(pod)?.id;
    return id !== undefined && this.#owners.get(id) === pod;
  }

  get views(): EndpointView[] {
    return [...this.#owners].map(([id, pod]) => viewOf(id, this.#wanted.get(pod) as Wanted));
  }

  /** Takes over endpoints that came, changed or went, and what the host falls back to. Returns whether anything is placed otherwise. */
  update(endpoints: ReadonlyMap<Pod, CompiledEndpoint>, changed: ReadonlySet<Pod>, host: HostEndpoints | undefined): boolean {
    const hosts = [this.#host, host].flatMap((each) => (each ? [each.current, each.fallback?.confirmed] : []));
    this.#host = host;
    const pods = new Set([...changed, ...hosts.filter((pod) => pod !== undefined)]);
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

  /** Looks for every place again; returns the endpoints that are elsewhere than when this was done last. */
  recheck(): Pod[] {
    return [...this.#wanted].flatMap(([pod, { place, id }]) => (this.#find(place) === id ? [] : [pod]));
  }

  #leave(pod: Pod, stale: Set<number>): void {
    const wanted = this.#wanted.get(pod);
    if (!wanted) return;
    this.#wanted.delete(pod);
    this.problems.set(`place of ${objectName(pod)}`, []);
    this.problems.set(`claim of ${objectName(pod)}`, []);
    if (wanted.id === undefined) return;
    const claims = this.#claims.get(wanted.id);
    claims?.delete(pod);
    if (!claims?.size) this.#claims.delete(wanted.id);
    stale.add(wanted.id);
  }

  #enter(endpoint: CompiledEndpoint, stale: Set<number>): void {
    const { pod } = endpoint;
    const place = placeOf(endpoint);
    const id = this.#find(place);
    this.#wanted.set(pod, { endpoint, place, id });
    if (id === undefined) {
      this.problems.set(`place of ${objectName(pod)}`, [problemOf(pod, `no ${textOf(place)} here`, true)]);
      return;
    }
    const claims = this.#claims.get(id);
    if (claims) claims.add(pod);
    else this.#claims.set(id, new Set([pod]));
    stale.add(id);
  }

  /** Leaves a place to its owner while he says that it is his, also as another object of his name; else gives it to the first by name. */
  #settle(id: number, endpoints: ReadonlyMap<Pod, CompiledEndpoint>): void {
    const holder = this.#owners.get(id);
    const rank = (pod: Pod): string => `${holder && objectName(pod) === objectName(holder) ? 0 : 1} ${objectName(pod)}`;
    const [owner, ...others] = [...(this.#claims.get(id) ?? [])].sort((a, b) => (rank(a) < rank(b) ? -1 : 1));
    for (const pod of others) {
      const { place } = this.#wanted.get(pod) as Wanted;
      this.problems.set(`claim of ${objectName(pod)}`, [problemOf(pod, `${textOf(place)} belongs to another pod already`, false)]);
    }
    if (!owner) {
      this.placed.delete(id);
      this.#owners.delete(id);
      return;
    }
    this.problems.set(`claim of ${objectName(owner)}`, []);
    const { endpoint, place } = this.#wanted.get(owner) as Wanted;
    this.#owners.set(id, owner);
    this.placed.set(id, { value: endpoint.value, place, ...this.#fallbackOf(owner, endpoints) });
  }

  /** The fallback of the host's endpoint, while a change of its policy is pending. */
  #fallbackOf(pod: Pod, endpoints: ReadonlyMap<Pod, CompiledEndpoint>): Pick<PlacedEndpoint, 'fallback'> {
    const fallback = pod === this.#host?.current ? this.#host.fallback : undefined;
    const value = fallback && endpoints.get(fallback.confirmed)?.value;
    return value ? { fallback: { value, atNs: fallback.confirmByNs } } : {};
  }
}

function placeOf({ pod }: CompiledEndpoint): Place {
  return pod.cgroup === undefined ? { interface: pod.interface ?? '' } : { cgroup: pod.cgroup };
}

function textOf(place: Place): string {
  return 'cgroup' in place ? `cgroup ${place.cgroup}` : `interface ${place.interface}`;
}

function problemOf(pod: Pod, reason: string, pending: boolean): Problem {
  if (pod.hostPolicies) return { ...engineProblem('host firewall', reason), ...(pending && { pending }) };
  return objectProblem({ kind: 'Pod', namespace: pod.namespace, name: pod.name }, reason, pending);
}

function viewOf(id: number, { endpoint: { pod, identity, closed, ruleSets }, place }: Wanted): EndpointView {
  const [ingress, egress] = ruleSets.map((ruleSet) => closed || ruleSet?.isolated === true) as [boolean, boolean];
  return { pod: objectName(pod), id, ...place, identity, isolated: { ingress, egress } };
}

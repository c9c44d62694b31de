/**
 * Backend sets: for each port of a Service, and each that rules may send something to, the backends that it has now; with the maps
 * backends, backend_sets and rule_backends. A set is made anew when its Service, slices or pods change.
 */

import { BackendIndex, BackendSetId } from '../abi.gen.ts';
import { isIpv4 } from './address.ts';
import type { Cluster, ClusterDelta } from './cluster.ts';
import { EntryMap, u32, u32Key } from './entry-map.ts';
import { objectName } from './object-name.ts';
import type { AskRule, EndpointSlice, Pod, Selector, ServicePort, SliceEndpoint } from './objects.ts';
import { type Backend, type BackendSet, frontendKey, type SetRef, setName, translationBytes } from './requests.ts';
import { matches } from './selector.ts';
import { addTo, removeFrom } from './set-map.ts';
import type { StableIds } from './stable-id.ts';

export const TCP = 6;

/** A set that something names. */
interface Wanted {
  readonly ref: SetRef;
  /** Rules and Services. */
  users: number;
  /** Of these, rules about requests. */
  rules: number;
  /** Where its backends are the pods that the Service selects: where those are, which they are, and those there are now, by key. */
  pods?: { readonly namespace: string; readonly selector: Selector; readonly members: Map<string, Pod> };
  /** Addresses and ports that lead to it. */
  frontends: readonly string[];
  /** How many backends of each family the maps have. */
  written: readonly [number, number];
}

export class BackendSets {
  /** By name. */
  readonly sets = new Map<string, BackendSet>();
  /** Those that rules about requests name. */
  readonly requested = new Map<string, BackendSet>();
  /** Cluster address and TCP port → the set of that Service, of those. */
  readonly frontends = new Map<string, BackendSet>();
  /** Map entries. */
  readonly backends = new EntryMap();
  readonly backendSets = new EntryMap();
  readonly ruleBackends = new EntryMap();
  readonly #ids: StableIds;
  readonly #cluster: Cluster;
  readonly #node: string | undefined;
  readonly #wanted = new Map<string, Wanted>();
  readonly #byService = new Map<string, Set<string>>();
  /** Sets of pods that a selector means, by their namespace. */
  readonly #bySelector = new Map<string, Set<string>>();
  /** Whose a frontend could be: the first by name has it. */
  readonly #claims = new Map<string, Set<string>>();
  readonly #stale = new Set<string>();
  #changed = false;

  /** `node`: the name of this node, as slices have it; undefined where there is none. */
  constructor(ids: StableIds, cluster: Cluster, node?: string) {
    this.#ids = ids;
    this.#cluster = cluster;
    this.#node = node;
  }

  /** Takes over that something more, or less, names these sets: a rule about requests, or a Service that has them. */
  want(refs: readonly SetRef[], by: 1 | -1, as: 'rule' | 'service' = 'rule'): void {
    for (const { service, port, protocol = TCP, local = false } of refs) {
      const ref = { service, port, protocol, local };
      const name = setName(ref);
      let wanted = this.#wanted.get(name);
      if (!wanted) {
        this.#wanted.set(name, (wanted = { ref, users: 0, rules: 0, frontends: [], written: [0, 0] }));
        addTo(this.#byService, service, name);
      }
      wanted.users += by;
      if (as === 'rule') wanted.rules += by;
      if (wanted.users === 0 || wanted.users === by || (as === 'rule' && wanted.rules < 2)) this.#stale.add(name);
    }
  }

  /** The id of a set that something names. */
  idOf(name: string): number | undefined {
    return this.#ids.find(textOf(name));
  }

  /** Brings the sets up to date that are named, or of which a Service, slice or pod changed. */
  update(delta: Pick<ClusterDelta, 'Service' | 'EndpointSlice' | 'Pod'>): void {
    for (const { key } of delta.Service) this.#noteService(key);
    for (const { before, after } of delta.EndpointSlice)
      for (const slice of [before, after]) if (slice) this.#noteService(objectName({ namespace: slice.namespace, name: slice.service }));
    for (const name of this.#stale) this.#findPods(name);
    for (const { key, before, after } of delta.Pod) {
      if (before) this.#notePod(key, before, false);
      if (after) this.#notePod(key, after, true);
    }
    for (const name of this.#stale) this.#make(name);
    this.#stale.clear();
  }

  /** Whether any set that rules about requests name changed since this was asked last. */
  takeChanged(): boolean {
    const changed = this.#changed;
    this.#changed = false;
    return changed;
  }

  /** The set that takes what a rule leaves to nobody; see rule_backends. A rule that is gone leaves nothing. */
  setRule(id: number, rule: AskRule | undefined): void {
    const [best] = [...(rule?.requests?.rules[0]?.fallback ?? [])].sort((a, b) => b.weight - a.weight);
    const single = rule?.requests?.rules.length === 1 ? best : undefined;
    const set = single && this.sets.get(setName(single))?.id;
    const value = set ?? (rule?.services ? BackendSetId.SERVICE : undefined);
    if (value === undefined) this.ruleBackends.delete(u32Key(id));
    else this.ruleBackends.set(u32Key(id), u32(value));
  }

  #noteService(key: string): void {
    for (const name of this.#byService.get(key) ?? []) this.#stale.add(name);
  }

  /** Where nobody writes slices of a Service, its backends are what they would say: the pods that it selects. */
  #findPods(name: string): void {
    const wanted = this.#wanted.get(name);
    if (!wanted) return;
    if (wanted.pods) removeFrom(this.#bySelector, wanted.pods.namespace, name);
    delete wanted.pods;
    const service = wanted.users ? this.#cluster.of('Service').get(wanted.ref.service) : undefined;
    if (!service?.selector || this.#cluster.slicesOf(wanted.ref.service)) return;
    const { namespace, selector } = service;
    const members = [...(this.#cluster.podsIn(namespace) ?? [])].filter(([, pod]) => isBackend(pod, selector));
    wanted.pods = { namespace, selector, members: new Map(members) };
    addTo(this.#bySelector, namespace, name);
  }

  #notePod(key: string, pod: Pod, isNow: boolean): void {
    for (const name of this.#bySelector.get(pod.namespace) ?? []) {
      const pods = this.#wanted.get(name)?.pods;
      if (!pods || !isBackend(pod, pods.selector)) continue;
      if (isNow) pods.members.set(key, pod);
      else pods.members.delete(key);
      this.#stale.add(name);
    }
  }

  #make(name: string): void {
    const wanted = this.#wanted.get(name) as Wanted;
    const set: BackendSet = { id: this.#ids.get(textOf(name)), name, backends: wanted.users ? this.#backendsOf(wanted) : [] };
    this.#writeBackends(set, wanted);
    if (wanted.rules || this.requested.has(name)) this.#changed = true;
    if (wanted.rules) this.requested.set(name, set);
    else this.requested.delete(name);
    if (wanted.users) this.sets.set(name, set);
    else {
      this.sets.delete(name);
      this.backendSets.delete(u32Key(set.id));
      this.#wanted.delete(name);
      removeFrom(this.#byService, wanted.ref.service, name);
      this.#ids.drop(textOf(name));
    }
    this.#setFrontends(name, wanted);
  }

  #backendsOf({ ref, pods }: Wanted): Backend[] {
    const service = this.#cluster.of('Service').get(ref.service);
    const port = service?.ports.find((each) => each.port === ref.port && each.protocol === ref.protocol);
    if (!port) return [];
    const slices = this.#cluster.slicesOf(ref.service);
    const found = slices
      ? ofSlices([...slices.values()], port, (each) => !ref.local || (each.node !== undefined && each.node === this.#node))
      : ofPods([...(pods?.members.values() ?? [])], port, (pod) => !ref.local || pod.interface !== undefined);
    // In an order that does not depend on who came when: equal clusters, equal entries.
    return [...new Map(found.map((backend) => [frontendKey(backend.address, backend.port), backend]))]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, backend]) => backend);
  }

  #writeBackends({ id, backends }: BackendSet, wanted: Wanted): void {
    const families = [backends.filter(({ address }) => isIpv4(address)), backends.filter(({ address }) => !isIpv4(address))] as const;
    for (const [i, family] of families.entries()) {
      const keyOf = (index: number): string => u32Key(id) + u32Key((index | (i ? BackendIndex.IPV6 : 0)) >>> 0);
      for (const [index, backend] of family.entries()) this.backends.set(keyOf(index), translationBytes(backend));
      for (let index = family.length; index < (wanted.written[i] ?? 0); index++) this.backends.delete(keyOf(index));
    }
    wanted.written = [families[0].length, families[1].length];
    this.backendSets.set(u32Key(id), Buffer.concat(wanted.written.map(u32)));
  }

  #setFrontends(name: string, wanted: Wanted): void {
    const { service, port } = wanted.ref;
    const addresses = wanted.rules ? (this.#cluster.of('Service').get(service)?.addresses ?? []) : [];
    const before = wanted.frontends;
    wanted.frontends = addresses.map((address) => frontendKey(address, port));
    for (const key of before) removeFrom(this.#claims, key, name);
    for (const key of wanted.frontends) addTo(this.#claims, key, name);
    for (const key of new Set([...before, ...wanted.frontends])) {
      const [first] = [...(this.#claims.get(key) ?? [])].sort();
      const set = first === undefined ? undefined : this.sets.get(first);
      if (set) this.frontends.set(key, set);
      else this.frontends.delete(key);
    }
  }
}

function isBackend(pod: Pod, selector: Selector): boolean {
  return !pod.ended && matches(selector, pod.labels);
}

/** Endpoints that are ready; where none is, those that terminate and still take connections, as kube-proxy has it. */
function ofSlices(slices: readonly EndpointSlice[], { name, protocol }: ServicePort, isMeant: (each: SliceEndpoint) => boolean): Backend[] {
  const found = slices.flatMap(({ ports, endpoints }) => {
    const port = ports.find((each) => each.name === name && each.protocol === protocol)?.port;
    return port === undefined ? [] : endpoints.filter(isMeant).map(({ address, ready }) => ({ address, port, ready }));
  });
  const isReady = found.some(({ ready }) => ready);
  return found.flatMap(({ address, port, ready }) => (ready === isReady ? [{ address, port }] : []));
}

function ofPods(pods: readonly Pod[], { target, protocol }: ServicePort, isMeant: (pod: Pod) => boolean): Backend[] {
  return pods.filter(isMeant).flatMap((pod) => {
    const port = typeof target === 'number' ? target : pod.ports.find((each) => each.name === target && each.protocol === protocol)?.port;
    return port === undefined ? [] : pod.addresses.map((address) => ({ address, port }));
  });
}

function textOf(name: string): string {
  return `backend set ${name}`;
}

/**
 * Rules about requests: which flows they tag, and which backends they name.
 *
 * Between the source and the compiler: PluginPolicies that name Services get the addresses that those have now, HTTPRoutes
 * become policies of the same kind, and every Service that a rule may send something to becomes a backend set. What did not
 * change are the same objects.
 */
import { BackendIndex, BackendSetId, Context, Direction, translationCodec } from '../abi.gen.ts';
import { ADDRESS_BITS, isIpv4, networkOf } from './address.ts';
import { EntryMap } from './entry-map.ts';
import { matches } from './selector.ts';
import type {
  AskRule,
  BackendRef,
  EndpointSlice,
  HttpRoute,
  PluginPolicy,
  Pod,
  PortSpec,
  Problem,
  RequestMatch,
  RequestRule,
  Service,
  ServicePort,
  Snapshot,
} from './snapshot.ts';
import type { StableIds } from './stable-id.ts';

const TCP = 6;

export interface Backend {
  /** 16 bytes. */
  readonly address: Uint8Array;
  readonly port: number;
}

export interface BackendSet {
  readonly id: number;
  /** `namespace/name:port` */
  readonly name: string;
  readonly backends: readonly Backend[];
}

/** Names a set. */
export function setName(ref: Pick<BackendRef, 'service' | 'port'>): string {
  return `${ref.service}:${ref.port}`;
}

/** Address and port that something is sent to: struct translation. */
export function frontendKey(address: Uint8Array, port: number): string {
  return translationBytes({ address, port }).toString('latin1');
}

export class RequestPolicies {
  /** Sets by name, of Services that rules may send something to. */
  readonly sets = new Map<string, BackendSet>();
  /** Cluster address and port → the set of that Service. */
  readonly frontends = new Map<string, BackendSet>();
  /** Map entries. */
  readonly backends = new EntryMap();
  readonly backendSets = new EntryMap();
  readonly ruleBackends = new EntryMap();
  readonly serviceBackends = new EntryMap();
  readonly problems: Problem[] = [];
  readonly #ids: StableIds;
  readonly #resolved = new Map<object, { readonly key: string; readonly policy: PluginPolicy }>();
  #services = new Map<string, Service>();

  constructor(ids: StableIds) {
    this.#ids = ids;
  }

  /** Policies of a snapshot as the compiler takes them, and everything that they name. */
  resolve(snapshot: Snapshot): readonly PluginPolicy[] {
    this.problems.length = 0;
    this.#services = new Map(snapshot.services.map((service) => [`${service.namespace}/${service.name}`, service]));
    const written = snapshot.pluginPolicies.map((policy) =>
      usesRequests(policy) ? this.#remember(policy, () => this.#withAddresses(policy), policy) : policy,
    );
    const routes = routesByService(snapshot.httpRoutes);
    const mesh = [...routes].flatMap(([key, attached]) => this.#meshPolicy(key, attached));
    const policies = [...written, ...mesh];
    for (const known of this.#resolved.keys())
      if (!snapshot.pluginPolicies.includes(known as PluginPolicy) && !snapshot.httpRoutes.includes(known as HttpRoute))
        this.#resolved.delete(known);
    this.#setBackends(policies, snapshot);
    return policies;
  }

  /** The backend set that takes what a rule leaves to nobody; see rule_backends. */
  setRules(rules: ReadonlyMap<number, AskRule>): void {
    const keys = new Set<string>();
    for (const [id, rule] of rules) {
      const [best] = [...(rule.requests?.rules[0]?.fallback ?? [])].sort((a, b) => b.weight - a.weight);
      const single = rule.requests?.rules.length === 1 ? best : undefined;
      const set = single && this.sets.get(setName(single))?.id;
      const value = set ?? (rule.services ? BackendSetId.SERVICE : undefined);
      if (value === undefined) continue;
      const key = u32Key(id);
      keys.add(key);
      this.ruleBackends.set(key, u32(value));
    }
    for (const key of [...this.ruleBackends.entries.keys()]) if (!keys.has(key)) this.ruleBackends.delete(key);
  }

  #remember(source: object, make: () => PluginPolicy, facts: unknown): PluginPolicy {
    const made = make();
    const key = JSON.stringify([made, facts === source ? 0 : facts]);
    const known = this.#resolved.get(source);
    if (known?.key === key) return known.policy;
    this.#resolved.set(source, { key, policy: made });
    return made;
  }

  #withAddresses(policy: PluginPolicy): PluginPolicy {
    const egress = (policy.rules[Direction.EGRESS] ?? []).map((rule): AskRule => {
      if (!rule.services) return rule;
      const found = rule.services.flatMap((name) => this.#find(name, `PluginPolicy ${policy.namespace}/${policy.name}`) ?? []);
      return { ...rule, peers: found.flatMap(peersOf), ports: portsOf(found, rule.ports) };
    });
    return { ...policy, rules: { ...policy.rules, [Direction.EGRESS]: egress } };
  }

  /** What HTTPRoutes for one Service say together: to every client, or to those of the routes' own namespace. */
  #meshPolicy(key: string, attached: readonly { route: HttpRoute; port?: number }[]): PluginPolicy[] {
    const [service = '', namespace = ''] = key.split(' ', 2);
    const names = [...new Set(attached.map(({ route }) => route.name))].sort();
    const found = this.#find(service, `HTTPRoute ${namespace}/${names.join(', ')}`);
    const first = attached[0]?.route;
    if (!found || !first) return [];
    const ports = [...new Set(attached.map(({ port }) => port))];
    const rules = ports.flatMap((port): AskRule[] => {
      const own = attached.filter((each) => each.port === port).flatMap(({ route }) => route.rules);
      const asked = new Set(own.map(({ plugin }) => plugin));
      const wanted = port === undefined ? undefined : [{ protocol: TCP, first: port, last: port }];
      return [
        {
          peers: peersOf(found),
          ports: portsOf([found], wanted),
          services: [service],
          plugin: asked.size === 1 && own.length === 1 && !own[0]?.matches.length ? (own[0]?.plugin ?? '') : '',
          context: Context.HTTP,
          requests: { rules: inOrder(own) },
        },
      ];
    });
    const policy: PluginPolicy = {
      kind: 'HTTPRoute',
      namespace,
      name: names.join(', '),
      everywhere: service.startsWith(`${namespace}/`),
      selector: [],
      overrides: false,
      rules: { [Direction.EGRESS]: rules },
    };
    return [this.#remember(first, () => policy, key)];
  }

  #find(name: string, object: string): Service | undefined {
    const service = this.#services.get(name);
    if (!service) this.problems.push({ file: '', line: 0, object, reason: `no Service ${name}`, pending: true });
    else if (!service.addresses.length)
      this.problems.push({ file: '', line: 0, object, reason: `Service ${name} has no cluster address: nothing is sent to it` });
    return service;
  }

  #setBackends(policies: readonly PluginPolicy[], snapshot: Snapshot): void {
    const slices = new Map<string, EndpointSlice[]>();
    for (const slice of snapshot.endpointSlices) {
      const key = `${slice.namespace}/${slice.service}`;
      slices.set(key, [...(slices.get(key) ?? []), slice]);
    }
    const wanted = new Map<string, BackendRef>();
    const rules = policies.flatMap((policy) => Object.values(policy.rules).flat());
    for (const { requests, services } of rules) {
      for (const ref of (requests?.rules ?? []).flatMap((rule) => [...Object.values(rule.routes).flat(), ...(rule.fallback ?? [])]))
        wanted.set(setName(ref), ref);
      for (const service of services ?? [])
        for (const { port, protocol } of this.#services.get(service)?.ports ?? [])
          if (protocol === TCP) wanted.set(setName({ service, port }), { service, port, weight: 1 });
    }
    this.sets.clear();
    this.frontends.clear();
    for (const [name, ref] of wanted) {
      const backends = this.#backendsOf(ref, slices.get(ref.service), snapshot.pods);
      const set: BackendSet = { id: this.#ids.get(`backend set ${name}`), name, backends };
      this.sets.set(name, set);
      for (const address of this.#services.get(ref.service)?.addresses ?? []) this.frontends.set(frontendKey(address, ref.port), set);
    }
    this.#writeEntries();
  }

  /** What its slices say; where nobody writes those, what they would say. */
  #backendsOf(ref: BackendRef, slices: readonly EndpointSlice[] | undefined, pods: readonly Pod[]): Backend[] {
    const service = this.#services.get(ref.service);
    const port = service?.ports.find((each) => each.port === ref.port && each.protocol === TCP);
    if (!service || !port) return [];
    const found = slices ? ofSlices(slices, port) : service.selector ? ofPods(service, port, pods) : [];
    return [...new Map(found.map((backend) => [frontendKey(backend.address, backend.port), backend])).values()];
  }

  #writeEntries(): void {
    const fill = (map: EntryMap, entries: ReadonlyMap<string, Buffer>): void => {
      for (const [key, value] of entries) map.set(key, value);
      for (const key of [...map.entries.keys()]) if (!entries.has(key)) map.delete(key);
    };
    const backends = new Map<string, Buffer>();
    const counts = new Map<string, Buffer>();
    for (const { id, backends: all } of this.sets.values()) {
      const families = [all.filter(({ address }) => isIpv4(address)), all.filter(({ address }) => !isIpv4(address))];
      counts.set(u32Key(id), Buffer.concat(families.map(({ length }) => u32(length))));
      for (const [i, family] of families.entries())
        for (const [index, backend] of family.entries())
          backends.set(u32Key(id) + u32Key(index | (i ? BackendIndex.IPV6 : 0)), translationBytes(backend));
    }
    fill(this.backends, backends);
    fill(this.backendSets, counts);
    fill(this.serviceBackends, new Map([...this.frontends].map(([key, { id }]) => [key, u32(id)])));
  }
}

function usesRequests(policy: PluginPolicy): boolean {
  return (policy.rules[Direction.EGRESS] ?? []).some((rule) => rule.services);
}

function peersOf(service: Service): Extract<NonNullable<AskRule['peers']>[number], { kind: 'network' }>[] {
  return service.addresses.map((address) => ({ kind: 'network', network: networkOf(address, ADDRESS_BITS), except: [] }));
}

/** The TCP ports that Services have, of those that a rule is about. */
function portsOf(services: readonly Service[], wanted: readonly PortSpec[] | undefined): PortSpec[] {
  const ports = new Set(services.flatMap((service) => service.ports.filter(({ protocol }) => protocol === TCP).map(({ port }) => port)));
  const covers = (port: number): boolean => !wanted || wanted.some((spec) => 'first' in spec && spec.first <= port && port <= spec.last);
  return [...ports].filter(covers).map((port) => ({ protocol: TCP, first: port, last: port }));
}

function ofSlices(slices: readonly EndpointSlice[], { name }: ServicePort): Backend[] {
  return slices.flatMap((slice) => {
    const port = slice.ports.find((each) => each.name === name && each.protocol === TCP)?.port;
    return port === undefined ? [] : slice.addresses.map((address) => ({ address, port }));
  });
}

function ofPods(service: Service, { target }: ServicePort, pods: readonly Pod[]): Backend[] {
  const selector = service.selector ?? [];
  return pods
    .filter((pod) => pod.namespace === service.namespace && !pod.ended && matches(selector, pod.labels))
    .flatMap((pod) => {
      const port = typeof target === 'number' ? target : pod.ports.find((each) => each.name === target && each.protocol === TCP)?.port;
      return port === undefined ? [] : pod.addresses.map((address) => ({ address, port }));
    });
}

/** By Service and by whose clients they are about: everybody's, or those of a namespace. */
function routesByService(routes: readonly HttpRoute[]): Map<string, { route: HttpRoute; port?: number }[]> {
  const found = new Map<string, { route: HttpRoute; port?: number }[]>();
  for (const route of [...routes].sort((a, b) => (`${a.namespace}/${a.name}` < `${b.namespace}/${b.name}` ? -1 : 1)))
    for (const { service, port } of route.parents) {
      const key = `${service} ${route.namespace}`;
      found.set(key, [...(found.get(key) ?? []), { route, ...(port !== undefined && { port }) }]);
    }
  return found;
}

/** As the Gateway API orders matches: exact paths, longer prefixes, a method, more headers, more parameters; then as written. */
function inOrder(rules: readonly RequestRule[]): RequestRule[] {
  const rank = ({ matches: [match] }: RequestRule): number[] => [
    match?.path?.type === 'Exact' ? 1 : 0,
    match?.path ? match.path.value.length : 0,
    match?.method ? 1 : 0,
    match?.headers.length ?? 0,
    match?.query.length ?? 0,
  ];
  return [...rules].sort((a, b) => {
    const [x, y] = [rank(a), rank(b)];
    return y.map((value, i) => value - (x[i] ?? 0)).find((difference) => difference) ?? 0;
  });
}

/** Whether a request is as one of the matches wants it; none at all want nothing. */
export function matchesRequest(candidates: readonly RequestMatch[], request: RequestFacts): boolean {
  return !candidates.length || candidates.some((match) => matchesOne(match, request));
}

export interface RequestFacts {
  readonly method: string;
  readonly path: string;
  readonly query: string;
  /** The value of a header, several joined by a comma; undefined when there is none. */
  header(name: string): string | undefined;
}

function matchesOne({ path, method, headers, query }: RequestMatch, request: RequestFacts): boolean {
  if (method && method !== request.method) return false;
  if (path && !matchesPath(path, request.path)) return false;
  if (!headers.every(({ name, value }) => request.header(name) === value)) return false;
  if (!query.length) return true;
  const parameters = new URLSearchParams(request.query);
  return query.every(({ name, value }) => parameters.get(name) === value);
}

function matchesPath({ type, value }: NonNullable<RequestMatch['path']>, path: string): boolean {
  if (type === 'Exact') return path === value;
  const prefix = value.endsWith('/') ? value.slice(0, -1) : value;
  return path === prefix || path.startsWith(`${prefix}/`);
}

function translationBytes({ address, port }: Backend): Buffer {
  const bytes = Buffer.alloc(translationCodec.size);
  bytes.set(address, translationCodec.offsets.address);
  bytes.writeUInt16BE(port, translationCodec.offsets.port);
  return bytes;
}

function u32Key(value: number): string {
  return u32(value).toString('latin1');
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

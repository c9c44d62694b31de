/**
 * PluginPolicies as the compiler takes them: those that name Services get the addresses that these have now, HTTPRoutes become
 * policies of the same kind. A policy is made anew when it, or a Service or route that it depends on, changes.
 */

import { Context, Direction } from '../abi.gen.ts';
import { ADDRESS_BITS, networkOf } from './address.ts';
import { type BackendSets, TCP } from './backend-sets.ts';
import type { Cluster, ClusterDelta, Replaced } from './cluster.ts';
import { objectName } from './object-name.ts';
import {
  ASK_NOBODY,
  type AskRule,
  type BackendRef,
  type HttpRoute,
  type PluginPolicy,
  type PortSpec,
  type RequestRule,
  type Service,
} from './objects.ts';
import { objectProblem, type Problem, type ProblemLedger } from './problem.ts';
import { addTo, removeFrom } from './set-map.ts';

const EVERY_TCP_PORT: readonly PortSpec[] = [{ protocol: TCP, first: 0, last: 65_535 }];

type NetworkPeer = Extract<NonNullable<AskRule['peers']>[number], { kind: 'network' }>;

/** HTTPRoutes for one Service, of one namespace. */
interface Group {
  readonly service: string;
  readonly namespace: string;
  readonly routes: Map<string, HttpRoute>;
}

/** A route with a port of the Service that it is attached to; without one, with every port. */
interface Attached {
  readonly route: HttpRoute;
  readonly port: number | undefined;
}

interface Made {
  readonly policy: PluginPolicy;
  /** Equal texts, equal policies; of one that is as it was written, empty. */
  readonly text: string;
  readonly services: readonly string[];
  readonly refs: readonly Pick<BackendRef, 'service' | 'port'>[];
}

export class RequestPolicies {
  readonly #cluster: Cluster;
  readonly #sets: BackendSets;
  readonly #problems: ProblemLedger;
  readonly #groups = new Map<string, Group>();
  readonly #made = new Map<string, Made>();
  /** Service → keys of the policies that depend on it. */
  readonly #namedBy = new Map<string, Set<string>>();

  constructor(cluster: Cluster, sets: BackendSets, problems: ProblemLedger) {
    this.#cluster = cluster;
    this.#sets = sets;
    this.#problems = problems;
  }

  /** Every policy, by its key. */
  *policies(): Iterable<[string, PluginPolicy]> {
    for (const [key, { policy }] of this.#made) yield [key, policy];
  }

  /** Takes over what changed in the cluster; returns which policies are others now. */
  update(delta: ClusterDelta): Replaced<PluginPolicy>[] {
    const stale = new Set<string>();
    for (const { key } of delta.PluginPolicy) stale.add(policyKey(key));
    for (const { key, before, after } of delta.HTTPRoute) {
      for (const { service } of before?.parents ?? []) stale.add(this.#setRoute(service, before as HttpRoute, key, undefined));
      for (const { service } of after?.parents ?? []) stale.add(this.#setRoute(service, after as HttpRoute, key, after));
    }
    for (const { key } of delta.Service) for (const policy of this.#namedBy.get(key) ?? []) stale.add(policy);
    return [...stale].flatMap((key) => this.#replace(key) ?? []);
  }

  /** Puts a route into the group of a Service, or takes it out; returns the group's key. */
  #setRoute(service: string, { namespace }: HttpRoute, route: string, value: HttpRoute | undefined): string {
    const key = `HTTPRoute ${service} ${namespace}`;
    let group = this.#groups.get(key);
    if (!group) this.#groups.set(key, (group = { service, namespace, routes: new Map() }));
    if (value) group.routes.set(route, value);
    else group.routes.delete(route);
    return key;
  }

  #replace(key: string): Replaced<PluginPolicy> | undefined {
    const before = this.#made.get(key);
    const after = this.#make(key);
    this.#sets.want(after?.refs ?? [], 1);
    this.#sets.want(before?.refs ?? [], -1);
    for (const service of before?.services ?? []) removeFrom(this.#namedBy, service, key);
    for (const service of after?.services ?? []) addTo(this.#namedBy, service, key);
    if (!after) {
      this.#made.delete(key);
      this.#groups.delete(key);
      this.#problems.set(key, []);
      return before && { key, before: before.policy, after: undefined };
    }
    const same = before && (after.text ? before.text === after.text : before.policy === after.policy);
    this.#made.set(key, same ? { ...after, policy: before.policy } : after);
    return same ? undefined : { key, before: before?.policy, after: after.policy };
  }

  #make(key: string): Made | undefined {
    const group = this.#groups.get(key);
    if (group) return group.routes.size ? this.#ofRoutes(key, group) : undefined;
    const policy = this.#cluster.of('PluginPolicy').get(key.slice(policyKey('').length));
    return policy && this.#ofPolicy(key, policy);
  }

  #ofPolicy(key: string, policy: PluginPolicy): Made {
    const rules = policy.rules[Direction.EGRESS] ?? [];
    const services = [...new Set(rules.flatMap((rule) => rule.services ?? []))];
    const object = { kind: 'PluginPolicy', namespace: policy.namespace, name: policy.name };
    this.#problems.set(
      key,
      services.flatMap((name) => this.#problemOf(name, object)),
    );
    if (!services.length) return { policy, text: '', services, refs: this.#refsOf(policy) };
    const egress = rules.flatMap((rule, index): AskRule[] => {
      if (!rule.services) return [{ ...rule, written: { index } }];
      const named = rule.services.flatMap((name) => this.#cluster.of('Service').get(name) ?? []);
      const found = named.filter(({ damaged }) => !damaged);
      const damaged = named.filter((service) => service.damaged);
      const asked = { ...rule, peers: found.flatMap(peersOf), ports: portsOf(found, rule.ports), written: { index } };
      return damaged.length ? [asked, { ...closedRule(damaged, rule.ports), written: { index, damaged: true } }] : [asked];
    });
    const made = { ...policy, rules: { ...policy.rules, [Direction.EGRESS]: egress } };
    return { policy: made, text: JSON.stringify(made), services, refs: this.#refsOf(made) };
  }

  /** The policy that HTTPRoutes for one Service come to: for every client, or for those of the routes' own namespace. */
  #ofRoutes(key: string, { service, namespace, routes }: Group): Made {
    const attached = [...routes]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .flatMap(([, route]) => route.parents.filter((parent) => parent.service === service).map(({ port }) => ({ route, port })));
    const names = [...new Set(attached.map(({ route }) => route.name))].join(', ');
    // Routes for several Services are several policies: each needs a name of its own.
    const shared = attached.some(({ route }) => route.parents.some((parent) => parent.service !== service));
    const name = shared ? `${names} for ${service}` : names;
    this.#problems.set(key, this.#problemOf(service, { kind: 'HTTPRoute', namespace, name: names }));
    const found = this.#cluster.of('Service').get(service);
    // A port that is closed comes before what other routes say of every port.
    const ports = [...attached]
      .sort((a, b) => Number(isClosed(attached, b.port)) - Number(isClosed(attached, a.port)))
      .map(({ port }) => port);
    const rules = found ? [...new Set(ports)].map((port) => this.#routeRule(attached, found, port)) : [];
    const policy: PluginPolicy = {
      kind: 'HTTPRoute',
      namespace,
      name,
      everywhere: service.startsWith(`${namespace}/`),
      selector: [],
      overrides: false,
      rules: { [Direction.EGRESS]: rules },
    };
    return { policy, text: JSON.stringify(policy), services: [service], refs: this.#refsOf(policy) };
  }

  /** The rule of all routes for a port of a Service; without a port, for every one. A closed one among them refuses what it is about. */
  #routeRule(attached: readonly Attached[], service: Service, port: number | undefined): AskRule {
    const own = isClosed(attached, port) ? [] : attached.filter((each) => each.port === port).flatMap(({ route }) => route.rules);
    const [first] = own;
    const wanted = port === undefined ? undefined : [{ protocol: TCP, first: port, last: port }];
    if (service.damaged) return closedRule([service], wanted);
    return {
      peers: peersOf(service),
      ports: portsOf([service], wanted),
      services: [objectName(service)],
      plugin: own.length === 1 && !first?.matches.length ? (first?.plugin ?? '') : '',
      context: Context.HTTP,
      requests: { rules: inOrder(own) },
    };
  }

  #problemOf(name: string, object: { kind: string; namespace: string; name: string }): Problem[] {
    const service = this.#cluster.of('Service').get(name);
    if (!service) return [objectProblem(object, `no Service ${name}`, true)];
    if (service.damaged) return [objectProblem(object, `Service ${name} is damaged: what is sent to it is denied`)];
    return service.addresses.length ? [] : [objectProblem(object, `Service ${name} has no cluster address: nothing is sent to it`)];
  }

  /** The sets that rules of a policy may send something to. */
  #refsOf(policy: PluginPolicy): Made['refs'] {
    return Object.values(policy.rules)
      .flat()
      .flatMap(({ requests, services }) => [
        ...(requests?.rules ?? []).flatMap((rule) => [...Object.values(rule.routes).flat(), ...(rule.fallback ?? [])]),
        ...(services ?? []).flatMap((service) =>
          (this.#cluster.of('Service').get(service)?.ports ?? []).flatMap(({ port, protocol }) =>
            protocol === TCP ? { service, port } : [],
          ),
        ),
      ]);
  }
}

/** Whether a route that is closed is about a port; undefined: about every one. */
function isClosed(attached: readonly Attached[], port: number | undefined): boolean {
  return attached.some((each) => each.route.closed && (each.port === undefined || each.port === port));
}

/** Of a PluginPolicy; that of routes begins with their kind. */
function policyKey(key: string): string {
  return `PluginPolicy ${key}`;
}

function peersOf(service: Service): NetworkPeer[] {
  return service.addresses.map((address) => ({ kind: 'network', network: networkOf(address, ADDRESS_BITS), except: [] }));
}

/** The rule for damaged Services: nobody knows what it would come to. */
function closedRule(services: readonly Service[], ports: readonly PortSpec[] = EVERY_TCP_PORT): AskRule {
  return { ...ASK_NOBODY, peers: services.flatMap(peersOf), ports };
}

/** The TCP ports that Services have, of those that a rule is about. */
function portsOf(services: readonly Service[], wanted: readonly PortSpec[] | undefined): PortSpec[] {
  const ports = new Set(services.flatMap((service) => service.ports.filter(({ protocol }) => protocol === TCP).map(({ port }) => port)));
  const covers = (port: number): boolean => !wanted || wanted.some((spec) => 'first' in spec && spec.first <= port && port <= spec.last);
  return [...ports].filter(covers).map((port) => ({ protocol: TCP, first: port, last: port }));
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

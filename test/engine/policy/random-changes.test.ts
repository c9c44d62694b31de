/**
 * Random changes of objects of every kind, one after the other and several at once, in whatever order: what the compiler comes
 * to is what it comes to when it is told the last state at once, entry by entry.
 */

import { expect, test } from 'vitest';
import { Direction } from '../../../engine/abi.gen.ts';
import { formatAddress, parseAddress } from '../../../engine/policy/address.ts';
import { Compiler } from '../../../engine/policy/compile.ts';
import { objectName } from '../../../engine/policy/object-name.ts';
import type { ObjectChange } from '../../../engine/policy/objects.ts';
import { formatProblem, viewProblem } from '../../../engine/policy/problem.ts';
import { formatOrigin } from '../../../engine/policy/rules.ts';
import { readObject } from '../../../engine/sources/read-object.ts';

const seed = Number(process.env.SLUICE_TEST_SEED ?? 20_261_128);
const RUNS = 12;
const STEPS = 60;

const NAMESPACES = ['one', 'two'];
const LABELS = ['a', 'b'];
const SERVICES = ['red', 'blue'];
const PLUGINS = ['p', 'q'];
const DOMAINS = ['a.b.test', '*.b.test', 'other.test'];
const NETWORKS = ['0.0.0.0/0', '10.0.0.0/30', '10.0.0.4/32', '::/0', 'fd00::/127', '10.1.0.0/16'];

// biome-ignore lint/suspicious/noExplicitAny: manifests as they are written
type Any = any;

/** Makes objects as people could write them. Everything follows from the seed. */
class Random {
  #state: number;

  constructor(from: number) {
    this.#state = from % 0x7fffffff || 1;
  }

  below(limit: number): number {
    this.#state = (this.#state * 48_271) % 0x7fffffff;
    return this.#state % limit;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }

  some<T>(items: readonly T[]): T[] {
    return items.filter(() => this.below(2));
  }

  list<T>(most: number, make: () => T): T[] {
    return Array.from({ length: this.below(most + 1) }, make);
  }

  labels(): Record<string, string> {
    return Object.fromEntries(this.some(['app', 'tier']).map((key) => [key, this.pick(LABELS)]));
  }

  selector(): Any {
    const kind = this.below(3);
    if (kind === 0) return {};
    if (kind === 1) return { matchLabels: { app: this.pick(LABELS) } };
    return {
      matchExpressions: [
        { key: 'tier', ...this.pick([{ operator: 'Exists' }, { operator: 'NotIn', values: ['a'] }, { operator: 'In', values: LABELS }]) },
      ],
    };
  }

  object(): Any {
    const make = this.pick([
      this.#pod,
      this.#pod,
      this.#pod,
      this.#namespace,
      this.#policy,
      this.#clusterPolicy,
      this.#pluginPolicy,
      this.#service,
      this.#slice,
      this.#route,
    ]);
    return make.call(this);
  }

  #pod(): Any {
    const i = this.below(7);
    const place = this.pick([{ 'sluice.dev/interface': `i${i}` }, { 'sluice.dev/cgroup': `/c${i}` }, {}]);
    return {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        // A name has one namespace, as an address has mostly one name.
        namespace: NAMESPACES[i % 2],
        name: `p${i}`,
        labels: this.labels(),
        annotations: { ...place, ...(this.below(6) === 0 && { 'sluice.dev/resolver': 'true' }) },
      },
      spec: {
        hostNetwork: this.below(8) === 0,
        containers: [{ ports: this.some([{ name: 'web', containerPort: 8000 + this.below(2) }]) }],
      },
      status: {
        phase: this.pick(['Running', 'Running', 'Running', 'Succeeded']),
        podIPs: [{ ip: `10.0.0.${this.below(8) ? i + 1 : 1}` }, ...this.some([{ ip: `fd00::${i}` }])],
      },
    };
  }

  #namespace(): Any {
    return { apiVersion: 'v1', kind: 'Namespace', metadata: { name: this.pick(NAMESPACES), labels: this.labels() } };
  }

  #peer(): Any {
    return this.pick([
      { podSelector: this.selector() },
      { namespaceSelector: this.selector() },
      { namespaceSelector: this.selector(), podSelector: this.selector() },
      { ipBlock: { cidr: this.pick(NETWORKS) } },
    ]);
  }

  #ports(): Any[] {
    return this.list(3, () => this.pick([{ port: 80 + this.below(4) }, { port: 'web' }, { protocol: 'UDP' }, { port: 90, endPort: 95 }]));
  }

  #policy(): Any {
    const rule = (peers: string) => () => ({ ...(this.below(3) && { [peers]: this.list(2, () => this.#peer()) }), ports: this.#ports() });
    return {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { namespace: this.pick(NAMESPACES), name: `n${this.below(4)}` },
      spec: {
        podSelector: this.selector(),
        ingress: this.list(3, rule('from')),
        ...(this.below(2) && { egress: this.list(3, rule('to')) }),
      },
    };
  }

  #clusterPolicy(): Any {
    const to = (): Any =>
      this.pick([{ namespaces: this.selector() }, { networks: [this.pick(NETWORKS)] }, { domainNames: [this.pick(DOMAINS)] }]);
    const egress = this.list(3, () => {
      const peer = to();
      return { action: peer.domainNames ? 'Accept' : this.pick(['Accept', 'Deny', 'Pass']), to: [peer] };
    });
    return {
      apiVersion: 'policy.networking.k8s.io/v1alpha2',
      kind: 'ClusterNetworkPolicy',
      metadata: { name: `c${this.below(3)}` },
      spec: {
        tier: this.pick(['Admin', 'Baseline']),
        priority: this.below(3),
        subject: this.pick([
          { namespaces: this.selector() },
          { pods: { namespaceSelector: this.selector(), podSelector: this.selector() } },
        ]),
        egress,
        ...(this.below(2) && { ingress: [{ action: 'Deny', from: [{ namespaces: this.selector() }] }] }),
      },
    };
  }

  #backend(namespace: string): Any {
    return { service: this.pick(SERVICES), namespace, port: 80 };
  }

  #pluginPolicy(): Any {
    const namespace = this.pick(NAMESPACES);
    const plugin = this.pick(PLUGINS);
    const egress = this.list(2, () =>
      this.pick([
        {
          to: [{ service: { name: this.pick(SERVICES) } }],
          ask: { plugin, context: 'http' },
          http: { routes: { x: this.#backend(namespace) }, default: 'x' },
        },
        { to: [{ cidr: this.pick(NETWORKS) }], ask: { plugin } },
        { ask: { plugin, context: 'dns' } },
        { serverNames: { names: [this.pick(['a.test', 'b.test'])] } },
      ]),
    );
    return {
      apiVersion: 'sluice.dev/v1alpha1',
      kind: 'PluginPolicy',
      metadata: { namespace, name: `a${this.below(3)}` },
      spec: { podSelector: this.selector(), egress: egress.length ? egress : [{ ask: { plugin } }] },
    };
  }

  #service(): Any {
    const i = this.below(SERVICES.length);
    return {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { namespace: this.pick(NAMESPACES), name: SERVICES[i] },
      spec: {
        clusterIP: this.below(5) ? `10.96.0.${i + 1}` : '10.96.0.9',
        ports: [{ port: 80, targetPort: this.pick([8080, 'web']) }, ...this.some([{ name: 'more', port: 81 }])],
        ...(this.below(4) && { selector: { app: this.pick(LABELS) } }),
      },
    };
  }

  #slice(): Any {
    const service = this.pick(SERVICES);
    return {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: {
        namespace: this.pick(NAMESPACES),
        name: `${service}-${this.below(2)}`,
        labels: { 'kubernetes.io/service-name': service },
      },
      addressType: 'IPv4',
      ports: [{ name: '', port: 9090, protocol: 'TCP' }],
      endpoints: this.list(4, () => ({ addresses: [`10.0.1.${this.below(6)}`] })),
    };
  }

  #route(): Any {
    const parents = this.some(SERVICES).map((name) => ({ group: '', kind: 'Service', name, namespace: this.pick(NAMESPACES) }));
    const namespace = this.pick(NAMESPACES);
    return {
      apiVersion: 'gateway.networking.k8s.io/v1',
      kind: 'HTTPRoute',
      metadata: { namespace, name: `r${this.below(2)}` },
      spec: {
        parentRefs: parents.length ? parents : [{ group: '', kind: 'Service', name: 'red', namespace }],
        rules: [{ matches: [{ path: { value: `/${this.below(2)}` } }], backendRefs: [{ name: this.pick(SERVICES), port: 80 }] }],
      },
    };
  }
}

/** The state counts, not the order in which it came about. */
function stateOf(compiler: Compiler): Record<string, unknown> {
  const sorted = (texts: Iterable<string>): string[] => [...texts].sort();
  const entries = Object.entries(compiler.maps).map(([map, each]) => [
    map,
    sorted([...each.entries].map(([key, value]) => hex(key) + hex(value))),
  ]);
  const { requestRules, serverNames, origins, backends } = compiler;
  return {
    ...Object.fromEntries(entries),
    endpoints: sorted([...compiler.endpoints].map(([pod, { value }]) => `${objectName(pod)} ${hex(value)}`)),
    pods: sorted([...compiler.podsByAddress].map(([key, pod]) => `${formatAddress(Buffer.from(key, 'latin1'))} ${objectName(pod)}`)),
    services: sorted([...compiler.servicesByAddress].map(([key, name]) => `${formatAddress(Buffer.from(key, 'latin1'))} ${name}`)),
    identities: sorted([...compiler.identities.keys()].map(String)),
    origins: sorted([...origins].map(([id, origin]) => `${id} ${formatOrigin(origin)}`)),
    requestRules: sorted([...requestRules].map(([id, rule]) => `${id} ${JSON.stringify(rule)}`)),
    serverNames: sorted([...serverNames].map(([id, list]) => `${id} ${JSON.stringify(list)}`)),
    sets: sorted(
      [...backends.sets.values()].map((set) =>
        JSON.stringify({ ...set, backends: set.backends.map(({ address, port }) => `${formatAddress(address)} ${port}`) }),
      ),
    ),
    frontends: sorted([...backends.frontends].map(([key, { name }]) => hex(key) + name)),
    problems: sorted(compiler.problems.all.map((problem) => formatProblem(viewProblem(problem)))),
  };
}

const hex = (bytes: string | Buffer): string => Buffer.from(bytes as string, 'latin1').toString('hex');

/** An object in the form that policy is compiled from; undefined where it is none. */
function read(raw: Any): ObjectChange | undefined {
  const { object, problems } = readObject(raw, { locate: () => ({ at: 'engine', part: 'test' }), mayPlace: true });
  if (problems.length) throw new Error(`${JSON.stringify(raw)}: ${problems.map(({ reason }) => reason).join('; ')}`);
  return object && ({ kind: object.kind, key: objectName(object.value), value: object.value } as ObjectChange);
}

test(`changes by object come to the entries of the last state, whatever the way there (seed ${seed})`, () => {
  const sizes = new Map<string, number>();
  for (let run = 0; run < RUNS; run++) {
    const random = new Random(seed + run);
    const compiler = new Compiler();
    const known = new Map<string, ObjectChange>();
    let plugins = new Map([['p', 7]]);
    let nodes: Uint8Array[] = [];
    for (let step = 0; step < STEPS; step++) {
      const changes = Array.from({ length: 1 + random.below(5) }, () => {
        const gone = known.size > 6 && random.below(3) === 0 ? random.pick([...known.values()]) : undefined;
        return gone ? ({ ...gone, value: undefined } as ObjectChange) : read(random.object());
      }).filter((change) => change !== undefined);
      for (const change of changes)
        if (change.value) known.set(`${change.kind} ${change.key}`, change);
        else known.delete(`${change.kind} ${change.key}`);
      if (random.below(8) === 0) plugins = new Map(random.some(PLUGINS).map((name) => [name, name === 'p' ? 7 : 8 + random.below(2)]));
      if (random.below(8) === 0) nodes = random.some(['10.0.0.2', '192.168.0.1']).map((text) => parseAddress(text) as Uint8Array);
      compiler.update(changes, plugins, nodes);
      // Endpoints that are asked about change nothing.
      if (random.below(4) === 0)
        for (const pod of compiler.cluster.of('Pod').values()) compiler.membership(pod, random.pick([Direction.INGRESS, Direction.EGRESS]));
      // A rule set that was not taken away in one step is taken away in a later one.
      if (random.below(2)) continue;
      compiler.retire();
      compiler.named.forget(new Set());
      const fresh = new Compiler();
      fresh.update(
        [...known.values()].sort(() => random.below(3) - 1),
        plugins,
        nodes,
      );
      fresh.retire();
      const [got, want] = [stateOf(compiler), stateOf(fresh)];
      expect(got, `seed ${seed + run}, step ${step}`).toEqual(want);
      for (const [name, list] of Object.entries(want)) sizes.set(name, (sizes.get(name) ?? 0) + (list as string[]).length);
    }
  }
  // Nothing of it was compared without ever having been there.
  expect([...sizes].filter(([, size]) => size < 20)).toEqual([]);
}, 60_000);

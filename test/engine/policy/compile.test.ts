/** The compiled maps against an independent evaluator that reads the policies as written, and against cases that people get wrong. */
import { describe, expect, test } from 'vitest';
import { Action, Direction } from '../../../engine/abi.gen.ts';
import { formatAddress, parseAddress, parseNetwork } from '../../../engine/policy/address.ts';
import { compile } from '../../../engine/policy/compile.ts';
import type { Peer, Pod, Policy, PolicyRule, Selector, Snapshot } from '../../../engine/policy/snapshot.ts';
import { readManifest } from '../../../engine/sources/manifest.ts';
import { ruleOfMaps } from '../../support/verdict-of-maps.ts';

const address = (text: string): Uint8Array => parseAddress(text) as Uint8Array;

/** A snapshot from manifests, as a directory source makes it; throws where one is invalid. */
function cluster(text: string): Snapshot {
  const { objects, problems } = readManifest('test.yaml', text);
  if (problems.length) throw new Error(problems.map((problem) => problem.reason).join('; '));
  const of = <T>(kind: string): T[] => objects.filter((object) => object.kind === kind).map((object) => object.value as T);
  return {
    namespaces: new Map(of<{ name: string }>('Namespace').map((namespace) => [namespace.name, namespace as never])),
    pods: of('Pod'),
    policies: of('NetworkPolicy'),
    pluginPolicies: of('PluginPolicy'),
    plugins: of('PolicyPlugin'),
    problems: [],
  };
}

const podText = (namespace: string, name: string, labels: string, ip: string, extra = ''): string => `
apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: ${namespace}, labels: { ${labels} }, annotations: { sluice.dev/interface: i-${name} } }
spec: { containers: [{ name: c, ports: [{ name: web, containerPort: 8080 }, { name: dns, containerPort: 53, protocol: UDP }] }]${extra} }
status: { podIPs: [{ ip: ${ip} }] }
---`;

const base = `
apiVersion: v1
kind: Namespace
metadata: { name: shop, labels: { team: red } }
---
apiVersion: v1
kind: Namespace
metadata: { name: bank, labels: { team: blue } }
---${podText('shop', 'web', 'app: web, constructor: "", tier: front', '10.0.0.1')}${podText('shop', 'db', 'app: db', '10.0.0.2')}${podText('bank', 'web', 'app: web', '10.0.1.1').replace('i-web', 'i-bank')}`;

const policy = (spec: string, namespace = 'shop'): string => `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: p, namespace: ${namespace} }
spec: ${spec}
`;

describe('compile()', () => {
  test.each([
    { name: 'no policy: everything', spec: '', from: '10.0.0.1', port: 80, allowed: true },
    { name: 'an empty spec isolates for ingress', spec: '{ podSelector: {} }', from: '10.0.0.1', port: 80, allowed: false },
    { name: 'ingress: [{}] allows everyone', spec: '{ podSelector: {}, ingress: [{}] }', from: '192.0.2.9', port: 80, allowed: true },
    { name: 'from: [] means everyone', spec: '{ podSelector: {}, ingress: [{ from: [] }] }', from: '192.0.2.9', port: 80, allowed: true },
    {
      name: 'from: null means everyone',
      spec: '{ podSelector: {}, ingress: [{ from: null }] }',
      from: '192.0.2.9',
      port: 80,
      allowed: true,
    },
    {
      name: 'ports: [] means every port',
      spec: '{ podSelector: {}, ingress: [{ ports: [] }] }',
      from: '192.0.2.9',
      port: 99,
      allowed: true,
    },
    {
      name: 'podSelector means pods of the own namespace',
      spec: '{ podSelector: {}, ingress: [{ from: [{ podSelector: { matchLabels: { app: web } } }] }] }',
      from: '10.0.0.1',
      port: 80,
      allowed: true,
    },
    {
      name: '… and not of others',
      spec: '{ podSelector: {}, ingress: [{ from: [{ podSelector: { matchLabels: { app: web } } }] }] }',
      from: '10.0.1.1',
      port: 80,
      allowed: false,
    },
    {
      name: 'namespaceSelector {} means every pod',
      spec: '{ podSelector: {}, ingress: [{ from: [{ namespaceSelector: {} }] }] }',
      from: '10.0.1.1',
      port: 80,
      allowed: true,
    },
    {
      name: '… and no address outside',
      spec: '{ podSelector: {}, ingress: [{ from: [{ namespaceSelector: {} }] }] }',
      from: '192.0.2.9',
      port: 80,
      allowed: false,
    },
    {
      name: 'both selectors must match',
      spec: '{ podSelector: {}, ingress: [{ from: [{ namespaceSelector: { matchLabels: { team: blue } }, podSelector: { matchLabels: { app: db } } }] }] }',
      from: '10.0.1.1',
      port: 80,
      allowed: false,
    },
    {
      name: 'kubernetes.io/metadata.name is there',
      spec: '{ podSelector: {}, ingress: [{ from: [{ namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: bank } } }] }] }',
      from: '10.0.1.1',
      port: 80,
      allowed: true,
    },
    {
      name: 'a label called constructor is not there by itself',
      spec: '{ podSelector: {}, ingress: [{ from: [{ namespaceSelector: {}, podSelector: { matchExpressions: [{ key: constructor, operator: Exists }] } }] }] }',
      from: '10.0.1.1',
      port: 80,
      allowed: false,
    },
    {
      name: '… and is where it stands, empty',
      spec: '{ podSelector: {}, ingress: [{ from: [{ podSelector: { matchLabels: { constructor: "" } } }] }] }',
      from: '10.0.0.1',
      port: 80,
      allowed: true,
    },
    {
      name: 'NotIn matches where the key is absent',
      spec: '{ podSelector: {}, ingress: [{ from: [{ namespaceSelector: {}, podSelector: { matchExpressions: [{ key: tier, operator: NotIn, values: [front] }] } }] }] }',
      from: '10.0.1.1',
      port: 80,
      allowed: true,
    },
    {
      name: 'a port range',
      spec: '{ podSelector: {}, ingress: [{ ports: [{ port: 1000, endPort: 1003 }] }] }',
      from: '10.0.0.1',
      port: 1003,
      allowed: true,
    },
    {
      name: 'above a port range',
      spec: '{ podSelector: {}, ingress: [{ ports: [{ port: 1000, endPort: 1003 }] }] }',
      from: '10.0.0.1',
      port: 1004,
      allowed: false,
    },
    {
      name: 'a protocol without a port means its every port',
      spec: '{ podSelector: {}, ingress: [{ ports: [{ protocol: TCP }] }] }',
      from: '10.0.0.1',
      port: 7,
      allowed: true,
    },
    {
      name: 'a named port of the pod itself',
      spec: '{ podSelector: {}, ingress: [{ ports: [{ port: web }] }] }',
      from: '10.0.0.1',
      port: 8080,
      allowed: true,
    },
    {
      name: 'a named port of another protocol',
      spec: '{ podSelector: {}, ingress: [{ ports: [{ port: dns }] }] }',
      from: '10.0.0.1',
      port: 53,
      allowed: false,
    },
    {
      name: 'a name that no port has',
      spec: '{ podSelector: {}, ingress: [{ ports: [{ port: nope }] }] }',
      from: '10.0.0.1',
      port: 8080,
      allowed: false,
    },
    {
      name: 'ipBlock matches pods by their address',
      spec: '{ podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: 10.0.0.0/24 } }] }] }',
      from: '10.0.0.1',
      port: 80,
      allowed: true,
    },
    {
      name: 'except takes out',
      spec: '{ podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: 10.0.0.0/8, except: [10.0.0.0/24] } }] }] }',
      from: '10.0.0.1',
      port: 80,
      allowed: false,
    },
    {
      name: '… and nothing else',
      spec: '{ podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: 10.0.0.0/8, except: [10.0.0.0/24] } }] }] }',
      from: '10.9.9.9',
      port: 80,
      allowed: true,
    },
    {
      name: 'policyTypes [Egress] does not isolate ingress',
      spec: '{ podSelector: {}, policyTypes: [Egress] }',
      from: '192.0.2.9',
      port: 80,
      allowed: true,
    },
    {
      name: 'a policy of another namespace selects nothing here',
      spec: '{ podSelector: {} }',
      namespace: 'bank',
      from: '192.0.2.9',
      port: 80,
      allowed: true,
    },
  ])('$name', ({ spec, from, port, allowed, namespace }) => {
    const compiled = compile(cluster(base + (spec ? policy(spec, namespace) : '')), new Map(), []);
    expect(ruleOfMaps(compiled, 'shop/db', Direction.INGRESS, address(from), 6, port).action).toBe(allowed ? Action.ALLOW : Action.DENY);
  });

  test('resolves a named port of egress by the pod that is reached', () => {
    const compiled = compile(
      cluster(base + policy('{ podSelector: {}, policyTypes: [Egress], egress: [{ ports: [{ port: web }] }] }')),
      new Map(),
      [],
    );
    expect(ruleOfMaps(compiled, 'shop/db', Direction.EGRESS, address('10.0.0.1'), 6, 8080).action).toBe(Action.ALLOW);
    expect(ruleOfMaps(compiled, 'shop/db', Direction.EGRESS, address('192.0.2.9'), 6, 8080).action).toBe(Action.DENY);
  });

  const ask = (extra = ''): string => `
---
apiVersion: sluice.dev/v1alpha1
kind: PluginPolicy
metadata: { name: asks, namespace: shop }
spec: { podSelector: { matchLabels: { app: db } }, ingress: [{ ports: [{ port: 80 }], ask: { plugin: p } }]${extra} }
`;

  test('asks a plugin only where the tiers allow, unless its policy says otherwise', () => {
    const closed = policy('{ podSelector: {} }');
    const action = (text: string, plugins = new Map([['p', 7]])): number =>
      ruleOfMaps(compile(cluster(base + text), plugins, []), 'shop/db', Direction.INGRESS, address('10.0.0.1'), 6, 80).action;
    expect(action(ask())).toBe(Action.ASK);
    expect(action(closed + ask())).toBe(Action.DENY);
    expect(action(closed + ask(', precedence: Admin'))).toBe(Action.ASK);
    // A plugin that nobody declared answers nothing.
    expect(action(ask(), new Map())).toBe(Action.DENY);
  });

  test('says which rule is not asked where two tag one flow for different plugins', () => {
    const second = ask().replace('asks', 'asks-too').replace('plugin: p', 'plugin: q');
    const plugins = new Map([
      ['p', 7],
      ['q', 8],
    ]);
    const { conflicts, origins } = compile(cluster(base + ask() + second), plugins, []);
    expect([...conflicts].map(([notAsked, asked]) => [origins.get(notAsked)?.name, origins.get(asked)?.name])).toEqual([
      ['asks-too', 'asks'],
    ]);
    expect(compile(cluster(base + ask() + second.replace('port: 80', 'port: 81')), plugins, []).conflicts.size).toBe(0);
  });

  test('gives the same ids and entries to the same cluster, in whatever order it is read', () => {
    const snapshot = cluster(
      base + policy('{ podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: 10.0.0.0/8 } }], ports: [{ port: 80 }] }] }'),
    );
    const one = compile(snapshot, new Map(), []);
    const two = compile({ ...snapshot, pods: [...snapshot.pods].reverse() }, new Map(), []);
    const sorted = (entries: Map<string, Buffer>) => [...entries].map(([key, value]) => key + value.toString('latin1')).sort();
    for (const map of ['peers', 'networks', 'policies', 'ports'] as const) expect(sorted(one[map])).toEqual(sorted(two[map]));
  });

  test('closes a pod whose manifest is damaged', () => {
    const { objects } = readManifest('t.yaml', podText('shop', 'odd', 'app: [1]', '10.0.0.5'));
    const pod = objects[0]?.value as Pod;
    const compiled = compile({ ...cluster(base), pods: [pod] }, new Map(), []);
    for (const direction of [Direction.INGRESS, Direction.EGRESS])
      expect(ruleOfMaps(compiled, 'shop/odd', direction, address('10.0.0.1'), 6, 80).action).toBe(Action.DENY);
  });
});

/** NetworkPolicy as its documentation reads, with no indices and no identities. */
function naive(snapshot: Snapshot, pod: Pod, direction: Direction, peer: Uint8Array, protocol: number, port: number): boolean {
  const has = (selector: Selector, labels: ReadonlyMap<string, string>): boolean =>
    selector.every(({ key, operator, values }) => {
      const value = labels.get(key);
      if (operator === 'Exists') return value !== undefined;
      if (operator === 'DoesNotExist') return value === undefined;
      return (value !== undefined && values.includes(value)) === (operator === 'In');
    });
  const inside = (network: { address: Uint8Array; bits: number; text: string }): boolean => {
    if (network.text.includes(':') !== formatAddress(peer).includes(':')) return false;
    for (let bit = 0; bit < network.bits; bit++) {
      const of = (bytes: Uint8Array): number => ((bytes[bit >> 3] as number) >> (7 - (bit & 7))) & 1;
      if (of(network.address) !== of(peer)) return false;
    }
    return true;
  };
  const peerPod = snapshot.pods.find((candidate) => candidate.addresses.some((own) => formatAddress(own) === formatAddress(peer)));
  const isPeer = (policy: Policy, wanted: Peer): boolean => {
    if (wanted.kind === 'network') return inside(wanted.network) && !wanted.except.some(inside);
    if (!peerPod || !has(wanted.pods, peerPod.labels)) return false;
    if (wanted.namespaces === 'own') return peerPod.namespace === policy.namespace;
    return has(wanted.namespaces, snapshot.namespaces.get(peerPod.namespace)?.labels ?? new Map());
  };
  const isPort = (rule: PolicyRule): boolean =>
    !rule.ports ||
    rule.ports.some((wanted) => !('name' in wanted) && wanted.protocol === protocol && wanted.first <= port && port <= wanted.last);
  const isolating = snapshot.policies.filter((p) => p.namespace === pod.namespace && has(p.selector, pod.labels) && p.rules[direction]);
  return (
    !isolating.length ||
    isolating.some((p) =>
      p.rules[direction]?.some((rule) => (!rule.peers || rule.peers.some((wanted) => isPeer(p, wanted))) && isPort(rule)),
    )
  );
}

test('agrees with a naive evaluator on random clusters', () => {
  const seed = Number(process.env.SLUICE_TEST_SEED ?? 20_261_122);
  let state = seed;
  const random = (below: number): number => (state = (state * 48_271) % 0x7fffffff) % below;
  const pick = <T>(items: readonly T[]): T => items[random(items.length)] as T;
  const maybe = <T>(make: () => T): T | undefined => (random(2) ? make() : undefined);
  const KEYS = ['app', 'tier', 'constructor', 'toString'];
  const VALUES = ['a', 'b', ''];
  const labels = () => new Map(KEYS.filter(() => random(2)).map((key) => [key, pick(VALUES)]));
  const selector = (): Selector =>
    Array.from({ length: random(3) }, () => {
      const operator = pick(['In', 'NotIn', 'Exists', 'DoesNotExist'] as const);
      return { key: pick(KEYS), operator, values: operator.endsWith('In') ? [pick(VALUES)] : [] };
    });
  const NETWORKS = ['0.0.0.0/0', '10.0.0.0/8', '10.0.0.0/30', '10.0.0.4/31', '10.0.0.2/32', '::/0', 'fd00::/64', 'fd00::2/127'].map(
    (text) => parseNetwork(text) as never,
  );
  const peer = (): Peer =>
    random(2)
      ? { kind: 'network', network: pick(NETWORKS), except: maybe(() => [pick(NETWORKS)]) ?? [] }
      : { kind: 'pods', namespaces: random(2) ? 'own' : selector(), pods: selector() };
  const portSpec = () => {
    const first = random(6);
    return { protocol: pick([6, 17]), first, last: first + random(4) };
  };
  const rule = (): PolicyRule => {
    const peers = maybe(() => Array.from({ length: 1 + random(2) }, peer));
    const ports = maybe(() => Array.from({ length: 1 + random(2) }, portSpec));
    return { ...(peers && { peers }), ...(ports && { ports }) };
  };
  const NAMESPACES = ['one', 'two'];
  let compared = 0;
  for (let round = 0; round < 150; round++) {
    const pods = Array.from({ length: 6 }, (_, i) => ({
      namespace: pick(NAMESPACES),
      name: `p${i}`,
      labels: labels(),
      addresses: [address(`10.0.0.${i + 1}`), address(`fd00::${i + 1}`)],
      ports: [],
      hostNetwork: false,
      ended: false,
      interface: `i${i}`,
    }));
    const policies = Array.from(
      { length: random(5) },
      (_, i): Policy => ({
        namespace: pick(NAMESPACES),
        name: `policy${i}`,
        selector: selector(),
        rules: {
          ...(random(2) && { [Direction.INGRESS]: Array.from({ length: random(3) }, rule) }),
          ...(random(2) && { [Direction.EGRESS]: Array.from({ length: random(3) }, rule) }),
        },
      }),
    );
    const namespaces = new Map(
      NAMESPACES.map((name) => [name, { name, labels: new Map([...labels(), ['kubernetes.io/metadata.name', name]]) }]),
    );
    const snapshot: Snapshot = { namespaces, pods, policies, pluginPolicies: [], plugins: [], problems: [] };
    const compiled = compile(snapshot, new Map(), []);
    const peers = ['10.0.0.1', '10.0.0.2', '10.0.0.5', '10.9.9.9', '192.0.2.1', 'fd00::1', 'fd00::3', 'fd00::99', '2001:db8::1'].map(
      address,
    );
    for (const pod of pods)
      for (const direction of [Direction.INGRESS, Direction.EGRESS])
        for (const from of peers)
          for (const protocol of [6, 17, 1])
            for (const port of protocol === 1 ? [0] : [0, 3, 5, 8]) {
              const got = ruleOfMaps(compiled, `${pod.namespace}/${pod.name}`, direction, from, protocol, port).action === Action.ALLOW;
              const want = naive(snapshot, pod, direction, from, protocol, port);
              compared += 1;
              if (got !== want)
                expect.fail(
                  `seed ${seed}, round ${round}: ${pod.name} ${direction} ${formatAddress(from)} ${protocol}/${port}: compiled ${got}, naive ${want}`,
                );
            }
  }
  expect(compared).toBeGreaterThan(100_000);
});

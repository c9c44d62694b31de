/** The cluster of the network-policy-api's conformance suite, its policies, and probes from pod to pod, as decisions of compiled policy. */
import { expect } from 'vitest';
import { Action } from '../../engine/abi.gen.ts';
import { addressKey, parseAddress } from '../../engine/policy/address.ts';
import { Compiler } from '../../engine/policy/compile.ts';
import { explain, type Party } from '../../engine/policy/explain.ts';
import { snapshotOf, update } from './compiled.ts';

// biome-ignore lint/suspicious/noExplicitAny: manifests as they are written
type Any = any;

export const HOUSES = {
  gryffindor: 'harry-potter',
  slytherin: 'draco-malfoy',
  hufflepuff: 'cedric-diggory',
  ravenclaw: 'luna-lovegood',
  'forbidden-forrest': 'centaur',
} as const;
export type House = keyof typeof HOUSES;
const PROTOCOLS = { tcp: 6, udp: 17, sctp: 132 } as const;
export type Protocol = keyof typeof PROTOCOLS;
const NODES = ['192.168.0.1', '192.168.0.2'] as const;

/** The cluster while one test of the suite goes on. */
export class ConformanceCluster {
  readonly #compiler = new Compiler();
  readonly #ownNode: readonly Uint8Array[];
  readonly #pods: Any[];
  readonly #namespaces: Any[];
  readonly #nodes: Any[];
  #policies: Any[];

  /** `here`: which node it is that everything is compiled for. */
  constructor(policies: readonly Any[], here = 0) {
    this.#ownNode = [parseAddress(NODES[here] as string) as Uint8Array];
    this.#policies = structuredClone([...policies]);
    this.#namespaces = Object.keys(HOUSES).map((house) => ({
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: house, labels: { 'conformance-house': house } },
    }));
    this.#nodes = NODES.map((address, i) => ({
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name: `node-${i}`, labels: { 'kubernetes.io/os': 'linux', 'kubernetes.io/hostname': `node-${i}` } },
      status: {
        addresses: [
          { type: 'InternalIP', address },
          { type: 'Hostname', address: `node-${i}` },
        ],
      },
    }));
    this.#pods = Object.entries(HOUSES).flatMap(([house, set], h) => [0, 1].map((i) => podOf(house, `${set}-${i}`, h, i)));
    this.#update();
  }

  /** Changes a policy, by name. */
  patch(name: string, change: (spec: Any) => void): void {
    this.#policies = this.#policies.map((policy) => {
      if (policy.metadata.name !== name) return policy;
      const changed = structuredClone(policy);
      change(changed.spec);
      return changed;
    });
    this.#update();
  }

  remove(name: string): void {
    this.#policies = this.#policies.filter(({ metadata }) => metadata.name !== name);
    this.#update();
  }

  /** Gives labels to a pod or a namespace; undefined: takes one away. */
  label(name: string, labels: Record<string, string | undefined>): void {
    for (const { metadata } of [...this.#pods, ...this.#namespaces]) if (metadata.name === name) Object.assign(metadata.labels, labels);
    this.#update();
  }

  ip(pod: string): string {
    return this.#pods.find(({ metadata }) => metadata.name === pod).status.podIP;
  }

  /** Lines such as `harry-potter-0 tcp luna-lovegood-1 80 reached`; whatever is not `reached` is not. */
  probe(...lines: string[]): void {
    for (const line of lines) {
      const [from = '', protocol = '', to = '', port = '', verdict] = line.split(' ');
      const question = {
        source: this.#party(from),
        destination: this.#party(to),
        protocol: PROTOCOLS[protocol as Protocol],
        port: Number(port),
      };
      const ends = explain(this.#compiler, question, this.#ownNode);
      expect(ends.length, line).toBeGreaterThan(0);
      expect(ends.every(({ action }) => action === Action.ALLOW) ? 'reached' : 'dropped', line).toBe(verdict);
    }
  }

  #party(name: string): Party {
    const address = parseAddress(this.ip(name)) as Uint8Array;
    const pod = this.#compiler.podsByAddress.get(addressKey(address));
    return { address, ...(pod && { pod }) };
  }

  #update(): void {
    const items = [...this.#namespaces, ...this.#nodes, ...this.#pods, ...this.#policies];
    update(this.#compiler, snapshotOf(JSON.stringify({ kind: 'List', items })), new Map(), this.#ownNode);
    this.#compiler.retire();
  }
}

function podOf(house: string, name: string, h: number, i: number): Any {
  const hostNetwork = house === 'forbidden-forrest';
  const ports = [
    { name: 'web', containerPort: 80, protocol: 'TCP' },
    { name: 'dns', containerPort: 53, protocol: 'UDP' },
  ];
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      namespace: house,
      name,
      labels: { 'conformance-house': house, 'statefulset.kubernetes.io/pod-name': name },
      ...(!hostNetwork && { annotations: { 'sluice.dev/interface': `i-${name}` } }),
    },
    spec: { hostNetwork, containers: hostNetwork ? [] : [{ ports }] },
    status: { podIP: hostNetwork ? NODES[i] : `10.0.${h}.${i + 1}` },
  };
}

export const namespaceOf = (house: House) => ({ namespaces: { matchLabels: { 'kubernetes.io/metadata.name': house } } });
export const labelled = (house: House) => ({ matchLabels: { 'conformance-house': house } });
export const podsIn = (house: House) => ({ pods: { namespaceSelector: labelled(house), podSelector: labelled(house) } });
export const at = (ports: Partial<Record<Protocol, number>>) =>
  Object.entries(ports).map(([protocol, number]) => ({ [protocol]: { destinationPort: { number } } }));
export const everywhere = { networks: ['0.0.0.0/0', '::/0'] };

export const TIERS = ['Admin', 'Baseline'] as const;
export type Tier = (typeof TIERS)[number];
export const DIRECTIONS = ['ingress', 'egress'] as const;
export type Direction = (typeof DIRECTIONS)[number];

export function clusterPolicy(name: string, tier: Tier, priority: number, subject: Any, rules: Partial<Record<Direction, Any[]>>): Any {
  return {
    apiVersion: 'policy.networking.k8s.io/v1beta1',
    kind: 'ClusterNetworkPolicy',
    metadata: { name },
    spec: { tier, priority, subject, ...rules },
  };
}
export const rule = (direction: Direction, action: string, peers: Any[], protocols?: Any[]) => ({
  action,
  [direction === 'ingress' ? 'from' : 'to']: peers,
  ...(protocols && { protocols }),
});

/** The rules that most tests of the suite begin with; the Baseline ones have no Pass. */
interface Ordered {
  readonly tier: Tier;
  readonly direction: Direction;
  /** Everything of it is first accepted, then denied, then passed. */
  readonly every: House;
  readonly slytherin: Partial<Record<Protocol, number>>;
  readonly some: House;
  readonly open: Partial<Record<Protocol, number>>;
}
export function orderedRules({ tier, direction, every, slytherin, some, open }: Ordered): Any[] {
  const whole = (action: string, house: House) => rule(direction, action, [namespaceOf(house)]);
  const part = (action: string, house: House, ports: Partial<Record<Protocol, number>>) =>
    rule(direction, action, [namespaceOf(house)], at(ports));
  const passes = tier === 'Admin';
  return [
    whole('Accept', every),
    whole('Deny', every),
    ...(passes ? [whole('Pass', every)] : []),
    part('Deny', 'slytherin', slytherin),
    ...(passes ? [part('Pass', 'slytherin', slytherin)] : []),
    part('Accept', some, open),
    whole('Deny', some),
  ];
}
export function swap(list: Any[], a: number, b: number): void {
  [list[a], list[b]] = [list[b], list[a]];
}

/** By protocol: whose pods are selected, by which rules, and another port of that protocol. */
export const ORDERED = {
  tcp: { subject: 'gryffindor', every: 'ravenclaw', slytherin: { tcp: 80 }, some: 'hufflepuff', open: { ingress: 80, egress: 8080 } },
  udp: { subject: 'hufflepuff', every: 'ravenclaw', slytherin: { udp: 5353 }, some: 'gryffindor', open: { ingress: 53, egress: 53 } },
  sctp: { subject: 'ravenclaw', every: 'gryffindor', slytherin: { sctp: 9003 }, some: 'hufflepuff', open: { ingress: 9003, egress: 9003 } },
} as const;
export const PORTS: Readonly<Record<Protocol, readonly [number, number]>> = { tcp: [80, 8080], udp: [53, 5353], sctp: [9003, 9005] };

/** Random clusters as manifests, and random changes of them. Everything follows from the seed. */
import type { Cluster } from './naive-policy.ts';

// biome-ignore lint/suspicious/noExplicitAny: manifests as they are written
type Any = any;

const NAMESPACES = ['one', 'two', 'three'];
const KEYS = ['app', 'tier', 'constructor', 'toString', '__proto__'].slice(0, 4);
const VALUES = ['a', 'b', ''];
const NETWORKS = [
  '0.0.0.0/0',
  '10.0.0.0/8',
  '10.0.0.0/30',
  '10.0.0.4/31',
  '10.0.0.2/32',
  '10.0.0.7/29',
  '::/0',
  'fd00::/64',
  'fd00::2/127',
  'FD00:0:0::3/128',
];
const INSIDE: Readonly<Record<string, readonly string[]>> = {
  '0.0.0.0/0': ['10.0.0.0/8', '10.0.0.2/32'],
  '10.0.0.0/8': ['10.0.0.0/30', '10.0.0.4/31', '10.0.0.7/29'],
  '10.0.0.0/30': ['10.0.0.2/32', '10.0.0.3/31'],
  '::/0': ['fd00::/64', 'fd00::2/127'],
  'fd00::/64': ['fd00::2/127', 'fd00::3/128'],
};
const PORT_NAMES = ['web', 'dns'];
const NODES = ['n1', 'n2', 'n3'];
const DOMAINS = ['a.b.test', '*.b.test', 'B.test', '*.c.b.test', '*.a.b.test.', 'other.test', '*.other.test'];

export class RandomCluster implements Cluster {
  namespaces: Any[] = [];
  nodes: Any[] = [];
  pods: Any[] = [];
  policies: Any[] = [];
  clusterPolicies: Any[] = [];
  #state: number;
  #made = 0;

  constructor(seed: number) {
    this.#state = seed % 0x7fffffff || 1;
    for (let i = 0; i < 6; i++) this.pods.push(this.#pod(i));
    this.namespaces = NAMESPACES.slice(0, 2).map((name) => this.#namespace(name));
    this.nodes = NODES.map((name) => this.#node(name));
  }

  /** Everything as a List. */
  get manifest(): string {
    const items = [...this.namespaces, ...this.nodes, ...this.pods, ...this.policies, ...this.clusterPolicies];
    return JSON.stringify({ kind: 'List', items });
  }

  below(limit: number): number {
    this.#state = (this.#state * 48_271) % 0x7fffffff;
    return this.#state % limit;
  }

  /** Changes one thing. What does not change are the same objects. */
  change(): void {
    const kind = this.below(11);
    if (kind === 10) this.nodes = NODES.filter(() => this.below(4)).map((name) => this.#node(name));
    else if (kind < 3) this.pods = replaceOrAdd(this.pods, this.below(6), this.#pod(this.below(6)));
    else if (kind < 4) this.namespaces = NAMESPACES.filter(() => this.below(3)).map((name) => this.#namespace(name));
    else if (kind < 7) this.policies = this.#some(this.policies, 5, () => this.#policy());
    else this.clusterPolicies = this.#some(this.clusterPolicies, 5, () => this.#clusterPolicy());
  }

  #some(list: Any[], most: number, make: () => Any): Any[] {
    if (list.length && (list.length >= most || !this.below(3))) return list.filter((_, i) => i !== this.#made % list.length);
    if (list.length && this.below(2)) {
      const changed = this.below(list.length);
      return list.map((each, i) => (i === changed ? { ...make(), metadata: each.metadata } : each));
    }
    return [...list, make()];
  }

  #pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }

  #maybe(name: string, make: () => unknown): object {
    return this.below(2) ? { [name]: make() } : {};
  }

  #list<T>(least: number, most: number, make: () => T): T[] {
    return Array.from({ length: least + this.below(most - least + 1) }, make);
  }

  #labels(): Record<string, string> {
    return Object.fromEntries(KEYS.filter(() => this.below(2)).map((key) => [key, this.#pick(VALUES)]));
  }

  #namespace(name: string): Any {
    return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels: this.#labels() } };
  }

  /** Nodes have addresses in the networks of pods, and one has another's. */
  #node(name: string): Any {
    const host = 8 + NODES.indexOf(name);
    return {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name, labels: this.#labels() },
      status: {
        addresses: [
          { type: 'InternalIP', address: `10.0.0.${host}` },
          { type: 'InternalIP', address: `fd00::${host.toString(16)}` },
          { type: 'ExternalIP', address: this.below(3) ? `192.0.2.${host}` : '192.0.2.1' },
          { type: 'Hostname', address: name },
        ],
      },
    };
  }

  #pod(i: number): Any {
    const ports = PORT_NAMES.filter(() => this.below(2)).map((name) => ({
      name,
      containerPort: this.below(6) + 1,
      protocol: this.#pick(['TCP', 'UDP']),
    }));
    return {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        namespace: this.#pick(NAMESPACES),
        name: `p${i}`,
        labels: this.#labels(),
        annotations: { 'sluice.dev/interface': `i${i}` },
      },
      spec: { containers: [{ ports }] },
      status: { podIPs: [{ ip: `10.0.0.${i + 1}` }, { ip: `fd00::${i + 1}` }] },
    };
  }

  #selector(): Any {
    const matchExpressions = this.#list(0, 2, () => {
      const operator = this.#pick(['In', 'NotIn', 'Exists', 'DoesNotExist']);
      return { key: this.#pick(KEYS), operator, ...(operator.endsWith('In') && { values: this.#list(1, 2, () => this.#pick(VALUES)) }) };
    });
    return { ...this.#maybe('matchLabels', () => this.#labels()), ...(matchExpressions.length && { matchExpressions }) };
  }

  #peer(): Any {
    if (this.below(2)) {
      const cidr = this.#pick(NETWORKS);
      const except = INSIDE[cidr];
      return { ipBlock: { cidr, ...(except && this.#maybe('except', () => this.#list(1, 2, () => this.#pick(except)))) } };
    }
    const pods = this.#maybe('podSelector', () => this.#selector());
    return {
      ...pods,
      ...(Object.keys(pods).length ? this.#maybe('namespaceSelector', () => this.#selector()) : { namespaceSelector: this.#selector() }),
    };
  }

  #port(): Any {
    const protocol = this.#maybe('protocol', () => this.#pick(['TCP', 'UDP', 'SCTP']));
    const kind = this.below(4);
    if (!kind) return protocol;
    if (kind === 1) return { ...protocol, port: this.#pick([...PORT_NAMES, 'nobody']) };
    const port = this.below(6) + 1;
    return { ...protocol, port, ...(kind === 2 && { endPort: port + this.below(4) }) };
  }

  #policy(): Any {
    this.#made += 1;
    const rules = (peers: string) => () =>
      this.#list(0, 3, () => ({
        ...this.#maybe(peers, () => this.#list(0, 2, () => this.#peer())),
        ...this.#maybe('ports', () => this.#list(0, 4, () => this.#port())),
      }));
    return {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { namespace: this.#pick(NAMESPACES), name: `np${this.#made}` },
      spec: {
        podSelector: this.#selector(),
        ...this.#maybe('ingress', rules('from')),
        ...this.#maybe('egress', rules('to')),
        ...this.#maybe('policyTypes', () => this.#pick([['Ingress'], ['Egress'], ['Ingress', 'Egress'], []])),
      },
    };
  }

  #subject(): Any {
    return this.below(2)
      ? { namespaces: this.#selector() }
      : { pods: { namespaceSelector: this.#selector(), podSelector: this.#selector() } };
  }

  #destination(): Any {
    const kind = this.below(5);
    if (kind < 2) return this.#subject();
    if (kind === 4) return { nodes: this.#selector() };
    return kind === 2
      ? { networks: this.#list(1, 2, () => this.#pick(NETWORKS)) }
      : { domainNames: this.#list(1, 3, () => this.#pick(DOMAINS)) };
  }

  #tierPort(byName: boolean): Any {
    const kind = this.below(4);
    if (!kind && byName) return { destinationNamedPort: this.#pick(PORT_NAMES) };
    const start = this.below(6) + 1;
    const destinationPort = kind === 1 ? { number: start } : { range: { start, end: start + 1 + this.below(3) } };
    return { [this.#pick(['tcp', 'udp', 'sctp'])]: { destinationPort } };
  }

  #clusterPolicy(): Any {
    this.#made += 1;
    const rules = (peers: string, make: () => Any) => () =>
      this.#list(0, 3, () => {
        const made = this.#list(1, 2, make);
        return {
          action: made.some((peer) => peer.domainNames) ? 'Accept' : this.#pick(['Accept', 'Deny', 'Pass']),
          [peers]: made,
          ...this.#maybe('protocols', () =>
            this.#list(1, 3, () => this.#tierPort(!made.some((peer) => peer.domainNames ?? peer.networks ?? peer.nodes))),
          ),
        };
      });
    return {
      apiVersion: 'policy.networking.k8s.io/v1alpha2',
      kind: 'ClusterNetworkPolicy',
      metadata: { name: `cnp${this.#made}` },
      spec: {
        tier: this.#pick(['Admin', 'Baseline']),
        priority: this.below(3),
        subject: this.#subject(),
        ...this.#maybe(
          'ingress',
          rules('from', () => this.#subject()),
        ),
        ...this.#maybe(
          'egress',
          rules('to', () => this.#destination()),
        ),
      },
    };
  }
}

/** The list with the pod of that name replaced, or left out, or added. */
function replaceOrAdd(pods: readonly Any[], without: number, pod: Any): Any[] {
  const left = pods.filter((each) => each.metadata.name !== pod.metadata.name && each.metadata.name !== `p${without}`);
  return [...left, pod];
}

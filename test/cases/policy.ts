/**
 * The meaning of policies: one table of policies, flows and expected verdicts, which several executors run: the compiled maps, the
 * programs through test-run, and real sockets between namespaces, each over IPv4 and IPv6.
 *
 * Pods: shop/web, shop/db and bank/web. Each answers on TCP 80, 81 and 8080, which is named `web`; UDP 53 is named `dns`.
 */

export type Ip = (pod: string) => string;

export interface FlowCase {
  /** A pod. */
  readonly from: string;
  readonly to: string;
  readonly port: number;
  readonly protocol?: 'TCP' | 'UDP' | 'SCTP' | 'ICMP';
  readonly allowed: boolean;
}

export interface PolicyCase {
  readonly name: string;
  /** Manifests. `ip` gives the address of a pod in the family that is tried. */
  readonly policies: (ip: Ip) => readonly string[];
  readonly flows: readonly FlowCase[];
}

export const PODS = ['shop/web', 'shop/db', 'bank/web'] as const;

/** The pods and namespaces; `place` gives each pod its annotations and addresses where the executor knows them. */
export function baseCluster(place: (pod: string) => { interface: string; ips: readonly string[] } | undefined): string {
  const labels: Record<string, string> = {
    'shop/web': 'app: web, constructor: "", tier: front',
    'shop/db': 'app: db',
    'bank/web': 'app: web',
  };
  const pods = PODS.map((pod) => {
    const [namespace, name] = pod.split('/');
    const placed = place(pod);
    return `apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: ${namespace}, labels: { ${labels[pod]} }${placed ? `, annotations: { sluice.dev/interface: ${placed.interface} }` : ''} }
spec:
  containers:
  - { name: web, image: sluice.dev/lab/http-echo, ports: [{ name: web, containerPort: 8080 }, { containerPort: 80 }, { containerPort: 81 }] }
  - { name: dns, image: none, ports: [{ name: dns, containerPort: 53, protocol: UDP }] }
${placed ? `status: { podIPs: [${placed.ips.map((ip) => `{ ip: "${ip}" }`).join(', ')}] }\n` : ''}`;
  });
  return [
    'apiVersion: v1\nkind: Namespace\nmetadata: { name: shop, labels: { team: red } }\n',
    'apiVersion: v1\nkind: Namespace\nmetadata: { name: bank, labels: { team: blue } }\n',
    ...pods,
  ].join('---\n');
}

let made = 0;
const np = (spec: string, namespace = 'shop'): string =>
  `apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: p${(made += 1)}, namespace: ${namespace} }\nspec: ${spec}\n`;
const cnp = (tier: string, priority: number, rest: string): string =>
  `apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: { name: c${(made += 1)} }\nspec: { tier: ${tier}, priority: ${priority}, ${rest} }\n`;

const flow = (from: string, port: number, allowed: boolean, protocol?: FlowCase['protocol']): FlowCase => ({
  from,
  to: 'shop/db',
  port,
  allowed,
  ...(protocol && { protocol }),
});
const [web, bank] = ['shop/web', 'bank/web'];
const everyPod = '{ namespaces: {} }';
const shop = 'subject: { namespaces: { matchLabels: { team: red } } }';

/** Cases of what shop/db receives. */
const INGRESS: readonly PolicyCase[] = [
  {
    name: 'no policy: everything',
    policies: () => [],
    flows: [flow(web, 80, true), flow(bank, 81, true), flow(bank, 53, true, 'UDP'), flow(web, 0, true, 'ICMP')],
  },
  {
    name: 'an empty spec isolates for ingress, every protocol',
    policies: () => [np('{ podSelector: {} }')],
    flows: [flow(web, 80, false), flow(web, 53, false, 'UDP'), flow(web, 9, false, 'SCTP'), flow(web, 0, false, 'ICMP')],
  },
  { name: 'a missing podSelector selects every pod', policies: () => [np('{}')], flows: [flow(web, 80, false)] },
  {
    name: 'ingress: [{}] allows everyone everything',
    policies: () => [np('{ podSelector: {}, ingress: [{}] }')],
    flows: [flow(bank, 80, true), flow(bank, 0, true, 'ICMP')],
  },
  {
    name: 'ingress: [] and null allow nobody',
    policies: () => [np('{ podSelector: {}, ingress: [] }'), np('{ podSelector: {}, ingress: null }')],
    flows: [flow(web, 80, false)],
  },
  {
    name: 'from: [] and null mean everyone',
    policies: () => [np('{ podSelector: {}, ingress: [{ from: [], ports: [{ port: 80 }] }, { from: null, ports: [{ port: 81 }] }] }')],
    flows: [flow(bank, 80, true), flow(bank, 81, true), flow(bank, 8080, false)],
  },
  {
    name: 'ports: [] and null mean every port and protocol',
    policies: () => [np('{ podSelector: {}, ingress: [{ ports: [] }] }')],
    flows: [flow(bank, 81, true), flow(bank, 53, true, 'UDP'), flow(bank, 0, true, 'ICMP')],
  },
  {
    name: 'podSelector means pods of the own namespace',
    policies: () => [np('{ podSelector: {}, ingress: [{ from: [{ podSelector: { matchLabels: { app: web } } }] }] }')],
    flows: [flow(web, 80, true), flow(bank, 80, false)],
  },
  {
    name: 'podSelector {} means every pod of the own namespace',
    policies: () => [np('{ podSelector: {}, ingress: [{ from: [{ podSelector: {} }] }] }')],
    flows: [flow(web, 80, true), flow(bank, 80, false)],
  },
  {
    name: 'namespaceSelector {} means every pod',
    policies: () => [np('{ podSelector: {}, ingress: [{ from: [{ namespaceSelector: {} }] }] }')],
    flows: [flow(web, 80, true), flow(bank, 80, true)],
  },
  {
    name: 'namespaceSelector alone means every pod of those namespaces',
    policies: () => [np('{ podSelector: {}, ingress: [{ from: [{ namespaceSelector: { matchLabels: { team: blue } } }] }] }')],
    flows: [flow(bank, 80, true), flow(web, 80, false)],
  },
  {
    name: 'both selectors in one peer must match',
    policies: () => [
      np(
        '{ podSelector: {}, ingress: [{ from: [{ namespaceSelector: { matchLabels: { team: blue } }, podSelector: { matchLabels: { app: db } } }] }] }',
      ),
    ],
    flows: [flow(bank, 80, false), flow(web, 80, false)],
  },
  {
    name: 'two peers: either matches',
    policies: () => [
      np(
        '{ podSelector: {}, ingress: [{ from: [{ namespaceSelector: { matchLabels: { team: blue } } }, { podSelector: { matchLabels: { app: web } } }] }] }',
      ),
    ],
    flows: [flow(bank, 80, true), flow(web, 80, true)],
  },
  {
    name: 'kubernetes.io/metadata.name is there',
    policies: () => [
      np('{ podSelector: {}, ingress: [{ from: [{ namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: bank } } }] }] }'),
    ],
    flows: [flow(bank, 80, true), flow(web, 80, false)],
  },
  {
    name: 'a label called constructor is there where it stands, empty, and not by itself',
    policies: () => [
      np(
        '{ podSelector: {}, ingress: [{ from: [{ namespaceSelector: {}, podSelector: { matchExpressions: [{ key: constructor, operator: Exists }] } }] }] }',
      ),
    ],
    flows: [flow(web, 80, true), flow(bank, 80, false)],
  },
  {
    name: 'an empty label value is a value',
    policies: () => [np('{ podSelector: {}, ingress: [{ from: [{ podSelector: { matchLabels: { constructor: "" } } }] }] }')],
    flows: [flow(web, 80, true)],
  },
  {
    name: 'NotIn and DoesNotExist match where the key is absent',
    policies: () => [
      np(
        '{ podSelector: {}, ingress: [{ from: [{ namespaceSelector: {}, podSelector: { matchExpressions: [{ key: tier, operator: NotIn, values: [front] }, { key: other, operator: DoesNotExist }] } }] }] }',
      ),
    ],
    flows: [flow(bank, 80, true), flow(web, 80, false)],
  },
  {
    name: 'In wants one of its values',
    policies: () => [
      np(
        '{ podSelector: {}, ingress: [{ from: [{ podSelector: { matchExpressions: [{ key: tier, operator: In, values: [back, front] }] } }] }] }',
      ),
    ],
    flows: [flow(web, 80, true)],
  },
  {
    name: 'a port is of its protocol, TCP by default',
    policies: () => [np('{ podSelector: {}, ingress: [{ ports: [{ port: 53, protocol: UDP }, { port: 81 }] }] }')],
    flows: [
      flow(web, 53, true, 'UDP'),
      flow(web, 81, true),
      flow(web, 80, false),
      flow(web, 81, false, 'UDP'),
      flow(web, 0, false, 'ICMP'),
    ],
  },
  {
    name: 'SCTP',
    policies: () => [np('{ podSelector: {}, ingress: [{ ports: [{ port: 9, protocol: SCTP }] }] }')],
    flows: [flow(web, 9, true, 'SCTP'), flow(web, 10, false, 'SCTP')],
  },
  {
    name: 'endPort: a range with both its ends',
    policies: () => [np('{ podSelector: {}, ingress: [{ ports: [{ port: 80, endPort: 81 }] }] }')],
    flows: [flow(web, 80, true), flow(web, 81, true), flow(web, 8080, false)],
  },
  {
    name: 'a protocol without a port means its every port',
    policies: () => [np('{ podSelector: {}, ingress: [{ ports: [{ protocol: TCP }] }] }')],
    flows: [flow(web, 80, true), flow(web, 53, false, 'UDP')],
  },
  {
    name: 'more ports than fit an entry',
    policies: () => [
      np(
        '{ podSelector: {}, ingress: [{ ports: [{ port: 80 }, { port: 8080, endPort: 8081 }, { port: 53, protocol: UDP }, { port: 7 }] }] }',
      ),
    ],
    flows: [flow(web, 80, true), flow(web, 8080, true), flow(web, 53, true, 'UDP'), flow(web, 81, false)],
  },
  {
    name: 'a named port is the receiving pod’s',
    policies: () => [np('{ podSelector: {}, ingress: [{ ports: [{ port: web }, { port: dns, protocol: UDP }] }] }')],
    flows: [flow(web, 8080, true), flow(web, 80, false), flow(web, 53, true, 'UDP')],
  },
  {
    name: 'a named port of another protocol, and a name that no port has',
    policies: () => [np('{ podSelector: {}, ingress: [{ ports: [{ port: web, protocol: UDP }, { port: nobody }] }] }')],
    flows: [flow(web, 8080, false), flow(web, 8080, false, 'UDP')],
  },
  {
    name: 'ipBlock matches pods by their address',
    policies: (ip) => [np(`{ podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: "${host(ip(web))}" } }] }] }`)],
    flows: [flow(web, 80, true), flow(bank, 80, false)],
  },
  {
    name: 'ipBlock with host bits, and except',
    policies: (ip) => [
      np(`{ podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: "${wide(ip(web))}", except: ["${host(ip(bank))}"] } }] }] }`),
    ],
    flows: [flow(web, 80, true), flow(bank, 80, false)],
  },
  {
    name: 'what one block leaves out, another may allow',
    policies: (ip) => [
      np(
        `{ podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: "${wide(ip(web))}", except: ["${host(ip(bank))}"] } }, { ipBlock: { cidr: "${host(ip(bank))}" } }] }] }`,
      ),
    ],
    flows: [flow(web, 80, true), flow(bank, 80, true)],
  },
  {
    name: 'policies add up',
    policies: () => [
      np('{ podSelector: {}, ingress: [{ ports: [{ port: 80 }] }] }'),
      np('{ podSelector: { matchLabels: { app: db } }, ingress: [{ ports: [{ port: 81 }] }] }'),
    ],
    flows: [flow(web, 80, true), flow(web, 81, true), flow(web, 8080, false)],
  },
  {
    name: 'policyTypes [Egress] does not isolate for ingress',
    policies: () => [np('{ podSelector: {}, policyTypes: [Egress], egress: [{}] }')],
    flows: [flow(web, 80, true)],
  },
  {
    name: 'a policy of another namespace, also of the same name, selects nothing here',
    policies: () => [np('{ podSelector: { matchLabels: { app: db } } }', 'bank')],
    flows: [flow(web, 80, true)],
  },
];

/** Cases of what shop/web sends: both ends must agree. */
const EGRESS: readonly PolicyCase[] = [
  {
    name: 'egress isolates the sender',
    policies: () => [np('{ podSelector: { matchLabels: { app: web } }, policyTypes: [Egress] }')],
    flows: [flow(web, 80, false), flow(bank, 80, true)],
  },
  {
    name: 'both ends must agree',
    policies: () => [
      np(
        '{ podSelector: {}, policyTypes: [Ingress, Egress], egress: [{}], ingress: [{ from: [{ podSelector: {} }], ports: [{ port: 80 }] }] }',
      ),
    ],
    flows: [flow(web, 80, true), flow(web, 81, false), flow(bank, 80, false)],
  },
  {
    name: 'egress without policyTypes isolates both ways',
    policies: () => [np('{ podSelector: {}, egress: [{ to: [{ podSelector: {} }] }] }')],
    flows: [flow(web, 80, false)],
  },
  {
    name: 'egress: [] without policyTypes isolates for ingress only',
    policies: () => [np('{ podSelector: { matchLabels: { app: web } }, egress: [] }')],
    flows: [flow(web, 80, true)],
  },
  {
    name: 'a named port of egress is the port of the pod that is reached',
    policies: () => [np('{ podSelector: {}, policyTypes: [Egress], egress: [{ ports: [{ port: web }] }] }')],
    flows: [flow(web, 8080, true), flow(web, 80, false)],
  },
  {
    name: 'egress to pods of another namespace only',
    policies: () => [
      np('{ podSelector: {}, policyTypes: [Egress], egress: [{ to: [{ namespaceSelector: { matchLabels: { team: blue } } }] }] }'),
    ],
    flows: [flow(web, 80, false), { from: 'shop/web', to: 'bank/web', port: 80, allowed: true }],
  },
];

/** Cases of ClusterNetworkPolicy, for shop/db. */
const CLUSTER: readonly PolicyCase[] = [
  {
    name: 'Admin Deny beats an allowing NetworkPolicy',
    policies: () => [
      np('{ podSelector: {}, ingress: [{}] }'),
      cnp('Admin', 10, `${shop}, ingress: [{ action: Deny, from: [{ namespaces: { matchLabels: { team: blue } } }] }]`),
    ],
    flows: [flow(bank, 80, false), flow(web, 80, true)],
  },
  {
    name: 'Admin Accept beats isolation',
    policies: () => [
      np('{ podSelector: {} }'),
      cnp(
        'Admin',
        10,
        `${shop}, ingress: [{ action: Accept, from: [${everyPod}], protocols: [{ tcp: { destinationPort: { number: 80 } } }] }]`,
      ),
    ],
    flows: [flow(bank, 80, true), flow(bank, 81, false)],
  },
  {
    name: 'Pass leaves the flow to the NetworkPolicies, and skips the rest of its tier',
    policies: () => [
      np('{ podSelector: {}, ingress: [{ from: [{ podSelector: {} }] }] }'),
      cnp('Admin', 10, `${shop}, ingress: [{ action: Pass, from: [${everyPod}] }]`),
      cnp('Admin', 20, `${shop}, ingress: [{ action: Deny, from: [${everyPod}] }]`),
    ],
    flows: [flow(web, 80, true), flow(bank, 80, false)],
  },
  {
    name: 'the lower priority number is asked first',
    policies: () => [
      cnp('Admin', 20, `${shop}, ingress: [{ action: Accept, from: [${everyPod}] }]`),
      cnp('Admin', 5, `${shop}, ingress: [{ action: Deny, from: [${everyPod}] }]`),
    ],
    flows: [flow(web, 80, false)],
  },
  {
    name: 'rules are asked in their order',
    policies: () => [
      cnp(
        'Admin',
        1,
        `${shop}, ingress: [{ action: Accept, from: [${everyPod}], protocols: [{ tcp: { destinationPort: { range: { start: 80, end: 81 } } } }] }, { action: Deny, from: [${everyPod}] }]`,
      ),
    ],
    flows: [flow(web, 81, true), flow(web, 8080, false), flow(web, 0, false, 'ICMP')],
  },
  {
    name: 'Baseline Deny where no NetworkPolicy selects',
    policies: () => [cnp('Baseline', 10, `${shop}, ingress: [{ action: Deny, from: [${everyPod}] }]`)],
    flows: [flow(web, 80, false)],
  },
  {
    name: 'Baseline is not asked where a NetworkPolicy selects',
    policies: () => [
      np('{ podSelector: {}, ingress: [{ from: [{ podSelector: {} }] }] }'),
      cnp('Baseline', 10, `${shop}, ingress: [{ action: Deny, from: [${everyPod}] }]`),
    ],
    flows: [flow(web, 80, true), flow(bank, 80, false)],
  },
  {
    name: 'what no rule matches is allowed: a ClusterNetworkPolicy does not isolate',
    policies: () => [cnp('Admin', 10, `${shop}, ingress: [{ action: Deny, from: [{ namespaces: { matchLabels: { team: blue } } }] }]`)],
    flows: [flow(web, 80, true), flow(bank, 80, false)],
  },
  {
    name: 'subject and peers by pods',
    policies: () => [
      cnp(
        'Admin',
        10,
        'subject: { pods: { namespaceSelector: {}, podSelector: { matchLabels: { app: db } } } }, ingress: [{ action: Deny, from: [{ pods: { namespaceSelector: {}, podSelector: { matchLabels: { tier: front } } } }] }]',
      ),
    ],
    flows: [flow(web, 80, false), flow(bank, 80, true)],
  },
  {
    name: 'destinationNamedPort, whatever its protocol',
    policies: () => [
      cnp(
        'Admin',
        10,
        `${shop}, ingress: [{ action: Deny, from: [${everyPod}], protocols: [{ destinationNamedPort: web }, { destinationNamedPort: dns }] }]`,
      ),
    ],
    flows: [flow(web, 8080, false), flow(web, 53, false, 'UDP'), flow(web, 80, true)],
  },
  {
    name: 'a whole protocol',
    policies: () => [
      cnp(
        'Admin',
        10,
        `${shop}, ingress: [{ action: Deny, from: [${everyPod}], protocols: [{ udp: { destinationPort: { range: { start: 1, end: 65535 } } } }] }]`,
      ),
    ],
    flows: [flow(web, 53, false, 'UDP'), flow(web, 80, true)],
  },
  {
    name: 'networks of egress',
    policies: (ip) => [
      cnp(
        'Admin',
        10,
        `${shop}, egress: [{ action: Accept, to: [{ networks: ["${host(ip('shop/db'))}"] }] }, { action: Deny, to: [{ networks: ["${wide(ip('shop/db'))}"] }] }]`,
      ),
    ],
    flows: [flow(web, 80, true), { from: 'shop/web', to: 'bank/web', port: 80, allowed: false }, flow(bank, 80, true)],
  },
];

export const POLICY_CASES: readonly PolicyCase[] = [...INGRESS, ...EGRESS, ...CLUSTER];

function host(ip: string): string {
  return `${ip}/${ip.includes(':') ? 128 : 32}`;
}

/** A network around all pods, written with host bits. */
function wide(ip: string): string {
  return `${ip}/${ip.includes(':') ? 64 : 16}`;
}

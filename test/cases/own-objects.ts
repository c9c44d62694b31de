/** Objects of our own kinds, good and bad: what an API server and the engine's reader must agree about. */
import { parse } from 'yaml';

export interface WrittenObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly spec: unknown;
}

const PLURALS: Readonly<Record<string, string>> = {
  PluginPolicy: 'pluginpolicies',
  PolicyPlugin: 'policyplugins',
  HostPolicy: 'hostpolicies',
};

/** Where objects of its kind are, in its namespace. */
export function pathOf({ kind, metadata: { namespace } }: WrittenObject): string {
  return `/apis/sluice.dev/v1alpha1/${namespace ? `namespaces/${namespace}/` : ''}${PLURALS[kind]}`;
}

const object = (kind: string, spec: string): WrittenObject => ({
  apiVersion: 'sluice.dev/v1alpha1',
  kind,
  metadata: { name: 'example', ...(kind === 'PluginPolicy' && { namespace: 'default' }) },
  spec: parse(spec),
});
const policy = (spec: string): WrittenObject => object('PluginPolicy', spec);
const egress = (rule: string): WrittenObject => policy(`{ egress: [${rule}] }`);
const plugin = (spec: string): WrittenObject => object('PolicyPlugin', spec);
const host = (spec: string): WrittenObject => object('HostPolicy', spec);

export const GOOD_OBJECTS: readonly { readonly name: string; readonly object: WrittenObject }[] = [
  { name: 'a plugin asked about every flow', object: egress('{ ask: { plugin: p } }') },
  {
    name: 'a plugin asked about flows to networks and ports',
    object: policy(`
      podSelector: { matchLabels: { app: web, example.com/team: shop }, matchExpressions: [{ key: tier, operator: In, values: [a, ""] }] }
      precedence: Admin
      egress:
      - to: [{ cidr: 0.0.0.0/0 }, { ipBlock: { cidr: 'fd00::/8', except: ['fd00:1::/32'] } }, { names: [example.com, '*.example.org'] }]
        ports: [{ port: 443 }, { protocol: UDP, port: dns }, { port: 8000, endPort: 8080 }, { protocol: SCTP }]
        ask: { plugin: only.example.com, context: connect }
      ingress:
      - from: [{ podSelector: {} }, { namespaceSelector: { matchExpressions: [{ key: env, operator: Exists }] }, podSelector: { matchLabels: { a: b } } }]
        ask: { plugin: p, context: tls }`),
  },
  { name: 'a plugin asked about DNS answers', object: egress('{ ask: { plugin: p, context: dns }, to: [], ports: [] }') },
  {
    name: 'server names',
    object: egress(
      '{ to: [{ names: [cdn.example.net] }], serverNames: { names: [shop.example.net, "*.example.org"], withoutName: Allow, encryptedHello: Deny } }',
    ),
  },
  {
    name: 'requests to Services',
    object: policy(`
      egress:
      - to: [{ service: { name: checkout } }, { service: { name: other, namespace: shop } }, { podSelector: {} }]
        ports: [{ port: 80 }]
        ask: { plugin: canary, context: http }
        http:
          routes:
            stable: { service: checkout-v1, port: 80 }
            canary: { backends: [{ service: checkout-v2, port: 80, weight: 3 }, { service: checkout-v3, namespace: shop, port: 8080 }] }
          default: stable
          deny: { status: 451, body: no }`),
  },
  { name: 'a policy about nothing', object: policy('{}') },
  {
    name: 'nulls in place of what is absent',
    object: policy('{ podSelector: , egress: [{ to: , ports: , ask: { plugin: p, context: } }], ingress: }'),
  },
  { name: 'a plugin of defaults', object: plugin('{}') },
  { name: 'a module of the object itself', object: plugin('{ module: { inline: AGFzbQ== } }') },
  {
    name: 'a module of a registry that some nodes try',
    object: plugin(`
      module: { url: 'https://example.com/p.wasm', sha256: ${'a'.repeat(64)} }
      canary:
        module: { oci: 'ghcr.io/acme/limit@sha256:${'b'.repeat(64)}', pullSecret: { namespace: kube-system, name: registry } }
        nodes: 10%
        nodeNames: [n1]
        mode: Shadow`),
  },
  {
    name: 'a module of a ConfigMap that named nodes try',
    object: plugin(
      `{ canary: { module: { configMap: { namespace: kube-system, name: plugins, key: p.wasm }, sha256: ${'a'.repeat(64)} }, nodeNames: [n1] } }`,
    ),
  },
  {
    name: 'a plugin with everything',
    object: plugin(`
      failurePolicy: Allow
      mode: Shadow
      limits: { evaluateMs: 2, fuel: 5000 }
      capabilities: [counters, sets]
      sets: { allowed: { domains: [example.com, "*.example.org"] }, networks: { cidrs: [10.0.0.0/8, 'fd00::/8'] }, words: { strings: [a, ""] } }
      config: { allow: ["*.example.com"], deep: { er: [1, 2.5, null, true] } }`),
  },
  {
    name: 'a policy of the host',
    object: host(`
      policyTypes: [Ingress, Egress]
      ingress: [{ from: [{ ipBlock: { cidr: 10.0.0.0/8, except: [10.1.0.0/16] } }, { namespaceSelector: {}, podSelector: { matchLabels: { a: b } } }], ports: [{ port: 22 }] }]
      egress: [{ to: [{ names: [example.com] }, { namespaceSelector: { matchLabels: { a: b } } }] }, {}]`),
  },
  {
    name: 'nodes and service accounts as peers',
    object: policy(`
      ingress: [{ from: [{ nodes: {} }, { serviceAccounts: [{ name: default }, { namespace: shop, name: a.b }] }], ask: { plugin: p } }]
      egress: [{ to: [{ nodes: { matchLabels: { kubernetes.io/os: linux } } }, { serviceAccounts: [{ name: a }] }], ask: { plugin: p } }]`),
  },
  {
    name: 'a policy of some hosts',
    object: host(`
      nodeSelector: { matchExpressions: [{ key: node-role.kubernetes.io/control-plane, operator: DoesNotExist }] }
      ingress: [{ from: [{ nodes: {} }, { serviceAccounts: [{ namespace: shop, name: a }] }] }]`),
  },
];

interface BadObject {
  readonly name: string;
  readonly object: WrittenObject;
  /** Part of the API server's answer. */
  readonly sentence?: string;
  /** No schema can say it: the engine does, in the status. */
  readonly onlyEngine?: true;
}

const ONE_OF = 'must have one of podSelector, namespaceSelector or ipBlock, nodes, serviceAccounts, cidr';
export const BAD_OBJECTS: readonly BadObject[] = [
  { name: 'a misspelt field', object: egress('{ ask: { plugin: p }, port: [] }'), sentence: 'unknown field "spec.egress[0].port"' },
  { name: 'a rule that asks nobody', object: egress('{}'), sentence: 'must have ask or serverNames' },
  {
    name: 'two tags',
    object: egress('{ ask: { plugin: p }, serverNames: { names: [a.test] } }'),
    sentence: 'must have ask or serverNames, and not both: a plugin sees the server name in context tls',
  },
  {
    name: 'a context that does not exist',
    object: egress('{ ask: { plugin: p, context: smtp } }'),
    sentence: 'supported values: "connect", "dns", "tls", "http"',
  },
  { name: 'a plugin’s name that is none', object: egress('{ ask: { plugin: A_b } }'), sentence: 'must be the name of a PolicyPlugin' },
  {
    name: 'a bad CIDR',
    object: egress('{ to: [{ cidr: 10.0.0/8 }], ask: { plugin: p } }'),
    sentence: 'must be a CIDR such as 10.0.0.0/8 or fd00::/8',
  },
  {
    name: 'a prefix with a leading zero',
    object: egress('{ to: [{ cidr: 10.0.0.0/08 }], ask: { plugin: p } }'),
    sentence: 'must be a CIDR',
  },
  {
    name: 'an except outside its block',
    object: egress('{ to: [{ ipBlock: { cidr: 10.0.0.0/8, except: [11.0.0.0/16] } }], ask: { plugin: p } }'),
    sentence: 'each except must be a smaller network inside cidr',
  },
  {
    name: 'an except that is the whole block',
    object: egress('{ to: [{ ipBlock: { cidr: 10.0.0.0/8, except: [10.0.0.0/8] } }], ask: { plugin: p } }'),
    sentence: 'each except must be a smaller network inside cidr',
  },
  {
    name: 'nodes beside pods',
    object: egress('{ to: [{ nodes: {}, podSelector: {} }], ask: { plugin: p } }'),
    sentence: ONE_OF,
  },
  {
    name: 'no service accounts',
    object: egress('{ to: [{ serviceAccounts: [] }], ask: { plugin: p } }'),
    sentence: 'should have at least 1 items',
  },
  {
    name: 'a service account without a name',
    object: egress('{ to: [{ serviceAccounts: [{ namespace: shop }] }], ask: { plugin: p } }'),
    sentence: 'Required value',
  },
  {
    name: 'a service account of no namespace in a HostPolicy',
    object: host('ingress: [{ from: [{ serviceAccounts: [{ name: a }] }] }]'),
    sentence: 'namespace: Required value',
  },
  {
    name: 'nodes by a selector that is none',
    object: host('nodeSelector: { matchLabels: { "a b": c } }'),
    sentence: 'each key must be a label key',
  },
  { name: 'an empty peer', object: egress('{ to: [{}], ask: { plugin: p } }'), sentence: ONE_OF },
  { name: 'a peer of two kinds', object: egress('{ to: [{ cidr: 10.0.0.0/8, podSelector: {} }], ask: { plugin: p } }'), sentence: ONE_OF },
  {
    name: 'names in ingress',
    object: policy('{ ingress: [{ from: [{ names: [a.test] }], ask: { plugin: p } }] }'),
    sentence: 'unknown field',
  },
  { name: 'no names', object: egress('{ to: [{ names: [] }], ask: { plugin: p } }'), sentence: 'should have at least 1 items' },
  {
    name: 'a name of one label',
    object: egress('{ to: [{ names: [localhost] }], ask: { plugin: p } }'),
    sentence: 'names[0] in body should match',
  },
  {
    name: 'a port of zero',
    object: egress('{ ports: [{ port: 0 }], ask: { plugin: p } }'),
    sentence: 'should be greater than or equal to 1',
  },
  {
    name: 'a port above 65535',
    object: egress('{ ports: [{ port: 65536 }], ask: { plugin: p } }'),
    sentence: 'should be less than or equal to 65535',
  },
  {
    name: 'a port that is a number in quotes',
    object: egress('{ ports: [{ port: "80" }], ask: { plugin: p } }'),
    sentence: 'port in body should match',
  },
  {
    name: 'an endPort below its port',
    object: egress('{ ports: [{ port: 80, endPort: 79 }], ask: { plugin: p } }'),
    sentence: 'endPort must not be below port',
  },
  {
    name: 'an endPort beside a name',
    object: egress('{ ports: [{ port: web, endPort: 79 }], ask: { plugin: p } }'),
    sentence: 'endPort needs a numeric port beside it',
  },
  {
    name: 'TLS over UDP',
    object: egress('{ ports: [{ protocol: UDP, port: 443 }], serverNames: { names: [a.test] } }'),
    sentence: 'TLS is read over TCP',
  },
  {
    name: 'HTTP over UDP',
    object: egress('{ ports: [{ protocol: UDP, port: 80 }], ask: { plugin: p, context: http } }'),
    sentence: 'HTTP is read over TCP',
  },
  {
    name: 'DNS with a destination',
    object: egress('{ to: [{ cidr: 10.0.0.0/8 }], ask: { plugin: p, context: dns } }'),
    sentence: 'its plugin is asked about every answer',
  },
  {
    name: 'HTTP in ingress',
    object: policy('{ ingress: [{ ask: { plugin: p, context: http } }] }'),
    sentence: 'contexts http and dns are for egress rules',
  },
  {
    name: 'a Service without HTTP',
    object: egress('{ to: [{ service: { name: a } }], ask: { plugin: p } }'),
    sentence: 'a service can be named with context http only',
  },
  {
    name: 'routes without HTTP',
    object: egress('{ ask: { plugin: p }, http: {} }'),
    sentence: 'http needs ask with context http beside it',
  },
  {
    name: 'a default that is none of the routes',
    object: egress('{ ask: { plugin: p, context: http }, http: { routes: { a: { service: a, port: 80 } }, default: b } }'),
    sentence: 'default must be one of the routes',
  },
  {
    name: 'a route’s name that is none',
    object: egress('{ ask: { plugin: p, context: http }, http: { routes: { A: { service: a, port: 80 } } } }'),
    sentence: 'each key must be a name such as stable',
  },
  {
    name: 'a route of one Service and several',
    object: egress(
      '{ ask: { plugin: p, context: http }, http: { routes: { a: { service: a, port: 80, backends: [{ service: b, port: 80 }] } } } }',
    ),
    sentence: 'must have service and port, or backends instead',
  },
  {
    name: 'a route without a port',
    object: egress('{ ask: { plugin: p, context: http }, http: { routes: { a: { service: a } } } }'),
    sentence: 'must have service and port, or backends instead',
  },
  {
    name: 'In without values',
    object: policy('{ podSelector: { matchExpressions: [{ key: a, operator: In }] } }'),
    sentence: 'need at least one value',
  },
  {
    name: 'Exists with values',
    object: policy('{ podSelector: { matchExpressions: [{ key: a, operator: Exists, values: [b] }] } }'),
    sentence: 'take no values',
  },
  {
    name: 'a label’s key that is none',
    object: policy('{ podSelector: { matchLabels: { "a b": c } } }'),
    sentence: 'each key must be a label key such as app or example.com/team',
  },
  { name: 'a label that is a number', object: policy('{ podSelector: { matchLabels: { a: 1 } } }'), sentence: 'must be of type string' },
  {
    name: 'a set of two kinds',
    object: plugin('{ sets: { a: { domains: [], strings: [] } } }'),
    sentence: 'must have exactly one of domains, strings, cidrs',
  },
  {
    name: 'a set’s name that is none',
    object: plugin('{ sets: { A: { domains: [] } } }'),
    sentence: 'each key must be a name such as allowed-domains',
  },
  { name: 'a bad CIDR in a set', object: plugin('{ sets: { a: { cidrs: [10.0.0.0] } } }'), sentence: 'must be a CIDR' },
  {
    name: 'a capability that does not exist',
    object: plugin('{ capabilities: [files] }'),
    sentence: 'supported values: "counters", "sets", "clock"',
  },
  { name: 'too little time', object: plugin('{ limits: { evaluateMs: 0 } }'), sentence: 'should be greater than or equal to 1' },
  {
    name: 'a canary of no nodes',
    object: plugin('{ canary: { module: { inline: AGFzbQ== } } }'),
    sentence: 'must have nodes or nodeNames',
  },
  {
    name: 'a canary of more nodes than there are',
    object: plugin('{ canary: { module: { inline: AGFzbQ== }, nodes: 101% } }'),
    sentence: 'must be a share such as 10%',
  },
  {
    name: 'a canary that may be another module tomorrow',
    object: plugin('{ canary: { module: { configMap: { namespace: a, name: b, key: c } }, nodes: 10% } }'),
    sentence: 'module needs sha256 beside configMap: a canary is one module',
  },
  {
    name: 'a module of two places',
    object: plugin('{ module: { inline: AGFzbQ==, oci: "ghcr.io/acme/limit:1" } }'),
    sentence: 'must have exactly one of inline, configMap, url, oci',
  },
  {
    name: 'a tag without a hash',
    object: plugin('{ module: { oci: "ghcr.io/acme/limit:1" } }'),
    sentence: 'oci must end with @sha256:…, or have sha256 beside it',
  },
  { name: 'a module in a file', object: plugin('{ module: { file: a.wasm } }'), sentence: 'unknown field "spec.module.file"' },
  {
    name: 'a HostPolicy with pods of its own namespace',
    object: host('{ ingress: [{ from: [{ podSelector: {} }] }] }'),
    sentence: 'podSelector needs a namespaceSelector beside it: a HostPolicy has no namespace',
  },
  {
    name: 'a direction that does not exist',
    object: host('{ policyTypes: [Sideways] }'),
    sentence: 'supported values: "Ingress", "Egress"',
  },
];

/** A shop with two versions of a service behind ClusterIPs that nothing else on the node knows: manifests for tests of HTTP. */
export const CHECKOUT = '10.96.0.10';
export const CHECKOUT_IPV6 = 'fd96::10';

const pod = (name: string, labels: string, command = ''): string => `apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: shop, labels: ${labels} }
spec: { containers: [{ name: main, ${command || 'image: sluice.dev/lab/http-echo'}, ports: [{ name: web, containerPort: 80 }] }] }
`;

/** Pods client, v1 and v2 in namespace shop; `serve`: a program that v1 and v2 run in place of the lab's web server. */
export function httpLab(serve?: string): string {
  const server = (name: string): string =>
    serve ? `command: [${JSON.stringify(process.execPath)}, ${JSON.stringify(serve)}, ${name}]` : '';
  return [
    'apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n',
    `apiVersion: v1\nkind: Pod\nmetadata: { name: client, namespace: shop, labels: { app: client } }\nspec: {}\n`,
    pod('v1', '{ app: checkout, version: v1 }', server('v1')),
    pod('v2', '{ app: checkout, version: v2 }', server('v2')),
  ].join('---\n');
}

export const service = (name: string, ips: readonly string[], selector: string): string => `apiVersion: v1
kind: Service
metadata: { name: ${name}, namespace: shop }
spec: { clusterIP: ${JSON.stringify(ips[0])}, clusterIPs: ${JSON.stringify(ips)}, selector: ${selector}, ports: [{ port: 80, targetPort: web }] }
`;

export const SERVICES = [
  service('checkout', [CHECKOUT, CHECKOUT_IPV6], '{ app: checkout }'),
  service('checkout-v1', ['10.96.0.11'], '{ app: checkout, version: v1 }'),
  service('checkout-v2', ['10.96.0.12'], '{ app: checkout, version: v2 }'),
].join('---\n');

export const plugin = (name: string, file: string, more = ''): string =>
  `apiVersion: sluice.dev/v1alpha1\nkind: PolicyPlugin\nmetadata: { name: ${name} }\nspec: { module: { file: ${file} }${more && `, ${more}`} }\n`;

/** Has the requests of an app, by default the client's, to the service decided by a plugin. */
export const tag = (name: string, to = '[{ service: { name: checkout } }]', app = 'client'): string => `apiVersion: sluice.dev/v1alpha1
kind: PluginPolicy
metadata: { name: ${app === 'client' ? name : `${name}-${app}`}, namespace: shop }
spec:
  podSelector: { matchLabels: { app: ${app} } }
  egress:
    - to: ${to}
      ask: { plugin: ${name}, context: http }
      http:
        routes: { stable: { service: checkout-v1, port: 80 }, canary: { service: checkout-v2, port: 80 } }
        default: stable
`;

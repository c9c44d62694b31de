/** Manifests that several kernel tests use. */

/** A pod of the lab that answers HTTP on its ports with its name. */
export function webPod(namespace: string, name: string, ports: readonly number[] = [80, 8080]): string {
  const listed = ports.map((port) => `{ containerPort: ${port} }`).join(', ');
  return `apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: ${namespace}, labels: { app: ${name} } }
spec:
  containers: [{ name: web, image: sluice.dev/lab/http-echo, ports: [${listed}] }]
---
`;
}

/** A pod without a process: it only has its network. */
export function barePod(namespace: string, name: string): string {
  return `apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: ${namespace}, labels: { app: ${name} } }
spec: {}
---
`;
}

/** The same pod with addresses that a test can name, whatever other labs are up. */
export function withAddresses(pod: string, ...addresses: readonly string[]): string {
  return pod.replace(/---\n$/, `status: { podIPs: [${addresses.map((ip) => `{ ip: '${ip}' }`).join(', ')}] }\n---\n`);
}

export function networkPolicy(name: string, namespace: string, spec: string): string {
  return `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: ${name}, namespace: ${namespace} }
spec: ${spec}
`;
}

/** A plugin, and a policy that asks it about what the pods of a label send (or, with ingress, receive). */
export function askingPolicy(
  plugin: string,
  options: { file?: string; spec?: string; app: string; namespace?: string; direction?: 'ingress' | 'egress'; rule?: string },
): string {
  const { file, spec = '', app, namespace = 'shop', direction = 'egress', rule = '' } = options;
  return `apiVersion: sluice.dev/v1alpha1
kind: PolicyPlugin
metadata: { name: ${plugin} }
spec: { ${[file && `module: { file: ${file} }`, spec].filter(Boolean).join(', ')} }
---
apiVersion: sluice.dev/v1alpha1
kind: PluginPolicy
metadata: { name: ${plugin}-${direction}, namespace: ${namespace} }
spec:
  podSelector: { matchLabels: { app: ${app} } }
  ${direction}: [{ ${rule ? `${rule}, ` : ''}ask: { plugin: ${plugin} } }]
`;
}

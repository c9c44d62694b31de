/**
 * Policy as its documentation reads: an evaluator that takes the manifests as they are written, with no index, no identity and
 * nothing of the engine's but the parsing of addresses. Slow, and easy to check by eye.
 */
import { isIPv6 } from 'node:net';
import { parseAddress } from '../../engine/policy/address.ts';

// biome-ignore lint/suspicious/noExplicitAny: manifests as they come, which is the point
type Any = any;

export interface Cluster {
  readonly namespaces: readonly Any[];
  readonly nodes: readonly Any[];
  readonly pods: readonly Any[];
  readonly policies: readonly Any[];
  readonly clusterPolicies: readonly Any[];
}

export interface Flow {
  readonly direction: 'ingress' | 'egress';
  /** The endpoint's manifest. */
  readonly pod: Any;
  readonly peer: string;
  /** By which the endpoint knows the peer. */
  readonly names: readonly string[];
  /** `TCP`, `UDP`, `SCTP` or another protocol's name. */
  readonly protocol: string;
  readonly port: number;
}

/** Whether the flow is allowed, and by what. */
export function naiveVerdict(cluster: Cluster, flow: Flow): { allowed: boolean; tier: string } {
  const admin = askTier(cluster, flow, 'Admin');
  if (admin !== 'next') return { allowed: admin, tier: 'admin' };
  const isolating = cluster.policies.filter(
    (policy) =>
      (policy.metadata.namespace ?? 'default') === flow.pod.metadata.namespace &&
      selects(policy.spec.podSelector, flow.pod.metadata.labels) &&
      typesOf(policy.spec).includes(flow.direction === 'ingress' ? 'Ingress' : 'Egress'),
  );
  if (isolating.length) {
    const allowed = isolating.some((policy) =>
      (policy.spec[flow.direction] ?? []).some((rule: Any) => allows(cluster, policy, rule, flow)),
    );
    return { allowed, tier: 'network' };
  }
  const baseline = askTier(cluster, flow, 'Baseline');
  return baseline === 'next' ? { allowed: true, tier: 'default' } : { allowed: baseline, tier: 'baseline' };
}

function typesOf(spec: Any): string[] {
  if (spec.policyTypes?.length) return spec.policyTypes;
  return spec.egress?.length ? ['Ingress', 'Egress'] : ['Ingress'];
}

function askTier(cluster: Cluster, flow: Flow, tier: string): boolean | 'next' {
  const policies = cluster.clusterPolicies
    .filter((policy) => policy.spec.tier === tier && isSubject(cluster, policy.spec.subject, flow.pod))
    .sort((a, b) => a.spec.priority - b.spec.priority || (a.metadata.name < b.metadata.name ? -1 : 1));
  for (const policy of policies)
    for (const rule of policy.spec[flow.direction] ?? []) {
      const peers = rule[flow.direction === 'ingress' ? 'from' : 'to'];
      if (!peers.some((peer: Any) => isTierPeer(cluster, peer, flow))) continue;
      if (rule.protocols && !rule.protocols.some((protocol: Any) => isTierPort(cluster, protocol, flow))) continue;
      if (rule.action === 'Pass') return 'next';
      return rule.action === 'Accept';
    }
  return 'next';
}

function isSubject(cluster: Cluster, subject: Any, pod: Any): boolean {
  const labels = namespaceLabels(cluster, pod.metadata.namespace);
  if (subject.namespaces) return selects(subject.namespaces, labels);
  return selects(subject.pods.namespaceSelector, labels) && selects(subject.pods.podSelector, pod.metadata.labels);
}

function isTierPeer(cluster: Cluster, peer: Any, { peer: address, names }: Flow): boolean {
  if (peer.domainNames) return peer.domainNames.some((pattern: string) => names.some((name) => isNamed(pattern, name)));
  if (peer.networks) return peer.networks.some((network: string) => inside(network, address));
  if (peer.nodes)
    return cluster.nodes.some(
      ({ metadata, status }) => selects(peer.nodes, metadata.labels) && status.addresses.some((own: Any) => isNodesOwn(own, address)),
    );
  const pod = podOf(cluster, address);
  return pod !== undefined && isSubject(cluster, peer, pod);
}

function isNodesOwn({ type, address }: Any, peer: string): boolean {
  return type !== 'Hostname' && same(address, peer);
}

function isNamed(pattern: string, name: string): boolean {
  const wanted = pattern.toLowerCase().replace(/\.$/, '').split('.');
  const labels = name.toLowerCase().split('.');
  if (wanted[0] !== '*') return wanted.join('.') === labels.join('.');
  return labels.length >= wanted.length && labels.slice(1 - wanted.length).join('.') === wanted.slice(1).join('.');
}

function isTierPort(cluster: Cluster, protocol: Any, flow: Flow): boolean {
  if (protocol.destinationNamedPort !== undefined) return hasNamedPort(cluster, flow, protocol.destinationNamedPort, flow.protocol);
  const [[name, { destinationPort = undefined } = {}]] = Object.entries(protocol) as Any;
  if (name.toUpperCase() !== flow.protocol) return false;
  if (!destinationPort) return true;
  if (destinationPort.number !== undefined) return destinationPort.number === flow.port;
  return destinationPort.range.start <= flow.port && flow.port <= destinationPort.range.end;
}

function allows(cluster: Cluster, policy: Any, rule: Any, flow: Flow): boolean {
  const peers = rule[flow.direction === 'ingress' ? 'from' : 'to'];
  if (peers?.length && !peers.some((peer: Any) => isPeer(cluster, policy, peer, flow.peer))) return false;
  return !rule.ports?.length || rule.ports.some((port: Any) => isPort(cluster, port, flow));
}

function isPeer(cluster: Cluster, policy: Any, peer: Any, address: string): boolean {
  if (peer.ipBlock) return inside(peer.ipBlock.cidr, address) && !(peer.ipBlock.except ?? []).some((cidr: string) => inside(cidr, address));
  const pod = podOf(cluster, address);
  if (!pod) return false;
  const inNamespace = peer.namespaceSelector
    ? selects(peer.namespaceSelector, namespaceLabels(cluster, pod.metadata.namespace))
    : pod.metadata.namespace === (policy.metadata.namespace ?? 'default');
  return inNamespace && (!peer.podSelector || selects(peer.podSelector, pod.metadata.labels));
}

function isPort(cluster: Cluster, wanted: Any, flow: Flow): boolean {
  const protocol = wanted.protocol ?? 'TCP';
  if (protocol !== flow.protocol) return false;
  if (wanted.port === undefined) return true;
  if (typeof wanted.port === 'string') return hasNamedPort(cluster, flow, wanted.port, protocol);
  return wanted.port <= flow.port && flow.port <= (wanted.endPort ?? wanted.port);
}

/** A port's name is one of the pod that receives. */
function hasNamedPort(cluster: Cluster, flow: Flow, name: string, protocol: string): boolean {
  const receiver = flow.direction === 'ingress' ? flow.pod : podOf(cluster, flow.peer);
  const ports: Any[] = (receiver?.spec.containers ?? []).flatMap((container: Any) => container.ports ?? []);
  return ports.some((port) => port.name === name && (port.protocol ?? 'TCP') === protocol && port.containerPort === flow.port);
}

function podOf(cluster: Cluster, address: string): Any {
  return cluster.pods.find((pod) => pod.status.podIPs.some(({ ip }: Any) => same(ip, address)));
}

function namespaceLabels(cluster: Cluster, name: string): Record<string, string> {
  const namespace = cluster.namespaces.find((candidate) => candidate.metadata.name === name);
  return { ...namespace?.metadata.labels, 'kubernetes.io/metadata.name': name };
}

function selects(selector: Any, labels: Record<string, string> = {}): boolean {
  const has = (key: string): boolean => Object.hasOwn(labels, key);
  for (const [key, value] of Object.entries(selector?.matchLabels ?? {})) if (!has(key) || labels[key] !== value) return false;
  for (const { key, operator, values } of selector?.matchExpressions ?? []) {
    if (operator === 'Exists' && !has(key)) return false;
    if (operator === 'DoesNotExist' && has(key)) return false;
    if (operator === 'In' && !(has(key) && values.includes(labels[key]))) return false;
    if (operator === 'NotIn' && has(key) && values.includes(labels[key])) return false;
  }
  return true;
}

function same(a: string, b: string): boolean {
  return bits(a) === bits(b);
}

function inside(cidr: string, address: string): boolean {
  const [network = '', length] = cidr.split('/');
  if (isIPv6(network) !== isIPv6(address)) return false;
  const offset = isIPv6(network) ? 0 : 96;
  const [a, b] = [bits(network), bits(address)];
  return a.slice(0, offset + Number(length)) === b.slice(0, offset + Number(length));
}

const known = new Map<string, string>();

function bits(address: string): string {
  let text = known.get(address);
  if (text === undefined) {
    text = [...(parseAddress(address) as Uint8Array)].map((byte) => byte.toString(2).padStart(8, '0')).join('');
    known.set(address, text);
  }
  return text;
}

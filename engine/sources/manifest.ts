/** From the text of a file to objects of the snapshot: YAML or JSON, many documents, Lists. Every problem has its line. */
import { createHash } from 'node:crypto';
import { dirname, resolve } from 'node:path';
import { Context, Direction } from '../abi.gen.ts';
import { parseAddress } from '../policy/address.ts';
import type {
  ClusterPolicy,
  EndpointSlice,
  HostPolicy,
  HttpRoute,
  Namespace,
  PluginPolicy,
  Pod,
  Policy,
  PolicyPlugin,
  Problem,
  Selector,
  Service,
  TierRule,
} from '../policy/snapshot.ts';
import { clusterPolicySpec, clusterSubject } from './cluster-policy-schema.ts';
import { httpRouteParents, httpRouteSpec, ROUTES_ANNOTATION, routeRules, serviceParents } from './http-route-schema.ts';
import * as pluginSchema from './plugin-schema.ts';
import * as schema from './schema.ts';
import { endpointSlice, readyAddresses, SERVICE_LABEL, serviceSpec } from './service-schema.ts';
import { isRecord, type ObjectPlace, type Path, readDocuments, Source, SourceText } from './source-text.ts';

/** The host side of a pod's veth. */
export const INTERFACE_ANNOTATION = 'sluice.dev/interface';
/** The cgroup of a pod in the host's network, or of chosen processes of the host: absolute, below the cgroup2 mount. */
export const CGROUP_ANNOTATION = 'sluice.dev/cgroup';

/** Its answers to DNS queries are believed, where it says "true". */
export const RESOLVER_ANNOTATION = 'sluice.dev/resolver';

export type ManifestObject = {
  readonly place: ObjectPlace;
} & (
  | { readonly kind: 'Namespace'; readonly value: Namespace }
  | { readonly kind: 'Pod'; readonly value: Pod }
  | { readonly kind: 'NetworkPolicy'; readonly value: Policy }
  | { readonly kind: 'ClusterNetworkPolicy'; readonly value: ClusterPolicy }
  | { readonly kind: 'PluginPolicy'; readonly value: PluginPolicy }
  | { readonly kind: 'PolicyPlugin'; readonly value: PolicyPlugin }
  | { readonly kind: 'HostPolicy'; readonly value: HostPolicy }
  | { readonly kind: 'Service'; readonly value: Service }
  | { readonly kind: 'EndpointSlice'; readonly value: EndpointSlice }
  | { readonly kind: 'HTTPRoute'; readonly value: HttpRoute }
);

export interface Manifest {
  readonly objects: readonly ManifestObject[];
  readonly problems: readonly Problem[];
  /** The text is not YAML at all: what it said before should stay in force. */
  readonly unreadable: boolean;
}

const KINDS: Readonly<Record<string, string>> = {
  Namespace: 'v1',
  Pod: 'v1',
  NetworkPolicy: 'networking.k8s.io/v1',
  ClusterNetworkPolicy: 'policy.networking.k8s.io/v1alpha2',
  PluginPolicy: 'sluice.dev/v1alpha1',
  PolicyPlugin: 'sluice.dev/v1alpha1',
  HostPolicy: 'sluice.dev/v1alpha1',
  Service: 'v1',
  EndpointSlice: 'discovery.k8s.io/v1',
  HTTPRoute: 'gateway.networking.k8s.io/v1',
};

/** What people keep beside policies, and what no policy depends on so far. */
const IGNORED_KINDS = new Set(
  'ConfigMap CronJob CustomResourceDefinition DaemonSet Deployment Endpoints Gateway HorizontalPodAutoscaler Ingress Job Kustomization LimitRange PersistentVolumeClaim PodDisruptionBudget ReplicaSet ResourceQuota Role RoleBinding ClusterRole ClusterRoleBinding Secret ServiceAccount StatefulSet'.split(
    ' ',
  ),
);

export const DENY_EVERYONE: TierRule = { action: 'deny', name: '' };

/** Reads a manifest. Never throws: what is wrong is in `problems`, and what is wrong with a policy closes what it selects. */
export function readManifest(file: string, text: string): Manifest {
  const source = new SourceText(file, text);
  const problems: Problem[] = [];
  const values = readDocuments(source, problems);
  if (!values) return { objects: [], problems, unreadable: true };
  const objects: ManifestObject[] = [];
  values.forEach((value, document) => {
    for (const found of sourcesIn(value, source, document, [], problems)) {
      const object = readObject(found);
      if (object) objects.push(object);
      problems.push(...found.problems);
    }
  });
  return { objects, problems, unreadable: false };
}

function sourcesIn(value: unknown, text: SourceText, document: number, base: Path, problems: Problem[]): Source[] {
  if (value === null || value === undefined) return [];
  if (!isRecord(value) || Array.isArray(value)) {
    const reason = 'not a Kubernetes object: must be a map with apiVersion and kind';
    problems.push({ file: text.file, line: 0, object: '', reason });
    return [];
  }
  if (typeof value.kind === 'string' && value.kind.endsWith('List') && Array.isArray(value.items))
    return value.items.flatMap((item, i) => sourcesIn(item, text, document, [...base, 'items', i], problems));
  return [new Source(value, text, document, base)];
}

function readObject(source: Source): ManifestObject | undefined {
  const { kind, apiVersion } = source.raw;
  if (typeof kind !== 'string' || !kind) {
    source.report([], 'has no kind');
    return undefined;
  }
  if (IGNORED_KINDS.has(kind)) return undefined;
  if (!Object.hasOwn(KINDS, kind) || KINDS[kind] !== apiVersion) {
    source.report(
      ['kind'],
      `unknown kind ${kind} of ${String(apiVersion)}; known are ${Object.entries(KINDS)
        .map(([name, version]) => `${name} of ${version}`)
        .join(', ')}`,
    );
    return undefined;
  }
  const { place } = source;
  switch (kind) {
    case 'Namespace':
      return placed(place, kind, readNamespace(source));
    case 'Pod':
      return placed(place, kind, readPod(source));
    case 'NetworkPolicy':
      return placed(place, kind, readNetworkPolicy(source));
    case 'ClusterNetworkPolicy':
      return placed(place, kind, readClusterPolicy(source));
    case 'PluginPolicy':
      return placed(place, kind, readPluginPolicy(source));
    case 'HostPolicy':
      return placed(place, kind, readHostPolicy(source));
    case 'Service':
      return placed(place, kind, readService(source));
    case 'EndpointSlice':
      return placed(place, kind, readEndpointSlice(source));
    case 'HTTPRoute':
      return placed(place, kind, readHttpRoute(source));
    default:
      return placed(place, 'PolicyPlugin', readPolicyPlugin(source));
  }
}

function placed(place: ObjectPlace, kind: ManifestObject['kind'], value: ManifestObject['value'] | undefined): ManifestObject | undefined {
  return value && ({ place, kind, value } as ManifestObject);
}

function readNamespace(source: Source): Namespace | undefined {
  const metadata = source.parse(schema.metadata, ['metadata']);
  return metadata && { name: metadata.name, labels: new Map([...metadata.labels, ['kubernetes.io/metadata.name', metadata.name]]) };
}

/** A pod whose manifest is damaged is quarantined where it still can be recognised. */
function readPod(source: Source): Pod | undefined {
  const metadata = source.parse(schema.metadata, ['metadata']);
  const spec = source.parse(schema.podSpec, ['spec']);
  const status = source.parse(schema.podStatus, ['status']);
  const texts = new Set([status?.podIP, ...(status?.podIPs ?? []).map((entry) => entry.ip)].filter((ip): ip is string => !!ip));
  const addresses = [...texts].flatMap((ip) => {
    const address = parseAddress(ip);
    if (!address) source.report(['status'], `"${ip}" is not an address`);
    return address ? [address] : [];
  });
  const name = looseMetadata(source);
  if (!name) return undefined;
  const annotations = isRecord(source.metadata.annotations) ? source.metadata.annotations : {};
  const attachment = annotations[INTERFACE_ANNOTATION];
  const cgroup = annotations[CGROUP_ANNOTATION];
  if (typeof cgroup === 'string' && (!cgroup.startsWith('/') || cgroup.split('/').includes('..')))
    source.report(
      ['metadata', 'annotations', CGROUP_ANNOTATION],
      `"${cgroup}" is not a path below the cgroup2 mount, such as /system.slice/sshd.service`,
    );
  return {
    ...name,
    labels: metadata?.labels ?? new Map(),
    addresses,
    ports: (spec?.containers ?? []).flatMap((container) =>
      (container.ports ?? []).flatMap((port) =>
        port.name ? [{ name: port.name, protocol: schema.PROTOCOLS[port.protocol ?? 'TCP'], port: port.containerPort }] : [],
      ),
    ),
    hostNetwork: spec?.hostNetwork ?? false,
    ended: status?.phase === 'Succeeded' || status?.phase === 'Failed',
    ...(typeof attachment === 'string' && { interface: attachment }),
    ...(typeof cgroup === 'string' && { cgroup }),
    ...(annotations[RESOLVER_ANNOTATION] === 'true' && { resolver: true }),
    ...((!metadata || !spec || source.problems.length > 0) && { quarantined: true }),
  };
}

function readNetworkPolicy(source: Source): Policy | undefined {
  const metadata = source.parse(schema.metadata, ['metadata']);
  const spec = source.parse(schema.networkPolicySpec, ['spec']);
  if (metadata && spec) return { namespace: metadata.namespace ?? 'default', name: metadata.name, ...spec };
  const name = looseMetadata(source);
  return (
    name && {
      ...name,
      selector: readableSelector(source),
      rules: Object.fromEntries(namedDirections(source).map((direction) => [direction, []])),
    }
  );
}

/** One that is invalid denies its subject what it names, at its place; one whose subject cannot be read, everybody. */
function readClusterPolicy(source: Source): ClusterPolicy | undefined {
  const metadata = source.parse(schema.metadata, ['metadata']);
  const spec = source.parse(clusterPolicySpec, ['spec']);
  if (metadata && spec) return { name: metadata.name, ...spec };
  const name = looseMetadata(source);
  const raw = isRecord(source.raw.spec) ? source.raw.spec : {};
  const subject = clusterSubject.safeParse(raw.subject);
  return (
    name && {
      name: name.name,
      tier: raw.tier === 'Baseline' ? 'Baseline' : 'Admin',
      priority: typeof raw.priority === 'number' && raw.priority >= 0 && raw.priority <= 1000 ? raw.priority : 0,
      subject: subject.success ? subject.data : { namespaces: [], pods: [] },
      rules: Object.fromEntries(namedDirections(source).map((direction) => [direction, [DENY_EVERYONE]])),
    }
  );
}

function readPluginPolicy(source: Source): PluginPolicy | undefined {
  const metadata = source.parse(schema.metadata, ['metadata']);
  const spec = source.parse(pluginSchema.pluginPolicySpec, ['spec']);
  const namespace = metadata?.namespace ?? 'default';
  if (metadata && spec) {
    const rules = Object.entries(spec.rules).map(([direction, list]) => [direction, list.map((rule) => rule(namespace))]);
    return { kind: 'PluginPolicy', namespace, name: metadata.name, ...spec, rules: Object.fromEntries(rules) };
  }
  const name = looseMetadata(source);
  // A plugin that cannot exist: whatever the tiers allow in these directions is denied.
  const closed = [{ plugin: '', context: Context.CONNECT }];
  return (
    name && {
      kind: 'PluginPolicy',
      ...name,
      selector: readableSelector(source),
      overrides: false,
      rules: Object.fromEntries(namedDirections(source).map((direction) => [direction, closed])),
    }
  );
}

function readPolicyPlugin(source: Source): PolicyPlugin | undefined {
  const metadata = source.parse(schema.metadata, ['metadata']);
  const spec = source.parse(pluginSchema.policyPluginSpec, ['spec']);
  if (!metadata || !spec) return undefined;
  const { file, ...rest } = spec;
  return { name: metadata.name, ...rest, ...(file && { file: resolve(dirname(source.file), file) }) };
}

/** A damaged one has no backends: who is sent to it is told so. */
function readService(source: Source): Service | undefined {
  const metadata = source.parse(schema.metadata, ['metadata']);
  const spec = source.parse(serviceSpec, ['spec']);
  const name = looseMetadata(source);
  return name && { ...name, ...(metadata && spec ? spec : { addresses: [], ports: [] }) };
}

function readEndpointSlice(source: Source): EndpointSlice | undefined {
  const metadata = source.parse(schema.metadata, ['metadata']);
  const slice = source.parse(endpointSlice, []);
  const service = metadata?.labels.get(SERVICE_LABEL);
  if (!metadata || !slice || !service) return undefined;
  return {
    namespace: metadata.namespace ?? 'default',
    name: metadata.name,
    service,
    ports: (slice.ports ?? []).flatMap(({ name, protocol, port }) => (port ? [{ name: name ?? '', protocol, port }] : [])),
    addresses: readyAddresses(slice),
  };
}

/** A damaged one, or one with rules that we do not know, refuses every request to its Services. */
function readHttpRoute(source: Source): HttpRoute | undefined {
  const metadata = source.parse(schema.metadata, ['metadata']);
  const parents = httpRouteParents.safeParse(isRecord(source.raw.spec) ? source.raw.spec : {});
  const name = looseMetadata(source);
  // Gateways have other implementations: only what is attached to a Service is ours.
  if (!name || (parents.success && !serviceParents(parents.data, name.namespace).length)) return undefined;
  const spec = source.parse(httpRouteSpec, ['spec']);
  const annotations = isRecord(source.metadata.annotations) ? source.metadata.annotations : {};
  const routes = new Map(
    String(annotations[ROUTES_ANNOTATION] ?? '')
      .split(',')
      .flatMap((pair) => {
        const [route, target] = pair.split('=', 2).map((part) => part.trim());
        return route && target ? [[route, target] as const] : [];
      }),
  );
  const attached = parents.success ? serviceParents(parents.data, name.namespace) : [];
  return { ...name, parents: attached, rules: metadata && spec ? routeRules(spec, name.namespace, routes) : [] };
}

/** One that is invalid says so: what stands for the host must not fall with a typing error. */
function readHostPolicy(source: Source): HostPolicy | undefined {
  const metadata = source.parse(schema.metadata, ['metadata']);
  const rules = source.parse(schema.hostPolicySpec, ['spec']);
  if (!metadata || !rules) return { name: String(source.metadata.name ?? '?'), rules: {}, invalid: true };
  const version = createHash('sha256').update(JSON.stringify(source.raw.spec)).digest('hex').slice(0, 8);
  return { name: `${metadata.name}@${version}`, rules };
}

/** Name and namespace as far as they are strings at all. */
function looseMetadata(source: Source): { name: string; namespace: string } | undefined {
  const { name, namespace } = source.metadata;
  return typeof name === 'string' && name
    ? { name, namespace: typeof namespace === 'string' && namespace ? namespace : 'default' }
    : undefined;
}

/** The selector of a policy that is invalid elsewhere; a selector that cannot be read selects every pod of the namespace. */
function readableSelector(source: Source): Selector {
  const spec = isRecord(source.raw.spec) ? source.raw.spec : {};
  const result = schema.selector.safeParse(spec.podSelector ?? {});
  return result.success ? result.data : [];
}

/** The directions that an invalid policy names: both when that cannot be told. */
function namedDirections(source: Source): Direction[] {
  const both = [Direction.INGRESS, Direction.EGRESS];
  if (!isRecord(source.raw.spec)) return both;
  const { policyTypes, ingress, egress } = source.raw.spec;
  if (source.raw.kind !== 'NetworkPolicy') {
    const named = [...(ingress === undefined ? [] : [Direction.INGRESS]), ...(egress === undefined ? [] : [Direction.EGRESS])];
    return named.length ? named : both;
  }
  const types = schema.policyTypes.safeParse(policyTypes);
  if (!types.success) return both;
  if (types.data?.length) return both.filter((direction) => types.data?.includes(direction === Direction.INGRESS ? 'Ingress' : 'Egress'));
  return egress ? both : [Direction.INGRESS];
}

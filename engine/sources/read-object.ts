/** From an object as it was written to the form that policy is compiled from, whatever source it comes from. */
import { createHash } from 'node:crypto';
import { Direction } from '../abi.gen.ts';
import { parseAddress, parseNetwork } from '../policy/address.ts';
import {
  ASK_NOBODY,
  type CanaryFailure,
  type ClusterObject,
  type ClusterPolicy,
  type EndpointSlice,
  type HostPolicy,
  type HttpRoute,
  type ModuleReference,
  type Namespace,
  type Node,
  type PluginPolicy,
  type Pod,
  type Policy,
  type PolicyPlugin,
  type Selector,
  type Service,
  type TierRule,
} from '../policy/objects.ts';
import type { Problem, ProblemPlace } from '../policy/problem.ts';
import { clusterPolicySpec, clusterSubject, unknownPeers } from './cluster-policy-schema.ts';
import { httpRouteParents, httpRouteSpec, ROUTES_ANNOTATION, routeRules, serviceParents } from './http-route-schema.ts';
import * as pluginSchema from './plugin-schema.ts';
import { isRecord, type Origin, type Path, printable, RawObject } from './raw-object.ts';
import * as schema from './schema.ts';
import { endpointSlice, readableAddresses, SERVICE_LABEL, serviceSpec, serviceStatus, sliceEndpoints } from './service-schema.ts';

/** The host side of a pod's veth. */
export const INTERFACE_ANNOTATION = 'sluice.dev/interface';
/** The cgroup of a pod in the host's network, or of chosen processes of the host: absolute, below the cgroup2 mount. */
export const CGROUP_ANNOTATION = 'sluice.dev/cgroup';

/** Its answers to DNS queries are believed, where it says "true". */
export const RESOLVER_ANNOTATION = 'sluice.dev/resolver';

/** An object that was read. */
export type ReadObject = ClusterObject & {
  /** `NetworkPolicy shop/web` */
  readonly title: string;
  /** Where it stands; in a file this may take long. */
  place(): ProblemPlace;
};

const API_VERSIONS: Readonly<Record<string, readonly string[]>> = {
  Namespace: ['v1'],
  Node: ['v1'],
  Pod: ['v1'],
  NetworkPolicy: ['networking.k8s.io/v1'],
  // They differ in nothing but their names.
  ClusterNetworkPolicy: ['policy.networking.k8s.io/v1beta1', 'policy.networking.k8s.io/v1alpha2'],
  PluginPolicy: ['sluice.dev/v1alpha1'],
  PolicyPlugin: ['sluice.dev/v1alpha1'],
  HostPolicy: ['sluice.dev/v1alpha1'],
  Service: ['v1'],
  EndpointSlice: ['discovery.k8s.io/v1'],
  HTTPRoute: ['gateway.networking.k8s.io/v1'],
};

/** Kinds that people keep beside policies, and that no policy depends on so far. */
const IGNORED_KINDS = new Set(
  'ConfigMap CronJob CustomResourceDefinition DaemonSet Deployment Endpoints Gateway HorizontalPodAutoscaler Ingress Job Kustomization LimitRange PersistentVolumeClaim PodDisruptionBudget ReplicaSet ResourceQuota Role RoleBinding ClusterRole ClusterRoleBinding Secret ServiceAccount StatefulSet'.split(
    ' ',
  ),
);

export const DENY_EVERYONE: TierRule = { action: 'deny', name: '' };

/**
 * Reads an object. Never throws: what is wrong is in the problems, and what is wrong with a policy closes what it selects.
 * Without an object where it is of a kind that no policy depends on, or of one that nobody knows.
 */
export function readObject(
  raw: Record<string, unknown>,
  origin: Origin,
): { readonly object?: ReadObject; readonly problems: readonly Problem[] } {
  const object = new RawObject(raw, origin);
  const read = readByKind(object);
  if (!read) return { problems: object.problems };
  const { title } = object;
  return { object: { ...read, title, place: () => origin.locate([], title) } as ReadObject, problems: object.problems };
}

function readByKind(object: RawObject): ClusterObject | undefined {
  const { kind, apiVersion } = object.raw;
  if (typeof kind !== 'string' || !kind) {
    object.report([], 'has no kind');
    return undefined;
  }
  if (IGNORED_KINDS.has(kind)) return undefined;
  const versions = Object.hasOwn(API_VERSIONS, kind) ? API_VERSIONS[kind] : undefined;
  if (!versions?.includes(apiVersion as string)) {
    object.report(
      ['kind'],
      `unknown kind ${kind} of ${String(apiVersion)}; known are ${Object.entries(API_VERSIONS)
        .map(([name, each]) => `${name} of ${each.join(' or ')}`)
        .join(', ')}`,
    );
    return undefined;
  }
  switch (kind) {
    case 'Namespace':
      return ofKind(kind, readNamespace(object));
    case 'Node':
      return ofKind(kind, readNode(object));
    case 'Pod':
      return ofKind(kind, readPod(object));
    case 'NetworkPolicy':
      return ofKind(kind, readNetworkPolicy(object));
    case 'ClusterNetworkPolicy':
      return ofKind(kind, readClusterPolicy(object));
    case 'PluginPolicy':
      return ofKind(kind, readPluginPolicy(object));
    case 'HostPolicy':
      return ofKind(kind, readHostPolicy(object));
    case 'Service':
      return ofKind(kind, readService(object));
    case 'EndpointSlice':
      return ofKind(kind, readEndpointSlice(object));
    case 'HTTPRoute':
      return ofKind(kind, readHttpRoute(object));
    default:
      return ofKind('PolicyPlugin', readPolicyPlugin(object));
  }
}

function ofKind(kind: ClusterObject['kind'], value: ClusterObject['value'] | undefined): ClusterObject | undefined {
  return value && ({ kind, value } as ClusterObject);
}

/** One whose labels cannot all be read closes its pods. */
function readNamespace(object: RawObject): Namespace | undefined {
  object.parse(schema.metadata, ['metadata']);
  const name = looseMetadata(object)?.name;
  if (name === undefined) return undefined;
  const { success } = schema.labels.safeParse(object.metadata.labels);
  const labels = new Map([...schema.readableLabels(object.metadata.labels), ['kubernetes.io/metadata.name', name]]);
  return { name, labels, ...(!success && { quarantined: true }) };
}

/** Of a damaged one, what can be read: labels, addresses. */
function readNode(object: RawObject): Node | undefined {
  object.parse(schema.metadata, ['metadata']);
  const name = looseMetadata(object)?.name;
  if (name === undefined) return undefined;
  return {
    name,
    labels: schema.readableLabels(object.metadata.labels),
    addresses: readTexts(object, ['status'], object.parse(schema.nodeStatus, ['status']), parseAddress, 'an address'),
    podCidrs: readTexts(object, ['spec'], object.parse(schema.nodeSpec, ['spec']), parseNetwork, 'a network'),
  };
}

/** The texts at a place that are what they should be; of the others it is said. */
function readTexts<T>(
  object: RawObject,
  path: Path,
  texts: Iterable<string> | undefined,
  parse: (text: string) => T | undefined,
  what: string,
): T[] {
  return [...(texts ?? [])].flatMap((text) => {
    const read = parse(text);
    if (read === undefined) object.report(path, `"${printable(text)}" is not ${what}`);
    return read === undefined ? [] : [read];
  });
}

/** A pod whose manifest is damaged is quarantined where it still can be recognised. */
function readPod(object: RawObject): Pod | undefined {
  const metadata = object.parse(schema.metadata, ['metadata']);
  const spec = object.parse(schema.podSpec, ['spec']);
  const status = object.parse(schema.podStatus, ['status']);
  const texts = new Set([status?.podIP, ...(status?.podIPs ?? []).map((entry) => entry.ip)].filter((ip): ip is string => !!ip));
  const addresses = readTexts(object, ['status'], texts, parseAddress, 'an address');
  const name = looseMetadata(object);
  if (!name) return undefined;
  const annotations = object.origin.mayPlace && isRecord(object.metadata.annotations) ? object.metadata.annotations : {};
  const attachment = annotations[INTERFACE_ANNOTATION];
  const cgroup = annotations[CGROUP_ANNOTATION];
  if (typeof cgroup === 'string' && (!cgroup.startsWith('/') || cgroup.split('/').includes('..')))
    object.report(
      ['metadata', 'annotations', CGROUP_ANNOTATION],
      `"${cgroup}" is not a path below the cgroup2 mount, such as /system.slice/sshd.service`,
    );
  const node = spec?.nodeName;
  return {
    ...name,
    ...(metadata?.uid && { uid: metadata.uid }),
    ...(node && { node }),
    ...(node && node === object.origin.nodeName && { local: true as const }),
    labels: metadata?.labels ?? new Map(),
    ...(spec?.serviceAccountName && { serviceAccount: spec.serviceAccountName }),
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
    ...((!metadata || !spec || object.problems.length > 0) && { quarantined: true }),
  };
}

function readNetworkPolicy(object: RawObject): Policy | undefined {
  const metadata = object.parse(schema.metadata, ['metadata']);
  const spec = object.parse(schema.networkPolicySpec, ['spec']);
  if (metadata && spec) return { namespace: metadata.namespace ?? 'default', name: metadata.name, ...spec };
  const name = looseMetadata(object);
  return (
    name && {
      ...name,
      selector: readableSelector(object),
      rules: Object.fromEntries(namedDirections(object).map((direction) => [direction, []])),
    }
  );
}

/** One that is invalid denies its subject what it names, at its place; one whose subject cannot be read, everybody. */
function readClusterPolicy(object: RawObject): ClusterPolicy | undefined {
  const metadata = object.parse(schema.metadata, ['metadata']);
  const spec = object.parse(clusterPolicySpec, ['spec']);
  const raw = isRecord(object.raw.spec) ? object.raw.spec : {};
  if (metadata && spec) {
    for (const path of unknownPeers(raw))
      object.report(['spec', ...path], 'has no field that is known here: the rule accepts nothing, or denies everything');
    return { name: metadata.name, ...spec };
  }
  const name = looseMetadata(object);
  const subject = clusterSubject.safeParse(raw.subject);
  return (
    name && {
      name: name.name,
      tier: raw.tier === 'Baseline' ? 'Baseline' : 'Admin',
      priority: typeof raw.priority === 'number' && raw.priority >= 0 && raw.priority <= 1000 ? raw.priority : 0,
      subject: subject.success ? subject.data : { namespaces: [], pods: [] },
      rules: Object.fromEntries(namedDirections(object).map((direction) => [direction, [DENY_EVERYONE]])),
    }
  );
}

function readPluginPolicy(object: RawObject): PluginPolicy | undefined {
  const metadata = object.parse(schema.metadata, ['metadata']);
  const spec = object.parse(pluginSchema.pluginPolicySpec, ['spec']);
  const namespace = metadata?.namespace ?? 'default';
  if (metadata && spec) {
    const rules = Object.entries(spec.rules).map(([direction, list]) => [direction, list.map((rule) => rule(namespace))]);
    return { kind: 'PluginPolicy', namespace, name: metadata.name, ...spec, rules: Object.fromEntries(rules) };
  }
  const name = looseMetadata(object);
  return (
    name && {
      kind: 'PluginPolicy',
      ...name,
      selector: readableSelector(object),
      overrides: false,
      rules: Object.fromEntries(namedDirections(object).map((direction) => [direction, [ASK_NOBODY]])),
    }
  );
}

function readPolicyPlugin(object: RawObject): PolicyPlugin | undefined {
  const metadata = object.parse(schema.metadata, ['metadata']);
  const spec = object.parse(pluginSchema.policyPluginSpec, ['spec']);
  if (!metadata || !spec) return undefined;
  const { module, canary, ...rest } = spec;
  const placed = module && placedModule(object, module);
  return {
    name: metadata.name,
    ...rest,
    ...(placed && { module: placed }),
    ...(canary && { canary: { ...canary, failed: canaryFailures(object) } }),
  };
}

/** Where canaries failed, as far as the status can be read: engines write it. */
function canaryFailures(object: RawObject): CanaryFailure[] {
  const status = isRecord(object.raw.status) ? object.raw.status : {};
  const failed = isRecord(status.canary) && Array.isArray(status.canary.failed) ? status.canary.failed : [];
  return failed.flatMap((each: unknown) => {
    const { node, digest, reason } = isRecord(each) ? each : {};
    return typeof node === 'string' && typeof digest === 'string' ? [{ node, digest, reason: printable(String(reason ?? '')) }] : [];
  });
}

/** The module with the path of its file as that is on this machine; undefined where the object may name no file. */
function placedModule(object: RawObject, module: ModuleReference): ModuleReference | undefined {
  if (module.kind !== 'file') return module;
  const path = object.origin.resolveFile?.(module.path);
  if (path) return { ...module, path };
  object.report(['spec', 'module', 'file'], 'only a manifest in a file can name one');
  return undefined;
}

/** A damaged one has no backends: who is sent to it is told so. What rules say of it is denied at the addresses that can be read. */
function readService(object: RawObject): Service | undefined {
  const metadata = object.parse(schema.metadata, ['metadata']);
  const spec = object.parse(serviceSpec, ['spec']);
  const balancers = object.parse(serviceStatus, ['status']);
  const name = looseMetadata(object);
  if (!name) return undefined;
  const externalAddresses = [...(spec?.externalAddresses ?? []), ...(balancers ?? [])];
  if (metadata && spec && balancers) return { ...name, ...spec, ...(externalAddresses.length && { externalAddresses }) };
  return { ...name, addresses: readableAddresses(object.raw.spec), ports: [], damaged: true };
}

function readEndpointSlice(object: RawObject): EndpointSlice | undefined {
  const metadata = object.parse(schema.metadata, ['metadata']);
  const slice = object.parse(endpointSlice, []);
  const service = metadata?.labels.get(SERVICE_LABEL);
  if (!metadata || !slice || !service) return undefined;
  return {
    namespace: metadata.namespace ?? 'default',
    name: metadata.name,
    service,
    ports: (slice.ports ?? []).flatMap(({ name, protocol, port }) => (port ? [{ name: name ?? '', protocol, port }] : [])),
    endpoints: sliceEndpoints(slice),
  };
}

/** A damaged one, or one with rules that we do not know, refuses every request to its Services. */
function readHttpRoute(object: RawObject): HttpRoute | undefined {
  const metadata = object.parse(schema.metadata, ['metadata']);
  const parents = httpRouteParents.safeParse(isRecord(object.raw.spec) ? object.raw.spec : {});
  const name = looseMetadata(object);
  // Gateways have other implementations: only what is attached to a Service is ours.
  if (!name || (parents.success && !serviceParents(parents.data, name.namespace).length)) return undefined;
  const spec = object.parse(httpRouteSpec, ['spec']);
  const annotations = isRecord(object.metadata.annotations) ? object.metadata.annotations : {};
  const routes = new Map(
    String(annotations[ROUTES_ANNOTATION] ?? '')
      .split(',')
      .flatMap((pair) => {
        const [route, target] = pair.split('=', 2).map((part) => part.trim());
        return route && target ? [[route, target] as const] : [];
      }),
  );
  const attached = parents.success ? serviceParents(parents.data, name.namespace) : [];
  if (!metadata || !spec) return { ...name, parents: attached, rules: [], closed: true };
  return { ...name, parents: attached, rules: routeRules(spec, name.namespace, routes) };
}

/** One that is invalid says so: what stands for the host must not fall with a typing error. */
function readHostPolicy(object: RawObject): HostPolicy | undefined {
  const metadata = object.parse(schema.metadata, ['metadata']);
  const spec = object.parse(schema.hostPolicySpec, ['spec']);
  if (!metadata || !spec) {
    const { nodeSelector } = isRecord(object.raw.spec) ? object.raw.spec : {};
    const nodes = schema.selector.safeParse(nodeSelector);
    return { name: String(object.metadata.name ?? '?'), ...(nodes.success && { nodes: nodes.data }), rules: {}, invalid: true };
  }
  const version = createHash('sha256').update(JSON.stringify(object.raw.spec)).digest('hex').slice(0, 8);
  return { name: `${metadata.name}@${version}`, ...spec };
}

/** Name and namespace as far as they are strings at all, without control characters. */
function looseMetadata(object: RawObject): { name: string; namespace: string } | undefined {
  const { name, namespace } = object.metadata;
  return typeof name === 'string' && name
    ? { name: printable(name), namespace: typeof namespace === 'string' && namespace ? printable(namespace) : 'default' }
    : undefined;
}

/** The selector of a policy that is invalid elsewhere; a selector that cannot be read selects every pod of the namespace. */
function readableSelector(object: RawObject): Selector {
  const spec = isRecord(object.raw.spec) ? object.raw.spec : {};
  const result = schema.selector.safeParse(spec.podSelector ?? {});
  return result.success ? result.data : [];
}

/** The directions that an invalid policy names: both when that cannot be told. */
function namedDirections(object: RawObject): Direction[] {
  const both = [Direction.INGRESS, Direction.EGRESS];
  if (!isRecord(object.raw.spec)) return both;
  const { policyTypes, ingress, egress } = object.raw.spec;
  if (object.raw.kind !== 'NetworkPolicy') {
    const named = [...(ingress === undefined ? [] : [Direction.INGRESS]), ...(egress === undefined ? [] : [Direction.EGRESS])];
    return named.length ? named : both;
  }
  const types = schema.policyTypes.safeParse(policyTypes);
  if (!types.success) return both;
  if (types.data?.length) return both.filter((direction) => types.data?.includes(direction === Direction.INGRESS ? 'Ingress' : 'Egress'));
  return egress ? both : [Direction.INGRESS];
}

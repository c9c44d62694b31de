/** From the text of a file to objects of the snapshot: YAML or JSON, many documents, Lists. Every problem has its line. */
import { dirname, resolve } from 'node:path';
import { type Document, LineCounter, parseAllDocuments } from 'yaml';
import type { z } from 'zod';
import { Context, Direction } from '../abi.gen.ts';
import { parseAddress } from '../policy/address.ts';
import type { Namespace, PluginPolicy, Pod, Policy, PolicyPlugin, Problem, Selector } from '../policy/snapshot.ts';
import * as schema from './schema.ts';

/** The host side of a pod's veth. */
export const INTERFACE_ANNOTATION = 'sluice.dev/interface';

export type ManifestObject = {
  readonly problem: Omit<Problem, 'reason'>;
} & (
  | { readonly kind: 'Namespace'; readonly value: Namespace }
  | { readonly kind: 'Pod'; readonly value: Pod }
  | { readonly kind: 'NetworkPolicy'; readonly value: Policy }
  | { readonly kind: 'PluginPolicy'; readonly value: PluginPolicy }
  | { readonly kind: 'PolicyPlugin'; readonly value: PolicyPlugin }
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
  PluginPolicy: 'sluice.dev/v1alpha1',
  PolicyPlugin: 'sluice.dev/v1alpha1',
};

/** What people keep beside policies, and what no policy depends on so far. */
const IGNORED_KINDS = new Set(
  'ConfigMap CronJob CustomResourceDefinition DaemonSet Deployment Endpoints EndpointSlice Gateway HorizontalPodAutoscaler HTTPRoute Ingress Job Kustomization LimitRange PersistentVolumeClaim PodDisruptionBudget ReplicaSet ResourceQuota Role RoleBinding ClusterRole ClusterRoleBinding Secret Service ServiceAccount StatefulSet'.split(
    ' ',
  ),
);

type Path = readonly (string | number)[];

/** One object in a document, with the way from its problems back to lines. */
class Source {
  readonly raw: Record<string, unknown>;
  readonly file: string;
  readonly problems: Problem[] = [];
  readonly #document: Document;
  readonly #lines: LineCounter;
  readonly #base: Path;

  constructor(raw: Record<string, unknown>, file: string, document: Document, lines: LineCounter, base: Path) {
    this.raw = raw;
    this.file = file;
    this.#document = document;
    this.#lines = lines;
    this.#base = base;
  }

  get metadata(): Record<string, unknown> {
    return isRecord(this.raw.metadata) ? this.raw.metadata : {};
  }

  /** `NetworkPolicy shop/web` */
  get title(): string {
    const { name, namespace } = this.metadata;
    const clusterScoped = this.raw.kind === 'Namespace' || this.raw.kind === 'PolicyPlugin';
    return `${String(this.raw.kind)} ${clusterScoped ? '' : `${String(namespace ?? 'default')}/`}${String(name ?? '?')}`;
  }

  /** The line of the deepest part of the path that exists. */
  lineOf(path: Path): number {
    for (let depth = path.length; depth >= 0; depth--) {
      const node = this.#document.getIn([...this.#base, ...path.slice(0, depth)], true) as { range?: [number, number, number] } | undefined;
      if (node?.range) return this.#lines.linePos(node.range[0]).line;
    }
    return 0;
  }

  report(path: Path, reason: string): void {
    const where = path.length
      ? `${path.map((part) => (typeof part === 'number' ? `[${part}]` : `.${part}`)).join('')}: `.replace(/^\./, '')
      : '';
    this.problems.push({ file: this.file, line: this.lineOf(path), object: this.title, reason: `${where}${reason}` });
  }

  /** The part at the path in the snapshot's form, or undefined when it is not valid; its problems are then reported. */
  parse<T extends z.ZodType>(part: T, path: Path): z.output<T> | undefined {
    const value = path.reduce<unknown>((at, key) => (isRecord(at) ? at[key] : undefined), this.raw);
    const result = part.safeParse(value);
    if (result.success) return result.data;
    for (const issue of result.error.issues.flatMap(flattenUnion)) this.report([...path, ...(issue.path as Path)], issue.message);
    return undefined;
  }
}

/** A union's issues are those of the alternative that came closest: the one that failed deepest, or with fewest. */
function flattenUnion(issue: z.core.$ZodIssue): z.core.$ZodIssue[] {
  if (issue.code !== 'invalid_union' || !issue.errors.length || issue.message !== 'Invalid input') return [issue];
  const depth = (issues: z.core.$ZodIssue[]): number =>
    Math.max(...issues.map((inner) => inner.path.length + (inner.code === 'unrecognized_keys' ? -1 : 0)));
  const closest = [...issue.errors].sort((a, b) => depth(b) - depth(a) || a.length - b.length)[0] ?? [];
  return closest.flatMap((inner) => flattenUnion({ ...inner, path: [...issue.path, ...inner.path] }));
}

/** Reads a manifest. Never throws: what is wrong is in `problems`, and what is wrong with a policy closes what it selects. */
export function readManifest(file: string, text: string): Manifest {
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false });
  const problems: Problem[] = [];
  const objects: ManifestObject[] = [];
  if (!Array.isArray(documents)) return { objects, problems, unreadable: false };
  const broken = documents.flatMap((document) => document.errors);
  if (broken.length) {
    for (const error of broken)
      problems.push({ file, line: lines.linePos(error.pos[0]).line, object: '', reason: `not valid YAML: ${error.message}` });
    return { objects, problems, unreadable: true };
  }
  for (const document of documents) {
    let value: unknown;
    try {
      value = document.toJS({ maxAliasCount: 100 });
    } catch (error) {
      problems.push({ file, line: 0, object: '', reason: `not valid YAML: ${(error as Error).message}` });
      return { objects, problems, unreadable: true };
    }
    for (const source of sourcesIn(value, file, document, lines, [], problems)) {
      const object = readObject(source);
      if (object) objects.push(object);
      problems.push(...source.problems);
    }
  }
  return { objects, problems, unreadable: false };
}

function sourcesIn(value: unknown, file: string, document: Document, lines: LineCounter, base: Path, problems: Problem[]): Source[] {
  if (value === null || value === undefined) return [];
  if (!isRecord(value) || Array.isArray(value)) {
    problems.push({ file, line: 0, object: '', reason: 'not a Kubernetes object: must be a map with apiVersion and kind' });
    return [];
  }
  if (typeof value.kind === 'string' && value.kind.endsWith('List') && Array.isArray(value.items))
    return value.items.flatMap((item, i) => sourcesIn(item, file, document, lines, [...base, 'items', i], problems));
  return [new Source(value, file, document, lines, base)];
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
  const problem = { file: source.file, line: source.lineOf([]), object: source.title };
  switch (kind) {
    case 'Namespace':
      return withProblem(problem, kind, readNamespace(source));
    case 'Pod':
      return withProblem(problem, kind, readPod(source));
    case 'NetworkPolicy':
      return withProblem(problem, kind, readNetworkPolicy(source));
    case 'PluginPolicy':
      return withProblem(problem, kind, readPluginPolicy(source));
    default:
      return withProblem(problem, 'PolicyPlugin', readPolicyPlugin(source));
  }
}

function withProblem(
  problem: Omit<Problem, 'reason'>,
  kind: ManifestObject['kind'],
  value: ManifestObject['value'] | undefined,
): ManifestObject | undefined {
  return value && ({ problem, kind, value } as ManifestObject);
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

function readPluginPolicy(source: Source): PluginPolicy | undefined {
  const metadata = source.parse(schema.metadata, ['metadata']);
  const spec = source.parse(schema.pluginPolicySpec, ['spec']);
  if (metadata && spec) return { namespace: metadata.namespace ?? 'default', name: metadata.name, ...spec };
  const name = looseMetadata(source);
  // A plugin that cannot exist: whatever the tiers allow in these directions is denied.
  const closed = [{ plugin: '', context: Context.CONNECT }];
  return (
    name && {
      ...name,
      selector: readableSelector(source),
      overrides: false,
      rules: Object.fromEntries(namedDirections(source).map((direction) => [direction, closed])),
    }
  );
}

function readPolicyPlugin(source: Source): PolicyPlugin | undefined {
  const metadata = source.parse(schema.metadata, ['metadata']);
  const spec = source.parse(schema.policyPluginSpec, ['spec']);
  if (!metadata || !spec) return undefined;
  const { file, ...rest } = spec;
  return { name: metadata.name, ...rest, ...(file && { file: resolve(dirname(source.file), file) }) };
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
  if (source.raw.kind === 'PluginPolicy') {
    const named = [...(ingress === undefined ? [] : [Direction.INGRESS]), ...(egress === undefined ? [] : [Direction.EGRESS])];
    return named.length ? named : both;
  }
  const types = schema.policyTypes.safeParse(policyTypes);
  if (!types.success) return both;
  if (types.data?.length) return both.filter((direction) => types.data?.includes(direction === Direction.INGRESS ? 'Ingress' : 'Egress'));
  return egress ? both : [Direction.INGRESS];
}

function isRecord(value: unknown): value is Record<string | number, unknown> & Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

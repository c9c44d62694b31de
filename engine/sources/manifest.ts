/** From the text of a file to objects of the snapshot: YAML or JSON, many documents, Lists. Every problem has its line. */
import { createHash } from 'node:crypto';
import { dirname, resolve } from 'node:path';
import { CORE_SCHEMA, loadAll } from 'js-yaml';
import { type Document, LineCounter, parseAllDocuments } from 'yaml';
import type { z } from 'zod';
import { Context, Direction } from '../abi.gen.ts';
import { parseAddress } from '../policy/address.ts';
import type {
  ClusterPolicy,
  HostPolicy,
  Namespace,
  PluginPolicy,
  Pod,
  Policy,
  PolicyPlugin,
  Problem,
  Selector,
  TierRule,
} from '../policy/snapshot.ts';
import * as schema from './schema.ts';

/** The host side of a pod's veth. */
export const INTERFACE_ANNOTATION = 'sluice.dev/interface';
/** The cgroup of a pod in the host's network, or of chosen processes of the host: absolute, below the cgroup2 mount. */
export const CGROUP_ANNOTATION = 'sluice.dev/cgroup';

/** Where an object stands; its line is looked for when somebody asks. */
export interface ObjectPlace {
  readonly file: string;
  readonly object: string;
  line(): number;
}

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
};

const CLUSTER_SCOPED = new Set(['Namespace', 'ClusterNetworkPolicy', 'PolicyPlugin', 'HostPolicy']);

/** What people keep beside policies, and what no policy depends on so far. */
const IGNORED_KINDS = new Set(
  'ConfigMap CronJob CustomResourceDefinition DaemonSet Deployment Endpoints EndpointSlice Gateway HorizontalPodAutoscaler HTTPRoute Ingress Job Kustomization LimitRange PersistentVolumeClaim PodDisruptionBudget ReplicaSet ResourceQuota Role RoleBinding ClusterRole ClusterRoleBinding Secret Service ServiceAccount StatefulSet'.split(
    ' ',
  ),
);

export const DENY_EVERYONE: TierRule = { action: 'deny', name: '' };

type Path = readonly (string | number)[];

/** A file's text, with the way from a place in one of its documents back to a line. */
class SourceText {
  readonly file: string;
  readonly text: string;
  readonly #lines = new LineCounter();
  #documents: Document[] | undefined;

  constructor(file: string, text: string) {
    this.file = file;
    this.text = text;
  }

  /** With positions; slow, and needed only where something is wrong. */
  get documents(): Document[] {
    if (!this.#documents) {
      const parsed = parseAllDocuments(this.text, { lineCounter: this.#lines, prettyErrors: false });
      this.#documents = Array.isArray(parsed) ? parsed : [];
    }
    return this.#documents;
  }

  lineAt(offset: number): number {
    return this.#lines.linePos(offset).line;
  }

  /** The line of the deepest part of the path that exists. */
  lineOf(document: number, path: Path): number {
    for (let depth = path.length; depth >= 0; depth--) {
      const node = this.documents[document]?.getIn(path.slice(0, depth), true) as { range?: [number, number, number] } | undefined;
      if (node?.range) return this.lineAt(node.range[0]);
    }
    return 0;
  }
}

/** One object in a document. */
class Source {
  readonly raw: Record<string, unknown>;
  readonly file: string;
  readonly problems: Problem[] = [];
  readonly #text: SourceText;
  readonly #document: number;
  readonly #base: Path;

  constructor(raw: Record<string, unknown>, text: SourceText, document: number, base: Path) {
    this.raw = raw;
    this.file = text.file;
    this.#text = text;
    this.#document = document;
    this.#base = base;
  }

  get metadata(): Record<string, unknown> {
    return isRecord(this.raw.metadata) ? this.raw.metadata : {};
  }

  /** `NetworkPolicy shop/web` */
  get title(): string {
    const { name, namespace } = this.metadata;
    const clusterScoped = CLUSTER_SCOPED.has(String(this.raw.kind));
    return `${String(this.raw.kind)} ${clusterScoped ? '' : `${String(namespace ?? 'default')}/`}${String(name ?? '?')}`;
  }

  /** The object itself, to be reported later. */
  get place(): ObjectPlace {
    return { file: this.file, line: () => this.#text.lineOf(this.#document, this.#base), object: this.title };
  }

  report(path: Path, reason: string): void {
    const where = path.length
      ? `${path.map((part) => (typeof part === 'number' ? `[${part}]` : `.${part}`)).join('')}: `.replace(/^\./, '')
      : '';
    this.problems.push({
      file: this.file,
      line: this.#text.lineOf(this.#document, [...this.#base, ...path]),
      object: this.title,
      reason: `${where}${reason}`,
    });
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
  const source = new SourceText(file, text);
  const problems: Problem[] = [];
  const values = readFast(text) ?? readExactly(source, problems);
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

/** The documents of a text by a parser that keeps no positions, or undefined where it finds something odd. */
function readFast(text: string): unknown[] | undefined {
  // Aliases may multiply what they stand for: left to the parser that counts them.
  if (text.includes('&') && text.includes('*')) return undefined;
  try {
    return /^\s*[{[]/.test(text) ? [JSON.parse(text)] : loadAll(text, { schema: CORE_SCHEMA });
  } catch {
    return undefined;
  }
}

/** The same by the parser that says where it is wrong. */
function readExactly(source: SourceText, problems: Problem[]): unknown[] | undefined {
  const broken = source.documents.flatMap((document) => document.errors);
  for (const error of broken)
    problems.push({ file: source.file, line: source.lineAt(error.pos[0]), object: '', reason: `not valid YAML: ${error.message}` });
  if (broken.length) return undefined;
  try {
    return source.documents.map((document) => document.toJS({ maxAliasCount: 100 }) as unknown);
  } catch (error) {
    problems.push({ file: source.file, line: 0, object: '', reason: `not valid YAML: ${(error as Error).message}` });
    return undefined;
  }
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
  const spec = source.parse(schema.clusterPolicySpec, ['spec']);
  if (metadata && spec) {
    const { unenforcedNames, ...rest } = spec;
    for (const index of unenforcedNames)
      source.report(['spec', 'egress', index], 'domainNames are checked but not enforced yet: the rule accepts nothing by name');
    return { name: metadata.name, ...rest };
  }
  const name = looseMetadata(source);
  const raw = isRecord(source.raw.spec) ? source.raw.spec : {};
  const subject = schema.clusterSubject.safeParse(raw.subject);
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

function isRecord(value: unknown): value is Record<string | number, unknown> & Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

/**
 * What manifests may say, and what they mean: schemas that turn Kubernetes objects into the snapshot's form.
 *
 * Policy objects are strict: a misspelt field would mean another policy than its author thinks. null is the same as
 * absent, as in the Kubernetes API. Sources: NetworkPolicy v1, LabelSelector, Pod v1;
 * ClusterNetworkPolicy v1alpha2 of the network-policy-api; sluice.dev/v1alpha1 is ours.
 */
import { z } from 'zod';
import { Context, Direction } from '../abi.gen.ts';
import { type Network, networkOf, parseNetwork } from '../policy/address.ts';
import { canonicalName } from '../policy/domain-name.ts';
import type {
  AskRule,
  BackendRef,
  Labels,
  Peer,
  PolicyRule,
  PortSpec,
  Requests,
  Requirement,
  Selector,
  ServerNames,
  ServicePeer,
} from '../policy/snapshot.ts';

const LABEL_NAME = /^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const DNS_LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const DNS_SUBDOMAIN = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$/;
/** IANA service name: RFC 6335, section 5.1. */
export const PORT_NAME = /^(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*$/;

export const PROTOCOLS = { TCP: 6, UDP: 17, SCTP: 132 } as const;

export const absent = <T extends z.ZodType>(schema: T) => schema.nullish().transform((value) => value ?? undefined);
const list = <T extends z.ZodType>(schema: T) => absent(z.array(schema));

function labelKeyProblem(key: string): string | undefined {
  const [prefix, name] = key.includes('/') ? [key.slice(0, key.indexOf('/')), key.slice(key.indexOf('/') + 1)] : [undefined, key];
  const good = LABEL_NAME.test(name) && (prefix === undefined || (prefix.length <= 253 && DNS_SUBDOMAIN.test(prefix)));
  return good ? undefined : `"${key}" is not a label key`;
}

function labelValueProblem(value: unknown): string | undefined {
  if (typeof value !== 'string') return `${JSON.stringify(value)} is not a label value: put it in quotes`;
  return value === '' || LABEL_NAME.test(value) ? undefined : `"${value}" is not a label value`;
}

/** Labels as a Map; an object's own entries only, so that no key is special. */
export const labels = absent(z.unknown())
  .superRefine((value, context) => {
    if (value === undefined) return;
    if (typeof value !== 'object' || Array.isArray(value)) context.addIssue({ code: 'custom', message: 'must be a map of labels' });
    else
      for (const [key, label] of Object.entries(value as object)) {
        const problem = labelKeyProblem(key) ?? labelValueProblem(label);
        if (problem) context.addIssue({ code: 'custom', path: [key], message: problem });
      }
  })
  .transform((value): Labels => new Map(Object.entries((value ?? {}) as Record<string, string>)));

const labelValue = z.string().superRefine((value, context) => {
  const problem = labelValueProblem(value);
  if (problem) context.addIssue({ code: 'custom', message: problem });
});

const requirement = z
  .strictObject({
    key: z.string().superRefine((key, context) => {
      const problem = labelKeyProblem(key);
      if (problem) context.addIssue({ code: 'custom', message: problem });
    }),
    operator: z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist']),
    values: list(labelValue),
  })
  .superRefine(({ operator, values }, context) => {
    const wantsValues = operator === 'In' || operator === 'NotIn';
    if (wantsValues && !values?.length)
      context.addIssue({ code: 'custom', path: ['values'], message: `operator ${operator} needs at least one value` });
    if (!wantsValues && values?.length)
      context.addIssue({ code: 'custom', path: ['values'], message: `operator ${operator} takes no values` });
  })
  .transform(({ key, operator, values }): Requirement => ({ key, operator, values: [...(values ?? [])].sort() }));

/** A label selector; {} selects everything. Requirements are sorted: equal selectors, equal text. */
export const selector = z.strictObject({ matchLabels: labels, matchExpressions: list(requirement) }).transform((value): Selector => {
  const exact = [...value.matchLabels].map(([key, label]): Requirement => ({ key, operator: 'In', values: [label] }));
  const sortKey = (r: Requirement): string => JSON.stringify([r.key, r.operator, r.values]);
  return [...exact, ...(value.matchExpressions ?? [])].sort((a, b) => (sortKey(a) < sortKey(b) ? -1 : 1));
});

export const cidr = z.string().transform((text, context): Network => {
  const network = parseNetwork(text);
  if (!network) context.addIssue({ code: 'custom', message: `"${text}" is not a CIDR such as 10.0.0.0/8 or fd00::/8` });
  return network ?? z.NEVER;
});

const ipBlock = z.strictObject({ cidr, except: list(cidr) }).superRefine((block, context) => {
  for (const [i, except] of (block.except ?? []).entries()) {
    const inside = except.bits > block.cidr.bits && networkOf(except.address, block.cidr.bits).text === block.cidr.text;
    if (!inside) context.addIssue({ code: 'custom', path: ['except', i], message: `${except.text} is not inside ${block.cidr.text}` });
  }
});

export const networkPeer = (block: { cidr: Network; except?: Network[] | undefined }): Peer => ({
  kind: 'network',
  network: block.cidr,
  except: block.except ?? [],
});
/**
 * As Kubernetes: one label is no domain, a wildcard stands for one label or more in front. A label has 63 characters at most
 * (RFC 1035, 2.3.4).
 */
const DOMAIN_NAME = /^(\*\.)?([a-zA-Z0-9_]([-a-zA-Z0-9_]{0,61}[a-zA-Z0-9_])?\.)+[a-zA-Z0-9_]([-a-zA-Z0-9_]{0,61}[a-zA-Z0-9_])?\.?$/;
export const domainName = z.string().max(253).regex(DOMAIN_NAME, 'must be a domain name such as example.com or *.example.com');
export const namesPeer = ({ names }: { names: string[] }): Peer => ({
  kind: 'names',
  patterns: [...new Set(names.map(canonicalName))].sort(),
});
const podsPeer = (peer: { podSelector?: Selector | undefined; namespaceSelector?: Selector | undefined }): Peer => ({
  kind: 'pods',
  namespaces: peer.namespaceSelector ?? 'own',
  pods: peer.podSelector ?? [],
});

/** Where a peer may be: exactly one of these, but that the two selectors go together. */
interface PeerChoice {
  podSelector?: Selector | undefined;
  namespaceSelector?: Selector | undefined;
  ipBlock?: z.infer<typeof ipBlock> | undefined;
  cidr?: Network | undefined;
  names?: string[] | undefined;
}

const standard = { podSelector: absent(selector), namespaceSelector: absent(selector), ipBlock: absent(ipBlock) };

/** A peer as one of these fields. */
function peerOf<T extends z.ZodRawShape>(shape: T) {
  const alone = Object.keys(shape).filter((field) => !field.endsWith('Selector'));
  return z
    .strictObject(shape)
    .superRefine((parsed, context) => {
      const value = parsed as PeerChoice;
      const selects = value.podSelector !== undefined || value.namespaceSelector !== undefined;
      const [first, second] = alone.filter((field) => value[field as keyof PeerChoice] !== undefined);
      if (first && (selects || second))
        context.addIssue({ code: 'custom', path: [first], message: `cannot stand beside ${second ?? 'podSelector or namespaceSelector'}` });
      if (!first && !selects)
        context.addIssue({
          code: 'custom',
          message: `must have podSelector, namespaceSelector or ${alone.join(', ')}; leave the list out to mean anyone`,
        });
    })
    .transform((parsed): Peer => {
      const value = parsed as PeerChoice;
      if (value.names) return namesPeer({ names: value.names });
      const block = value.ipBlock ?? (value.cidr && { cidr: value.cidr });
      return block ? networkPeer(block) : podsPeer(value);
    });
}

const peer = peerOf(standard);
/** A peer of our own policies may be a bare `cidr`, and of what is sent domain names. */
const names = absent(z.array(domainName).min(1, 'needs at least one name'));
const hostDestination = peerOf({ ...standard, names });
const askSource = peerOf({ ...standard, cidr: absent(cidr) });
const servicePeer = z
  .strictObject({
    service: z.strictObject({
      name: z.string().regex(DNS_LABEL, 'must be the name of a Service'),
      namespace: absent(z.string().regex(DNS_LABEL, 'must be a lower-case DNS label')),
    }),
  })
  .transform(
    ({ service }): ServicePeer => ({ kind: 'service', service: service.namespace ? `${service.namespace}/${service.name}` : service.name }),
  );
const podDestination = peerOf({ ...standard, cidr: absent(cidr), names });
/** By what it has, so that a wrong one is told what is wrong with it. */
const askDestination = z.unknown().transform((value, context): Peer | ServicePeer => {
  const named = typeof value === 'object' && value !== null && 'service' in value;
  const result = (named ? servicePeer : podDestination).safeParse(value);
  if (result.success) return result.data;
  for (const issue of result.error.issues) context.addIssue({ ...issue, code: 'custom' });
  return z.NEVER;
});

export const portNumber = z.int().min(1, 'a port is 1 to 65535').max(65_535, 'a port is 1 to 65535');

const port = z
  .strictObject({
    protocol: absent(z.enum(['TCP', 'UDP', 'SCTP'])),
    port: absent(
      z.union([portNumber, z.string().regex(PORT_NAME, 'a port is 1 to 65535 or a port name')], {
        error: 'a port is 1 to 65535 or a port name',
      }),
    ),
    endPort: absent(portNumber),
  })
  .superRefine((value, context) => {
    if (value.endPort === undefined) return;
    if (typeof value.port !== 'number') context.addIssue({ code: 'custom', path: ['endPort'], message: 'needs a numeric port beside it' });
    else if (value.endPort < value.port)
      context.addIssue({ code: 'custom', path: ['endPort'], message: `${value.endPort} is below port ${value.port}` });
  })
  .transform((value): PortSpec => {
    const protocol = PROTOCOLS[value.protocol ?? 'TCP'];
    if (typeof value.port === 'string') return { protocol, name: value.port };
    if (value.port === undefined) return { protocol, first: 0, last: 65_535 };
    return { protocol, first: value.port, last: value.endPort ?? value.port };
  });

/** "If this field is empty or missing, this rule matches all": an empty list is as good as none. */
function policyRule(peers: readonly Peer[] | undefined, ports: readonly PortSpec[] | undefined): PolicyRule {
  return { ...(peers?.length && { peers }), ...(ports?.length && { ports }) };
}

const ingressRule = z.strictObject({ from: list(peer), ports: list(port) }).transform((rule) => policyRule(rule.from, rule.ports));
const egressRule = z.strictObject({ to: list(peer), ports: list(port) }).transform((rule) => policyRule(rule.to, rule.ports));

const hostEgressRule = z
  .strictObject({ to: list(hostDestination), ports: list(port) })
  .transform((rule) => policyRule(rule.to, rule.ports));

export const policyTypes = list(z.enum(['Ingress', 'Egress']));

/** The rules of the directions that a policy isolates. */
function isolating(spec: {
  policyTypes?: ('Ingress' | 'Egress')[] | undefined;
  ingress?: PolicyRule[] | undefined;
  egress?: PolicyRule[] | undefined;
}): Partial<Record<Direction, PolicyRule[]>> {
  const types = spec.policyTypes?.length ? spec.policyTypes : spec.egress?.length ? ['Ingress', 'Egress'] : ['Ingress'];
  return {
    ...(types.includes('Ingress') && { [Direction.INGRESS]: spec.ingress ?? [] }),
    ...(types.includes('Egress') && { [Direction.EGRESS]: spec.egress ?? [] }),
  };
}

export const networkPolicySpec = z
  .strictObject({ podSelector: absent(selector), ingress: list(ingressRule), egress: list(egressRule), policyTypes })
  .transform((spec) => ({ selector: spec.podSelector ?? [], rules: isolating(spec) }));

/** As a NetworkPolicy without a podSelector: it is about the node. */
export const hostPolicySpec = z
  .strictObject({ ingress: list(ingressRule), egress: list(hostEgressRule), policyTypes })
  .superRefine((spec, context) => {
    for (const direction of ['ingress', 'egress'] as const)
      for (const [i, rule] of (Array.isArray(spec[direction]) ? spec[direction] : []).entries())
        if (rule?.peers?.some?.((each) => each?.kind === 'pods' && each.namespaces === 'own'))
          context.addIssue({
            code: 'custom',
            path: [direction, i],
            message: 'podSelector needs a namespaceSelector beside it: a HostPolicy has no namespace',
          });
  })
  .transform((spec) => isolating(spec));

const CONTEXTS = { connect: Context.CONNECT, dns: Context.DNS, tls: Context.TLS, http: Context.HTTP } as const;
/** As a plugin's manifest may name its routes. */
const ROUTE_NAME = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const ask = z.strictObject({
  plugin: z.string().regex(DNS_SUBDOMAIN, 'must be the name of a PolicyPlugin'),
  context: absent(z.enum(['connect', 'dns', 'tls', 'http'], 'must be connect, dns, tls or http')),
});

const choice = absent(z.enum(['Allow', 'Deny']));
const serverNames = z
  .strictObject({ names: z.array(domainName).min(1, 'needs at least one name'), withoutName: choice, encryptedHello: choice })
  .transform(
    (value): ServerNames => ({
      patterns: value.names.map(canonicalName),
      allowMissing: value.withoutName === 'Allow',
      allowEncrypted: value.encryptedHello === 'Allow',
    }),
  );

const backendRef = z.strictObject({
  service: z.string().regex(DNS_LABEL, 'must be the name of a Service'),
  namespace: absent(z.string().regex(DNS_LABEL, 'must be a lower-case DNS label')),
  port: portNumber,
  weight: absent(z.int().min(0).max(1_000_000)),
});
type RawBackend = z.infer<typeof backendRef>;

/** What the routes of a plugin mean, and what a denied client is told. */
const http = z
  .strictObject({
    routes: absent(
      z.record(z.string().regex(ROUTE_NAME, 'must be a name such as stable'), z.union([backendRef, z.array(backendRef).min(1).max(16)])),
    ),
    default: absent(z.string()),
    deny: absent(z.strictObject({ status: absent(z.int().min(400).max(599)), body: absent(z.string().max(4096)) })),
  })
  .superRefine((value, context) => {
    if (value.default !== undefined && !Object.hasOwn(value.routes ?? {}, value.default))
      context.addIssue({ code: 'custom', path: ['default'], message: `"${value.default}" is none of the routes` });
  });

const DENIED = { status: 403, body: 'denied by policy\n' };

function requestsOf(plugin: string, value: z.infer<typeof http> | undefined, namespace: string): Requests {
  const refs = (raw: RawBackend | RawBackend[]): BackendRef[] =>
    (Array.isArray(raw) ? raw : [raw]).map((each) => ({
      service: `${each.namespace ?? namespace}/${each.service}`,
      port: each.port,
      weight: each.weight ?? 1,
    }));
  const routes = Object.fromEntries(Object.entries(value?.routes ?? {}).map(([name, raw]) => [name, refs(raw)]));
  const fallback = value?.default === undefined ? undefined : routes[value.default];
  return {
    rules: [
      {
        matches: [],
        plugin,
        routes,
        ...(fallback && { fallback }),
        deny: { status: value?.deny?.status ?? DENIED.status, body: value?.deny?.body ?? DENIED.body },
      },
    ],
  };
}

/** A rule with a tag: a plugin to ask, or a list of server names. */
interface Tagged {
  peers: readonly (Peer | ServicePeer)[] | undefined;
  ports?: PortSpec[] | undefined;
  ask?: z.infer<typeof ask> | undefined;
  serverNames?: ServerNames | undefined;
  http?: z.infer<typeof http> | undefined;
}

const EVERY_TCP_PORT: readonly PortSpec[] = [{ protocol: PROTOCOLS.TCP, first: 0, last: 65_535 }];
const HTTPS: readonly PortSpec[] = [{ protocol: PROTOCOLS.TCP, first: 443, last: 443 }];

/** TLS is read over TCP; QUIC, which may carry it too, is part of such a rule so that it does not pass unread. */
function tlsPorts(ports: readonly PortSpec[] | undefined): PortSpec[] {
  const tcp = ports?.length ? ports : HTTPS;
  return [...tcp, ...tcp.map((each) => ({ ...each, protocol: PROTOCOLS.UDP }))];
}

/** A rule as it stands in a policy of that namespace. */
export type RuleIn = (namespace: string) => AskRule;

function taggedRule({ peers, ports, ask: asked, serverNames: names, http: requests }: Tagged): RuleIn {
  const context = names ? Context.TLS : CONTEXTS[asked?.context ?? 'connect'];
  const plugin = asked?.plugin ?? '';
  // An answer is of no flow that could be tagged: it is the endpoint's.
  if (context === Context.DNS) return () => ({ peers: [], ports: [], plugin, context });
  if (context === Context.HTTP) {
    const services = (peers ?? []).flatMap((each) => (each.kind === 'service' ? [each.service] : []));
    const others = (peers ?? []).filter((each) => each.kind !== 'service');
    const rule = policyRule(others, ports?.length ? ports : EVERY_TCP_PORT);
    return (namespace) => ({
      ...rule,
      ...(services.length && { peers: others, services: services.map((each) => (each.includes('/') ? each : `${namespace}/${each}`)) }),
      plugin,
      context,
      requests: requestsOf(plugin, requests, namespace),
    });
  }
  const rule = policyRule(peers as readonly Peer[] | undefined, context === Context.TLS ? tlsPorts(ports) : ports);
  return () => ({ ...rule, plugin, context, ...(names && { serverNames: names }) });
}

/** Checks that a rule has one tag, and nothing that its tag cannot be about. */
const oneTag =
  (direction: 'ingress' | 'egress') =>
  (rule: Omit<Tagged, 'peers'> & { to?: unknown[] | undefined; from?: unknown[] | undefined }, context: z.RefinementCtx): void => {
    const report = (path: string[], message: string): void => context.addIssue({ code: 'custom', path, message });
    if (rule.ask && rule.serverNames) report(['serverNames'], 'cannot stand beside ask: the plugin sees the server name in context tls');
    if (!rule.ask && !rule.serverNames) report([], 'must have ask or serverNames');
    const hook = rule.serverNames ? 'tls' : rule.ask?.context;
    if (rule.http && hook !== 'http') report(['http'], 'needs ask with context http beside it');
    if (hook === 'http' && direction === 'ingress')
      report(['ask', 'context'], 'http is for egress rules: requests are decided where they are sent');
    const services = Array.isArray(rule.to) && rule.to.some((each) => (each as ServicePeer | undefined)?.kind === 'service');
    if (services && hook !== 'http') report(['to'], 'a service can be named with context http only');
    if (hook === 'http')
      for (const [i, each] of (Array.isArray(rule.ports) ? rule.ports : []).entries())
        if (each?.protocol !== PROTOCOLS.TCP) report(['ports', String(i)], 'HTTP is read over TCP');
    if (hook === 'tls')
      for (const [i, each] of (Array.isArray(rule.ports) ? rule.ports : []).entries())
        if (each?.protocol !== PROTOCOLS.TCP) report(['ports', String(i)], 'TLS is read over TCP; QUIC to the same port is denied anyway');
    if (hook !== 'dns') return;
    if (direction === 'ingress') report(['ask', 'context'], 'dns is for egress rules: it is about the answers to what the pod asks');
    for (const field of ['to', 'ports'] as const)
      if (rule[field]?.length) report([field], 'cannot stand in a rule of context dns: its plugin is asked about every answer');
  };

const tag = { ports: list(port), ask: absent(ask), serverNames: absent(serverNames), http: absent(http) };
const askIngress = z
  .strictObject({ from: list(askSource), ...tag })
  .superRefine(oneTag('ingress'))
  .transform(({ from, ...rule }) => taggedRule({ peers: from, ...rule }));
const askEgress = z
  .strictObject({ to: list(askDestination), ...tag })
  .superRefine(oneTag('egress'))
  .transform(({ to, ...rule }) => taggedRule({ peers: to, ...rule }));

export const pluginPolicySpec = z
  .strictObject({
    podSelector: absent(selector),
    ingress: list(askIngress),
    egress: list(askEgress),
    precedence: absent(z.enum(['Admin', 'Default'])),
  })
  .transform((spec) => ({
    selector: spec.podSelector ?? [],
    overrides: spec.precedence === 'Admin',
    rules: {
      ...(spec.ingress?.length && { [Direction.INGRESS]: spec.ingress }),
      ...(spec.egress?.length && { [Direction.EGRESS]: spec.egress }),
    } satisfies Partial<Record<Direction, RuleIn[]>>,
  }));

/** Flattens a configuration to one `path = value` a line: what a guest reads without a parser for JSON. */
export function flattenConfig(value: unknown, path = ''): string {
  if (value === null || value === undefined) return '';
  if (typeof value !== 'object') return `${path} = ${String(value).replaceAll('\n', ' ')}\n`;
  return Object.entries(value)
    .map(([key, inner]) => flattenConfig(inner, path ? `${path}.${key}` : key))
    .join('');
}

/** Of one evaluation: a hundred times what a policy of moderate size takes, and half a millisecond. */
export const DEFAULT_FUEL = 1_000_000;
const SET_ITEMS_MAX = 100_000;
const items = <T extends z.ZodType>(item: T) => z.array(item).max(SET_ITEMS_MAX);

/** What a plugin may look into; see plugins/named-set.ts. */
export const hostSet = z.union([
  z.strictObject({ domains: items(z.string().min(1).max(255)) }).transform(({ domains }) => ({ kind: 'domains' as const, items: domains })),
  z.strictObject({ strings: items(z.string().max(256)) }).transform(({ strings }) => ({ kind: 'strings' as const, items: strings })),
  z.strictObject({ cidrs: items(cidr) }).transform(({ cidrs }) => ({
    kind: 'networks' as const,
    items: cidrs.map(({ key, bits }) => ({ address: key, prefixBits: bits })),
  })),
]);

export const policyPluginSpec = z
  .strictObject({
    module: absent(z.strictObject({ file: z.string().min(1) })),
    failurePolicy: absent(z.enum(['Allow', 'Deny'])),
    mode: absent(z.enum(['Enforce', 'Shadow'])),
    limits: absent(
      z.strictObject({
        evaluateMs: absent(z.int().min(1).max(1000)),
        memoryPages: absent(z.int().min(1).max(1024)),
        fuel: absent(z.int().min(1000).max(1_000_000_000)),
      }),
    ),
    capabilities: list(z.enum(['counters', 'sets', 'clock'])),
    sets: absent(z.record(z.string().regex(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/, 'must be a name such as allowed-domains'), hostSet)),
    config: absent(z.record(z.string(), z.unknown())),
  })
  .transform((spec) => ({
    file: spec.module?.file,
    failurePolicy: spec.failurePolicy ?? ('Deny' as const),
    mode: spec.mode ?? ('Enforce' as const),
    evaluateMs: spec.limits?.evaluateMs ?? 5,
    memoryPages: spec.limits?.memoryPages ?? 64,
    fuel: spec.limits?.fuel ?? DEFAULT_FUEL,
    capabilities: spec.capabilities ?? [],
    sets: spec.sets ?? {},
    config: flattenConfig(spec.config),
  }));

const containerPort = z.looseObject({
  name: absent(z.string()),
  containerPort: portNumber,
  protocol: absent(z.enum(['TCP', 'UDP', 'SCTP'])),
});

export const podSpec = z.looseObject({
  hostNetwork: absent(z.boolean()),
  containers: list(z.looseObject({ ports: list(containerPort) })),
});

export const podStatus = absent(
  z.looseObject({ phase: absent(z.string()), podIP: absent(z.string()), podIPs: list(z.looseObject({ ip: absent(z.string()) })) }),
);

export const metadata = z.looseObject({
  name: z.string().regex(DNS_SUBDOMAIN, 'must be a lower-case DNS name').max(253),
  namespace: absent(z.string().regex(DNS_LABEL, 'must be a lower-case DNS label')),
  labels,
  annotations: absent(z.record(z.string(), z.string())),
});

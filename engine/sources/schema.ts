/**
 * The schemas of manifests: they check Kubernetes objects, and turn them into the form that policy is compiled from.
 *
 * Policy objects are strict: a misspelt field would mean another policy than its author thinks. null is the same as
 * absent, as in the Kubernetes API. Sources: NetworkPolicy v1, LabelSelector, Pod v1;
 * ClusterNetworkPolicy v1alpha2 of the network-policy-api; sluice.dev/v1alpha1 is ours.
 */

import { z } from 'zod';
import { Direction } from '../abi.gen.ts';
import { type Network, networkOf, parseNetwork } from '../policy/address.ts';
import { canonicalName } from '../policy/domain-name.ts';
import { objectName } from '../policy/object-name.ts';
import type { Labels, Peer, PolicyRule, PortSpec, Requirement, Selector, ServicePeer } from '../policy/objects.ts';

const LABEL_NAME = /^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
export const DNS_LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
/** As Kubernetes checks names and the prefixes of label keys (IsDNS1123Subdomain): no part has a bound of its own. */
export const DNS_SUBDOMAIN = /^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
/** IANA service name: RFC 6335, section 5.1. */
export const PORT_NAME = /^(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*$/;

export const PROTOCOLS = { TCP: 6, UDP: 17, SCTP: 132 } as const;

export const absent = <T extends z.ZodType>(schema: T) => schema.nullish().transform((value) => value ?? undefined);
export const list = <T extends z.ZodType>(schema: T) => absent(z.array(schema));

function labelKeyProblem(key: string): string | undefined {
  const [prefix, name] = key.includes('/') ? [key.slice(0, key.indexOf('/')), key.slice(key.indexOf('/') + 1)] : [undefined, key];
  const good = LABEL_NAME.test(name) && (prefix === undefined || DNS_SUBDOMAIN.test(prefix));
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

/** The labels of those that can be read. */
export function readableLabels(value: unknown): Labels {
  const entries = typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.entries(value) : [];
  return new Map(entries.filter(([key, label]) => !labelKeyProblem(key) && !labelValueProblem(label)));
}

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
export const askSource = peerOf({ ...standard, cidr: absent(cidr) });
const servicePeer = z
  .strictObject({
    service: z.strictObject({
      name: z.string().regex(DNS_LABEL, 'must be the name of a Service'),
      namespace: absent(z.string().regex(DNS_LABEL, 'must be a lower-case DNS label')),
    }),
  })
  .transform(({ service }): ServicePeer => ({ kind: 'service', service: objectName(service) }));
const podDestination = peerOf({ ...standard, cidr: absent(cidr), names });
/** By what it has, so that a wrong one is told what is wrong with it. */
export const askDestination = z.unknown().transform((value, context): Peer | ServicePeer => {
  const named = typeof value === 'object' && value !== null && 'service' in value;
  const result = (named ? servicePeer : podDestination).safeParse(value);
  if (result.success) return result.data;
  for (const issue of result.error.issues) context.addIssue({ ...issue, code: 'custom' });
  return z.NEVER;
});

export const portNumber = z.int().min(1, 'a port is 1 to 65535').max(65_535, 'a port is 1 to 65535');

export const port = z
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
export function policyRule(peers: readonly Peer[] | undefined, ports: readonly PortSpec[] | undefined): PolicyRule {
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

const containerPort = z.looseObject({
  name: absent(z.string()),
  containerPort: portNumber,
  protocol: absent(z.enum(['TCP', 'UDP', 'SCTP'])),
});

export const podSpec = z.looseObject({
  nodeName: absent(z.string()),
  hostNetwork: absent(z.boolean()),
  serviceAccountName: absent(z.string()),
  containers: list(z.looseObject({ ports: list(containerPort) })),
});

export const podStatus = absent(
  z.looseObject({ phase: absent(z.string()), podIP: absent(z.string()), podIPs: list(z.looseObject({ ip: absent(z.string()) })) }),
);

export const metadata = z.looseObject({
  name: z.string().regex(DNS_SUBDOMAIN, 'must be a lower-case DNS name of at most 253 characters'),
  namespace: absent(z.string().regex(DNS_LABEL, 'must be a lower-case DNS label')),
  uid: absent(z.string()),
  labels,
  annotations: absent(z.record(z.string(), z.string())),
});

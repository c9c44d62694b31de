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
import { MOST, matches, note } from './note.ts';

const LABEL_NAME = /^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const DNS_LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const DNS_SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const PORT_NAME = /^([a-z0-9]+-)*[0-9]*[a-z][a-z0-9]*(-[a-z0-9]+)*$/;

/** As Kubernetes checks names and the prefixes of label keys (IsDNS1123Subdomain): no part has a bound of its own. */
export const dnsSubdomain = (message: string) => z.string().max(253, message).regex(DNS_SUBDOMAIN, message);
export const dnsLabel = (message: string) => z.string().max(63, message).regex(DNS_LABEL, message);
/** IANA service name: RFC 6335, section 5.1. */
export const portName = (message: string) => z.string().max(15, message).regex(PORT_NAME, message);

export const PROTOCOLS = { TCP: 6, UDP: 17, SCTP: 132 } as const;

export const absent = <T extends z.ZodType>(schema: T) => schema.nullish().transform((value) => value ?? undefined);
export const list = <T extends z.ZodType>(schema: T) => absent(z.array(schema));
/** As `absent`, with a value for who says nothing. */
export const otherwise = <T extends z.ZodType>(schema: T, value: z.output<T>) =>
  schema
    .nullish()
    .transform((written): z.output<T> => written ?? value)
    .meta({ otherwise: value });

/** A label's name, with or without the prefix of a DNS name and a slash. */
const LABEL_KEY = new RegExp(`^(${DNS_SUBDOMAIN.source.slice(1, -1)}/)?${LABEL_NAME.source.slice(1)}`);

function labelKeyProblem(key: string): string | undefined {
  return LABEL_KEY.test(key) && key.indexOf('/') <= 253 ? undefined : `"${key}" is not a label key`;
}

function labelValueProblem(value: unknown): string | undefined {
  if (typeof value !== 'string') return `${JSON.stringify(value)} is not a label value: put it in quotes`;
  return value === '' || LABEL_NAME.test(value) ? undefined : `"${value}" is not a label value`;
}

const labelText = { type: 'string', maxLength: 63, pattern: `^$|${LABEL_NAME.source}` };

/** Labels as a Map; an object's own entries only, so that no key is special. */
export const labels = absent(
  z.unknown().meta(
    note('Labels, by their keys.', {
      type: 'object',
      additionalProperties: labelText,
      maxProperties: MOST.labels,
      rules: {
        'each key must be a label key such as app or example.com/team': `self.all(key, ${matches('key', LABEL_KEY.source)} && key.indexOf('/') <= 253)`,
      },
    }),
  ),
)
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

const labelValue = z
  .string()
  .superRefine((value, context) => {
    const problem = labelValueProblem(value);
    if (problem) context.addIssue({ code: 'custom', message: problem });
  })
  .meta(labelText);
const labelKey = z
  .string()
  .superRefine((key, context) => {
    const problem = labelKeyProblem(key);
    if (problem) context.addIssue({ code: 'custom', message: problem });
  })
  .meta(
    note('A key of labels, such as app or example.com/team.', {
      maxLength: 317,
      pattern: LABEL_KEY.source,
      rules: { 'must have at most 253 characters in front of its /': "self.indexOf('/') <= 253" },
    }),
  );

const requirement = z
  .strictObject({
    key: labelKey.describe('The label that this is about.'),
    operator: z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist']).describe('How the label is compared with the values.'),
    values: list(labelValue).meta(
      note('In and NotIn need at least one value; Exists and DoesNotExist take none.', { maxItems: MOST.values }),
    ),
  })
  .meta(
    note('A condition on one label.', {
      rules: {
        'operators In and NotIn need at least one value':
          "!(self.operator in ['In', 'NotIn']) || (has(self.values) && size(self.values) > 0)",
        'operators Exists and DoesNotExist take no values':
          "self.operator in ['In', 'NotIn'] || !has(self.values) || size(self.values) == 0",
      },
    }),
  )
  .superRefine(({ operator, values }, context) => {
    const wantsValues = operator === 'In' || operator === 'NotIn';
    if (wantsValues && !values?.length)
      context.addIssue({ code: 'custom', path: ['values'], message: `operator ${operator} needs at least one value` });
    if (!wantsValues && values?.length)
      context.addIssue({ code: 'custom', path: ['values'], message: `operator ${operator} takes no values` });
  })
  .transform(({ key, operator, values }): Requirement => ({ key, operator, values: [...(values ?? [])].sort() }));

/** A label selector; {} selects everything. Requirements are sorted: equal selectors, equal text. */
export const selector = z
  .strictObject({
    matchLabels: labels.describe('Labels that must all be there, with these values.'),
    matchExpressions: list(requirement).meta(note('Conditions that must all hold.', { maxItems: MOST.requirements })),
  })
  .meta(note('Labels that are wanted; an empty selector selects everything.', { 'x-kubernetes-map-type': 'atomic' }))
  .transform((value): Selector => {
    const exact = [...value.matchLabels].map(([key, label]): Requirement => ({ key, operator: 'In', values: [label] }));
    const sortKey = (r: Requirement): string => JSON.stringify([r.key, r.operator, r.values]);
    return [...exact, ...(value.matchExpressions ?? [])].sort((a, b) => (sortKey(a) < sortKey(b) ? -1 : 1));
  });

/** The longest text of a network: an IPv6 one whose end is written as IPv4. */
const CIDR_LENGTH = 49;
export const cidr = z
  .string()
  .meta(
    note('A network, such as 10.0.0.0/8 or fd00::/8.', {
      maxLength: CIDR_LENGTH,
      rules: { 'must be a CIDR such as 10.0.0.0/8 or fd00::/8': 'isCIDR(self)' },
    }),
  )
  .transform((text, context): Network => {
    const network = parseNetwork(text);
    if (!network) context.addIssue({ code: 'custom', message: `"${text}" is not a CIDR such as 10.0.0.0/8 or fd00::/8` });
    return network ?? z.NEVER;
  });

const ipBlock = z
  .strictObject({ cidr, except: list(cidr).meta(note('Networks inside it that do not belong to it.', { maxItems: MOST.excepts })) })
  .meta(
    note('A network, less some networks inside it.', {
      rules: {
        'each except must be a smaller network inside cidr':
          '!has(self.except) || !isCIDR(self.cidr) || self.except.all(each, !isCIDR(each) || (cidr(self.cidr).containsCIDR(each) && cidr(each).prefixLength() > cidr(self.cidr).prefixLength()))',
      },
    }),
  )
  .superRefine((block, context) => {
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
export const domainName = z
  .string()
  .max(253)
  .regex(DOMAIN_NAME, 'must be a domain name such as example.com or *.example.com')
  .describe('A domain name, such as example.com; *.example.com stands for one label or more in front of it.');
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
  service?: ServicePeer | undefined;
}

const standard = {
  podSelector: absent(selector).describe('Pods by their labels; without a namespaceSelector those of the own namespace.'),
  namespaceSelector: absent(selector).describe('Namespaces by their labels: all of their pods, or those that podSelector selects.'),
  ipBlock: absent(ipBlock),
};

/** A peer as one of these fields. */
function peerOf<T extends z.ZodRawShape>(shape: T) {
  const alone = Object.keys(shape).filter((field) => !field.endsWith('Selector'));
  const written = alone.map((field) => `(has(self.${field}) ? 1 : 0)`).join(' + ');
  const choice = `podSelector, namespaceSelector or ${alone.join(', ')}`;
  return z
    .strictObject(shape)
    .meta(
      note('Who is meant: one of these, but that podSelector and namespaceSelector may stand together.', {
        rules: {
          [`must have one of ${choice} (the two selectors may stand together); leave the list out to mean anyone`]: `${written} + (has(self.podSelector) || has(self.namespaceSelector) ? 1 : 0) == 1`,
        },
      }),
    )
    .superRefine((parsed, context) => {
      const value = parsed as PeerChoice;
      const selects = value.podSelector !== undefined || value.namespaceSelector !== undefined;
      const [first, second] = alone.filter((field) => value[field as keyof PeerChoice] !== undefined);
      if (first && (selects || second))
        context.addIssue({ code: 'custom', path: [first], message: `cannot stand beside ${second ?? 'podSelector or namespaceSelector'}` });
      if (!first && !selects)
        context.addIssue({
          code: 'custom',
          message: `must have ${choice}; leave the list out to mean anyone`,
        });
    })
    .transform((parsed): Peer | ServicePeer => {
      const value = parsed as PeerChoice;
      if (value.service) return value.service;
      if (value.names) return namesPeer({ names: value.names });
      const block = value.ipBlock ?? (value.cidr && { cidr: value.cidr });
      return block ? networkPeer(block) : podsPeer(value);
    });
}

/** A peer that is no Service. */
const placeOf = <T extends z.ZodRawShape>(shape: T) => peerOf(shape).transform((peer) => peer as Peer);

const peer = placeOf(standard);
/** A peer of our own policies may be a bare `cidr`, and of what is sent domain names. */
const bareCidr = absent(cidr);
const names = absent(z.array(domainName).min(1, 'needs at least one name')).meta(
  note('Whatever a trusted resolver answered for one of these domain names.', { maxItems: MOST.names }),
);
const service = z
  .strictObject({
    name: dnsLabel('must be the name of a Service').describe('The name of the Service.'),
    namespace: absent(dnsLabel('must be a lower-case DNS label')).describe('Its namespace; the own one where absent.'),
  })
  .describe('A Service, by its cluster addresses; only with ask.context http.')
  .transform((value): ServicePeer => ({ kind: 'service', service: objectName(value) }));
const hostDestination = placeOf({ ...standard, names });
export const askSource = placeOf({ ...standard, cidr: bareCidr });
export const askDestination = peerOf({ ...standard, cidr: bareCidr, names, service: absent(service) });

export const portNumber = z.int().min(1, 'a port is 1 to 65535').max(65_535, 'a port is 1 to 65535');

export const port = z
  .strictObject({
    protocol: otherwise(z.enum(['TCP', 'UDP', 'SCTP']), 'TCP').describe('TCP, UDP or SCTP.'),
    port: absent(
      z.union([portNumber, portName('a port is 1 to 65535 or a port name')], { error: 'a port is 1 to 65535 or a port name' }),
    ).describe('A port, or the name that the destination pod gives to one; every port where absent.'),
    endPort: absent(portNumber).describe('The last port of a range that begins with port.'),
  })
  .meta(
    note('Ports of one protocol.', {
      rules: {
        'endPort needs a numeric port beside it': '!has(self.endPort) || (has(self.port) && type(self.port) == int)',
        'endPort must not be below port':
          '!has(self.endPort) || !has(self.port) || type(self.port) != int || self.endPort >= int(self.port)',
      },
    }),
  )
  .superRefine((value, context) => {
    if (value.endPort === undefined) return;
    if (typeof value.port !== 'number') context.addIssue({ code: 'custom', path: ['endPort'], message: 'needs a numeric port beside it' });
    else if (value.endPort < value.port)
      context.addIssue({ code: 'custom', path: ['endPort'], message: `${value.endPort} is below port ${value.port}` });
  })
  .transform((value): PortSpec => {
    const protocol = PROTOCOLS[value.protocol];
    if (typeof value.port === 'string') return { protocol, name: value.port };
    if (value.port === undefined) return { protocol, first: 0, last: 65_535 };
    return { protocol, first: value.port, last: value.endPort ?? value.port };
  });

/** "If this field is empty or missing, this rule matches all": an empty list is as good as none. */
export function policyRule(peers: readonly Peer[] | undefined, ports: readonly PortSpec[] | undefined): PolicyRule {
  return { ...(peers?.length && { peers }), ...(ports?.length && { ports }) };
}

/** Lists that rules are made of, as `kubectl explain` tells of them. */
export const from = <T extends z.ZodType>(source: T) =>
  list(source).meta(note('Who may be at the other end; anyone where absent or empty.', { maxItems: MOST.peers }));
export const to = <T extends z.ZodType>(destination: T) =>
  list(destination).meta(note('Where it may go; anywhere where absent or empty.', { maxItems: MOST.peers }));
export const ports = list(port).meta(
  note('Ports of the destination; every protocol and port where absent or empty.', { maxItems: MOST.ports }),
);

const ingressRule = z.strictObject({ from: from(peer), ports }).transform((rule) => policyRule(rule.from, rule.ports));
const egressRule = z.strictObject({ to: to(peer), ports }).transform((rule) => policyRule(rule.to, rule.ports));
const hostEgressRule = z.strictObject({ to: to(hostDestination), ports }).transform((rule) => policyRule(rule.to, rule.ports));

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
  .strictObject({
    ingress: list(ingressRule).meta(note('Traffic that may reach the node.', { maxItems: MOST.rules })),
    egress: list(hostEgressRule).meta(note('Traffic that the node may send.', { maxItems: MOST.rules })),
    policyTypes: policyTypes.meta(
      note('The directions that are closed but for these rules; where absent Ingress, and Egress if there are rules for it.', {
        maxItems: 2,
      }),
    ),
  })
  .meta(
    note('Rules for the processes of the node itself.', {
      rules: {
        'podSelector needs a namespaceSelector beside it: a HostPolicy has no namespace': ['ingress.from', 'egress.to']
          .map((path) => path.split('.'))
          .map(
            ([rules, peers]) =>
              `(!has(self.${rules}) || self.${rules}.all(rule, !has(rule.${peers}) || rule.${peers}.all(peer, !has(peer.podSelector) || has(peer.namespaceSelector))))`,
          )
          .join(' && '),
      },
    }),
  )
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
  name: dnsSubdomain('must be a lower-case DNS name of at most 253 characters'),
  namespace: absent(dnsLabel('must be a lower-case DNS label')),
  uid: absent(z.string()),
  labels,
  annotations: absent(z.record(z.string(), z.string())),
});

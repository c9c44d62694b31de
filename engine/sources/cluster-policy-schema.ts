/**
 * ClusterNetworkPolicy: what a manifest may say, and what it means. Strict, as every policy; peers and protocols are a choice of
 * which exactly one is written. Source: network-policy-api v0.2.0, policy.networking.k8s.io/v1alpha2.
 */
import { z } from 'zod';
import { Direction } from '../abi.gen.ts';
import type { Peer, PortSpec, Selector, TierRule } from '../policy/objects.ts';
import { absent, cidr, domainName, namesPeer, networkPeer, PROTOCOLS, portName, portNumber, selector } from './schema.ts';

/** Lists of a ClusterNetworkPolicy have at most 25 entries, as in the API. */
const LIST_MAX = 25;
const some = <T extends z.ZodType>(schema: T) =>
  z.array(schema).min(1, 'needs at least one entry').max(LIST_MAX, `at most ${LIST_MAX} entries`);

/** An object of which exactly one field is set, as the API writes a choice. */
function oneOf<T extends z.ZodRawShape>(shape: T) {
  return z.strictObject(shape).superRefine((value, context) => {
    const set = Object.values(value).filter((field) => field !== undefined);
    if (set.length !== 1) context.addIssue({ code: 'custom', message: `must have exactly one of ${Object.keys(shape).join(', ')}` });
  });
}

const namespacedPods = z.strictObject({ namespaceSelector: selector, podSelector: selector });
const subject = oneOf({ namespaces: absent(selector), pods: absent(namespacedPods) }).transform(({ namespaces, pods }) => ({
  namespaces: namespaces ?? pods?.namespaceSelector ?? [],
  pods: pods?.podSelector ?? [],
}));

const podsOf = ({ namespaces, pods }: { namespaces?: Selector | undefined; pods?: z.infer<typeof namespacedPods> | undefined }): Peer => ({
  kind: 'pods',
  namespaces: namespaces ?? pods?.namespaceSelector ?? [],
  pods: pods?.podSelector ?? [],
});

const ingressPeer = oneOf({ namespaces: absent(selector), pods: absent(namespacedPods) }).transform((value): Peer[] => [podsOf(value)]);
const egressPeer = oneOf({
  namespaces: absent(selector),
  pods: absent(namespacedPods),
  networks: absent(some(cidr)),
  domainNames: absent(some(domainName)),
}).transform((value): Peer[] => {
  if (value.networks) return value.networks.map((network) => networkPeer({ cidr: network }));
  return [value.domainNames ? namesPeer({ names: value.domainNames }) : podsOf(value)];
});

const tierPort = oneOf({
  number: absent(portNumber),
  range: absent(
    z.strictObject({ start: portNumber, end: portNumber }).superRefine(({ start, end }, context) => {
      if (end <= start) context.addIssue({ code: 'custom', path: ['end'], message: `${end} is not above start ${start}` });
    }),
  ),
});
const tierProtocol = absent(z.strictObject({ destinationPort: absent(tierPort) }));
const tierProtocols = oneOf({
  tcp: tierProtocol,
  udp: tierProtocol,
  sctp: tierProtocol,
  destinationNamedPort: absent(portName('must be a port name')),
}).transform(({ destinationNamedPort, ...protocols }): PortSpec[] => {
  // A port's name is of whatever protocol the pod gives it.
  if (destinationNamedPort !== undefined) return Object.values(PROTOCOLS).map((protocol) => ({ protocol, name: destinationNamedPort }));
  return Object.entries(protocols).flatMap(([name, value]): PortSpec[] => {
    if (!value) return [];
    const protocol = PROTOCOLS[name.toUpperCase() as keyof typeof PROTOCOLS];
    const { number, range } = value.destinationPort ?? {};
    return [{ protocol, first: number ?? range?.start ?? 0, last: number ?? range?.end ?? 65_535 }];
  });
});

const ACTIONS = { Accept: 'accept', Deny: 'deny', Pass: 'pass' } as const;
const tierRule = {
  name: absent(z.string().max(100)),
  action: z.enum(['Accept', 'Deny', 'Pass']),
  protocols: absent(some(tierProtocols)),
};
const tierRuleOf = (
  rule: { name?: string | undefined; action: keyof typeof ACTIONS; protocols?: PortSpec[][] | undefined },
  peers: readonly Peer[],
): TierRule => ({
  name: rule.name ?? '',
  action: ACTIONS[rule.action],
  peers,
  ...(rule.protocols && { ports: rule.protocols.flat() }),
});

const tierIngress = z.strictObject({ ...tierRule, from: some(ingressPeer) }).transform((rule) => tierRuleOf(rule, rule.from.flat()));
const tierEgress = z
  .strictObject({ ...tierRule, to: some(egressPeer) })
  .superRefine((rule, context) => {
    if (rule.action !== 'Accept' && rule.to.flat().some((peer) => peer?.kind === 'names'))
      context.addIssue({ code: 'custom', path: ['to'], message: 'domainNames can only stand in a rule with action Accept' });
  })
  .transform((rule) => tierRuleOf(rule, rule.to.flat()));

export const clusterSubject = subject;
export const clusterPolicySpec = z
  .strictObject({
    tier: z.enum(['Admin', 'Baseline']),
    priority: z.int().min(0, 'priority is 0 to 1000').max(1000, 'priority is 0 to 1000'),
    subject,
    ingress: absent(z.array(tierIngress).max(100, 'at most 100 rules')),
    egress: absent(z.array(tierEgress).max(100, 'at most 100 rules')),
  })
  .transform((spec) => ({
    tier: spec.tier,
    priority: spec.priority,
    subject: spec.subject,
    rules: {
      ...(spec.ingress?.length && { [Direction.INGRESS]: spec.ingress }),
      ...(spec.egress?.length && { [Direction.EGRESS]: spec.egress }),
    } satisfies Partial<Record<Direction, TierRule[]>>,
  }));

/**
 * ClusterNetworkPolicy: what a manifest may say, and what it means. Strict, as every policy; peers and protocols are a choice of
 * which exactly one is written. Source: network-policy-api v0.3.0, policy.networking.k8s.io/v1beta1, and v1alpha2, which says the same.
 */
import { z } from 'zod';
import { Direction } from '../abi.gen.ts';
import type { Peer, PortSpec, Selector, TierRule } from '../policy/objects.ts';
import { isRecord } from './raw-object.ts';
import { absent, cidr, domainName, namesPeer, networkPeer, nodesPeer, PROTOCOLS, portName, portNumber, selector } from './schema.ts';

/** Lists of a ClusterNetworkPolicy have at most 25 entries, as in the API. */
const LIST_MAX = 25;
const some = <T extends z.ZodType>(schema: T) =>
  z.array(schema).min(1, 'needs at least one entry').max(LIST_MAX, `at most ${LIST_MAX} entries`);

/** An object of which at most one field is set, and no less than `least`, as the API writes a choice. */
function choice<T extends z.ZodRawShape>(shape: T, least: 0 | 1) {
  return z.strictObject(shape).superRefine((value, context) => {
    const set = Object.values(value).filter((field) => field !== undefined);
    if (set.length < least || set.length > 1)
      context.addIssue({ code: 'custom', message: `must have exactly one of ${Object.keys(shape).join(', ')}` });
  });
}
const oneOf = <T extends z.ZodRawShape>(shape: T) => choice(shape, 1);

const namespacedPods = z.strictObject({ namespaceSelector: absent(selector), podSelector: selector });
const subject = oneOf({ namespaces: absent(selector), pods: absent(namespacedPods) }).transform(({ namespaces, pods }) => ({
  namespaces: namespaces ?? pods?.namespaceSelector ?? [],
  pods: pods?.podSelector ?? [],
}));

/** A peer without a field is what an API server leaves of one whose field its version of the API does not have. */
const UNKNOWN = 'unknown';
type ReadPeer = readonly Peer[] | typeof UNKNOWN;
const peerChoice = <T extends z.ZodRawShape>(shape: T) => choice(shape, 0);
const isUnknown = (value: object): boolean => Object.values(value).every((field) => field === undefined || field === null);

const podsOf = ({ namespaces, pods }: { namespaces?: Selector | undefined; pods?: z.infer<typeof namespacedPods> | undefined }): Peer => ({
  kind: 'pods',
  namespaces: namespaces ?? pods?.namespaceSelector ?? [],
  pods: pods?.podSelector ?? [],
});

const ingressPeer = peerChoice({ namespaces: absent(selector), pods: absent(namespacedPods) }).transform(
  (value): ReadPeer => (isUnknown(value) ? UNKNOWN : [podsOf(value)]),
);
const egressPeer = peerChoice({
  namespaces: absent(selector),
  pods: absent(namespacedPods),
  nodes: absent(selector),
  networks: absent(some(cidr)),
  domainNames: absent(some(domainName)),
}).transform((value): ReadPeer => {
  if (isUnknown(value)) return UNKNOWN;
  if (value.networks) return value.networks.map((network) => networkPeer({ cidr: network }));
  if (value.nodes) return [nodesPeer(value.nodes)];
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
/** The API has no protocol without an attribute: one that is left without was about something that is not known here. */
const tierProtocol = absent(
  z.strictObject({ destinationPort: absent(tierPort) }).superRefine((value, context) => {
    if (!value.destinationPort)
      context.addIssue({ code: 'custom', message: 'needs a destinationPort; every port is the range 1 to 65535' });
  }),
);
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
    return [{ protocol, first: number ?? range?.start ?? 0, last: number ?? range?.end ?? 0 }];
  });
});

const ACTIONS = { Accept: 'accept', Deny: 'deny', Pass: 'pass' } as const;
const tierRule = {
  name: absent(z.string().max(100)),
  action: z.enum(['Accept', 'Deny', 'Pass']),
  protocols: absent(some(tierProtocols)),
};
interface ReadRule {
  name?: string | undefined;
  action: keyof typeof ACTIONS;
  protocols?: PortSpec[][] | undefined;
}

/** "In that case it should fail closed": a rule that accepts matches nothing then, any other denies everything. */
function tierRuleOf(rule: ReadRule, peers: readonly ReadPeer[]): TierRule {
  const known = peers.filter((peer) => peer !== UNKNOWN);
  const whole = known.length === peers.length;
  const name = rule.name ?? '';
  if (!whole && rule.action !== 'Accept') return { name, action: 'deny' };
  const ports = rule.protocols && { ports: rule.protocols.flat() };
  return { name, action: ACTIONS[rule.action], peers: whole ? known.flat() : [], ...ports };
}

/** Reports the parts of an egress rule that cannot go together. */
function checkDestinations(rule: ReadRule & { to: readonly ReadPeer[] }, context: z.RefinementCtx): void {
  const peers = rule.to.filter((peer) => peer !== UNKNOWN).flat();
  if (rule.action !== 'Accept' && peers.some((peer) => peer?.kind === 'names'))
    context.addIssue({ code: 'custom', path: ['to'], message: 'domainNames can only stand in a rule with action Accept' });
  if (peers.some((peer) => peer && peer.kind !== 'pods') && rule.protocols?.flat().some((port) => port && 'name' in port))
    context.addIssue({
      code: 'custom',
      path: ['protocols'],
      message: 'destinationNamedPort can only stand beside pods and namespaces: only pods give names to their ports',
    });
}

const tierIngress = z.strictObject({ ...tierRule, from: some(ingressPeer) }).transform((rule) => tierRuleOf(rule, rule.from));
const tierEgress = z
  .strictObject({ ...tierRule, to: some(egressPeer) })
  .superRefine(checkDestinations)
  .transform((rule) => tierRuleOf(rule, rule.to));

/** The places, below `spec`, of peers without a field that is known here. */
export function unknownPeers(spec: Readonly<Record<string, unknown>>): (string | number)[][] {
  const listed = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);
  return (['ingress', 'egress'] as const).flatMap((direction) =>
    listed(spec[direction]).flatMap((rule, i) => {
      const side = direction === 'ingress' ? 'from' : 'to';
      const peers = isRecord(rule) ? listed(rule[side]) : [];
      return peers.flatMap((peer, j) => (isRecord(peer) && isUnknown(peer) ? [[direction, i, side, j]] : []));
    }),
  );
}

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

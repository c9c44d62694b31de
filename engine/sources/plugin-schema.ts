/** Plugins, the flows that ask them, and rules about requests: PolicyPlugin and PluginPolicy of sluice.dev/v1alpha1. */

import { z } from 'zod';
import { Context, Direction } from '../abi.gen.ts';
import { canonicalName } from '../policy/domain-name.ts';
import { objectName } from '../policy/object-name.ts';
import {
  type AskRule,
  type BackendRef,
  CAPABILITIES,
  type Peer,
  type PortSpec,
  type Requests,
  type ServerNames,
  type ServicePeer,
} from '../policy/objects.ts';
import { moduleSpec } from './module-schema.ts';
import {
  absent,
  askDestination,
  askSource,
  cidr,
  DNS_LABEL,
  DNS_SUBDOMAIN,
  domainName,
  list,
  PROTOCOLS,
  policyRule,
  port,
  portNumber,
  selector,
} from './schema.ts';

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

/** The meaning of a plugin's routes, and the answer to a denied client. */
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
      service: objectName({ namespace: each.namespace ?? namespace, name: each.service }),
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
      ...(services.length && {
        peers: others,
        services: services.map((each) => (each.includes('/') ? each : objectName({ namespace, name: each }))),
      }),
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

/** Sets that a plugin may look into; see plugin-runtime/named-set.ts. */
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
    module: absent(moduleSpec),
    failurePolicy: absent(z.enum(['Allow', 'Deny'])),
    mode: absent(z.enum(['Enforce', 'Shadow'])),
    limits: absent(
      z.strictObject({
        evaluateMs: absent(z.int().min(1).max(1000)),
        memoryPages: absent(z.int().min(1).max(1024)),
        fuel: absent(z.int().min(1000).max(1_000_000_000)),
      }),
    ),
    capabilities: list(z.enum(CAPABILITIES)),
    sets: absent(z.record(z.string().regex(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/, 'must be a name such as allowed-domains'), hostSet)),
    config: absent(z.record(z.string(), z.unknown())),
  })
  .transform((spec) => ({
    module: spec.module,
    failurePolicy: spec.failurePolicy ?? ('Deny' as const),
    mode: spec.mode ?? ('Enforce' as const),
    evaluateMs: spec.limits?.evaluateMs ?? 5,
    memoryPages: spec.limits?.memoryPages ?? 64,
    fuel: spec.limits?.fuel ?? DEFAULT_FUEL,
    capabilities: spec.capabilities ?? [],
    sets: spec.sets ?? {},
    config: flattenConfig(spec.config),
  }));

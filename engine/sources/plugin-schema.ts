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
import { canarySpec, moduleSpec } from './module-schema.ts';
import { MOST, note } from './note.ts';
import {
  absent,
  askDestination,
  askSource,
  cidr,
  dnsLabel,
  dnsSubdomain,
  domainName,
  from,
  list,
  otherwise,
  PROTOCOLS,
  policyRule,
  portNumber,
  ports,
  selector,
  to,
} from './schema.ts';

const CONTEXTS = { connect: Context.CONNECT, dns: Context.DNS, tls: Context.TLS, http: Context.HTTP } as const;
const DENIED = { status: 403, body: 'denied by policy\n' };
/** As a plugin's manifest may name its routes, and a PolicyPlugin its sets. */
const SHORT_NAME = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const ask = z
  .strictObject({
    plugin: dnsSubdomain('must be the name of a PolicyPlugin').describe('The name of a PolicyPlugin.'),
    context: otherwise(z.enum(['connect', 'dns', 'tls', 'http'], 'must be connect, dns, tls or http'), 'connect').describe(
      'When it is asked: connect about the first packet, dns about each answer before the pod has it, tls about the hello of TLS, http about each request.',
    ),
  })
  .describe('A plugin that decides.');

const choice = otherwise(z.enum(['Allow', 'Deny']), 'Deny');
const serverNames = z
  .strictObject({
    names: z
      .array(domainName)
      .min(1, 'needs at least one name')
      .meta(note('Names of servers that clients may ask for.', { maxItems: MOST.names })),
    withoutName: choice.describe('The fate of a client that names no server.'),
    encryptedHello: choice.describe('The fate of a client whose true server name may be another one, encrypted.'),
  })
  .describe('Server names that clients of TLS may ask for; every other one is denied.')
  .transform(
    (value): ServerNames => ({
      patterns: value.names.map(canonicalName),
      allowMissing: value.withoutName === 'Allow',
      allowEncrypted: value.encryptedHello === 'Allow',
    }),
  );

const weight = otherwise(z.int().min(0).max(1_000_000), 1).describe('Its part of the connections beside the others; 0 takes none.');
const reference = {
  service: dnsLabel('must be the name of a Service').describe('The name of a Service.'),
  namespace: absent(dnsLabel('must be a lower-case DNS label')).describe('Its namespace; the own one where absent.'),
  port: portNumber.describe('A port of that Service.'),
};
const backendRef = z.strictObject({ ...reference, weight }).describe('A Service, one of whose endpoints takes a request.');
type RawBackend = z.infer<typeof backendRef>;

const BACKENDS_MAX = 16;
/** One Service, or several by weight; a file may have a plain list of them. */
const route = z
  .preprocess(
    (value) => (Array.isArray(value) ? { backends: value } : value),
    z
      .strictObject({
        service: absent(reference.service),
        namespace: reference.namespace,
        port: absent(reference.port),
        weight: absent(z.int().min(0).max(1_000_000)).describe('The part of the connections that the Service takes; 0 takes none.'),
        backends: absent(z.array(backendRef).min(1).max(BACKENDS_MAX)).describe(
          'Several Services, by weight, in place of service and port.',
        ),
      })
      .meta(
        note('One Service by service and port, or several by backends.', {
          rules: {
            'must have service and port, or backends instead':
              'has(self.backends) ? !has(self.service) && !has(self.namespace) && !has(self.port) && !has(self.weight) : has(self.service) && has(self.port)',
          },
        }),
      ),
  )
  .transform(({ backends, service, namespace, port, weight: part }, context): RawBackend[] => {
    const one = service !== undefined && port !== undefined;
    const nothingElse = [service, namespace, port, part].every((each) => each === undefined);
    if (backends ? !nothingElse : !one) context.addIssue({ code: 'custom', message: 'must have service and port, or backends instead' });
    return backends ?? (one ? [{ service, namespace, port, weight: part ?? 1 }] : z.NEVER);
  });

/** The meaning of a plugin's routes, and the answer to a denied client. */
const http = z
  .strictObject({
    routes: absent(z.record(z.string().regex(SHORT_NAME, 'must be a name such as stable'), route)).meta(
      note('Where requests go, by the names that the plugin says.', { maxProperties: 64 }),
    ),
    default: absent(z.string()).meta(
      note('The route of a request that is allowed and not routed, and of every one while nobody can decide.', { maxLength: 63 }),
    ),
    deny: absent(
      z.strictObject({
        status: otherwise(z.int().min(400).max(599), DENIED.status).describe('The status code, 400 to 599.'),
        body: otherwise(z.string().max(4096), DENIED.body).describe('The text of the answer.'),
      }),
    ).describe('The answer to a request that is denied.'),
  })
  .meta(
    note('Routes of the plugin, and the answer to who is denied; only with ask.context http.', {
      rules: { 'default must be one of the routes': '!has(self.default) || (has(self.routes) && self.default in self.routes)' },
    }),
  )
  .superRefine((value, context) => {
    if (value.default !== undefined && !Object.hasOwn(value.routes ?? {}, value.default))
      context.addIssue({ code: 'custom', path: ['default'], message: `"${value.default}" is none of the routes` });
  });

function requestsOf(plugin: string, value: z.infer<typeof http> | undefined, namespace: string): Requests {
  const refs = (raw: readonly RawBackend[]): BackendRef[] =>
    raw.map((each) => ({
      service: objectName({ namespace: each.namespace ?? namespace, name: each.service }),
      port: each.port,
      weight: each.weight,
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
        deny: value?.deny ?? DENIED,
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

/** As oneTag(), for the API server. */
const tagRules = (peers: 'from' | 'to'): Record<string, string> => {
  const asks = (...contexts: string[]) => `(has(self.ask) && self.ask.context in [${contexts.map((each) => `'${each}'`).join(', ')}])`;
  const tcpOnly = "!has(self.ports) || self.ports.all(each, each.protocol == 'TCP')";
  return {
    'must have ask or serverNames, and not both: a plugin sees the server name in context tls': 'has(self.ask) != has(self.serverNames)',
    'http needs ask with context http beside it': `!has(self.http) || ${asks('http')}`,
    'TLS is read over TCP; QUIC to the same port is denied anyway': `!(has(self.serverNames) || ${asks('tls')}) || ${tcpOnly}`,
    ...(peers === 'from'
      ? { 'contexts http and dns are for egress rules': `!${asks('http', 'dns')}` }
      : {
          'HTTP is read over TCP': `!${asks('http')} || ${tcpOnly}`,
          'a service can be named with context http only': `${asks('http')} || !has(self.to) || self.to.all(each, !has(each.service))`,
          'to and ports cannot stand in a rule of context dns: its plugin is asked about every answer': `!${asks('dns')} || ((!has(self.to) || size(self.to) == 0) && (!has(self.ports) || size(self.ports) == 0))`,
        }),
  };
};

const tag = { ports, ask: absent(ask), serverNames: absent(serverNames), http: absent(http) };
const askIngress = z
  .strictObject({ from: from(askSource), ...tag })
  .meta(note('Flows, and who decides about them.', { rules: tagRules('from') }))
  .superRefine(oneTag('ingress'))
  .transform(({ from: peers, ...rule }) => taggedRule({ peers, ...rule }));
const askEgress = z
  .strictObject({ to: to(askDestination), ...tag })
  .meta(note('Flows, and who decides about them.', { rules: tagRules('to') }))
  .superRefine(oneTag('egress'))
  .transform(({ to: peers, ...rule }) => taggedRule({ peers, ...rule }));

export const pluginPolicySpec = z
  .strictObject({
    podSelector: absent(selector).describe('The pods of the namespace that it is about; all of them where absent.'),
    ingress: list(askIngress).meta(note('Rules about what reaches the pods.', { maxItems: MOST.rules })),
    egress: list(askEgress).meta(note('Rules about what the pods send.', { maxItems: MOST.rules })),
    precedence: otherwise(z.enum(['Admin', 'Default']), 'Default').describe(
      'Default narrows what other policies allow; Admin decides in their place, where the configuration lets this namespace.',
    ),
  })
  .describe('Flows of pods that a plugin, or a list of server names, decides about.')
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
export const hostSet = z
  .strictObject({
    domains: absent(items(z.string().min(1).max(255))).describe('Domain names; *.example.com stands for one label or more in front.'),
    strings: absent(items(z.string().max(256))).describe('Texts, compared as they are.'),
    cidrs: absent(items(cidr).meta({ maxItems: 25_000 })).describe('Networks.'),
  })
  .meta(
    note('Either domains, strings or cidrs.', {
      rules: {
        'must have exactly one of domains, strings, cidrs':
          '(has(self.domains) ? 1 : 0) + (has(self.strings) ? 1 : 0) + (has(self.cidrs) ? 1 : 0) == 1',
      },
    }),
  )
  .transform(({ domains, strings, cidrs }, context) => {
    if ([domains, strings, cidrs].filter((each) => each !== undefined).length !== 1)
      context.addIssue({ code: 'custom', message: 'must have exactly one of domains, strings, cidrs' });
    if (domains) return { kind: 'domains' as const, items: domains };
    if (strings) return { kind: 'strings' as const, items: strings };
    return { kind: 'networks' as const, items: (cidrs ?? []).map(({ key, bits }) => ({ address: key, prefixBits: bits })) };
  });

const LIMITS = { evaluateMs: 5, memoryPages: 64, fuel: DEFAULT_FUEL };
const limits = z.strictObject({
  evaluateMs: otherwise(z.int().min(1).max(1000), LIMITS.evaluateMs).describe('Milliseconds that one evaluation may take.'),
  memoryPages: otherwise(z.int().min(1).max(1024), LIMITS.memoryPages).describe('Pages of 64 KiB that its memory may have.'),
  fuel: otherwise(z.int().min(1000).max(1_000_000_000), LIMITS.fuel).describe(
    'Units that one evaluation may burn: about one an instruction.',
  ),
});

export const policyPluginSpec = z
  .strictObject({
    module: absent(moduleSpec).describe('Where the module comes from; it can be pushed to the API of an engine, too.'),
    canary: absent(canarySpec).describe('A module that some nodes try.'),
    failurePolicy: otherwise(z.enum(['Allow', 'Deny']), 'Deny').describe('The fate of flows that nobody can decide.'),
    mode: otherwise(z.enum(['Enforce', 'Shadow']), 'Enforce').describe('Enforce, or Shadow: evaluated and compared, and never enforced.'),
    limits: otherwise(limits, LIMITS).describe('Bounds of one evaluation.'),
    capabilities: list(z.enum(CAPABILITIES)).meta(
      note('Functions of the host that the plugin may use, beside what every plugin may.', { maxItems: CAPABILITIES.length }),
    ),
    sets: absent(z.record(z.string().regex(SHORT_NAME, 'must be a name such as allowed-domains'), hostSet)).meta(
      note('Sets that the plugin may look into, by name.', { maxProperties: 16 }),
    ),
    config: absent(z.record(z.string(), z.unknown())).describe('Settings of the plugin; it is given one "path = value" a line.'),
  })
  .describe('A plugin, and how to treat it.')
  .transform(({ module, canary, limits: bounds, capabilities, sets, config, ...spec }) => ({
    ...spec,
    ...bounds,
    module,
    canary,
    capabilities: capabilities ?? [],
    sets: sets ?? {},
    config: flattenConfig(config),
  }));

/**
 * The fields of a flow, each declared once: how it is read, what the API says about it, how the command line shows it, which label of the
 * metrics it is. A field that is added here is in the record, in /openapi.json, in `sluice flows` and its JSON, and in the metrics; one that
 * does not say how each origin has it is a type error.
 */
import { z } from 'zod';
import { Abi, Context, Direction, Reason, Scope, Verdict } from '../abi.gen.ts';
import { decidedEnd, type FlowEnd, flowEnd, kernelEnd } from './flow-end.ts';
import { type HttpView, httpView, type Names, type Origins } from './flow-origins.ts';
import { REASON_CODES, reasonCode, reasonText } from './reasons.ts';

type Reader<Origin, T> = (told: Origin, names: Names) => T;

export interface FlowField<T> {
  /** With the description that /openapi.json has. */
  readonly schema: z.ZodType<T>;
  readonly kernel: Reader<Origins['kernel'], T>;
  readonly asked: Reader<Origins['asked'], T>;
  readonly request: Reader<Origins['request'], T>;
  /** Where the line of a flow shows it; an empty text leaves it out. Without it, JSON alone has the field. */
  readonly line?: Shown<T>;
  /** The label of `sluice_flow_records_total` that it is. Its values must be few: enums and names of plugins, never addresses. */
  readonly label?: string;
}

/** A line reads `head head head: why (by, by) end`. */
export type LinePlace = 'head' | 'why' | 'by' | 'end';

interface Shown<T> {
  readonly place: LinePlace;
  readonly text: (value: T, flow: LineFacts) => string;
}

/** The fields that the text of another one may take into account. */
interface LineFacts {
  readonly name: string;
  readonly hook: string;
  readonly verdict: 'allow' | 'deny';
  readonly reasonCode: string;
  readonly destination: { readonly port: number };
}

const PROTOCOL_NAMES: Readonly<Record<number, string>> = { 0: '', 1: 'ICMP', 6: 'TCP', 17: 'UDP', 58: 'ICMPv6', 132: 'SCTP' };
const SCOPE_NAMES: Readonly<Record<number, string>> = {
  [Scope.NONE]: 'connection',
  [Scope.FLOW]: 'flow',
  [Scope.ADDRESS]: 'address',
  [Scope.IDENTITY]: 'identity',
};
const HOOK_NAMES: ReadonlyMap<number, string> = new Map(Object.entries(Context).map(([name, hook]) => [hook, name.toLowerCase()]));
const DNS_PORT = 53;

const field = <T>(declared: FlowField<T>): FlowField<T> => declared;
const always =
  <T>(value: T): (() => T) =>
  () =>
    value;
const shown = <T extends string>(place: LinePlace, before = ''): Shown<T> => ({ place, text: (value) => value && before + value });

/** By the clock that the kernel and process.hrtime() share. */
const timeOf = ({ timeNs }: { readonly timeNs: bigint }): string =>
  new Date(Date.now() - Number(process.hrtime.bigint() - timeNs) / 1e6).toISOString();
const protocolOf = ({ protocol }: { readonly protocol: number }): string => PROTOCOL_NAMES[protocol] ?? String(protocol);

/** A protocol as flows have it, of its number or its name in any case; undefined where there is none. */
export function protocolNamed(text: string): string | undefined {
  if (/^\d{1,3}$/.test(text)) return Number(text) < 256 ? protocolOf({ protocol: Number(text) }) : undefined;
  return Object.values(PROTOCOL_NAMES).find((name) => name && name.toLowerCase() === text.toLowerCase());
}
const directionOf = ({ direction }: { readonly direction: number }) => (direction === Direction.INGRESS ? 'ingress' : 'egress');
const verdictOf = ({ allowed }: { readonly allowed: boolean }) => (allowed ? 'allow' : 'deny');
const ruleOf: Reader<{ readonly rule: number }, string> = ({ rule }, names) => names.rule(rule);
const pluginOf: Reader<{ readonly plugin: number }, string> = ({ plugin }, names) => names.plugin(plugin);
const endpointOf: Reader<{ readonly endpoint: number }, string> = ({ endpoint }, names) => names.endpoint(endpoint);
const nameOf: Reader<{ readonly name: bigint }, string> = ({ name }, names) => names.domain(name);

/** Of a DNS message the name is what is asked for, not where it goes. */
const isDns = ({ hook, verdict, destination }: LineFacts): boolean =>
  hook === 'dns' || (verdict === 'deny' && destination.port === DNS_PORT);
const endText = ({ pod, address, port }: FlowEnd, name = ''): string => `${pod || name || address || 'unknown'}${port ? `:${port}` : ''}`;

/** Where a plugin, a list of server names or a failure policy decided. */
function decidedCode(allowed: boolean, failed: boolean): string {
  if (failed) return reasonCode(allowed ? Reason.PASS_FAILURE_POLICY : Reason.DROP_FAILURE_POLICY);
  return reasonCode(allowed ? Reason.PASS_VERDICT : Reason.DROP_VERDICT);
}

/** The sentence where a plugin gave no reason. */
function reasonless({ allowed, plugin }: Origins['asked']): string {
  if (plugin === Abi.SERVER_NAMES) return 'the server name is in the list';
  return allowed ? reasonText(Reason.PASS_VERDICT) : 'the plugin denies it';
}

/** Of a request what is about HTTP. */
const httpOf = (request: Origins['request']): HttpView =>
  Object.fromEntries(Object.keys(httpView.shape).map((name) => [name, request[name as keyof HttpView]])) as HttpView;

/** In the order in which a line shows them. */
export const FLOW_FIELDS = {
  time: field({
    schema: z.string().describe('ISO 8601'),
    kernel: timeOf,
    asked: timeOf,
    request: ({ timeMs }) => new Date(timeMs).toISOString(),
    line: { place: 'head', text: (time) => time.slice(11, 23) },
  }),
  verdict: field<'allow' | 'deny'>({
    schema: z.enum(['allow', 'deny']),
    kernel: ({ verdict }) => (verdict === Verdict.ALLOW ? 'allow' : 'deny'),
    asked: verdictOf,
    request: verdictOf,
    line: { place: 'head', text: (verdict) => verdict.padEnd(5) },
    label: 'verdict',
  }),
  source: field<FlowEnd>({
    schema: flowEnd,
    kernel: (record, names) => kernelEnd('source', record, names),
    asked: (flow, names) => decidedEnd('source', flow, names),
    request: (request, names) => decidedEnd('source', request, names),
    line: {
      place: 'head',
      text: (end, flow) => (flow.reasonCode === reasonCode(Reason.DROP_SPOOFED) ? `${endText(end)} as ${end.address}` : endText(end)),
    },
  }),
  destination: field<FlowEnd>({
    schema: flowEnd,
    kernel: (record, names) => kernelEnd('destination', record, names),
    asked: (flow, names) => decidedEnd('destination', flow, names),
    request: (request, names) => decidedEnd('destination', request, names),
    line: { place: 'head', text: (end, flow) => `→ ${endText(end, isDns(flow) ? '' : flow.name)}` },
  }),
  protocol: field({
    schema: z.string().describe('TCP, UDP, SCTP, ICMP, ICMPv6 or a number; empty where it could not be read'),
    kernel: protocolOf,
    asked: protocolOf,
    request: always('TCP'),
    line: shown('head'),
    label: 'protocol',
  }),
  direction: field<'ingress' | 'egress'>({
    schema: z.enum(['ingress', 'egress']).describe('as the endpoint sees it'),
    kernel: directionOf,
    asked: directionOf,
    request: always('egress'),
    line: shown('head'),
    label: 'direction',
  }),
  http: field<HttpView | null>({
    schema: httpView.nullable().describe('one request of the connection; null where requests are not what was decided'),
    kernel: always(null),
    asked: always(null),
    request: httpOf,
    line: {
      place: 'head',
      text: (told) => (told ? `${told.method} ${told.host}${told.path} ${told.status}${told.backend && ` from ${told.backend}`}` : ''),
    },
  }),
  reason: field({
    schema: z.string().describe('a sentence: the plugin’s own, or what reasonCode means'),
    kernel: ({ reason }) => reasonText(reason),
    asked: (flow) => flow.reason || reasonless(flow),
    request: ({ reason, cause }) => reason || reasonText(cause),
    line: shown('why'),
  }),
  reasonCode: field({
    schema: z
      .string()
      .describe(
        `one of ${REASON_CODES.length} causes, as sluice_packets_total counts them: drop_policy, drop_spoofed, …; of a request, why it was let through or not`,
      ),
    kernel: ({ reason }) => reasonCode(reason),
    asked: ({ allowed, failed }) => decidedCode(allowed, failed),
    request: ({ cause }) => reasonCode(cause),
    label: 'reason',
  }),
  name: field({
    schema: z.string().describe('by which the sender knows the destination; of a DNS message, the one that is asked for'),
    kernel: nameOf,
    asked: (flow, names) => (flow.context === Context.DNS ? flow.contentName : nameOf(flow, names)),
    request: always(''),
    line: { place: 'by', text: (name, flow) => (isDns(flow) ? name : '') },
  }),
  serverName: field({
    schema: z.string().describe('that a TLS client named; empty where there is none'),
    kernel: always(''),
    asked: ({ context, contentName }) => (context === Context.TLS ? contentName : ''),
    request: always(''),
    line: shown('by', 'server name '),
  }),
  plugin: field({
    schema: z.string(),
    kernel: pluginOf,
    asked: pluginOf,
    request: pluginOf,
    line: shown('by', 'plugin '),
    label: 'plugin',
  }),
  rule: field({
    schema: z.string().describe('"PluginPolicy shop/web egress[0]"; empty for the default of an isolated endpoint'),
    kernel: ruleOf,
    asked: ruleOf,
    request: ruleOf,
    line: shown('by'),
  }),
  endpoint: field({
    schema: z.string().describe('"namespace/name" of the pod of this node whose policy decided; empty where it is gone'),
    kernel: endpointOf,
    asked: endpointOf,
    request: ({ source }, names) => names.pod(source),
  }),
  hook: field({
    schema: z.string().describe('connect, dns, tls or http; empty when no plugin was asked'),
    kernel: always(''),
    asked: ({ context }) => HOOK_NAMES.get(context) ?? '',
    request: always('http'),
  }),
  audited: field({
    schema: z.boolean().describe('the plugin let it pass, and wants it shown'),
    kernel: always(false),
    asked: ({ audited }) => audited,
    request: ({ audited }) => audited,
  }),
  established: field({
    schema: z.boolean().describe('the connection was allowed before'),
    kernel: always(false),
    asked: ({ established }) => established,
    request: always(true),
  }),
  scope: field({
    schema: z.string().describe('which later connections the verdict answers: connection, flow, address or identity'),
    kernel: always(''),
    asked: ({ scope }) => SCOPE_NAMES[scope] ?? '',
    request: always(''),
  }),
  ttlMs: field({
    schema: z.number(),
    kernel: always(0),
    asked: ({ scope, ttlMs }) => (scope === Scope.NONE ? 0 : ttlMs),
    request: always(0),
  }),
  heldUs: field({
    schema: z.number().describe('from hold to verdict; 0 when nothing was held'),
    kernel: always(0),
    asked: ({ heldUs }) => heldUs,
    request: always(0),
    line: { place: 'end', text: (us) => (us ? `${us} µs` : '') },
  }),
} as const;

type Fields = typeof FLOW_FIELDS;
/** A flow as people, the API and outlets have it. */
export type FlowView = { readonly [Name in keyof Fields]: Fields[Name] extends FlowField<infer T> ? T : never };

const ENTRIES = Object.entries(FLOW_FIELDS) as [keyof FlowView, FlowField<unknown>][];

/** Of the API: every field with its description. */
export const flowSchema: z.ZodType<FlowView> = z.object(
  Object.fromEntries(ENTRIES.map(([name, { schema }]) => [name, schema])),
) as unknown as z.ZodType<FlowView>;

/** A flow, read from where it is told of. */
export function readFlow<Origin extends keyof Origins>(origin: Origin, told: Origins[Origin], names: Names): FlowView {
  const flow: Record<string, unknown> = {};
  for (const [name, declared] of ENTRIES) flow[name] = (declared[origin] as Reader<Origins[Origin], unknown>)(told, names);
  return flow as FlowView;
}

/** The texts of a flow's line, by their place; those that say nothing are left out. */
export function lineParts(flow: FlowView): { place: LinePlace; field: keyof FlowView; text: string }[] {
  return ENTRIES.flatMap(([name, { line }]) => {
    const text = line?.text(flow[name], flow);
    return line && text ? [{ place: line.place, field: name, text }] : [];
  });
}

/** The labels of the metric that counts flows. */
export const FLOW_LABELS: readonly string[] = ENTRIES.flatMap(([, { label }]) => label ?? []);

export function labelsOf(flow: FlowView): Record<string, string> {
  return Object.fromEntries(ENTRIES.flatMap(([name, { label }]) => (label ? [[label, String(flow[name])]] : [])));
}

/**
 * The answers that a plugin is expected to give: `cases.yaml` beside its source, and flows that a running engine recorded.
 *
 * A case is a question and what is expected of the answer; each knows its file and line.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isMap, isSeq, LineCounter, parseDocument } from 'yaml';
import { z } from 'zod';
import { Context, Direction } from '../abi.gen.ts';
import { EngineError } from '../errors.ts';
import { ADDRESS_WORDS, type IdentityTexts, type PodTexts, Question } from '../plugin-runtime/question.ts';
import { parseAddress } from '../policy/address.ts';
import { CAPABILITIES, type Capability } from '../policy/objects.ts';
import { flattenConfig, hostSet } from '../sources/plugin-schema.ts';
import { shownPath } from './paths.ts';

const PROTOCOLS: Readonly<Record<string, number>> = { tcp: 6, udp: 17, sctp: 132, icmp: 1, icmpv6: 58 };

/** RFC 1035, 3.2.2, and those that came later. */
const DNS_TYPES: Readonly<Record<string, number>> = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  MX: 15,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  SVCB: 64,
  HTTPS: 65,
};

const port = z.int().min(0).max(65_535);
const address = z.string().transform((text, context) => {
  const bytes = parseAddress(text);
  if (!bytes) context.addIssue({ code: 'custom', message: `"${text}" is not an address` });
  return bytes ?? new Uint8Array(16);
});
const partySchema = z.strictObject({
  pod: z
    .string()
    .regex(/^[^/]+\/[^/]+$/, 'must be NAMESPACE/POD')
    .optional(),
  labels: z.record(z.string(), z.string()).default({}),
  address: address.optional(),
  identity: z.int().min(0).optional(),
  port: port.optional(),
});

const flowSchema = z.strictObject({
  from: partySchema
    .extend({ serviceAccount: z.string().optional() })
    .refine(({ pod, serviceAccount }) => pod !== undefined || serviceAccount === undefined, 'serviceAccount needs pod beside it')
    .prefault({}),
  /** `name`: by which the sender knows it; `service`: whose cluster address it is. */
  to: partySchema
    .extend({
      name: z.string().default(''),
      service: z
        .string()
        .regex(/^[^/]+\/[^/]+$/, 'must be NAMESPACE/SERVICE')
        .optional(),
    })
    .prefault({}),
  protocol: z.enum(Object.keys(PROTOCOLS) as [string, ...string[]]).default('tcp'),
  direction: z.enum(['ingress', 'egress']).default('egress'),
  established: z.boolean().default(false),
  /** Milliseconds on the plugin's own clock. */
  timeMs: z.number().min(0).default(1000),
  rule: z.int().default(1),
});

const httpSchema = z.strictObject({
  method: z.string().default('GET'),
  host: z.string().default(''),
  path: z.string().default('/'),
  query: z.string().default(''),
  headers: z.record(z.string(), z.string()).default({}),
  cookies: z.record(z.string(), z.string()).default({}),
});

const expectSchema = z.strictObject({
  verdict: z.enum(['next', 'allow', 'deny', 'route', 'audit', 'trap', 'nonsense']).optional(),
  scope: z.enum(['none', 'flow', 'address', 'identity']).optional(),
  ttlSeconds: z.number().optional(),
  reason: z.string().optional(),
  route: z.string().optional(),
  /** Of a denied DNS answer: what the pod is told. */
  responseCode: z.enum(['REFUSED', 'NXDOMAIN', 'SERVFAIL']).optional(),
  /** Part of the trap's message. */
  trap: z.string().optional(),
  /** Names of fields, all that the verdict depends on. */
  reads: z.array(z.string()).optional(),
  maxFuel: z.int().optional(),
});

const settings = {
  config: z.record(z.string(), z.unknown()).optional(),
  /** The time of day that clock gives. */
  clock: z.iso.datetime().optional(),
};

const caseSchema = z.strictObject({
  name: z.string().min(1),
  ...settings,
  flow: flowSchema.prefault({}),
  /** Its resolver is where the flow comes from. */
  dns: z
    .strictObject({
      name: z.string(),
      type: z.enum(Object.keys(DNS_TYPES) as [string, ...string[]]).default('A'),
      ttlSeconds: z.int().min(0).default(300),
      addresses: z.array(z.string()).default([]),
    })
    .optional(),
  tls: z
    .strictObject({
      serverName: z.string().default(''),
      applicationProtocols: z.array(z.string()).default([]),
      encrypted: z.boolean().default(false),
    })
    .optional(),
  http: httpSchema.optional(),
  /** Asked so often before, with the same question: what rate limits need. */
  after: z.int().min(0).max(100_000).default(0),
  expect: expectSchema,
});

const fileSchema = z.strictObject({
  ...settings,
  sets: z.record(z.string(), hostSet).default({}),
  /** Grants; all, unless this says otherwise. */
  capabilities: z.array(z.enum(CAPABILITIES)).default([...CAPABILITIES]),
  cases: z.array(z.unknown()),
});

export type Expectation = z.infer<typeof expectSchema>;

export interface PluginCase {
  readonly name: string;
  readonly file: string;
  /** From 1. */
  readonly line: number;
  readonly question: Question;
  readonly after: number;
  /** Configuration of its own: this case is put to a fresh instance. One `path = value` a line. */
  readonly config: string | undefined;
  /** Unix time in milliseconds. */
  readonly clockMs: number | undefined;
  readonly expect: Expectation;
}

export interface PluginCases {
  readonly config: string;
  readonly clockMs: number | undefined;
  readonly sets: Readonly<Record<string, z.infer<typeof hostSet>>>;
  readonly capabilities: readonly Capability[];
  readonly cases: readonly PluginCase[];
}

function refuse(file: string, line: number, reason: string): EngineError {
  return new EngineError('PLUGIN_TEST', `Cannot read ${file}:${line}: ${reason}`);
}

/** The cases of a plugin's folder: its cases.yaml, and recorded flows in flows/*.ndjson. @throws EngineError `PLUGIN_TEST` */
export function readCases(directory: string, recordings: readonly string[] = []): PluginCases {
  const path = join(directory, 'cases.yaml');
  const found = existsSync(path) ? readCaseFile(path) : { config: '', clockMs: undefined, sets: {}, capabilities: CAPABILITIES, cases: [] };
  const folder = join(directory, 'flows');
  const files = [
    ...(existsSync(folder)
      ? readdirSync(folder)
          .filter((name) => name.endsWith('.ndjson'))
          .map((name) => join(folder, name))
      : []),
    ...recordings,
  ];
  return { ...found, cases: [...found.cases, ...files.flatMap(readRecording)] };
}

function readCaseFile(path: string): PluginCases {
  const file = shownPath(path);
  const lines = new LineCounter();
  const document = parseDocument(readFileSync(path, 'utf8'), { lineCounter: lines });
  const [error] = document.errors;
  if (error) throw refuse(file, error.linePos?.[0].line ?? 1, error.message.split('\n')[0] ?? '');
  const parsed = fileSchema.safeParse(document.toJS() ?? {});
  if (!parsed.success) throw refuse(file, 1, describe(parsed.error));
  const sequence = isMap(document.contents) ? document.contents.get('cases') : undefined;
  const { config, clock, sets, capabilities } = parsed.data;
  return {
    config: flattenConfig(config),
    clockMs: clock === undefined ? undefined : Date.parse(clock),
    sets,
    capabilities,
    cases: parsed.data.cases.map((value, i) => {
      const item = isSeq(sequence) ? (sequence.items[i] as { range?: [number, number, number] }) : undefined;
      const line = item?.range ? lines.linePos(item.range[0]).line : 1;
      const result = caseSchema.safeParse(value);
      if (!result.success) throw refuse(file, line, describe(result.error));
      return makeCase(result.data, file, line);
    }),
  };
}

function describe(error: z.ZodError): string {
  // A misspelt key says more than what is missing in its place.
  const issue = error.issues.find(({ code }) => code === 'unrecognized_keys') ?? error.issues[0];
  return `${issue?.path.join('.') || 'it'}: ${issue?.message}`;
}

function makeCase(data: z.infer<typeof caseSchema>, file: string, line: number): PluginCase {
  const question = new Question();
  const { flow, dns, tls, http } = data;
  fillFlow(question, flow);
  if ([dns, tls, http].filter(Boolean).length > 1) throw refuse(file, line, 'a case has one of dns, tls and http');
  if (dns) {
    question.hook = Context.DNS;
    question.dnsName = byteString(dns.name).toLowerCase();
    question.dnsType = DNS_TYPES[dns.type] as number;
    question.dnsTtlS = dns.ttlSeconds;
    question.dnsAddresses = dns.addresses.join('\n');
  } else if (tls) {
    question.hook = Context.TLS;
    question.serverName = byteString(tls.serverName).toLowerCase();
    question.applicationProtocols = tls.applicationProtocols.map(byteString).join('\n');
    question.encryptedHello = tls.encrypted;
  } else if (http) fillRequest(question, http);
  return {
    name: data.name,
    file,
    line,
    question,
    after: data.after,
    config: data.config && flattenConfig(data.config),
    clockMs: data.clock === undefined ? undefined : Date.parse(data.clock),
    expect: data.expect,
  };
}

function fillFlow(question: Question, flow: z.infer<typeof flowSchema>): void {
  const { from, to } = flow;
  const bytes = Buffer.alloc(ADDRESS_WORDS * 4);
  bytes.set(from.address ?? parseAddress('10.0.0.1') ?? [], 0);
  bytes.set(to.address ?? parseAddress('10.0.0.2') ?? [], 16);
  for (let i = 0; i < ADDRESS_WORDS; i++) question.words[i] = bytes.readInt32LE(4 * i);
  question.sourceIdentity = from.identity ?? 256;
  question.destinationIdentity = to.identity ?? 257;
  question.sourcePort = from.port ?? 40_000;
  question.destinationPort = to.port ?? 80;
  question.protocol = PROTOCOLS[flow.protocol] as number;
  question.direction = flow.direction === 'egress' ? Direction.EGRESS : Direction.INGRESS;
  question.established = flow.established;
  question.timeMs = flow.timeMs;
  question.rule = flow.rule;
  question.source = textsOf(from);
  question.destination = textsOf(to);
  question.sourcePod = podOf(from, from.serviceAccount);
  question.destinationPod = podOf(to, undefined);
  question.destinationService = to.service === undefined ? undefined : Buffer.from(to.service);
  question.dnsName = byteString(to.name);
}

function textsOf({ pod, labels }: z.infer<typeof partySchema>): IdentityTexts | undefined {
  if (!pod && !Object.keys(labels).length) return undefined;
  const lines = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
  return { namespace: Buffer.from(pod?.split('/')[0] ?? 'default'), labels: Buffer.from(lines.join('\n')) };
}

function podOf({ pod }: z.infer<typeof partySchema>, serviceAccount: string | undefined): PodTexts | undefined {
  if (pod === undefined) return undefined;
  return {
    name: Buffer.from(pod.split('/')[1] ?? ''),
    serviceAccount: serviceAccount === undefined ? undefined : Buffer.from(serviceAccount),
  };
}

function fillRequest(question: Question, http: z.infer<typeof httpSchema>): void {
  question.hook = Context.HTTP;
  question.method = byteString(http.method);
  question.host = byteString(http.host);
  question.path = byteString(http.path);
  question.query = byteString(http.query);
  const cookies = Object.entries(http.cookies).map(([name, value]) => `${name}=${value}`);
  const headers = Object.entries(http.headers).map(([name, value]) => [name.toLowerCase(), value]);
  if (cookies.length) headers.push(['cookie', cookies.join('; ')]);
  question.headers = headers.flat().map((text) => byteString(text as string));
}

/** A character for each byte of UTF-8, as requests have them. */
function byteString(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1');
}

/** A recorded flow, as far as cases need it; see engine/observe/flow-fields.ts. */
const recordedParty = z.looseObject({ address: z.string(), port, pod: z.string(), identity: z.int(), labels: z.array(z.string()) });
const recorded = z.looseObject({
  time: z.string(),
  source: recordedParty,
  destination: recordedParty,
  name: z.string().default(''),
  protocol: z.string(),
  direction: z.enum(['ingress', 'egress']),
  verdict: z.enum(['allow', 'deny']),
  established: z.boolean(),
  hook: z.string(),
});

/** Flows as `sluice flows --record` writes them: each is expected to get the verdict that it got. */
function readRecording(path: string): PluginCase[] {
  const file = shownPath(path);
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new EngineError('PLUGIN_TEST', `Cannot read ${path}: ${(error as NodeJS.ErrnoException).code}`, error);
  }
  const start = { ms: 0 };
  return text.split('\n').flatMap((line, i) => {
    if (!line.trim()) return [];
    let flow: z.infer<typeof recorded>;
    try {
      flow = recorded.parse(JSON.parse(line));
    } catch (error) {
      throw refuse(file, i + 1, error instanceof z.ZodError ? describe(error) : 'it is not JSON');
    }
    // The contents of a message beside its name are not recorded: no answer can be expected of it.
    if (flow.hook !== 'connect') return [];
    start.ms ||= Date.parse(flow.time);
    return [recordedCase(flow, file, i + 1, Date.parse(flow.time) - start.ms)];
  });
}

function recordedCase(flow: z.infer<typeof recorded>, file: string, line: number, sinceMs: number): PluginCase {
  const party = ({ address: text, port: number, pod, identity, labels }: z.infer<typeof recordedParty>) => ({
    ...(pod && { pod }),
    labels: Object.fromEntries(labels.map((label) => [label.slice(0, label.indexOf('=')), label.slice(label.indexOf('=') + 1)])),
    address: text,
    identity,
    port: number,
  });
  const question = new Question();
  const { source, destination, direction, established } = flow;
  const protocol = flow.protocol.toLowerCase();
  fillFlow(
    question,
    flowSchema.parse({
      from: party(source),
      to: { ...party(destination), name: flow.name },
      direction,
      established,
      protocol,
      timeMs: 1_000_000 + sinceMs,
    }),
  );
  return {
    name: `${source.pod || source.address} → ${destination.pod || destination.address}:${destination.port}`,
    file,
    line,
    question,
    after: 0,
    config: undefined,
    clockMs: Date.parse(flow.time),
    // Recorded is whether it passed; which of the verdicts that pass it was is not.
    expect: flow.verdict === 'deny' ? { verdict: 'deny' } : {},
  };
}

/**
 * Which flows somebody wants to see: each filter declared once, for the API's query and the command line's flags. Of one filter any value
 * may match; of several filters each must.
 */

import { parseDuration } from '../config.ts';
import { EngineError } from '../errors.ts';
import { addressKey, maskAddress, parseAddress, parseNetwork } from '../policy/address.ts';
import type { FlowEnd } from './flow-end.ts';
import { type FlowView, protocolNamed } from './flow-fields.ts';
import { REASON_CODES } from './reasons.ts';

export type FlowTest = (flow: FlowView) => boolean;

export interface FlowFilter {
  readonly describe: string;
  /** Values that there are, where these are few. */
  readonly choices?: readonly string[];
  /** Absent: the text is none of what it must be. */
  readonly parse: (text: string) => FlowTest | undefined;
  readonly must: string;
}

const PORT_MAX = 65_535;

const oneOf = (choices: readonly string[], read: (flow: FlowView) => string, describe: string): FlowFilter => ({
  describe,
  choices,
  must: choices.join(' or '),
  parse: (text) => (choices.includes(text.toLowerCase()) ? (flow) => read(flow) === text.toLowerCase() : undefined),
});

/** A text in which `*` stands for any characters. Takes time by the length of the value, whatever the pattern. */
function pattern(text: string): (value: string) => boolean {
  const [first = '', ...rest] = text.split('*');
  const last = rest.pop();
  if (last === undefined) return (value) => value === text;
  return (value) => {
    if (!value.startsWith(first)) return false;
    let at = first.length;
    for (const part of rest) {
      const found = value.indexOf(part, at);
      if (found < 0) return false;
      at = found + part.length;
    }
    return value.length - last.length >= at && value.endsWith(last);
  };
}

const ends = ({ source, destination }: FlowView): readonly FlowEnd[] => [source, destination];
const podsOf = (flow: FlowView): string[] => [flow.source.pod, flow.destination.pod, flow.endpoint].filter(Boolean);
const namespaceOf = (pod: string): string => pod.slice(0, Math.max(0, pod.indexOf('/')));

/** `shop/web`, `shop/web-*`; without a namespace a pod of this name in any. */
function podPattern(text: string): (pod: string) => boolean {
  return pattern(text.includes('/') ? text : `*/${text}`);
}

/** An address, a network or a pod. */
function endPattern(text: string): (end: FlowEnd) => boolean {
  const address = parseAddress(text);
  const network = address ? { address, bits: 128 } : parseNetwork(text);
  if (!network) {
    const matches = podPattern(text);
    return ({ pod }) => pod !== '' && matches(pod);
  }
  const key = addressKey(network.address);
  return (end) => {
    const own = parseAddress(end.address);
    return own !== undefined && addressKey(maskAddress(own, network.bits)) === key;
  };
}

/** `5m` ago, or a date and time. */
function timeOf(text: string): number | undefined {
  if (/^\d+(\.\d+)?(ms|s|m|h)?$/.test(text)) return Date.now() - parseDuration(text, 'since');
  const time = Date.parse(text);
  return Number.isNaN(time) ? undefined : time;
}

const timed = (describe: string, matches: (time: number, limit: number) => boolean): FlowFilter => ({
  describe,
  must: 'a duration such as 5m, or a time such as 2026-11-28T12:00:00Z',
  parse: (text) => {
    const limit = timeOf(text);
    return limit === undefined ? undefined : (flow) => matches(Date.parse(flow.time), limit);
  },
});

/** `spoofed`, `drop_spoofed`: the prefix need not be said. */
function parseReason(text: string): FlowTest | undefined {
  const wanted = text.toLowerCase().replaceAll('-', '_');
  const codes = new Set(REASON_CODES.filter((code) => code === wanted || code.replace(/^[a-z]+_/, '') === wanted));
  return codes.size ? (flow) => codes.has(flow.reasonCode) : undefined;
}

function parsePort(text: string): FlowTest | undefined {
  const [, digits, protocol] = /^(\d{1,5})(?:\/(tcp|udp|sctp))?$/i.exec(text) ?? [];
  const port = Number(digits);
  if (digits === undefined || port > PORT_MAX) return undefined;
  return (flow) => ends(flow).some((end) => end.port === port) && (!protocol || flow.protocol === protocol.toUpperCase());
}

export const FLOW_FILTERS = {
  verdict: oneOf(['allow', 'deny'], ({ verdict }) => verdict, 'allow or deny'),
  reason: {
    describe: 'why: policy, spoofed, malformed, fragment, verdict, … (reasonCode, with or without drop_)',
    must: `one of ${REASON_CODES.filter((code) => /^(drop|fail)_/.test(code)).join(', ')}`,
    parse: parseReason,
  },
  direction: oneOf(['ingress', 'egress'], ({ direction }) => direction, 'ingress or egress, as the endpoint sees it'),
  pod: {
    describe: 'a pod at either end: NAMESPACE/POD or POD; * stands for any characters',
    must: 'a name such as shop/web',
    parse: (text) => {
      const matches = podPattern(text);
      return (flow) => podsOf(flow).some(matches);
    },
  },
  namespace: {
    describe: 'a namespace at either end',
    must: 'a name such as shop',
    parse: (text) => {
      const matches = pattern(text);
      return (flow) => podsOf(flow).some((pod) => matches(namespaceOf(pod)));
    },
  },
  from: {
    describe: 'the source: NAMESPACE/POD, an address or a network',
    must: 'such as shop/web or 10.0.0.0/8',
    parse: (text) => {
      const matches = endPattern(text);
      return (flow) => matches(flow.source);
    },
  },
  to: {
    describe: 'the destination: NAMESPACE/POD, an address, a network or a domain name',
    must: 'such as shop/db, 10.0.0.0/8 or api.example.com',
    parse: (text) => {
      const matches = endPattern(text);
      const named = pattern(text.toLowerCase());
      return (flow) => matches(flow.destination) || [flow.name, flow.serverName, flow.http?.host].some((name) => name && named(name));
    },
  },
  port: { describe: 'a port at either end, such as 443 or 53/udp', must: 'a port such as 443 or 53/udp', parse: parsePort },
  protocol: {
    describe: 'tcp, udp, sctp, icmp, icmpv6 or a number',
    must: 'tcp, udp, sctp, icmp, icmpv6 or a number',
    parse: (text) => {
      const named = protocolNamed(text);
      return named === undefined ? undefined : (flow) => flow.protocol === named;
    },
  },
  plugin: {
    describe: 'the plugin that decided',
    must: 'the name of a plugin',
    parse: (text) => {
      const matches = pattern(text);
      return (flow) => flow.plugin !== '' && matches(flow.plugin);
    },
  },
  since: timed('from then on: a duration such as 5m, or a time', (time, limit) => time >= limit),
  until: timed('up to then: a duration such as 1m, or a time', (time, limit) => time <= limit),
} as const satisfies Readonly<Record<string, FlowFilter>>;

export type FilterName = keyof typeof FLOW_FILTERS;
export const FILTER_NAMES = Object.keys(FLOW_FILTERS) as FilterName[];

/** The filters that somebody asks for; each value may be several, with commas between them. */
export type FlowQuery = Readonly<Partial<Record<FilterName, readonly string[]>>>;

/** @throws EngineError `CONFIG_INVALID` with what a value must be */
export function parseFlowQuery(query: FlowQuery): FlowTest {
  const filters = FILTER_NAMES.flatMap((name) => {
    const values = (query[name] ?? []).flatMap((value) => value.split(',')).map((value) => value.trim());
    return values.length ? [anyOf(values.map((value) => parseValue(name, value)))] : [];
  });
  return (flow) => filters.every((matches) => matches(flow));
}

const anyOf =
  (tests: readonly FlowTest[]): FlowTest =>
  (flow) =>
    tests.some((matches) => matches(flow));

function parseValue(name: FilterName, value: string): FlowTest {
  const { parse, must }: FlowFilter = FLOW_FILTERS[name];
  const matches = value ? parse(value) : undefined;
  if (!matches) throw new EngineError('CONFIG_INVALID', `Cannot filter flows by ${name} "${value}": must be ${must}`);
  return matches;
}

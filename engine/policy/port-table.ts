/**
 * What one peer may reach: a rule for each protocol and port, painted layer by layer and written as prefixes of port
 * numbers, which the kernel finds with one hash lookup for each prefix length in use.
 */
import { Abi, Action, type PolicyEntry, policyEntryCodec, portKeyCodec, type Rule, ruleCodec } from '../abi.gen.ts';
import type { StableIds } from './stable-id.ts';

/** The protocols that have ports, by number: TCP, UDP, SCTP. */
export const PORT_PROTOCOLS = [6, 17, 132] as const;
const PORT_MAX = 65_535;

/** Part of the space of protocols and ports; protocol 0 is all of it. */
export interface PortRange {
  readonly protocol: number;
  readonly first: number;
  readonly last: number;
}

export const EVERY_PORT: PortRange = { protocol: 0, first: 0, last: PORT_MAX };

interface Segment {
  readonly first: number;
  readonly last: number;
  readonly rule: Rule;
}

export const DENIED: Rule = { id: 0, plugin: 0, action: Action.DENY, context: 0 };
export const ALLOWED: Rule = { id: 0, plugin: 0, action: Action.ALLOW, context: 0 };

export class PortTable {
  /** Adjacent and complete: each protocol's segments cover every port. */
  readonly #segments = new Map<number, Segment[]>();
  #other: Rule;

  constructor(base: Rule) {
    this.#other = base;
    for (const protocol of PORT_PROTOCOLS) this.#segments.set(protocol, [{ first: 0, last: PORT_MAX, rule: base }]);
  }

  /** Replaces the rule of every port in the range by what `choose` makes of it. */
  paint(range: PortRange, choose: (before: Rule) => Rule): void {
    if (range.protocol === 0) this.#other = choose(this.#other);
    for (const [protocol, segments] of this.#segments)
      if (range.protocol === 0 || range.protocol === protocol) this.#segments.set(protocol, paintSegments(segments, range, choose));
  }

  /** The rule for a protocol and port. */
  find(protocol: number, port: number): Rule {
    const segments = this.#segments.get(protocol);
    return segments?.find((segment) => segment.first <= port && port <= segment.last)?.rule ?? this.#other;
  }

  /** Adds the table's entries, which equal tables share, and returns the policy entry that points at them. */
  write(ports: Map<string, Buffer>, ids: StableIds): Buffer {
    const entries: { protocol: number; port: number; bits: number; rule: Rule }[] = [];
    for (const [protocol, segments] of this.#segments)
      for (const segment of segments)
        if (!sameRule(segment.rule, this.#other))
          for (const prefix of prefixesOf(segment.first, segment.last)) entries.push({ protocol, ...prefix, rule: segment.rule });

    const entry: PolicyEntry = { portTable: 0, prefixes: 0, other: this.#other };
    if (entries.length) {
      entry.portTable = ids.get(`ports ${JSON.stringify(entries)}`);
      for (const { protocol, port, bits, rule } of entries) {
        entry.prefixes |= 1 << bits;
        const key = Buffer.alloc(portKeyCodec.size);
        portKeyCodec.write(key, 0, { portTable: entry.portTable, port, protocol, prefixBits: bits });
        const value = Buffer.alloc(ruleCodec.size);
        ruleCodec.write(value, 0, rule);
        ports.set(key.toString('latin1'), value);
      }
    }
    const bytes = Buffer.alloc(policyEntryCodec.size);
    policyEntryCodec.write(bytes, 0, entry);
    return bytes;
  }
}

export function sameRule(a: Rule, b: Rule): boolean {
  return a.id === b.id && a.plugin === b.plugin && a.action === b.action && a.context === b.context;
}

function paintSegments(segments: readonly Segment[], range: PortRange, choose: (before: Rule) => Rule): Segment[] {
  const painted: Segment[] = [];
  const push = (first: number, last: number, rule: Rule): void => {
    const previous = painted.at(-1);
    if (first > last) return;
    if (previous && sameRule(previous.rule, rule)) painted[painted.length - 1] = { ...previous, last };
    else painted.push({ first, last, rule });
  };
  for (const { first, last, rule } of segments) {
    const from = Math.max(first, range.first);
    const to = Math.min(last, range.last);
    if (from > to) {
      push(first, last, rule);
      continue;
    }
    push(first, from - 1, rule);
    push(from, to, choose(rule));
    push(to + 1, last, rule);
  }
  return painted;
}

/** The fewest prefixes that cover exactly first..last. */
export function prefixesOf(first: number, last: number): { port: number; bits: number }[] {
  const prefixes: { port: number; bits: number }[] = [];
  for (let port = first; port <= last; ) {
    let free = 0;
    while (free < Abi.PORT_PREFIX_BITS && !(port & (1 << free)) && port + 2 ** (free + 1) - 1 <= last) free += 1;
    prefixes.push({ port, bits: Abi.PORT_PREFIX_BITS - free });
    port += 2 ** free;
  }
  return prefixes;
}

/**
 * The ports that one peer may reach: a rule for each protocol and port, decided tier by tier, and written so that the kernel finds it
 * with a fixed number of lookups: the first ranges in the policy entry itself, more as prefixes of port numbers in a table.
 */
import { Abi, Action, Context, type PolicyEntry, type PortRule, policyEntryCodec, portKeyCodec, type Rule, ruleCodec } from '../abi.gen.ts';
import type { EntryMap } from './entry-map.ts';
import type { SourcedRule, TierName } from './rules.ts';
import type { StableIds } from './stable-id.ts';

const PORT_MAX = 65_535;

/** Part of the space of protocols and ports; protocol 0 is all of it. */
export interface PortRange {
  readonly protocol: number;
  readonly first: number;
  readonly last: number;
}

/** A rule and the ports that it is about for one peer. */
export interface PlacedRule {
  readonly sourced: SourcedRule;
  /** Absent: every protocol and port. */
  readonly ranges?: readonly PortRange[];
}

interface Segment {
  readonly first: number;
  readonly last: number;
  /** The rule that decides, so far; absent: none. */
  readonly rule?: Rule | undefined;
  /** A rule said "pass": the other rules of this tier are not asked. */
  readonly passed?: TierName | undefined;
}

export const ALLOWED: Rule = { id: 0, plugin: 0, action: Action.ALLOW, context: 0 };

/** A decided table: `other` for everything that no range lists. Ranges do not overlap. */
export interface PortTable {
  readonly other: Rule;
  readonly ranges: readonly PortRule[];
}

/** With the rules that tag a flow which another rule tags for another plugin, or list, already: rule id → the one that is asked. */
export interface DecidedTable extends PortTable {
  readonly conflicts: ReadonlyMap<number, number>;
}

/**
 * Decides a peer's table from the rules about it, in their order of precedence. `isolated` is what the network tier says
 * to all that its rules do not allow; absent where no policy isolates.
 */
export function decideTable(rules: readonly PlacedRule[], isolated: Rule | undefined): DecidedTable {
  const space = new PortSpace();
  const conflicts = new Map<number, number>();
  const ofTier = (tier: TierName): PlacedRule[] => rules.filter((placed) => placed.sourced.origin.tier === tier);
  const ask = (tier: TierName): void => {
    for (const { sourced, ranges } of ofTier(tier))
      space.paint(ranges, (segment) => {
        if (segment.rule || segment.passed === tier) return segment;
        return sourced.action === 'pass' ? { ...segment, passed: tier } : { ...segment, rule: sourced.rule };
      });
  };
  ask('admin');
  ask('network');
  if (isolated) space.paint(undefined, (segment) => (segment.rule ? segment : { ...segment, rule: isolated }));
  else ask('baseline');
  for (const { sourced, ranges } of ofTier('plugin'))
    space.paint(ranges, (segment) => {
      const before = segment.rule ?? ALLOWED;
      const ofItsOwn = before.plugin === Abi.SERVER_NAMES || (before.context === Context.HTTP && sourced.origin.kind !== 'HTTPRoute');
      const another = before.plugin !== sourced.rule.plugin || (ofItsOwn && before.id !== sourced.rule.id);
      if (before.action === Action.ASK && another) conflicts.set(sourced.id, before.id);
      const open = before.action === Action.ALLOW || (sourced.overrides && before.action === Action.DENY);
      return open ? { ...segment, rule: sourced.rule } : segment;
    });
  return { ...space.table(), conflicts };
}

/** Protocols and ports, each part of them decided or not. A protocol that no rule names is like all others. */
class PortSpace {
  #others: Segment = { first: 0, last: PORT_MAX };
  readonly #protocols = new Map<number, Segment[]>();

  paint(ranges: readonly PortRange[] | undefined, change: (segment: Segment) => Segment): void {
    if (ranges) for (const range of ranges) this.#paintRange(range, change);
    else {
      this.#others = change(this.#others);
      for (const [protocol, segments] of this.#protocols) this.#protocols.set(protocol, segments.map(change));
    }
  }

  table(): PortTable {
    const other = this.#others.rule ?? ALLOWED;
    const ranges: PortRule[] = [];
    for (const [protocol, segments] of this.#protocols) {
      let last: { -readonly [K in keyof PortRule]: PortRule[K] } | undefined;
      for (const segment of segments) {
        const rule = segment.rule ?? ALLOWED;
        if (sameRule(rule, other)) last = undefined;
        else if (last && sameRule(last.rule, rule)) last.last = segment.last;
        else ranges.push((last = { protocol, first: segment.first, last: segment.last, rule }));
      }
    }
    return { other, ranges };
  }

  #paintRange(range: PortRange, change: (segment: Segment) => Segment): void {
    const painted: Segment[] = [];
    for (const segment of this.#protocols.get(range.protocol) ?? [this.#others]) {
      const first = Math.max(segment.first, range.first);
      const last = Math.min(segment.last, range.last);
      if (first > last) {
        painted.push(segment);
        continue;
      }
      if (segment.first < first) painted.push({ ...segment, last: first - 1 });
      painted.push(change({ ...segment, first, last }));
      if (last < segment.last) painted.push({ ...segment, first: last + 1 });
    }
    this.#protocols.set(range.protocol, painted);
  }
}

const RULE_FIELDS = Object.keys(ALLOWED) as readonly (keyof Rule)[];

export function sameRule(a: Rule, b: Rule): boolean {
  return a === b || RULE_FIELDS.every((name) => a[name] === b[name]);
}

const NO_PORT: PortRule = { rule: { id: 0, plugin: 0, action: 0, context: 0 }, first: 0, last: 0, protocol: 0 };

/** The entries of port tables, which equal tables share, counted by who points at them. */
export class PortTables {
  readonly ports: EntryMap;
  readonly #ids: StableIds;
  readonly #tables = new Map<number, { readonly text: string; readonly keys: readonly string[]; users: number }>();

  constructor(ports: EntryMap, ids: StableIds) {
    this.ports = ports;
    this.#ids = ids;
  }

  /** The policy entry of a table, and the id of the port table that it points at, to be released later; 0 = none. */
  write(table: PortTable): { entry: Buffer; portTable: number } {
    const near = table.ranges.length <= Abi.PORTS_NEAR ? table.ranges : [];
    const entry: { -readonly [K in keyof PolicyEntry]: PolicyEntry[K] } = {
      portTable: 0,
      prefixes: 0,
      other: table.other,
      near: Array.from({ length: Abi.PORTS_NEAR }, (_, i) => near[i] ?? NO_PORT),
    };
    if (near.length < table.ranges.length) {
      const prefixes = table.ranges.flatMap(({ protocol, first, last, rule }) =>
        prefixesOf(first, last).map((prefix) => ({ protocol, ...prefix, rule })),
      );
      const text = `ports ${prefixes.map(({ protocol, port, bits, rule }) => `${protocol} ${port} ${bits} ${Object.values(rule).join(' ')}`).join()}`;
      entry.portTable = this.#ids.get(text);
      for (const { bits } of prefixes) entry.prefixes |= 1 << bits;
      this.#use(entry.portTable, text, prefixes);
    }
    const bytes = Buffer.allocUnsafe(policyEntryCodec.size);
    policyEntryCodec.write(bytes, 0, entry);
    return { entry: bytes, portTable: entry.portTable };
  }

  /** Takes one user from a table; the last one takes its entries along. */
  release(portTable: number): void {
    const table = this.#tables.get(portTable);
    if (!table || --table.users) return;
    for (const key of table.keys) this.ports.delete(key);
    this.#ids.drop(table.text);
    this.#tables.delete(portTable);
  }

  #use(portTable: number, text: string, prefixes: readonly { protocol: number; port: number; bits: number; rule: Rule }[]): void {
    const known = this.#tables.get(portTable);
    if (known) {
      known.users += 1;
      return;
    }
    const keys = prefixes.map(({ protocol, port, bits, rule }) => {
      const key = portKey(portTable, protocol, port, bits);
      const value = Buffer.alloc(ruleCodec.size);
      ruleCodec.write(value, 0, rule);
      this.ports.set(key, value);
      return key;
    });
    this.#tables.set(portTable, { text, keys, users: 1 });
  }
}

/** Key of the ports map. */
export function portKey(portTable: number, protocol: number, port: number, prefixBits: number): string {
  const key = Buffer.alloc(portKeyCodec.size);
  portKeyCodec.write(key, 0, { portTable, port, protocol, prefixBits });
  return key.toString('latin1');
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

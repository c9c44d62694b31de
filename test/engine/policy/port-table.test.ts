import { describe, expect, test } from 'vitest';
import { Action, Direction } from '../../../engine/abi.gen.ts';
import { findRule } from '../../../engine/policy/decide.ts';
import { EntryMap } from '../../../engine/policy/entry-map.ts';
import { ALLOWED, decideTable, type PlacedRule, type PortTable, PortTables, prefixesOf } from '../../../engine/policy/port-table.ts';
import { policyKey } from '../../../engine/policy/rule-set.ts';
import type { RuleAction, TierName } from '../../../engine/policy/rules.ts';
import { StableIds } from '../../../engine/policy/stable-id.ts';
import { DENIED } from '../../support/compiled.ts';

describe('prefixesOf()', () => {
  test.each([
    { first: 80, last: 80, want: [{ port: 80, bits: 16 }] },
    { first: 0, last: 65_535, want: [{ port: 0, bits: 0 }] },
    {
      first: 6,
      last: 9,
      want: [
        { port: 6, bits: 15 },
        { port: 8, bits: 15 },
      ],
    },
    { first: 65_535, last: 65_535, want: [{ port: 65_535, bits: 16 }] },
  ])('covers $first to $last', ({ first, last, want }) => {
    expect(prefixesOf(first, last)).toEqual(want);
  });

  test('covers every range exactly, with at most 30 prefixes', () => {
    for (let i = 0; i < 300; i++) {
      const first = (i * 7919) % 65_536;
      const last = first + ((i * 104_729) % (65_536 - first));
      const prefixes = prefixesOf(first, last);
      expect(prefixes.length).toBeLessThanOrEqual(30);
      let next = first;
      for (const { port, bits } of prefixes) {
        expect(port).toBe(next);
        next = port + 2 ** (16 - bits);
      }
      expect(next).toBe(last + 1);
    }
  });
});

const isolation = { ...DENIED, id: 999 };

/** A rule of a tier about ports of TCP: none means every protocol and port. */
function rule(id: number, tier: TierName, action: RuleAction, first?: number, last = first): PlacedRule {
  const kernel = {
    id,
    plugin: action === 'ask' ? id : 0,
    action: { accept: Action.ALLOW, ask: Action.ASK, deny: Action.DENY, pass: Action.DENY }[action],
    context: 0,
  };
  const origin = { kind: 'NetworkPolicy', tier, namespace: '', name: '', direction: Direction.INGRESS } as const;
  const ranges = first === undefined ? {} : { ranges: [{ protocol: 6, first, last: last as number }] };
  return { sourced: { id, origin, text: '', policy: '', namespace: '', action, rule: kernel, overrides: false }, ...ranges };
}

/** The answer of a table: the range that holds the port, or what holds for all others. */
function find(table: PortTable, protocol: number, port: number): number {
  return (table.ranges.find((range) => range.protocol === protocol && range.first <= port && port <= range.last)?.rule ?? table.other).id;
}

describe('decideTable()', () => {
  test.each([
    { name: 'nothing says anything: allowed', rules: [], isolated: undefined, want: ALLOWED.id },
    { name: 'isolated and not allowed', rules: [], isolated: isolation, want: 999 },
    {
      name: 'the first of two allows takes the credit',
      rules: [rule(1, 'network', 'accept', 80), rule(2, 'network', 'accept')],
      isolated: isolation,
      want: 1,
    },
    {
      name: 'admin deny before network allow',
      rules: [rule(1, 'admin', 'deny', 80), rule(2, 'network', 'accept')],
      isolated: isolation,
      want: 1,
    },
    { name: 'admin accept before isolation', rules: [rule(1, 'admin', 'accept', 80)], isolated: isolation, want: 1 },
    {
      name: 'pass skips the rest of its tier',
      rules: [rule(1, 'admin', 'pass', 80), rule(2, 'admin', 'deny'), rule(3, 'network', 'accept')],
      isolated: isolation,
      want: 3,
    },
    { name: 'pass is for its ports only', rules: [rule(1, 'admin', 'pass', 81), rule(2, 'admin', 'deny')], isolated: undefined, want: 2 },
    { name: 'baseline where nothing isolates', rules: [rule(1, 'baseline', 'deny', 80)], isolated: undefined, want: 1 },
    { name: 'no baseline where something isolates', rules: [rule(1, 'baseline', 'accept', 80)], isolated: isolation, want: 999 },
    {
      name: 'baseline pass means the default',
      rules: [rule(1, 'baseline', 'pass', 80), rule(2, 'baseline', 'deny')],
      isolated: undefined,
      want: ALLOWED.id,
    },
    {
      name: 'a plugin narrows what is allowed',
      rules: [rule(1, 'admin', 'accept', 80), rule(2, 'plugin', 'ask')],
      isolated: undefined,
      want: 2,
    },
    { name: 'and opens nothing', rules: [rule(1, 'admin', 'deny', 80), rule(2, 'plugin', 'ask')], isolated: undefined, want: 1 },
  ])('$name', ({ rules, isolated, want }) => {
    expect(find(decideTable(rules, isolated), 6, 80)).toBe(want);
  });

  test('cuts ranges where rules overlap', () => {
    const table = decideTable(
      [rule(1, 'admin', 'accept', 1500), rule(2, 'network', 'accept', 1000, 2000), rule(3, 'network', 'accept', 1990, 3000)],
      isolation,
    );
    const found = [999, 1000, 1499, 1500, 1501, 1989, 2000, 2001, 3000, 3001].map((port) => find(table, 6, port));
    expect(found).toEqual([999, 2, 2, 1, 2, 2, 2, 3, 3, 999]);
    expect(find(table, 17, 1500)).toBe(999);
  });
});

/** The answer that the kernel finds in a written table. */
function kernelFinds(entry: Buffer, ports: EntryMap, protocol: number, port: number): number | undefined {
  const policies = new EntryMap();
  policies.set(policyKey(1000, 2000), entry);
  const nothing = new EntryMap();
  return findRule({ peers: nothing, networks: nothing, policies, ports }, 1000, 2000, protocol, port)?.id;
}

describe('PortTables', () => {
  test.each([
    { name: 'one range', rules: [rule(1, 'network', 'accept', 80)], entries: 0 },
    { name: 'two ranges', rules: [rule(1, 'network', 'accept', 80), rule(2, 'network', 'accept', 1000, 1999)], entries: 0 },
    {
      name: 'three ranges',
      rules: [rule(1, 'network', 'accept', 80), rule(2, 'network', 'accept', 90), rule(3, 'network', 'accept', 1000, 1003)],
      entries: 3,
    },
    { name: 'everything', rules: [rule(1, 'network', 'accept')], entries: 0 },
  ])('writes what the kernel finds: $name', ({ rules, entries }) => {
    const tables = new PortTables(new EntryMap(), new StableIds());
    const table = decideTable(rules, isolation);
    const { entry } = tables.write(table);
    for (const protocol of [0, 1, 6, 17, 132])
      for (const port of [0, 1, 79, 80, 81, 90, 999, 1000, 1003, 1004, 1999, 2000, 65_535])
        expect(kernelFinds(entry, tables.ports, protocol, port), `${protocol}/${port}`).toBe(find(table, protocol, port));
    expect(tables.ports.entries.size).toBe(entries);
  });

  test('equal tables share their entries, which leave with the last of them', () => {
    const tables = new PortTables(new EntryMap(), new StableIds());
    const table = decideTable(
      [1, 3, 5].map((port) => rule(port, 'network', 'accept', port)),
      isolation,
    );
    const [one, two] = [tables.write(table), tables.write(table)];
    expect(one).toEqual(two);
    expect(tables.ports.entries.size).toBe(3);
    tables.release(one.portTable);
    expect(tables.ports.entries.size).toBe(3);
    tables.release(two.portTable);
    expect(tables.ports.entries.size).toBe(0);
  });
});

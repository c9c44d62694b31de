/** Filters of flows: what each lets through, and what it says of a value that is none. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { Direction, Reason, Verdict } from '../../../engine/abi.gen.ts';
import { FILTER_NAMES, type FlowQuery, parseFlowQuery } from '../../../engine/observe/flow-filter.ts';
import { address, decided, denied, requested } from '../../support/flows.ts';

const MINUTE_NS = 60_000_000_000n;

const flows = {
  policy: denied(),
  ingress: denied({ direction: Direction.INGRESS, endpoint: 8 }),
  udp: denied({ protocol: 17, destinationPort: 53, name: 1n }),
  outside: denied({ destination: address('192.0.2.7'), destinationPort: 443 }),
  spoofed: denied({ source: address('10.0.1.9'), reason: Reason.DROP_SPOOFED }),
  failed: denied({ verdict: Verdict.ALLOW, reason: Reason.FAIL_PLUGIN_OFF, plugin: 1 }),
  old: denied({ timeNs: process.hrtime.bigint() - 10n * MINUTE_NS }),
  plugin: decided(),
  request: requested({ timeMs: Date.now() }),
};
type Name = keyof typeof flows;

function matching(query: FlowQuery): Name[] {
  const matches = parseFlowQuery(query);
  return (Object.keys(flows) as Name[]).filter((name) => matches(flows[name]));
}

const all = Object.keys(flows) as Name[];
const but = (...without: Name[]): Name[] => all.filter((name) => !without.includes(name));

describe('parseFlowQuery()', () => {
  test.each<{ name: string; query: FlowQuery; want: Name[] }>([
    { name: 'nothing asked for', query: {}, want: all },
    { name: 'a verdict', query: { verdict: ['allow'] }, want: ['failed', 'plugin', 'request'] },
    { name: 'a verdict in capitals', query: { verdict: ['ALLOW'] }, want: ['failed', 'plugin', 'request'] },
    { name: 'both verdicts, with a comma', query: { verdict: ['allow,deny'] }, want: all },
    { name: 'a reason without its prefix', query: { reason: ['spoofed'] }, want: ['spoofed'] },
    { name: 'a reason as metrics have it', query: { reason: ['drop_spoofed'] }, want: ['spoofed'] },
    { name: 'a reason with hyphens', query: { reason: ['plugin-off'] }, want: ['failed'] },
    { name: 'two reasons', query: { reason: ['spoofed', 'plugin_off'] }, want: ['spoofed', 'failed'] },
    { name: 'a direction', query: { direction: ['ingress'] }, want: ['ingress'] },
    { name: 'a pod at one end', query: { pod: ['other/web'] }, want: [] },
    { name: 'a pod', query: { pod: ['shop/db'] }, want: but('outside') },
    { name: 'a pod in any namespace', query: { pod: ['db'] }, want: but('outside') },
    { name: 'pods by a pattern', query: { pod: ['sh*/d*'] }, want: but('outside') },
    { name: 'a namespace', query: { namespace: ['shop'] }, want: all },
    { name: 'a namespace that is part of another’s name', query: { namespace: ['sho'] }, want: [] },
    { name: 'a source', query: { from: ['shop/web'] }, want: all },
    { name: 'the address that a packet claims', query: { from: ['10.0.1.9'] }, want: ['spoofed'] },
    { name: 'a destination by its address', query: { to: ['192.0.2.7'] }, want: ['outside'] },
    { name: 'a destination by its network', query: { to: ['192.0.2.0/24', 'fd00::/8'] }, want: ['outside'] },
    { name: 'a destination by its name', query: { to: ['*.example.com'] }, want: ['udp'] },
    { name: 'a destination by the host of a request', query: { to: ['shop.example'] }, want: ['request'] },
    { name: 'a port', query: { port: ['443'] }, want: ['outside'] },
    { name: 'a port of a protocol', query: { port: ['53/udp', '53/tcp'] }, want: ['udp'] },
    { name: 'a protocol', query: { protocol: ['UDP'] }, want: ['udp'] },
    { name: 'a protocol by its number', query: { protocol: ['17'] }, want: ['udp'] },
    { name: 'a plugin', query: { plugin: ['plugin-1'] }, want: ['failed', 'plugin', 'request'] },
    { name: 'the last minutes', query: { since: ['5m'] }, want: but('old') },
    { name: 'before the last minutes', query: { until: ['5m'] }, want: ['old'] },
    { name: 'since a time', query: { since: ['2026-01-01T00:00:00Z'] }, want: all },
    { name: 'several filters', query: { verdict: ['deny'], port: ['443', '53'], direction: ['egress'] }, want: ['udp', 'outside'] },
  ])('$name', ({ query, want }) => expect(matching(query).sort()).toEqual([...want].sort()));

  test.each<{ query: FlowQuery; says: string }>([
    { query: { verdict: ['maybe'] }, says: 'Cannot filter flows by verdict "maybe": must be allow or deny' },
    { query: { reason: ['spoof'] }, says: 'must be one of drop_policy, ' },
    { query: { port: ['http'] }, says: 'must be a port such as 443 or 53/udp' },
    { query: { port: ['70000'] }, says: 'must be a port' },
    { query: { protocol: ['http'] }, says: 'Cannot filter flows by protocol "http": must be tcp, udp' },
    { query: { protocol: ['256'] }, says: 'must be tcp, udp' },
    { query: { since: ['yesterday'] }, says: 'must be a duration such as 5m, or a time such as' },
    { query: { pod: [''] }, says: 'Cannot filter flows by pod ""' },
  ])('refuses $query', ({ query, says }) => {
    expect(() => parseFlowQuery(query)).toThrow(says);
    expect(() => parseFlowQuery(query)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  });

  test('takes time by the length of what it looks at, not by the stars of a pattern', () => {
    const matches = parseFlowQuery({ to: [`${'*a'.repeat(250)}b`] });
    const flow = { ...flows.udp, name: 'a'.repeat(100_000) };
    const before = performance.now();
    expect(matches(flow)).toBe(false);
    expect(performance.now() - before).toBeLessThan(1000);
  });

  test('the table for users of the API has each filter, and none that is not there', () => {
    const page = readFileSync(new URL('../../../engine/api/README.md', import.meta.url), 'utf8');
    const rows = page.slice(page.indexOf('| filter |')).split('\n\n')[0]?.split('\n').slice(2) ?? [];
    const named = rows.flatMap((row) => [...(row.split('|')[1] ?? '').matchAll(/`(\w+)`/g)].map(([, name]) => name));
    expect(named.sort()).toEqual([...FILTER_NAMES].sort());
  });
});

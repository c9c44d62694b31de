import { describe, expect, test } from 'vitest';
import { Action, policyEntryCodec, portKeyCodec, ruleCodec } from '../../../engine/abi.gen.ts';
import { ALLOWED, DENIED, EVERY_PORT, PORT_PROTOCOLS, PortTable, prefixesOf } from '../../../engine/policy/port-table.ts';
import { StableIds } from '../../../engine/policy/stable-id.ts';

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

/** What the kernel finds, by its own rule: the longest prefix that the entry lists. */
function kernelFinds(entry: Buffer, ports: Map<string, Buffer>, protocol: number, port: number) {
  const { portTable, prefixes, other } = policyEntryCodec.read(entry, 0);
  if (!(PORT_PROTOCOLS as readonly number[]).includes(protocol)) return other;
  for (let bits = 16; bits >= 0; bits--) {
    if (!(prefixes & (1 << bits))) continue;
    const key = Buffer.alloc(portKeyCodec.size);
    portKeyCodec.write(key, 0, { portTable, port: (port >> (16 - bits)) << (16 - bits), protocol, prefixBits: bits });
    const value = ports.get(key.toString('latin1'));
    if (value) return ruleCodec.read(value, 0);
  }
  return other;
}

test('what is written is found by the kernel as it was painted', () => {
  const rule = (id: number) => ({ id, plugin: 0, action: Action.ALLOW, context: 0 });
  const table = new PortTable(DENIED);
  table.paint({ protocol: 6, first: 1000, last: 2000 }, () => rule(1));
  table.paint({ protocol: 6, first: 1500, last: 1500 }, () => rule(2));
  table.paint({ protocol: 17, first: 0, last: 65_535 }, () => rule(3));
  table.paint({ protocol: 6, first: 1990, last: 3000 }, (before) => (before.action === Action.DENY ? rule(4) : before));
  const ports = new Map<string, Buffer>();
  const entry = table.write(ports, new StableIds());
  for (const protocol of [1, 6, 17, 132])
    for (const port of [0, 1, 999, 1000, 1499, 1500, 1501, 1989, 1990, 2000, 2001, 3000, 3001, 65_535])
      expect(kernelFinds(entry, ports, protocol, port), `${protocol}/${port}`).toEqual(table.find(protocol, port));
  expect(table.find(6, 1500).id).toBe(2);
  expect(table.find(6, 2500).id).toBe(4);
  expect(table.find(6, 1995).id).toBe(1);
});

test('a table that says one thing about everything needs no port entries', () => {
  const ports = new Map<string, Buffer>();
  const table = new PortTable(DENIED);
  table.paint(EVERY_PORT, () => ALLOWED);
  expect(policyEntryCodec.read(table.write(ports, new StableIds()), 0)).toMatchObject({ prefixes: 0, other: ALLOWED });
  expect(ports.size).toBe(0);
});

test('equal tables share their entries', () => {
  const ids = new StableIds();
  const ports = new Map<string, Buffer>();
  const write = (): Buffer => {
    const table = new PortTable(DENIED);
    table.paint({ protocol: 6, first: 80, last: 80 }, () => ALLOWED);
    return table.write(ports, ids);
  };
  expect(write()).toEqual(write());
  expect(ports.size).toBe(1);
});

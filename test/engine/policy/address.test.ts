import { describe, expect, test } from 'vitest';
import { addressKey, formatAddress, lastKey, type Network, parseAddress, parseNetwork } from '../../../engine/policy/address.ts';
import { NetworkIndex } from '../../../engine/policy/network-index.ts';
import { SortedKeys } from '../../../engine/policy/sorted-keys.ts';

describe('parseAddress()', () => {
  test.each([
    { name: 'IPv4', text: '10.0.0.1', want: '10.0.0.1' },
    { name: 'IPv6', text: 'FD00:0:0::1', want: 'fd00::1' },
    { name: 'an IPv4-mapped address as IPv4', text: '::ffff:10.0.0.1', want: '10.0.0.1' },
  ])('reads $name', ({ text, want }) => {
    expect(formatAddress(parseAddress(text) as Uint8Array)).toBe(want);
  });

  test.each(['', '10.0.0', '10.0.0.256', '010.0.0.1', '0x7f.1', '10.0.0.1 ', 'fe80::1%eth0', '1:2:3:4:5:6:7', ':::', 'localhost'])(
    'refuses %j',
    (text) => {
      expect(parseAddress(text)).toBeUndefined();
    },
  );
});

describe('parseNetwork()', () => {
  test.each([
    { text: '10.1.2.3/8', want: '10.0.0.0/8', bits: 104 },
    { text: '10.1.2.3/32', want: '10.1.2.3/32', bits: 128 },
    { text: '0.0.0.0/0', want: '0.0.0.0/0', bits: 96 },
    { text: '2001:db8:0:1::/63', want: '2001:db8::/63', bits: 63 },
    { text: '::/0', want: '::/0', bits: 0 },
  ])('reads $text and clears its host bits', ({ text, want, bits }) => {
    expect(parseNetwork(text)).toMatchObject({ text: want, bits });
  });

  test.each(['10.0.0.0', '10.0.0.0/33', '10.0.0.0/-1', '10.0.0.0/08', '10.0.0.0/8/8', 'fd00::/129', '/8', '10.0.0.0/ 8'])(
    'refuses %j',
    (text) => {
      expect(parseNetwork(text)).toBeUndefined();
    },
  );
});

test('an address is in every listed network around it, and no IPv4 address in an IPv6 network', () => {
  const index = new NetworkIndex();
  for (const text of ['10.0.0.0/8', '10.1.0.0/16', '10.1.1.0/24', '::/0']) index.add(parseNetwork(text) as never);
  expect(index.containing(parseAddress('10.1.2.3') as Uint8Array)).toEqual(['10.0.0.0/8', '10.1.0.0/16']);
  expect(index.containing(parseAddress('fd00::1') as Uint8Array)).toEqual(['::/0']);
  expect(index.containing(parseAddress('192.0.2.1') as Uint8Array)).toEqual([]);
  expect(index.coversMapped).toBe(true);
});

test('a network is listed as long as somebody names it, and only true changes are told', () => {
  const index = new NetworkIndex();
  const network = parseNetwork('10.0.0.0/8') as never;
  const texts = (): string[] => index.takeChanged().map(({ text }) => text);
  index.add(network);
  index.add(network);
  expect(texts()).toEqual(['10.0.0.0/8']);
  index.remove(network);
  expect(texts()).toEqual([]);
  index.remove(network);
  index.add(network);
  expect(texts()).toEqual([]);
  index.remove(network);
  expect(texts()).toEqual(['10.0.0.0/8']);
  expect(index.has('10.0.0.0/8')).toBe(false);
});

test('finds the networks inside another one, those at its own address included', () => {
  const index = new NetworkIndex();
  for (const text of ['10.0.0.0/8', '10.0.0.0/16', '10.1.0.0/24', '11.0.0.0/8', '9.0.0.0/8', '::/0'])
    index.add(parseNetwork(text) as never);
  const within = (text: string): string[] => index.within(parseNetwork(text) as never).map((network) => network.text);
  expect(within('10.0.0.0/8')).toEqual(['10.0.0.0/8', '10.0.0.0/16', '10.1.0.0/24']);
  expect(within('10.0.0.0/12')).toEqual(['10.0.0.0/16', '10.1.0.0/24']);
  expect(within('192.0.2.0/24')).toEqual([]);
});

describe('SortedKeys', () => {
  test('has the addresses inside a network', () => {
    const key = (text: string): string => addressKey(parseAddress(text) as Uint8Array);
    const addresses = new SortedKeys();
    const within = (text: string): string[] => {
      const network = parseNetwork(text) as Network;
      return addresses.between(network.key, lastKey(network));
    };
    for (let i = 0; i < 1500; i++) addresses.add(key(`10.0.${i >> 8}.${i & 255}`));
    addresses.add(key('fd00::1'));
    expect(within('10.0.1.0/24').length).toBe(256);
    addresses.remove(key('10.0.1.7'));
    addresses.add(key('10.0.1.7'));
    addresses.remove(key('10.0.1.8'));
    expect(within('10.0.1.6/30')).toEqual(['10.0.1.4', '10.0.1.5', '10.0.1.6', '10.0.1.7'].map(key));
    expect(within('10.0.1.8/32')).toEqual([]);
    expect(within('::/0').at(-1)).toBe(key('fd00::1'));
  });

  test('is what a sorted list would be, whatever is added and removed', () => {
    let state = 4711;
    const random = (below: number): number => (state = (state * 48_271) % 0x7fffffff) % below;
    const keys = new SortedKeys();
    const naive = new Set<string>();
    for (let i = 0; i < 20_000; i++) {
      const key = String(random(3000)).padStart(4, '0');
      if (random(5) < 3) naive.add(key);
      else naive.delete(key);
      if (naive.has(key)) keys.add(key);
      else keys.remove(key);
      if (i % 500) continue;
      const [first, last] = [String(random(3000)).padStart(4, '0'), String(random(3000)).padStart(4, '0')];
      expect(keys.between(first, last)).toEqual([...naive].filter((each) => first <= each && each <= last).sort());
    }
    for (const key of naive) keys.remove(key);
    expect(keys.between('', '9999')).toEqual([]);
  });
});

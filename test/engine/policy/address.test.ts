import { describe, expect, test } from 'vitest';
import { formatAddress, NetworkIndex, parseAddress, parseNetwork } from '../../../engine/policy/address.ts';

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
  const index = new NetworkIndex(['10.0.0.0/8', '10.1.0.0/16', '10.1.1.0/24', '::/0'].map((text) => parseNetwork(text) as never));
  expect(index.containing(parseAddress('10.1.2.3') as Uint8Array)).toEqual(['10.0.0.0/8', '10.1.0.0/16']);
  expect(index.containing(parseAddress('fd00::1') as Uint8Array)).toEqual(['::/0']);
  expect(index.containing(parseAddress('192.0.2.1') as Uint8Array)).toEqual([]);
  expect(index.coversMapped).toBe(true);
});

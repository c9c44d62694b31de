/** Who takes a request, and which requests a rule is about. */
import { describe, expect, test } from 'vitest';
import { parseAddress } from '../../../engine/policy/address.ts';
import { matchesRequest } from '../../../engine/policy/requests.ts';
import { Backends } from '../../../engine/proxy/backends.ts';
import type { ProxySet } from '../../../engine/proxy/messages.ts';

const address = (text: string): Uint8Array => parseAddress(text) as Uint8Array;
const set = (name: string, ...ips: string[]): [string, ProxySet] => [
  name,
  { id: 1, name, backends: ips.map((ip) => ({ address: address(ip), port: 80 })) },
];
const everyone = (): boolean => true;

function backends(...sets: [string, ProxySet][]): Backends {
  const made = new Backends((bytes) => bytes.slice(12).join('.'));
  made.set(new Map(sets));
  return made;
}

describe('Backends', () => {
  test('chooses the least loaded that the client may reach, and rests who failed', () => {
    const all = backends(set('a:80', '10.0.0.1', '10.0.0.2', '10.0.0.3'));
    const first = all.choose(all.named('a:80'), everyone, undefined, 0);
    if (first) first.active = 5;
    const others = new Set(Array.from({ length: 50 }, () => all.choose(all.named('a:80'), everyone, undefined, 0)?.name));
    expect(others.size).toBe(2);
    expect(others.has(first?.name)).toBe(false);
    const second = all.choose(all.named('a:80'), everyone, undefined, 0);
    if (second) all.noteFailure(second, 0);
    expect(all.choose(all.named('a:80'), everyone, first, 10)?.name).not.toBe(second?.name);
    expect(all.choose(all.named('a:80'), (each) => each === second, undefined, 10)).toBe(second);
    expect(all.choose(all.named('a:80'), () => false, undefined, 0)).toBeUndefined();
    expect(all.choose(all.named('none:80'), everyone, undefined, 0)).toBeUndefined();
  });

  test('keeps what is known of who stays, and says who is gone', () => {
    const all = backends(set('a:80', '10.0.0.1', '10.0.0.2'));
    const one = all.choose(all.named('a:80'), ({ name }) => name.endsWith('0.1:80'), undefined, 0);
    const two = all.choose(all.named('a:80'), ({ name }) => name.endsWith('0.2:80'), undefined, 0);
    all.set(new Map([set('a:80', '10.0.0.2', '10.0.0.4')]));
    expect([one?.gone, two?.gone]).toEqual([true, false]);
    expect(all.choose(all.named('a:80'), ({ name }) => name.endsWith('0.2:80'), undefined, 0)).toBe(two);
  });

  test('spreads connections by weight, and moves only those of who leaves', () => {
    const refs = [
      { service: 'shop/a', port: 80, weight: 90 },
      { service: 'shop/b', port: 80, weight: 10 },
      { service: 'shop/c', port: 80, weight: 0 },
    ];
    const sets = [set('shop/a:80', '10.0.0.1'), set('shop/b:80', '10.0.0.2'), set('shop/c:80', '10.0.0.3')];
    const all = backends(...sets);
    const hashes = Array.from({ length: 20_000 }, (_, i) => Math.imul(i, 0x9e3779b1) >>> 0);
    const picked = hashes.map((hash) => all.pick(refs, hash)?.service);
    const share = picked.filter((service) => service === 'shop/b').length / hashes.length;
    expect(share).toBeGreaterThan(0.09);
    expect(share).toBeLessThan(0.11);
    expect(picked).not.toContain('shop/c');
    const wider = [...refs, { service: 'shop/d', port: 80, weight: 10 }];
    const more = backends(...sets, set('shop/d:80', '10.0.0.4'));
    const moved = hashes.filter((hash, i) => more.pick(wider, hash)?.service !== picked[i]);
    expect(moved.every((hash) => more.pick(wider, hash)?.service === 'shop/d')).toBe(true);
    const empty = backends(sets[0] as [string, ProxySet], set('shop/b:80'));
    expect(new Set(hashes.map((hash) => empty.pick(refs.slice(0, 2), hash)?.service))).toEqual(new Set(['shop/a']));
    expect(all.pick([{ service: 'shop/a', port: 80, weight: 0 }], 1)).toBeUndefined();
  });
});

test.each([
  ['nothing wanted', [], true],
  ['an exact path', [{ path: { type: 'Exact', value: '/a/b' }, headers: [], query: [] }], true],
  ['another exact path', [{ path: { type: 'Exact', value: '/a' }, headers: [], query: [] }], false],
  ['a prefix', [{ path: { type: 'PathPrefix', value: '/a' }, headers: [], query: [] }], true],
  ['a prefix with a slash', [{ path: { type: 'PathPrefix', value: '/a/' }, headers: [], query: [] }], true],
  ['half a segment', [{ path: { type: 'PathPrefix', value: '/a/bb' }, headers: [], query: [] }], false],
  ['a method', [{ method: 'POST', headers: [], query: [] }], false],
  ['a header', [{ headers: [{ name: 'x', value: '1' }], query: [] }], true],
  ['a header without its value', [{ headers: [{ name: 'x', value: '2' }], query: [] }], false],
  ['a header that is not there', [{ headers: [{ name: 'y', value: '' }], query: [] }], false],
  ['a parameter', [{ headers: [], query: [{ name: 'q', value: 'a b' }] }], true],
  [
    'one of two',
    [
      { method: 'POST', headers: [], query: [] },
      { method: 'GET', headers: [], query: [] },
    ],
    true,
  ],
] as const)('a rule with %s', (_, matches, expected) => {
  const facts = { method: 'GET', path: '/a/b', query: 'q=a%20b', header: (name: string) => (name === 'x' ? '1' : undefined) };
  expect(matchesRequest(matches as never, facts)).toBe(expected);
});

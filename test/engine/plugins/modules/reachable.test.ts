import { expect, test } from 'vitest';
import { checkHost, isReachable, reachableLookup } from '../../../../engine/plugins/modules/reachable.ts';

test.each([
  '169.254.169.254',
  '169.254.0.1',
  '100.100.100.200',
  '168.63.129.16',
  '192.0.0.192',
  '0.0.0.0',
  '224.0.0.1',
  '255.255.255.255',
  '::',
  '::ffff:169.254.169.254',
  '::a9fe:a9fe',
  '64:ff9b::a9fe:a9fe',
  '2002:a9fe:a9fe::1',
  'fe80::1',
  'ff02::1',
  'fd00:ec2::254',
  'fd20:ce::254',
  'nonsense',
])('nothing is fetched from %s, loopback or not', (address) => {
  expect([isReachable(address, false), isReachable(address, true)]).toEqual([false, false]);
});

test.each(['127.0.0.1', '127.1.2.3', '::1', '::ffff:127.0.0.1', '64:ff9b::7f00:1'])(
  '%s is of this machine: only where that is meant',
  (address) => {
    expect([isReachable(address, false), isReachable(address, true)]).toEqual([false, true]);
  },
);

test.each(['10.96.0.10', '192.168.1.1', '93.184.216.34', 'fd00::1', '2606:2800:220:1::1', '64:ff9b::a00:1'])(
  '%s is one like others',
  (address) => {
    expect(isReachable(address, false)).toBe(true);
  },
);

test('an address in a URL is checked however it is written, and a name is left to the lookup', () => {
  for (const url of ['http://169.254.169.254/', 'http://0xa9fea9fe/', 'http://2852039166/', 'http://[::ffff:a9fe:a9fe]/'])
    expect(() => checkHost(new URL(url), true), url).toThrow('is no address that a module may come from');
  checkHost(new URL('http://metadata.example/'), false);
});

test('a name that leads only where nothing may come from is refused when it is looked up', async () => {
  const ask = (loopback: boolean): Promise<unknown> =>
    new Promise((resolve) => reachableLookup(loopback)('localhost', { all: true }, (error, found) => resolve(error?.message ?? found)));
  expect(await ask(false)).toContain('localhost is no address that a module may come from');
  expect(await ask(true)).toEqual(
    expect.arrayContaining([expect.objectContaining({ address: expect.stringMatching(/^(127\.0\.0\.1|::1)$/) })]),
  );
});

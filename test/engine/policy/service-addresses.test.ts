import { beforeEach, expect, test } from 'vitest';
import { addressKey, parseAddress } from '../../../engine/policy/address.ts';
import type { Service } from '../../../engine/policy/objects.ts';
import { ServiceAddresses } from '../../../engine/policy/service-addresses.ts';

const address = (text: string): Uint8Array => parseAddress(text) as Uint8Array;
const key = (text: string): string => addressKey(address(text));
const service = (name: string, ...texts: string[]): Service => ({ namespace: 'shop', name, addresses: texts.map(address), ports: [] });

let services: ServiceAddresses;
const change = (before: Service | undefined, after: Service | undefined): [string, string | undefined][] => {
  services.update([{ key: '', before, after }]);
  return [...services.takeChanged()];
};
beforeEach(() => {
  services = new ServiceAddresses();
});

test('tells each cluster address, of both families, and when it is nobody’s any more', () => {
  const web = service('web', '10.96.0.1', 'fd00::1');
  expect(change(undefined, web)).toEqual([
    [key('10.96.0.1'), 'shop/web'],
    [key('fd00::1'), 'shop/web'],
  ]);
  expect(change(web, service('web', '10.96.0.2'))).toEqual([
    [key('10.96.0.1'), undefined],
    [key('fd00::1'), undefined],
    [key('10.96.0.2'), 'shop/web'],
  ]);
  expect([...services.owners]).toEqual([[key('10.96.0.2'), 'shop/web']]);
});

test('tells nothing where a Service has the addresses that it had', () => {
  const web = service('web', '10.96.0.1');
  change(undefined, web);
  expect(change(web, service('web', '10.96.0.1'))).toEqual([]);
  expect(change(undefined, service('headless'))).toEqual([]);
});

test('of two that say they have an address it is the first one’s by name, whoever came first', () => {
  const [later, first] = [service('web', '10.96.0.1'), service('api', '10.96.0.1')];
  change(undefined, later);
  expect(change(undefined, first)).toEqual([[key('10.96.0.1'), 'shop/api']]);
  expect(change(first, undefined)).toEqual([[key('10.96.0.1'), 'shop/web']]);
});

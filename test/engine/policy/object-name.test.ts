import { expect, test } from 'vitest';
import { endpointName, objectName } from '../../../engine/policy/object-name.ts';

test('an object is written with its namespace', () => {
  expect(objectName({ namespace: 'shop', name: 'web' })).toBe('shop/web');
});

test('the endpoint of the host firewall is in no namespace', () => {
  expect(endpointName({ namespace: '', name: 'host', hostPolicies: [] })).toBe('host');
  expect(endpointName({ namespace: 'shop', name: 'web' })).toBe('shop/web');
});

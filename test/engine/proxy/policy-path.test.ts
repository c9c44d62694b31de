/** One way of writing a path, whatever a client writes. */
import { expect, test } from 'vitest';
import { policyPath } from '../../../engine/proxy/policy-path.ts';

test.each([
  ['/admin', '/admin'],
  ['/a/b/', '/a/b/'],
  ['/./admin', '/admin'],
  ['/x/../admin', '/admin'],
  ['//admin', '/admin'],
  ['/%61dmin', '/admin'],
  ['/%2e%2e/admin/%2E', '/admin/'],
  ['/a%2Fb', '/a/b'],
  ['/a%20b', '/a%20b'],
  ['/a%25', '/a%25'],
  ['/..\\admin', '/admin'],
  ['/..', '/'],
  ['/', '/'],
])('policy sees the path %s as %s', (path, seen) => {
  expect(policyPath(path)).toBe(seen);
});

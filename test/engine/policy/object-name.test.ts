/** One spelling of an object's name, and nobody who puts one together by hand. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { objectName } from '../../../engine/policy/object-name.ts';

test.each([
  { name: 'with its namespace', object: { namespace: 'shop', name: 'web' }, want: 'shop/web' },
  { name: 'alone where it is in none', object: { name: 'canary' }, want: 'canary' },
  { name: 'alone of the endpoint of the host firewall', object: { namespace: '', name: 'host' }, want: 'host' },
])('an object is written $name', ({ object, want }) => {
  expect(objectName(object)).toBe(want);
});

test('nobody else puts namespace and name together', () => {
  const root = fileURLToPath(new URL('../../..', import.meta.url));
  const files = ['engine', 'test'].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => join(folder, name)),
  );
  expect(files.length).toBeGreaterThan(300);
  const byHand = files.filter((file) =>
    /\$\{[^{}]*namespace[^{}]*\}\/(?!`)|namespace\w* \+ '\/'/i.test(readFileSync(join(root, file), 'utf8')),
  );
  expect(byHand).toEqual(['engine/policy/object-name.ts']);
});

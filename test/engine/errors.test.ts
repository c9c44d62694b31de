/** The codes in the README are the codes in the source. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { ERROR_CODES } from '../../engine/errors.ts';

test('engine/README.md lists every error code, and no other', () => {
  const readme = readFileSync(new URL('../../engine/README.md', import.meta.url), 'utf8');
  const section = readme.slice(readme.indexOf('## Errors'));
  const listed = [...section.matchAll(/^\| `([A-Z_]+)` \|/gm)].map((match) => match[1]);
  expect(listed.sort()).toEqual([...ERROR_CODES].sort());
});

/** The SDK gives plugins every field of the question, and the build knows which. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { FIELD_NAMES } from '../../../engine/plugin-runtime/fields.ts';
import { ACCESSOR_FIELDS } from '../../../engine/plugin-tools/accessors.ts';

test('each field that a manifest may name is read by an accessor, and by none that the SDK does not have', () => {
  expect([...new Set(ACCESSOR_FIELDS.values())].sort()).toEqual([...FIELD_NAMES].sort());
  for (const [file = '', method = ''] of [...ACCESSOR_FIELDS.keys()].map((name) => name.split(/\/|#/)).map(([at, , read]) => [at, read])) {
    const sdk = readFileSync(new URL(`../../../plugins/sdk/${file}.ts`, import.meta.url), 'utf8');
    expect(sdk, method).toContain(`  ${method.replace('get:', 'get ')}(`);
  }
});

/** Examples in docstrings are real code: each is run, and what a line says that it gives is compared. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const engine = fileURLToPath(new URL('../engine/', import.meta.url));

interface Example {
  readonly name: string;
  readonly file: string;
  readonly code: string;
}

/** Every `@example` below the engine: the rest of its comment, without the stars. */
const examples: Example[] = readdirSync(engine, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts'))
  .flatMap((file) => {
    const text = readFileSync(join(engine, file), 'utf8');
    return [...text.matchAll(/^[ \t]*\* @example\n([\s\S]*?)\*\/\s*(?:export )?(?:async )?(?:function|class|const) (\w+)/gm)].map(
      ([, lines = '', name = '']) => ({ name, file, code: lines.replaceAll(/^[ \t]*\* ?/gm, '') }),
    );
  });

/** `expression; // value` becomes an assertion; every other line stays as it is. */
function asserting(code: string): string {
  return code
    .split('\n')
    .map((line) => line.replace(/^(?!const |let )(.+?);?\s+\/\/ (.+)$/, 'expect($1).toEqual($2);'))
    .join('\n');
}

test.each(examples)('$file: the example of $name', async ({ file, code }) => {
  const exported = (await import(join(engine, file))) as Record<string, unknown>;
  const runnable = asserting(code);
  // One that asserts nothing shows nothing.
  expect(runnable).toContain('expect(');
  new Function('expect', ...Object.keys(exported), runnable)(expect, ...Object.values(exported));
});

test('there are examples, and each is found that is written', () => {
  const written = readdirSync(engine, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .reduce((count, file) => count + readFileSync(join(engine, file), 'utf8').split('@example').length - 1, 0);
  expect(examples.length).toBe(written);
  expect(written).toBeGreaterThan(5);
});

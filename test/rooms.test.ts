/** The doors between rooms: every import of the engine goes through one that engine/README.md lists. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const engine = fileURLToPath(new URL('../engine/', import.meta.url));

/** The rows of the README's table: a room, and what it may import. */
function doors(): Map<string, Set<string>> {
  const rows = readFileSync(join(engine, 'README.md'), 'utf8').matchAll(/^\| `([^`]+)` \|[^|]*\| ([^|]+) \|$/gm);
  return new Map(
    [...rows].map(([, room, imports]) => [
      room as string,
      new Set([...(imports as string).matchAll(/`([^`]+)`/g)].map((m) => m[1] as string)),
    ]),
  );
}

const roomOf = (path: string): string => (path.includes('/') ? `${path.split('/')[0]}/` : path);

const files = readdirSync(engine, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));
const imports = files.flatMap((file) => {
  const text = readFileSync(join(engine, file), 'utf8');
  return [...text.matchAll(/(?:from|import\()\s*'([^']+)'/g)].map(([, target]) => ({ file, target: target as string }));
});

test('every import goes through a door of the table', () => {
  const table = doors();
  const wrong = imports
    .filter(({ target }) => target.startsWith('.'))
    .map(({ file, target }) => ({ file, from: roomOf(file), to: roomOf(normalize(join(dirname(file), target))) }))
    .filter(({ from, to }) => from !== to && !table.get(from)?.has(to) && !table.get(from)?.has('everything'));
  expect(wrong).toEqual([]);
});

test.each([
  { module: 'ffi-napi', room: 'kernel/' },
  { module: 'fastify', room: 'http/' },
  { module: 'prom-client', room: 'http/' },
])('only $room imports $module', ({ module, room }) => {
  expect(imports.filter(({ target }) => target === module).map(({ file }) => roomOf(file))).toEqual(expect.arrayContaining([room]));
  expect(imports.filter(({ file, target }) => target === module && roomOf(file) !== room)).toEqual([]);
});

test('only the Wasm host touches WebAssembly, but for the HTTP parser that is WebAssembly itself', () => {
  const users = files.filter((file) =>
    /\bWebAssembly\.(Instance|Module\b(?!;)|compile|instantiate)/.test(
      readFileSync(join(engine, file), 'utf8').replaceAll(/readonly module: WebAssembly\.Module/g, ''),
    ),
  );
  expect(users.filter((file) => roomOf(file) !== 'plugins/')).toEqual(['l7/llhttp.ts']);
});

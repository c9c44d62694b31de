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

test('a room imports only rooms that stand above it in the table, but for those that build the rooms', () => {
  const table = doors();
  const rooms = [...table.keys()];
  const upward = rooms.flatMap((room, place) =>
    [...(table.get(room) as Set<string>)]
      .filter((door) => door !== 'everything' && !rooms.slice(0, place).includes(door))
      .map((door) => `${room} → ${door}`),
  );
  expect(upward).toEqual([]);
  expect(rooms.filter((room) => table.get(room)?.has('everything'))).toEqual(['main.ts', 'cli/']);
});

test('no two files import each other, however long the way round', () => {
  const targets = Map.groupBy(
    imports
      .filter(({ target }) => target.startsWith('.'))
      .map(({ file, target }) => ({ file, to: normalize(join(dirname(file), target)) })),
    ({ file }) => file,
  );
  const done = new Set<string>();
  const walk = (file: string, way: readonly string[]): string[] => {
    if (way.includes(file)) return [[...way.slice(way.indexOf(file)), file].join(' → ')];
    if (done.has(file)) return [];
    const circles = (targets.get(file) ?? []).flatMap(({ to }) => walk(to, [...way, file]));
    done.add(file);
    return circles;
  };
  expect(files.flatMap((file) => walk(file, []))).toEqual([]);
});

test.each([
  { module: 'ffi-napi', room: 'kernel/' },
  { module: 'fastify', room: 'api/' },
  { module: 'prom-client', room: 'api/' },
])('only $room imports $module', ({ module, room }) => {
  expect(imports.filter(({ target }) => target === module).map(({ file }) => roomOf(file))).toEqual(expect.arrayContaining([room]));
  expect(imports.filter(({ file, target }) => target === module && roomOf(file) !== room)).toEqual([]);
});

test('only the rooms of plugins touch WebAssembly, but for the HTTP parser that is WebAssembly itself', () => {
  const users = files.filter((file) =>
    /\bWebAssembly\.(Instance|Module\b(?!;)|compile|instantiate)/.test(
      readFileSync(join(engine, file), 'utf8').replaceAll(/readonly module: WebAssembly\.Module/g, ''),
    ),
  );
  expect(users.filter((file) => !['plugins/', 'plugin-runtime/'].includes(roomOf(file)))).toEqual(['proxy/llhttp.ts']);
});

/** The state machines of the proxy are drawn beside their code: each drawing has the arrows of the table that the code goes by. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { BACKEND_ARROWS } from '../../../engine/proxy/backend-connection.ts';
import { EXCHANGE_ARROWS } from '../../../engine/proxy/exchange-states.ts';
import { CLIENT_ARROWS } from '../../../engine/proxy/http1-client.ts';
import { follow } from '../../../engine/proxy/transitions.ts';

const read = (path: string): string => readFileSync(fileURLToPath(new URL(`../../../${path}`, import.meta.url)), 'utf8');
const drawn = (text: string): string[] => [...text.matchAll(/^ \*\s+(\w+) -> (\w+)/gm)].map(([, from, to]) => `${from} -> ${to}`).sort();

test.each([
  { file: 'http1-client.ts', arrows: CLIENT_ARROWS },
  { file: 'exchange-states.ts', arrows: EXCHANGE_ARROWS },
  { file: 'backend-connection.ts', arrows: BACKEND_ARROWS },
])('$file draws what it does', ({ file, arrows }) => {
  const table = Object.entries(arrows).flatMap(([from, targets]) => (targets as readonly string[]).map((to) => `${from} -> ${to}`));
  expect(drawn(read(`engine/proxy/${file}`))).toEqual(table.sort());
});

test('sockets.h draws what socket.c does', () => {
  const table = [...read('native/socket.c').matchAll(/\[SOCKET_(\w+)\] = (.*),/g)].flatMap(([, from, bits]) =>
    [...(bits as string).matchAll(/1 << SOCKET_(\w+)/g)].map(([, to]) => `${from} -> ${to}`),
  );
  expect(table.length).toBeGreaterThan(5);
  expect(drawn(read('native/sockets.h'))).toEqual(table.sort());
});

test('no other arrow is followed', () => {
  expect(follow(BACKEND_ARROWS, 'waiting', 'busy')).toBe('busy');
  expect(() => follow(BACKEND_ARROWS, 'closed', 'busy')).toThrow('no arrow leads from closed to busy');
});

/** Connections to backends that wait for their next exchange. */
import { expect, test } from 'vitest';
import type { BackendConnection, BackendUser } from '../../../engine/proxy/backend-connection.ts';
import { BackendPool } from '../../../engine/proxy/backend-pool.ts';
import { FakeSocket } from '../../support/fake-sockets.ts';
import { backendOf, flowOf } from '../../support/proxy-stand.ts';

const user: BackendUser = { onAnswer: () => {}, onAnswerEnd: () => {}, onBackendGone: () => {}, onBackendDrain: () => {} };

function pool(): { pool: BackendPool; sockets: FakeSocket[] } {
  const sockets: FakeSocket[] = [];
  return { sockets, pool: new BackendPool(() => sockets[sockets.push(new FakeSocket()) - 1] as FakeSocket) };
}

const used = (connection: BackendConnection): BackendConnection => {
  connection.begin(user);
  return connection;
};

test('a connection is used again by the same client for the same backend, the last one first', () => {
  const { pool: here, sockets } = pool();
  const [one, two] = [backendOf('one'), backendOf('two')];
  const [mine, theirs] = [flowOf(1), flowOf(2)];
  const [a, b] = [used(here.take(mine, one, false, 0)), used(here.take(mine, one, false, 0))];
  here.give(a, 1);
  here.give(b, 2);
  expect(here.take(theirs, one, false, 3)).not.toBe(b);
  expect(here.take(mine, two, false, 3)).not.toBe(b);
  expect(here.take(mine, one, true, 3)).not.toBe(b);
  expect(here.take(mine, one, false, 3)).toBe(b);
  expect(here.take(mine, one, false, 3)).toBe(a);
  expect(sockets).toHaveLength(5);
  expect(here.open).toBe(5);
});

test('a connection that waited too long, or leads to nobody, is closed', () => {
  const { pool: here, sockets } = pool();
  const [one, two] = [backendOf('one'), backendOf('two')];
  for (const [at, backend] of [one, one, two].entries()) here.give(used(here.take(flowOf(1), backend, true, 0)), at * 1000);
  two.gone = true;
  here.sweep(4500);
  expect(sockets.map(({ closed }) => closed)).toEqual([true, false, true]);
  expect(here.open).toBe(1);
  here.clear();
  expect(here.open).toBe(0);
  const late = used(here.take(flowOf(1), one, false, 0));
  one.gone = true;
  here.give(late, 0);
  expect(sockets.at(-1)?.closed).toBe(true);
});

test('a connection whose backend goes, ends or talks unasked is not used again', () => {
  const { pool: here, sockets } = pool();
  const backend = backendOf('one');
  for (const act of [
    (socket: FakeSocket) => socket.vanish(),
    (socket: FakeSocket) => socket.sayEnd(),
    (socket: FakeSocket) => socket.say('hello?'),
  ]) {
    const connection = used(here.take(flowOf(1), backend, false, 0));
    here.give(connection, 0);
    act(sockets.at(-1) as FakeSocket);
    expect(connection.alive).toBe(false);
    expect(here.take(flowOf(1), backend, false, 0)).not.toBe(connection);
  }
  expect(backend.active).toBe(0);
});

test('no client has more than its share of connections that wait', () => {
  const { pool: here, sockets } = pool();
  const backend = backendOf('one');
  const many = Array.from({ length: 200 }, () => used(here.take(flowOf(1), backend, true, 0)));
  expect(backend.active).toBe(200);
  for (const connection of many) here.give(connection, 0);
  expect(sockets.filter(({ closed }) => !closed)).toHaveLength(128);
  expect(here.open).toBe(128);
  expect(backend.active).toBe(0);
});

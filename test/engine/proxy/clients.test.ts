/** How many clients there may be, and what becomes of them when policy changes. */
import { expect, test } from 'vitest';
import type { Backend } from '../../../engine/proxy/backends.ts';
import { CLIENTS_MAX, CLIENTS_OF_ENDPOINT_MAX, type Client, Clients } from '../../../engine/proxy/clients.ts';
import type { TaggedFlow } from '../../../engine/proxy/tagged-flow.ts';
import { backendOf, flowOf } from '../../support/proxy-stand.ts';

class Somebody implements Client {
  flow: TaggedFlow;
  readonly told: string[] = [];
  readonly #backends: Backend[];

  constructor(endpoint: number, ...backends: Backend[]) {
    this.flow = flowOf(endpoint);
    this.#backends = backends;
  }

  check(nowMs: number): void {
    this.told.push(`check ${nowMs}`);
  }

  backends(): Iterable<Backend> {
    return this.#backends;
  }

  drain(): void {
    this.told.push('drain');
  }

  destroy(): void {
    this.told.push('destroy');
  }
}

test('one endpoint has half of all places, and together no more than all', () => {
  const counts = { clients: 0, refusedClients: 0 };
  const clients = new Clients(counts);
  const fill = (endpoint: number, count: number): Somebody[] =>
    Array.from({ length: count }, () => {
      const client = new Somebody(endpoint);
      clients.add(client);
      return client;
    });
  const [first] = fill(1, CLIENTS_OF_ENDPOINT_MAX);
  expect(clients.admits(flowOf(1))).toBe(false);
  expect(clients.admits(flowOf(2))).toBe(true);
  fill(2, CLIENTS_MAX - CLIENTS_OF_ENDPOINT_MAX);
  expect(clients.admits(flowOf(3))).toBe(false);
  expect(clients.admits(undefined)).toBe(false);
  expect(counts).toEqual({ clients: CLIENTS_MAX, refusedClients: 3 });
  clients.remove(first as Somebody);
  clients.remove(first as Somebody);
  expect(counts.clients).toBe(CLIENTS_MAX - 1);
  expect(clients.admits(flowOf(1))).toBe(true);
});

test('a client leaves the place that it took, whatever its endpoint is called since', () => {
  const clients = new Clients({ clients: 0, refusedClients: 0 });
  const all = Array.from({ length: CLIENTS_OF_ENDPOINT_MAX }, () => new Somebody(1));
  for (const client of all) clients.add(client);
  for (const client of all) {
    client.flow = flowOf(9);
    clients.remove(client);
  }
  expect(clients.idle).toBe(true);
  expect(clients.admits(flowOf(1))).toBe(true);
});

test('when policy changes, who is not tagged any more leaves, who is at a forbidden backend is cut off, others have their new flow', () => {
  const clients = new Clients({ clients: 0, refusedClients: 0 });
  const forbidden = backendOf('forbidden');
  const [untagged, cut, kept] = [new Somebody(1), new Somebody(2, forbidden), new Somebody(3, backendOf('fine'))];
  for (const client of [untagged, cut, kept]) clients.add(client);
  const renewed = flowOf(3);
  let asked = 0;
  clients.judgeAgain({
    find: () => [undefined, flowOf(2), renewed][asked++],
    permits: (_flow, backend) => backend !== forbidden,
  });
  expect([untagged.told, cut.told, kept.told]).toEqual([['drain'], ['destroy'], []]);
  expect(kept.flow).toBe(renewed);
  expect(clients.busy).toBe(true);
});

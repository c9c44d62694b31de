/** One leader, another one when that is gone, whatever the clocks of the nodes say. */
import { beforeEach, describe, expect, test } from 'vitest';
import { silentLogger as log } from '../../../engine/log.ts';
import { Election } from '../../../engine/status/election.ts';
import { rankOf } from '../../../engine/status/status-keeper.ts';
import { FakeObjects } from '../../support/fake-objects.ts';

const PATH = '/apis/coordination.k8s.io/v1/namespaces/system/leases/sluice-status';

let api: FakeObjects;
let now = 0;
const election = (identity: string): Election => new Election({ api, namespace: 'system', identity, rank: () => 0, nowMs: () => now, log });

beforeEach(() => {
  api = new FakeObjects();
  now = 1000;
});

describe('Election', () => {
  test('the first to look leads, and others do not while it renews', async () => {
    const [a, b] = [election('a'), election('b')];
    await a.look();
    for (let i = 0; i < 20; i++) {
      await b.look();
      expect([a.isLeading, b.isLeading]).toEqual([true, false]);
      now += 3000;
      await a.look();
    }
  });

  test('one that is gone is followed by another one when the Lease has not changed for its time', async () => {
    const [a, b] = [election('a'), election('b')];
    await a.look();
    await b.look();
    now += 9000;
    await b.look();
    expect(b.isLeading).toBe(false);
    now += 2000;
    await b.look();
    expect([a.isLeading, b.isLeading]).toEqual([false, true]);
    expect(api.objects.get(PATH).spec).toMatchObject({ holderIdentity: 'b', leaseTransitions: 1 });
    // The first one is back: it was only slow.
    await a.look();
    expect(a.isLeading).toBe(false);
  });

  test('times in the Lease are of other clocks, and are not believed', async () => {
    const b = election('b');
    await election('a').look();
    Object.assign(api.objects.get(PATH).spec, { renewTime: '1999-01-01T00:00:00.000000Z' });
    await b.look();
    expect(b.isLeading).toBe(false);
  });

  test('of two that take it at once one leads', async () => {
    const [b, c] = [election('b'), election('c')];
    await election('a').look();
    await Promise.all([b.look(), c.look()]);
    now += 11_000;
    await Promise.all([b.look(), c.look()]);
    expect([b.isLeading, c.isLeading].filter(Boolean)).toHaveLength(1);
  });

  test('one that cannot renew does not lead for longer than the Lease', async () => {
    const a = election('a');
    await a.look();
    api.fails = () => {
      throw new Error('away');
    };
    now += 3000;
    await expect(a.look()).rejects.toThrow('away');
    expect(a.isLeading).toBe(true);
    now += 7500;
    expect(a.isLeading).toBe(false);
  });

  test('one that stops gives the Lease up, so that the next to look leads', async () => {
    const [a, b] = [election('a'), election('b')];
    await a.look();
    await a.close();
    await b.look();
    expect([a.isLeading, b.isLeading]).toEqual([false, true]);
  });

  test('one that stops does not wait for an API server that is away', async () => {
    const a = election('a');
    await a.look();
    api.get = () => new Promise(() => {});
    const started = performance.now();
    await a.close();
    expect(performance.now() - started).toBeLessThan(3000);
  });
});

test('every node has a rank of its own, and knows it without asking', () => {
  const names = Array.from({ length: 500 }, (_, i) => `worker-${i}`);
  expect(new Set(names.map((name) => rankOf(name, names))).size).toBe(500);
  expect(rankOf('worker-1', [])).toBe(0);
});

/** Sums over threads that come and go. */

import { expect, test } from 'vitest';
import { Reason } from '../../../engine/abi.gen.ts';
import { RequestCounts } from '../../../engine/proxy/request-counts.ts';
import { RequestTotals } from '../../../engine/proxy/request-totals.ts';
import type { TaggedFlow } from '../../../engine/proxy/tagged-flow.ts';
import { ALLOWED, flowOf } from '../../support/proxy-stand.ts';

test('adds what threads have counted, also those that another one took the place of', () => {
  const totals = new RequestTotals();
  const { counts } = new RequestCounts();
  totals.add('a', [], { ...counts, clients: 3, retries: 5 });
  totals.add('b', [], { ...counts, clients: 2, retries: 1 });
  expect(totals.counts).toMatchObject({ clients: 5, retries: 6 });
  totals.add('a', [], { ...counts, clients: 1, retries: 7 });
  expect(totals.counts).toMatchObject({ clients: 3, retries: 8 });
  totals.add('a', [], { ...counts, clients: 0, retries: 2 });
  expect(totals.counts).toMatchObject({ clients: 2, retries: 10 });
});

test('tells requests apart by rule, route, backend and version, and tells so many one by one', () => {
  const counted = new RequestCounts();
  const flow = { ...flowOf(1), rule: { id: 1 } } as unknown as TaggedFlow;
  const answered = {
    protocol: 'HTTP/1.1',
    method: 'GET',
    host: 'shop',
    path: '/',
    status: 200,
    reason: '',
    backend: 'a',
    startedMs: 0,
    bytesIn: 10,
    bytesOut: 20,
  } as const;
  const verdict = { ...ALLOWED, route: 'stable', version: 'p 1', plugin: 5 };
  const way = { rule: 1, route: 'stable', backend: 'a', version: 'p 1' };
  for (let i = 0; i < 100; i++) counted.note(flow, verdict, answered, 3);
  counted.note(flow, { ...verdict, route: 'canary' }, { ...answered, status: 503, reason: 'gone', bytesIn: 1, bytesOut: 2 }, 20_000);
  const taken = counted.take();
  expect(taken.records).toHaveLength(64);
  expect(taken.records[0]).toMatchObject({ ...way, plugin: 5, allowed: true, status: 200, durationUs: 3000 });
  expect(taken.omitted).toBe(37);
  expect(taken.traffic).toHaveLength(2);
  expect(taken.traffic[0]).toMatchObject({ ...way, classes: [0, 100, 0, 0, 0], bytesIn: 1000, bytesOut: 2000 });
  expect(taken.traffic[1]).toMatchObject({ route: 'canary', classes: [0, 0, 0, 0, 1] });
  expect(taken.traffic[1]?.durations.at(-1)).toBe(1);
  expect(counted.take()).toMatchObject({ traffic: [], records: [], omitted: 0 });
  counted.note(flow, undefined, { ...answered, status: 400, reason: 'no request' }, 3);
  expect(counted.take().records).toMatchObject([{ allowed: false, cause: Reason.DROP_UNREADABLE, reason: 'no request' }]);
  const totals = new RequestTotals();
  totals.add('a', taken.traffic, taken.counts);
  totals.add('b', taken.traffic, taken.counts);
  expect(totals.samples(String)[0]).toMatchObject({ rule: '1', classes: [0, 200, 0, 0, 0], duration: { sum: expect.closeTo(0.6) } });
});

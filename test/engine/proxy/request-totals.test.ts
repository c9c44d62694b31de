/** Sums over threads that come and go. */
import { expect, test } from 'vitest';
import { RequestCounts } from '../../../engine/proxy/request-counts.ts';
import { RequestTotals } from '../../../engine/proxy/request-totals.ts';

const NO_RECORD = (): never => {
  throw new Error('no record was wanted');
};

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
  const way = { rule: 1, route: 'stable', backend: 'a', version: 'p 1' };
  let records = 0;
  const record = () => {
    records += 1;
    return {} as never;
  };
  for (let i = 0; i < 100; i++) counted.add(way, 200, 3, 10, 20, record);
  counted.add({ ...way, route: 'canary' }, 503, 20_000, 1, 2, NO_RECORD);
  const taken = counted.take();
  expect(records).toBe(64);
  expect(taken.omitted).toBe(37);
  expect(taken.traffic).toHaveLength(2);
  expect(taken.traffic[0]).toMatchObject({ ...way, classes: [0, 100, 0, 0, 0], bytesIn: 1000, bytesOut: 2000 });
  expect(taken.traffic[1]).toMatchObject({ route: 'canary', classes: [0, 0, 0, 0, 1] });
  expect(taken.traffic[1]?.durations.at(-1)).toBe(1);
  expect(counted.take()).toMatchObject({ traffic: [], records: [], omitted: 0 });
  const totals = new RequestTotals();
  totals.add('a', taken.traffic, taken.counts);
  totals.add('b', taken.traffic, taken.counts);
  expect(totals.samples(String)[0]).toMatchObject({ rule: '1', classes: [0, 200, 0, 0, 0], duration: { sum: expect.closeTo(0.6) } });
});

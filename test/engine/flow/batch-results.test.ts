/** Results of a batch: one view of them for the worker and its standby, but for the texts. */
import { expect, test } from 'vitest';
import { BatchResults, Result } from '../../../engine/flow/batch-results.ts';
import { BATCH_RECORDS_MAX, createSharedMemory } from '../../../engine/flow/shared-memory.ts';
import { Failure } from '../../../engine/plugin-runtime/failure.ts';

function twoViews(): [BatchResults, BatchResults] {
  const memory = createSharedMemory();
  return [new BatchResults(memory), new BatchResults(memory)];
}

test('a standby sees how far the batch is, and what was decided, without its texts', () => {
  const [worker, standby] = twoViews();
  worker.count = 3;
  worker.decide(0, 0xf000_0001, 'because', 5);
  worker.fail(1, Failure.TRAP);
  worker.next = 2;
  expect([standby.count, standby.next]).toEqual([3, 2]);
  expect([standby.kind(0), standby.word(0), standby.reason(0), standby.responseCode(0)]).toEqual([Result.DECIDED, 0xf000_0001, '', 0]);
  expect([standby.kind(1), standby.failure(1)]).toEqual([Result.FAILED, Failure.TRAP]);
});

test('the last record that fits has its own words, and a batch that is over leaves no text', () => {
  const [worker] = twoViews();
  const last = BATCH_RECORDS_MAX - 1;
  worker.decide(last - 1, 7, 'one', 1);
  worker.decide(last, 9, '', 0);
  expect([worker.word(last - 1), worker.word(last), worker.reason(last)]).toEqual([7, 9, '']);
  worker.clear();
  expect([worker.reason(last - 1), worker.responseCode(last - 1)]).toEqual(['', 0]);
});

test('a record whose like was let through has no value of the record before it at its place', () => {
  const [worker] = twoViews();
  worker.fail(0, Failure.TRAP);
  worker.set(0, Result.REPEATED);
  expect([worker.kind(0), worker.failure(0)]).toEqual([Result.REPEATED, 0]);
});

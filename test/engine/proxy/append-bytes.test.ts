/** Bytes that wait for more. */
import { expect, test } from 'vitest';
import { append } from '../../../engine/proxy/append-bytes.ts';

test('append() keeps bytes that come one by one, and copies each of them a few times at most', () => {
  let all: Buffer = Buffer.alloc(0);
  const buffers = new Set<ArrayBufferLike>();
  for (let i = 0; i < 30_000; i++) {
    all = append(all, Buffer.from([i & 255]));
    buffers.add(all.buffer);
  }
  expect(all.length).toBe(30_000);
  expect(all.every((byte, i) => byte === (i & 255))).toBe(true);
  expect(buffers.size).toBeLessThan(10);
  const [left, right] = [append(all.subarray(0, 10), Buffer.from('a')), append(all.subarray(0, 10), Buffer.from('b'))];
  expect([left[10], right[10], all[10]]).toEqual([97, 98, 10]);
});

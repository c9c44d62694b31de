import { expect, test } from 'vitest';
import { StableIds } from '../../../engine/policy/stable-id.ts';

test('gives equal texts equal ids, in every engine, and none below the reserved ones', () => {
  const texts = Array.from({ length: 1000 }, (_, i) => `identity ${i}`);
  const one = new StableIds();
  const two = new StableIds();
  const ids = texts.map((text) => one.get(text));
  expect(texts.map((text) => two.get(text))).toEqual(ids);
  expect(texts.map((text) => one.get(text))).toEqual(ids);
  expect(Math.min(...ids)).toBeGreaterThanOrEqual(256);
});

test('never gives two texts one id, although 300,000 hashes of 32 bits collide some ten times', () => {
  const ids = new StableIds();
  const given = new Set<number>();
  for (let i = 0; i < 300_000; i++) given.add(ids.get(`text ${i}`));
  expect(given.size).toBe(300_000);
});

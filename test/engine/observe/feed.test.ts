/** A feed keeps the latest items, and of each crowd its part. */
import { expect, test } from 'vitest';
import { Feed } from '../../../engine/observe/feed.ts';

/** `a1`: the crowd, and which of it. */
function feedOf(most: number): Feed<string> {
  return new Feed<string>(most, (item) => item.charAt(0));
}

test('keeps the latest, at least so many and at most twice as many', () => {
  const feed = new Feed<number>(4);
  for (let i = 1; i <= 100; i++) {
    feed.add(i);
    const kept = feed.latest(100);
    expect(kept.length).toBeGreaterThanOrEqual(Math.min(4, i));
    expect(kept.length).toBeLessThanOrEqual(8);
    expect(kept).toEqual(Array.from({ length: kept.length }, (_, at) => i - kept.length + 1 + at));
  }
  expect(feed.latest(2)).toEqual([99, 100]);
  expect(feed.latest(0)).toEqual([]);
});

test('crowds push out themselves, and nobody who has no more than an equal part', () => {
  const feed = feedOf(12);
  for (const quiet of ['x1', 'y1', 'y2']) feed.add(quiet);
  for (let i = 0; i < 1000; i++) for (const crowd of 'abc') feed.add(`${crowd}${i}`);
  const kept = feed.latest(100);
  expect(kept.slice(0, 3)).toEqual(['x1', 'y1', 'y2']);
  for (const crowd of 'abc') expect(kept.filter((item) => item.startsWith(crowd)).length).toBeGreaterThanOrEqual(2);
  // In the order in which they came.
  expect(kept.slice(-3)).toEqual(['a999', 'b999', 'c999']);
});

test('what a crowd does not need is for the others', () => {
  const feed = feedOf(10);
  feed.add('x1');
  for (let i = 0; i < 20; i++) feed.add(`a${i}`);
  expect(feed.latest(100)).toEqual(['x1', ...Array.from({ length: 9 }, (_, i) => `a${i + 11}`)]);
});

test('more crowds than there is room for are no more than is kept', () => {
  const feed = new Feed<number>(5, String);
  for (let i = 0; i < 1000; i++) feed.add(i);
  expect(feed.latest(1000).length).toBeLessThanOrEqual(10);
  expect(feed.latest(1)).toEqual([999]);
});

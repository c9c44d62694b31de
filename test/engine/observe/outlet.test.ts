/** Outlets: each has what happens in its order, at its own pace, and knows what it lost and where. */
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { Feed } from '../../../engine/observe/feed.ts';
import { Lost, type Outlet } from '../../../engine/observe/outlet.ts';

/** An outlet that keeps what it is given, and takes it when it is let. */
class Slow implements Outlet<number> {
  readonly kind = 'slow';
  readonly name = 'one';
  readonly capacity: number;
  readonly written: (number | { lost: number })[] = [];
  #go: (() => void) | undefined;
  #open = false;

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  async write(items: readonly (number | Lost)[]): Promise<void> {
    if (!this.#open) await new Promise<void>((resolve) => (this.#go = resolve));
    this.written.push(...items.map((item) => (item instanceof Lost ? { lost: item.lost } : item)));
  }

  open(): void {
    this.#open = true;
    this.#go?.();
  }
}

const numbers = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

describe('an outlet', () => {
  test('takes what comes in its order', async () => {
    const feed = new Feed<number>(10);
    const outlet = new Slow(10_000);
    outlet.open();
    feed.subscribe(outlet);
    for (const i of numbers(0, 1000)) feed.add(i);
    await turn();
    await turn();
    expect(outlet.written).toEqual(numbers(0, 1000));
    expect(feed.outlets).toEqual([{ kind: 'slow', name: 'one', queued: 0, delivered: 1000, lost: 0, problem: '' }]);
  });

  test('that is slow loses what comes beyond its queue, in its place, and nobody else does', async () => {
    const feed = new Feed<number>(10);
    const slow = new Slow(4);
    const quick = new Slow(10_000);
    quick.open();
    feed.subscribe(slow);
    feed.subscribe(quick);
    for (const i of numbers(0, 10)) feed.add(i);
    expect(feed.outlets[0]).toMatchObject({ queued: 4, lost: 6 });
    await turn();
    // Its queue is in its hands now, so that there is room for four again.
    for (const i of numbers(10, 20)) feed.add(i);
    slow.open();
    await turn();
    await turn();
    expect(slow.written).toEqual([...numbers(0, 4), { lost: 6 }, ...numbers(10, 14), { lost: 6 }]);
    expect(quick.written).toEqual(numbers(0, 20));
    expect(feed.totals().get('slow')).toEqual({ outlets: 2, queued: 0, delivered: 28, lost: 12 });
  });

  test('holds no more than its queue and what is in its hands, however much comes', async () => {
    const feed = new Feed<number>(1);
    const slow = new Slow(100);
    feed.subscribe(slow);
    for (let round = 0; round < 50; round++) {
      for (const i of numbers(0, 1000)) feed.add(i);
      await turn();
      expect(feed.outlets[0]?.queued).toBeLessThanOrEqual(100);
    }
    slow.open();
    await turn();
    await turn();
    const items = slow.written.filter((item) => typeof item === 'number').length;
    const gaps = slow.written.filter((item) => typeof item !== 'number');
    expect(items + gaps.reduce((sum, gap) => sum + gap.lost, 0)).toBe(50_000);
    expect(items).toBe(200);
  });

  test('has only what it wants', async () => {
    const feed = new Feed<number>(10);
    const outlet = Object.assign(new Slow(3), { wants: (item: number) => item % 10 === 0 });
    outlet.open();
    feed.subscribe(outlet);
    for (const i of numbers(0, 30)) feed.add(i);
    await turn();
    expect(outlet.written).toEqual([0, 10, 20]);
    expect(feed.outlets[0]?.lost).toBe(0);
  });

  test('that fails loses what it had, says why, and goes on', async () => {
    const feed = new Feed<number>(10);
    const written: number[] = [];
    let broken = true;
    feed.subscribe({
      kind: 'file',
      name: '/full',
      capacity: 10,
      write: (items) => {
        if (broken) throw new Error('ENOSPC');
        written.push(...(items as number[]));
      },
    });
    feed.add(1);
    await turn();
    broken = false;
    feed.add(2);
    await turn();
    expect(written).toEqual([2]);
    expect(feed.outlets[0]).toMatchObject({ delivered: 1, lost: 1, problem: 'ENOSPC' });
  });

  test('that leaves is told nothing more, and what it lost stays counted', async () => {
    const feed = new Feed<number>(10);
    const outlet = new Slow(1);
    outlet.open();
    const end = feed.subscribe(outlet);
    for (const i of numbers(0, 3)) feed.add(i);
    await turn();
    end();
    end();
    feed.add(99);
    await turn();
    expect(outlet.written).toEqual([0, { lost: 2 }]);
    expect(feed.outlets).toEqual([]);
    expect(feed.totals().get('slow')).toEqual({ outlets: 0, queued: 0, delivered: 1, lost: 2 });
  });
});

describe('latest()', () => {
  const feed = new Feed<number>(10);
  for (const i of numbers(0, 35)) feed.add(i);

  test.each([
    { name: 'the last ones, oldest first', count: 3, wants: undefined, want: [32, 33, 34] },
    { name: 'none', count: 0, wants: undefined, want: [] },
    { name: 'of those that are wanted', count: 2, wants: (i: number) => i % 2 === 0, want: [32, 34] },
  ])('$name', ({ count, wants, want }) => expect(feed.latest(count, wants)).toEqual(want));

  test('keeps as many as it should, and at most twice as many', () => {
    const kept = feed.latest(1000);
    expect(kept.length).toBeGreaterThanOrEqual(10);
    expect(kept.length).toBeLessThanOrEqual(20);
  });
});

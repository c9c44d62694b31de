/** The latest of something that goes on happening, and the outlets that it goes to. */
import { type Outlet, type OutletFacts, OutletQueue } from './outlet.ts';

/** Of one kind of outlet, since the engine started: those that are there and those that have left. */
export interface OutletTotals {
  outlets: number;
  queued: number;
  delivered: number;
  lost: number;
}

/**
 * Items in their order, kept for a while and handed to whoever subscribes.
 *
 * @example
 * const feed = new Feed(2);
 * for (const item of ['a', 'b', 'c']) feed.add(item);
 * feed.latest(2) // ['b', 'c']
 */
export class Feed<T> {
  #kept: T[] = [];
  readonly #queues = new Set<OutletQueue<T>>();
  /** Of outlets that have left, by kind. */
  readonly #left = new Map<string, { delivered: number; lost: number }>();
  readonly #most: number;
  readonly #crowdOf: (item: T) => string;

  /**
   * Keeps at least `most` items, and at most twice as many. Those of one crowd take the place of each other before they take that of
   * another crowd: each has an equal part, and what it does not need is for the others.
   */
  constructor(most: number, crowdOf: (item: T) => string = () => '') {
    this.#most = most;
    this.#crowdOf = crowdOf;
  }

  add(item: T): void {
    this.#kept.push(item);
    if (this.#kept.length > this.#most * 2) this.#forget();
    for (const queue of this.#queues) queue.push(item);
  }

  /** The latest ones, oldest first; of those that are wanted, where that is said. */
  latest(count: number, wants?: (item: T) => boolean): T[] {
    if (count <= 0) return [];
    return (wants ? this.#kept.filter(wants) : this.#kept).slice(-count);
  }

  /** Lets an outlet have each item from now on; returns what ends that. */
  subscribe(outlet: Outlet<T>): () => void {
    const queue = new OutletQueue(outlet);
    this.#queues.add(queue);
    return () => {
      if (!this.#queues.delete(queue)) return;
      queue.end();
      const { kind, delivered, lost } = queue.facts;
      const left = this.#left.get(kind) ?? { delivered: 0, lost: 0 };
      this.#left.set(kind, { delivered: left.delivered + delivered, lost: left.lost + lost });
    };
  }

  /** The outlets that are there now. */
  get outlets(): OutletFacts[] {
    return [...this.#queues].map((queue) => queue.facts);
  }

  /** Forgets the oldest items of the largest crowds. */
  #forget(): void {
    const sizes = new Map<string, number>();
    const crowds = this.#kept.map(this.#crowdOf);
    for (const crowd of crowds) sizes.set(crowd, (sizes.get(crowd) ?? 0) + 1);
    let [room, left] = [this.#most, sizes.size];
    const surplus = new Map<string, number>();
    for (const [crowd, size] of [...sizes].sort(([, a], [, b]) => a - b)) {
      const part = Math.min(size, Math.floor(room / left));
      surplus.set(crowd, size - part);
      room -= part;
      left -= 1;
    }
    this.#kept = this.#kept.filter((_, i) => {
      const crowd = crowds[i] as string;
      const more = surplus.get(crowd) as number;
      if (more) surplus.set(crowd, more - 1);
      return !more;
    });
  }

  /** By kind of outlet. */
  totals(): Map<string, OutletTotals> {
    const totals = new Map([...this.#left].map(([kind, left]): [string, OutletTotals] => [kind, { outlets: 0, queued: 0, ...left }]));
    for (const { kind, queued, delivered, lost } of this.outlets) {
      const total = totals.get(kind) ?? { outlets: 0, queued: 0, delivered: 0, lost: 0 };
      totals.set(kind, {
        outlets: total.outlets + 1,
        queued: total.queued + queued,
        delivered: total.delivered + delivered,
        lost: total.lost + lost,
      });
    }
    return totals;
  }
}

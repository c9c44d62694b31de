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
  readonly #kept: T[] = [];
  readonly #queues = new Set<OutletQueue<T>>();
  /** Of outlets that have left, by kind. */
  readonly #left = new Map<string, { delivered: number; lost: number }>();
  readonly #most: number;

  /** Keeps at least `most` items, and at most twice as many. */
  constructor(most: number) {
    this.#most = most;
  }

  add(item: T): void {
    this.#kept.push(item);
    if (this.#kept.length > this.#most * 2) this.#kept.splice(0, this.#most);
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

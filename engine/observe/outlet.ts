/**
 * An outlet is a way out of the engine for what goes on happening: a client of the API, the metrics; a file or a collector are others. Each has
 * a bounded queue of its own, so that a slow one loses what it cannot take, is told so at that place, and delays nobody.
 */

/** Items that an outlet could not take in their place. */
export class Lost {
  lost = 0;
}

export interface Outlet<T> {
  /** Groups what is counted: `api`, `metrics`. */
  readonly kind: string;
  /** Tells it from others of its kind: an address, a path; empty where there is one. */
  readonly name: string;
  /** Items that wait for it at most. */
  readonly capacity: number;
  /** Whether an item is for it; each one is, where this is absent. */
  wants?(item: T): boolean;
  /** Takes items in their order, and returns when it can take more. */
  write(items: readonly (T | Lost)[]): void | Promise<void>;
}

/** How an outlet does. */
export interface OutletFacts {
  readonly kind: string;
  readonly name: string;
  readonly queued: number;
  readonly delivered: number;
  readonly lost: number;
  /** Why its last write failed; empty while none has. */
  readonly problem: string;
}

/** Items that are handed over at once: what a slow outlet holds in its hands is bounded, too. */
const BATCH_MAX = 256;

export class OutletQueue<T> {
  readonly #outlet: Outlet<T>;
  #waiting: (T | Lost)[] = [];
  #queued = 0;
  #delivered = 0;
  #lost = 0;
  #problem = '';
  #draining = false;
  #ended = false;

  constructor(outlet: Outlet<T>) {
    this.#outlet = outlet;
  }

  get facts(): OutletFacts {
    const { kind, name } = this.#outlet;
    return { kind, name, queued: this.#queued, delivered: this.#delivered, lost: this.#lost, problem: this.#problem };
  }

  /** Never waits: an item for which there is no room is lost, and counted. */
  push(item: T): void {
    if (this.#outlet.wants && !this.#outlet.wants(item)) return;
    if (this.#queued < this.#outlet.capacity) {
      this.#waiting.push(item);
      this.#queued += 1;
    } else this.#lose();
    if (this.#draining) return;
    this.#draining = true;
    setImmediate(() => void this.#drain());
  }

  /** Items that still wait are not written any more. */
  end(): void {
    this.#ended = true;
    this.#waiting = [];
    this.#queued = 0;
  }

  #lose(): void {
    this.#lost += 1;
    let last = this.#waiting.at(-1);
    if (!(last instanceof Lost)) this.#waiting.push((last = new Lost()));
    last.lost += 1;
  }

  async #drain(): Promise<void> {
    while (this.#waiting.length && !this.#ended) {
      const batch = this.#waiting.splice(0, BATCH_MAX);
      const items = batch.filter((item) => !(item instanceof Lost)).length;
      this.#queued -= items;
      try {
        await this.#outlet.write(batch);
        this.#delivered += items;
      } catch (error) {
        // An outlet that fails goes on with what comes next: what it had is lost, and why is shown.
        this.#lost += items;
        this.#problem = error instanceof Error ? error.message : String(error);
      }
    }
    this.#draining = false;
  }
}

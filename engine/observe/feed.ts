/**
 * The latest of something that goes on happening, and those who follow it.
 *
 * @example
 * const feed = new Feed(2);
 * for (const item of ['a', 'b', 'c']) feed.add(item);
 * feed.latest(2) // ['b', 'c']
 */
export class Feed<T> {
  readonly #kept: T[] = [];
  readonly #followers = new Set<(item: T) => void>();
  readonly #most: number;

  /** Keeps at least `most` items, and at most twice as many. */
  constructor(most: number) {
    this.#most = most;
  }

  add(item: T): void {
    this.#kept.push(item);
    if (this.#kept.length > this.#most * 2) this.#kept.splice(0, this.#most);
    for (const tell of this.#followers) tell(item);
  }

  /** The latest ones, oldest first. */
  latest(count: number): T[] {
    return this.#kept.slice(-count);
  }

  /** Calls back for each one from now on; returns what ends it. */
  follow(tell: (item: T) => void): () => void {
    this.#followers.add(tell);
    return () => this.#followers.delete(tell);
  }
}

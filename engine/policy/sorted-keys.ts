/** Keys in order, in chunks: what lies between two of them is found, added and taken away without touching the others. */

/** A chunk that grows to this is cut in two. */
const CHUNK_MAX = 512;

export class SortedKeys {
  /** None is empty. */
  readonly #chunks: string[][] = [];

  /** A key that is there already is there once. */
  add(key: string): void {
    const at = this.#chunkOf(key);
    const chunk = this.#chunks[at];
    if (!chunk) {
      this.#chunks.push([key]);
      return;
    }
    const place = search(chunk, key);
    if (chunk[place] === key) return;
    chunk.splice(place, 0, key);
    if (chunk.length >= CHUNK_MAX) this.#chunks.splice(at + 1, 0, chunk.splice(chunk.length >> 1));
  }

  remove(key: string): void {
    const at = this.#chunkOf(key);
    const chunk = this.#chunks[at];
    const place = chunk ? search(chunk, key) : 0;
    if (chunk?.[place] !== key) return;
    chunk.splice(place, 1);
    if (!chunk.length) this.#chunks.splice(at, 1);
  }

  /** Every key from `first` to `last`, both included. */
  between(first: string, last: string): string[] {
    const found: string[] = [];
    for (let at = this.#chunkOf(first); at < this.#chunks.length; at++) {
      const chunk = this.#chunks[at] as string[];
      for (let place = search(chunk, first); place < chunk.length; place++) {
        const key = chunk[place] as string;
        if (key > last) return found;
        found.push(key);
      }
    }
    return found;
  }

  /** The last chunk that begins at or before the key, else the first. */
  #chunkOf(key: string): number {
    let low = 0;
    let high = this.#chunks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#chunks[middle]?.[0] as string) <= key) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  }
}

/** Where the key is in a sorted list, or would be. */
function search(keys: readonly string[], key: string): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((keys[middle] as string) < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Ids that are hashes of what they name: an engine that starts anew gives the same ids, so that the kernel's maps stay as they are. */
import { createHash } from 'node:crypto';

/** Below are reserved numbers. */
const FIRST = 256;
const IDS = 2 ** 32;

/** Gives ids of 32 bits to texts: equal texts, equal ids; different texts never share one. */
export class StableIds {
  readonly #ids = new Map<string, number>();
  readonly #texts = new Map<number, string>();

  /** The text's id, at least 256. Where two texts collide, the later one takes the next free id. */
  get(text: string): number {
    const known = this.#ids.get(text);
    if (known !== undefined) return known;
    let id = createHash('sha256').update(text).digest().readUInt32LE(0);
    while (id < FIRST || this.#texts.has(id)) id = (id + 1) % IDS;
    this.#ids.set(text, id);
    this.#texts.set(id, text);
    return id;
  }
}

/** Ids that are hashes of what they name: an engine that starts anew gives the same ids, so that the kernel's maps stay as they are. */
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
    let id = hash32(text);
    while (id < FIRST || this.#texts.has(id)) id = (id + 1) % IDS;
    this.#ids.set(text, id);
    this.#texts.set(id, text);
    return id;
  }

  /** The id that a text has been given. */
  find(text: string): number | undefined {
    return this.#ids.get(text);
  }

  /** Forgets a text that nothing is called by any more. */
  drop(text: string): void {
    const id = this.#ids.get(text);
    if (id === undefined) return;
    this.#ids.delete(text);
    this.#texts.delete(id);
  }
}

/** FNV-1a over UTF-16 units, with MurmurHash3's finish: even, and cheap enough for tens of thousands of texts at a change. */
function hash32(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

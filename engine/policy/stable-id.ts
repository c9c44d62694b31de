/** Ids that are hashes of what they name: an engine that starts anew gives the same ids, so that the kernel's maps stay as they are. */
/** Below are reserved numbers. */
const FIRST = 256;
const IDS = 2 ** 32;

/** Gives ids of 32 bits to texts: equal texts, equal ids; different texts never share one. */
export class StableIds {
  readonly #texts = new Map<number, string>();
  /** Texts that did not get their own hash: another one had it, or it is reserved. */
  readonly #displaced = new Map<string, number>();

  /** The text's id, at least 256. Where two texts collide, the later one takes the next free id. */
  get(text: string): number {
    const home = hash32(text);
    const known = this.#find(text, home);
    if (known !== undefined) return known;
    let id = home;
    while (id < FIRST || this.#texts.has(id)) id = (id + 1) % IDS;
    this.#texts.set(id, text);
    if (id !== home) this.#displaced.set(text, id);
    return id;
  }

  /** The id that a text has been given. */
  find(text: string): number | undefined {
    return this.#find(text, hash32(text));
  }

  /** Forgets a text that nothing is called by any more. */
  drop(text: string): void {
    const id = this.find(text);
    if (id === undefined) return;
    this.#texts.delete(id);
    this.#displaced.delete(text);
  }

  #find(text: string, home: number): number | undefined {
    return this.#texts.get(home) === text ? home : this.#displaced.get(text);
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

/**
 * A table of counters that the host owns and a plugin adds to. It outlives the plugin's traps, its versions and, where its
 * memory is a mapped file, the engine. Several workers use one without locks.
 *
 * Slots lie in sets of eight. A key belongs to one set, chosen by a seeded hash, and is told apart there by 32 more bits
 * of it. When a set is full, its counter that was used longest ago is forgotten, and that is counted. An addition that
 * races such an eviction may count for the newer key. Two keys are taken for one with a chance of 2^-29.
 */

const WAYS = 8;
/** Words of the header. */
const Header = { MAGIC: 0, SLOTS: 1, SEED: 2, CLOCK: 3, EVICTIONS: 4, WORDS: 16 } as const;
const MAGIC = 0x54_43_4c_53;
/** Words of a slot. */
const Slot = { TAG: 0, VALUE: 1, USED: 2, WORDS: 3 } as const;
const INT_MAX = 0x7fffffff;
const INT_MIN = -0x80000000;

/** Bytes of memory that a table of so many slots needs. */
export function tableBytes(slots: number): number {
  return 4 * (Header.WORDS + setsOf(slots) * WAYS * Slot.WORDS);
}

function setsOf(slots: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(slots, WAYS) / WAYS));
}

export class CounterTable {
  readonly #words: Int32Array;
  readonly #setMask: number;
  readonly #seed: number;

  /**
   * Takes over memory of `tableBytes(slots)` bytes: with its counters, if it was a table of that size, else emptied.
   * `seed` is random; only an empty table takes it.
   */
  constructor(memory: Int32Array, slots: number, seed: number) {
    this.#words = memory;
    this.#setMask = setsOf(slots) - 1;
    if (!CounterTable.isOne(memory, slots)) {
      memory.fill(0);
      memory[Header.SLOTS] = slots;
      memory[Header.SEED] = seed | 0;
      Atomics.store(memory, Header.MAGIC, MAGIC);
    }
    this.#seed = memory[Header.SEED] as number;
  }

  /** Whether memory holds a table of so many slots already. */
  static isOne(memory: Int32Array, slots: number): boolean {
    return memory[Header.MAGIC] === MAGIC && memory[Header.SLOTS] === slots;
  }

  /** Counters that were forgotten to make room, of a table in that memory. */
  static evictions(memory: Int32Array): number {
    return Atomics.load(memory, Header.EVICTIONS) >>> 0;
  }

  /** Adds to a key's counter, which begins at 0, and returns what it is then. It stops at the ends of 32 bits. */
  add(bytes: Uint8Array, at: number, length: number, delta: number): number {
    const slot = this.#claim(bytes, at, length);
    for (;;) {
      const before = Atomics.load(this.#words, slot + Slot.VALUE);
      const after = Math.max(INT_MIN, Math.min(INT_MAX, before + delta));
      if (Atomics.compareExchange(this.#words, slot + Slot.VALUE, before, after) === before) return after;
    }
  }

  /** A key's counter; 0 when there is none. */
  get(bytes: Uint8Array, at: number, length: number): number {
    const hash = this.#hash(bytes, at, length, this.#seed);
    const tag = this.#hash(bytes, at, length, ~this.#seed) || 1;
    const first = this.#setAt(hash);
    for (let slot = first; slot < first + WAYS * Slot.WORDS; slot += Slot.WORDS)
      if (Atomics.load(this.#words, slot + Slot.TAG) === tag) {
        this.#touch(slot);
        return Atomics.load(this.#words, slot + Slot.VALUE);
      }
    return 0;
  }

  /** The slot of a key, which is there afterwards. */
  #claim(bytes: Uint8Array, at: number, length: number): number {
    const first = this.#setAt(this.#hash(bytes, at, length, this.#seed));
    const tag = this.#hash(bytes, at, length, ~this.#seed) || 1;
    for (;;) {
      let oldest = first;
      for (let slot = first; slot < first + WAYS * Slot.WORDS; slot += Slot.WORDS) {
        const seen = Atomics.load(this.#words, slot + Slot.TAG);
        // Another thread may take a slot that was empty, for the same key, too.
        const found = seen === 0 ? Atomics.compareExchange(this.#words, slot + Slot.TAG, 0, tag) : seen;
        if (found === 0 || found === tag) {
          this.#touch(slot);
          return slot;
        }
        if (this.#age(slot) > this.#age(oldest)) oldest = slot;
      }
      this.#evict(oldest);
    }
  }

  /** Empties a slot. The value goes first: whoever claims the slot then begins at 0. */
  #evict(slot: number): void {
    const tag = Atomics.load(this.#words, slot + Slot.TAG);
    Atomics.store(this.#words, slot + Slot.VALUE, 0);
    if (Atomics.compareExchange(this.#words, slot + Slot.TAG, tag, 0) === tag) Atomics.add(this.#words, Header.EVICTIONS, 1);
  }

  #touch(slot: number): void {
    Atomics.store(this.#words, slot + Slot.USED, Atomics.add(this.#words, Header.CLOCK, 1));
  }

  /** Uses of the table since a slot was used; right across the clock's overflow. */
  #age(slot: number): number {
    return ((this.#words[Header.CLOCK] as number) - (this.#words[slot + Slot.USED] as number)) >>> 0;
  }

  #setAt(hash: number): number {
    return Header.WORDS + (hash & this.#setMask) * WAYS * Slot.WORDS;
  }

  /** MurmurHash3's mixing over bytes. */
  #hash(bytes: Uint8Array, at: number, length: number, seed: number): number {
    let hash = seed ^ length;
    for (let i = at; i < at + length; i++) {
      hash = Math.imul(hash ^ (bytes[i] as number), 0x5bd1e995);
      hash ^= hash >>> 15;
    }
    hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
    return (hash ^ (hash >>> 16)) | 0;
  }
}

/**
 * The outcome of each record of the batch in hand, in memory that the standby sees, with how far the batch is: those before `next` are
 * decided, and there are `count` of them until they are settled, which happens once. Their texts are of the thread that decided them; a
 * batch that another thread finishes is without them.
 */
import type { Failure } from '../plugin-runtime/failure.ts';
import type { SharedMemory } from './shared-memory.ts';

/** The kinds of results. */
export const Result = {
  /** Nobody could decide; the value is enum Failure. */
  FAILED: 0,
  /** Decided; the value is the verdict word. */
  DECIDED: 1,
  /** More of what the packet is part of has to come. */
  WAITING: 2,
  /** Its like was let through before. */
  REPEATED: 3,
} as const;
export type Result = (typeof Result)[keyof typeof Result];

const COUNT = 0;
const NEXT = 1;

export class BatchResults {
  readonly #progress: Int32Array;
  /** Two words for each record: kind and value. */
  readonly #words: Int32Array;
  readonly #reasons = new Map<number, string>();
  /** Response codes of denied DNS answers. */
  readonly #codes = new Map<number, number>();

  constructor({ progress, results }: SharedMemory) {
    this.#progress = new Int32Array(progress);
    this.#words = new Int32Array(results);
  }

  /** Records of the batch that a standby would have to finish: none once it is being settled. */
  get count(): number {
    return Atomics.load(this.#progress, COUNT);
  }

  set count(count: number) {
    Atomics.store(this.#progress, COUNT, count);
  }

  /** The record being decided; as many as there are when all are. */
  get next(): number {
    return Atomics.load(this.#progress, NEXT);
  }

  set next(index: number) {
    Atomics.store(this.#progress, NEXT, index);
  }

  kind(index: number): Result {
    return this.#words[2 * index] as Result;
  }

  /** The verdict word of a decided record. */
  word(index: number): number {
    return (this.#words[2 * index + 1] as number) >>> 0;
  }

  failure(index: number): Failure {
    return this.#words[2 * index + 1] as Failure;
  }

  /** For a person to read; empty where there is none. */
  reason(index: number): string {
    return this.#reasons.get(index) ?? '';
  }

  responseCode(index: number): number {
    return this.#codes.get(index) ?? 0;
  }

  set(index: number, kind: Result, value = 0): void {
    this.#words[2 * index] = kind;
    this.#words[2 * index + 1] = value;
  }

  fail(index: number, failure: Failure): void {
    this.set(index, Result.FAILED, failure);
  }

  decide(index: number, word: number, reason: string, responseCode: number): void {
    this.set(index, Result.DECIDED, word);
    if (reason) this.#reasons.set(index, reason);
    if (responseCode) this.#codes.set(index, responseCode);
  }

  /** Forgets the texts of a batch that is over. */
  clear(): void {
    this.#reasons.clear();
    this.#codes.clear();
  }
}

/**
 * The evaluation under way, in memory that the standby sees: which plugin it is of, how long it may take, and whether it was stopped.
 *
 * One word holds the state: 0, the number of the evaluation, or STOPPED. Each change of it is one compare-and-exchange, so that of a
 * worker that ends an evaluation and a standby that stops it, one comes first and the other one knows.
 */
import type { Transitions } from '../transitions.ts';
import type { SharedMemory } from './shared-memory.ts';

export type EvaluationState = 'idle' | 'under way' | 'stopped';

/**
 * A test puts every method to every state.
 *
 *     idle -> under way       begin
 *     under way -> idle       end
 *     under way -> stopped    stop: by the standby, when it takes too long
 *     stopped -> idle         resume: by the standby, which serves now
 *     idle -> idle            resume: by a standby that is activated
 *     under way -> idle       resume: of a worker that ended in the middle of it
 */
export const EVALUATION: Transitions<EvaluationState, 'begin' | 'end' | 'stop' | 'resume'> = {
  idle: { begin: 'under way', resume: 'idle' },
  'under way': { end: 'idle', stop: 'stopped', resume: 'idle' },
  stopped: { resume: 'idle' },
};

const Word = {
  STATE: 0,
  PLUGIN: 1,
  /** Milliseconds that it may take. */
  BUDGET_MS: 2,
  /** Counts evaluations of all workers: no two have the same number. */
  EVALUATIONS: 3,
} as const;

const IDLE = 0;
const STOPPED = -1;
/** Numbers are positive, and begin anew after so many. */
const NUMBER_MASK = 0x3fffffff;

export class EvaluationGuard {
  readonly #words: Int32Array;
  /** The evaluation of this thread. */
  #own = 0;
  /** The evaluation that this thread, as a standby, saw under way, and since when. */
  #watched = 0;
  #watchedSinceMs = 0;

  constructor({ evaluation }: SharedMemory) {
    this.#words = new Int32Array(evaluation);
  }

  get state(): EvaluationState {
    const word = Atomics.load(this.#words, Word.STATE);
    return word === IDLE ? 'idle' : word === STOPPED ? 'stopped' : 'under way';
  }

  /** The plugin of the evaluation under way, or of the last one. */
  get plugin(): number {
    return Atomics.load(this.#words, Word.PLUGIN);
  }

  begin(plugin: number, budgetMs: number): void {
    this.#own = (Atomics.add(this.#words, Word.EVALUATIONS, 1) & NUMBER_MASK) + 1;
    Atomics.store(this.#words, Word.PLUGIN, plugin);
    Atomics.store(this.#words, Word.BUDGET_MS, budgetMs);
    Atomics.store(this.#words, Word.STATE, this.#own);
  }

  /** Ends the evaluation of this thread. Returns false when the standby has stopped it: then this thread has no say any more. */
  end(): boolean {
    return Atomics.compareExchange(this.#words, Word.STATE, this.#own, IDLE) === this.#own;
  }

  /** Stops an evaluation that this thread has seen for longer than it may take. Returns whether it did. */
  stopOverdue(nowMs: number): boolean {
    const number = Atomics.load(this.#words, Word.STATE);
    if (number !== this.#watched || number <= IDLE) {
      this.#watched = number;
      this.#watchedSinceMs = nowMs;
      return false;
    }
    if (nowMs - this.#watchedSinceMs < Atomics.load(this.#words, Word.BUDGET_MS)) return false;
    return Atomics.compareExchange(this.#words, Word.STATE, number, STOPPED) === number;
  }

  /** Nothing is under way: this thread serves now, in the place of one that was stopped or has ended. */
  resume(): void {
    Atomics.store(this.#words, Word.STATE, IDLE);
  }
}

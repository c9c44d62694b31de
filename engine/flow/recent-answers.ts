/** Answers of the last moments, for packets of the same flow that were held before the verdict was there. */
import type { Failure } from '../plugin-runtime/failure.ts';

const ANSWERS_MAX = 4096;

export interface RecentAnswer {
  /** Why there was none, or Failure.NONE. */
  readonly failure: Failure;
  /** The verdict word, where there is one. */
  readonly word: number;
  /** Of the plugin, at that time. */
  readonly epoch: number;
}

export class RecentAnswers {
  readonly #answers = new Map<string, { readonly answer: RecentAnswer; readonly decidedNs: bigint }>();

  /** The answer for a flow, of this epoch and not older than the packet: undefined where it is to be asked about. */
  find(flow: string, epoch: number, heldNs: bigint): RecentAnswer | undefined {
    const found = this.#answers.get(flow);
    return found && found.answer.epoch === epoch && heldNs <= found.decidedNs ? found.answer : undefined;
  }

  note(flow: string, answer: RecentAnswer): void {
    if (this.#answers.size >= ANSWERS_MAX) this.#answers.clear();
    this.#answers.set(flow, { answer, decidedNs: process.hrtime.bigint() });
  }
}

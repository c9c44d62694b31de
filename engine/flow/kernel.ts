/** The kernel's side of a batch, as the evaluator sees it: kernel/ask-ring.ts is the real one. */
export interface Kernel {
  /**
   * Writes the first verdicts of the shared memory, then releases the first packets of its offsets. Returns how many
   * could not be released. Throws when not every verdict landed; nothing is released then.
   */
  settle(verdicts: number, releases: number): number;
}

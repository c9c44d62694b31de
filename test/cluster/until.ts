/** Waiting for a condition, with a bound. */
import { setTimeout as sleep } from 'node:timers/promises';

const EVERY_MS = 50;

export interface Wait {
  /** Named in the error: "Cannot bring up WHAT: …". */
  readonly what: string;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  /** Says why it is in vain to wait on, if it is. */
  readonly inVain?: () => string | undefined;
  /** Ends the error's message: where to look. */
  readonly hint?: () => string;
}

/**
 * Asks until the answer is true. An error of `condition` is an answer, too: not yet.
 *
 * @throws Error when the time is over, or at once when waiting is in vain or aborted.
 */
export async function until(condition: () => boolean | Promise<boolean>, { what, timeoutMs, signal, inVain, hint }: Wait): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  const fail = (why: string, cause?: unknown): never => {
    throw new Error(`Cannot bring up ${what}: ${why}${hint ? `; ${hint()}` : ''}`, { cause });
  };
  for (let last: unknown; ; ) {
    signal?.throwIfAborted();
    try {
      if (await condition()) return;
    } catch (error) {
      last = error;
    }
    const why = inVain?.();
    if (why) fail(why, last);
    if (performance.now() > deadline) fail(`not within ${timeoutMs / 1000} s`, last);
    await sleep(EVERY_MS, undefined, signal ? { signal } : {});
  }
}

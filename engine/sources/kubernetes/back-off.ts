/** How long to wait before another try: longer each time, at random, and as long as the server asks for within reason. */
import type { Timing } from './timing.ts';

export class BackOff {
  readonly #timing: Pick<Timing, 'backOffMs' | 'retryAfterMs'>;
  /** Failures in a row. */
  failures = 0;

  constructor(timing: Pick<Timing, 'backOffMs' | 'retryAfterMs'>) {
    this.#timing = timing;
  }

  reset(): void {
    this.failures = 0;
  }

  /** Milliseconds until the next try, after one more failure. */
  next(retryAfterMs = 0): number {
    const [first, longest] = this.#timing.backOffMs;
    const upTo = Math.min(longest, first * 2 ** Math.min(this.failures, 20));
    this.failures += 1;
    const own = upTo * (0.5 + Math.random() / 2);
    return Math.max(own, Math.min(retryAfterMs, this.#timing.retryAfterMs) * (1 + Math.random() / 4));
  }
}

/** Bounds how many lines somebody may write: a burst, and then so many a second. */
export class LineLimiter {
  readonly #burst: number;
  readonly #perSecond: number;
  #tokens: number;
  #at = 0;
  #left = 0;

  constructor(burst: number, perSecond: number) {
    this.#burst = burst;
    this.#perSecond = perSecond;
    this.#tokens = burst;
  }

  /** How many lines were left out since the last one that passed; undefined when this one is left out as well. */
  take(nowMs: number): number | undefined {
    this.#tokens = Math.min(this.#burst, this.#tokens + ((nowMs - this.#at) * this.#perSecond) / 1000);
    this.#at = nowMs;
    if (this.#tokens < 1) {
      this.#left += 1;
      return undefined;
    }
    this.#tokens -= 1;
    const left = this.#left;
    this.#left = 0;
    return left;
  }
}

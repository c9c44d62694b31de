/** The time of a turn: everything that happens in one happens at once, and asking the kernel each time is not free. */
import { performance } from 'node:perf_hooks';
export class Clock {
  /** Milliseconds on the monotonic clock. */
  nowMs = performance.now();

  advance(): number {
    this.nowMs = performance.now();
    return this.nowMs;
  }
}

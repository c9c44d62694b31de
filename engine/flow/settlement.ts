/** Has the kernel carry out what was decided: verdicts are written, then packets go on; contents send on, or end, what they hold. */
import { Scope } from '../abi.gen.ts';
import type { BatchInHand } from './batch-in-hand.ts';
import { Result } from './batch-results.ts';
import type { Kernel } from './kernel.ts';
import { Releases } from './releases.ts';
import type { SharedMemory } from './shared-memory.ts';
import { VerdictWriter } from './verdict-writer.ts';

export class Settlement {
  readonly #batch: BatchInHand;
  readonly #writer: VerdictWriter;
  readonly #releases: Releases;

  constructor(batch: BatchInHand, memory: SharedMemory, kernel: Kernel) {
    this.#batch = batch;
    this.#writer = new VerdictWriter(memory);
    this.#releases = new Releases(memory, kernel);
  }

  /**
   * Settles every record. Returns how many packets could not be released.
   *
   * @throws Error when the kernel refuses a verdict; what was not sent on by then is not sent with another batch either
   */
  settle(count: number, nowNs: bigint): number {
    try {
      this.#settleAll(count, nowNs);
      return this.#releases.flush();
    } catch (error) {
      this.#releases.abandon();
      throw error;
    }
  }

  #settleAll(count: number, nowNs: bigint): void {
    const { asks, contents } = this.#batch;
    for (let i = 0; i < count; i++) if (!contents.of(asks, i)) this.#settlePacket(i, nowNs);
    for (let i = 0; i < count; i++) {
      const content = contents.of(asks, i);
      if (!content) continue;
      if (this.#batch.results.kind(i) === Result.WAITING) content.wait(this.#releases);
      else content.settle(this.#batch.outcome(i), this.#releases);
    }
  }

  #settlePacket(index: number, nowNs: bigint): void {
    const plugin = this.#batch.pluginOf(index);
    if (!plugin) return;
    const { asks } = this.#batch;
    const outcome = this.#batch.outcome(index);
    // A refusal that holds for this connection only needs no entry: its packet is gone, and the next one is asked about.
    if (outcome.allowed || outcome.scope !== Scope.NONE) {
      this.#writer.write(this.#releases.verdicts, asks.at(index), plugin.setup, outcome, nowNs);
      this.#releases.addVerdict();
    }
    if (outcome.allowed) this.#releases.release(asks.offsets[index] as number);
  }
}

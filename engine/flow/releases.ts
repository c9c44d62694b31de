/**
 * Held packets on their way back to the kernel, and the verdicts that are written before any of them goes.
 *
 * There is one way out with two kinds of packets. One that its verdict lets through goes as it lies in the batch, and finds that verdict
 * in the cache. One that was decided by its contents may be of an earlier batch, or changed: it is copied behind the batch, and carries
 * the decision in a mark, because no scope of the cache says what it said (see bpf/engine.h).
 */
import { AskFlag } from '../abi.gen.ts';
import type { Outbox } from '../held/content.ts';
import type { HeldPacket } from '../held/held-packet.ts';
import type { Kernel } from './kernel.ts';
import { BATCH_BYTES, BATCH_RECORDS_MAX, RECORD_HEADER, SENT_BYTES, type SharedMemory } from './shared-memory.ts';

const FLAGS = { decided: AskFlag.DECIDED, passed: AskFlag.PASSED } as const;

export class Releases implements Outbox {
  readonly #memory: Buffer;
  readonly #offsets: Uint32Array;
  readonly #kernel: Kernel;
  #verdicts = 0;
  #count = 0;
  #at = BATCH_BYTES;
  #failures = 0;

  constructor(memory: SharedMemory, kernel: Kernel) {
    this.#memory = Buffer.from(memory.batch);
    this.#offsets = new Uint32Array(memory.offsets);
    this.#kernel = kernel;
  }

  /** How many verdicts of the shared memory are written with the next packets. */
  get verdicts(): number {
    return this.#verdicts;
  }

  /** One more verdict was packed. */
  addVerdict(): void {
    this.#verdicts += 1;
  }

  /** Releases a packet of the batch as it is: where its record begins. */
  release(offset: number): void {
    if (this.#count === BATCH_RECORDS_MAX) this.#settle();
    this.#offsets[this.#count++] = offset;
  }

  send(packet: HeldPacket, as: 'decided' | 'passed' | 'plain'): void {
    if (as !== 'plain') packet.setFlag(FLAGS[as]);
    const { record } = packet;
    const bytes = RECORD_HEADER + ((record.length + 7) & ~7);
    if (this.#at + bytes > BATCH_BYTES + SENT_BYTES || this.#count === BATCH_RECORDS_MAX) this.#settle();
    this.#memory.writeUInt32LE(record.length, this.#at);
    this.#memory.writeUInt32LE(0, this.#at + 4);
    record.copy(this.#memory, this.#at + RECORD_HEADER);
    this.#offsets[this.#count++] = this.#at;
    this.#at += bytes;
  }

  /** Writes and sends what is here. Returns how many packets could not be sent since the last time. Throws when the kernel refused a verdict. */
  flush(): number {
    this.#settle();
    const failures = this.#failures;
    this.#failures = 0;
    return failures;
  }

  /** Forgets what is here: it belongs to a batch that is not carried out. */
  abandon(): void {
    this.#verdicts = 0;
    this.#count = 0;
    this.#at = BATCH_BYTES;
  }

  #settle(): void {
    const verdicts = this.#verdicts;
    const count = this.#count;
    // First, so that what the kernel refuses is not there again in the next batch.
    this.abandon();
    if (verdicts || count) this.#failures += this.#kernel.settle(verdicts, count);
  }
}

/** Packets on their way back to the kernel, with what was decided about them: copied behind the batch, where they are sent from. */
import { AskFlag } from '../abi.gen.ts';
import type { Outbox } from '../held/content.ts';
import type { HeldPacket } from '../held/held-packet.ts';
import { BATCH_BYTES, BATCH_RECORDS_MAX, RECORD_HEADER, SENT_BYTES, type SharedMemory } from '../plugin-runtime/control.ts';
import type { Kernel } from './kernel.ts';

const FLAGS = { decided: AskFlag.DECIDED, passed: AskFlag.PASSED } as const;

export class ReleaseBox implements Outbox {
  readonly #memory: Buffer;
  readonly #offsets: Uint32Array;
  readonly #kernel: Kernel;
  #count = 0;
  #at = BATCH_BYTES;
  #failures = 0;

  constructor(memory: SharedMemory, kernel: Kernel) {
    this.#memory = Buffer.from(memory.batch);
    this.#offsets = new Uint32Array(memory.offsets);
    this.#kernel = kernel;
  }

  send(packet: HeldPacket, as: 'decided' | 'passed' | 'plain'): void {
    if (as !== 'plain') packet.setFlag(FLAGS[as]);
    const { record } = packet;
    const bytes = RECORD_HEADER + ((record.length + 7) & ~7);
    if (this.#at + bytes > BATCH_BYTES + SENT_BYTES || this.#count === BATCH_RECORDS_MAX) this.#send();
    this.#memory.writeUInt32LE(record.length, this.#at);
    this.#memory.writeUInt32LE(0, this.#at + 4);
    record.copy(this.#memory, this.#at + RECORD_HEADER);
    this.#offsets[this.#count++] = this.#at;
    this.#at += bytes;
  }

  /** Sends what is here. Returns how many packets could not be sent since this was called last. */
  flush(): number {
    this.#send();
    const failures = this.#failures;
    this.#failures = 0;
    return failures;
  }

  #send(): void {
    if (this.#count) this.#failures += this.#kernel.settle(0, this.#count);
    this.#count = 0;
    this.#at = BATCH_BYTES;
  }
}

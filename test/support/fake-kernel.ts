/** The kernel's side of a batch, for tests: notes which verdicts are written and which packets are released, in their order. */
import { AskFlag, askCodec, type VerdictEntry, type VerdictKey, verdictEntryCodec, verdictKeyCodec } from '../../engine/abi.gen.ts';
import type { Kernel } from '../../engine/flow/kernel.ts';
import { RECORD_HEADER, type SharedMemory } from '../../engine/flow/shared-memory.ts';

export interface Released {
  readonly sourcePort: number;
  /** By which its decision goes with it; plain packets have none. */
  readonly mark: 'decided' | 'passed' | '';
  readonly bytes: Buffer;
}

export class FakeKernel implements Kernel {
  readonly verdicts: (VerdictKey & VerdictEntry)[] = [];
  readonly released: Released[] = [];
  /** `verdict` and `release`, one for each. */
  readonly order: string[] = [];
  /** How many packets of the next settlement cannot be released. */
  failures = 0;
  /** The next settlement is refused. */
  refuses = false;
  readonly #memory: SharedMemory;

  constructor(memory: SharedMemory) {
    this.#memory = memory;
  }

  settle(verdicts: number, releases: number): number {
    if (this.refuses) {
      this.refuses = false;
      throw new Error('Cannot write verdicts: E2BIG');
    }
    const [keys, values] = [Buffer.from(this.#memory.verdictKeys), Buffer.from(this.#memory.verdictValues)];
    for (let i = 0; i < verdicts; i++) {
      const key = verdictKeyCodec.read(keys, i * verdictKeyCodec.size);
      this.verdicts.push({ ...key, ...verdictEntryCodec.read(values, i * verdictEntryCodec.size) });
      this.order.push('verdict');
    }
    const batch = Buffer.from(this.#memory.batch);
    for (const offset of new Uint32Array(this.#memory.offsets).subarray(0, releases)) {
      const at = offset + RECORD_HEADER;
      const { flags, sourcePort } = askCodec.read(batch, at);
      const bytes = Buffer.from(batch.subarray(at + askCodec.size, at + batch.readUInt32LE(offset)));
      this.released.push({ sourcePort, mark: flags & AskFlag.DECIDED ? 'decided' : flags & AskFlag.PASSED ? 'passed' : '', bytes });
      this.order.push('release');
    }
    const { failures } = this;
    this.failures = 0;
    return failures;
  }
}

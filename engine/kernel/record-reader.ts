/** Reads the ring of what the kernel decided alone. */
import { type FlowRecord, flowRecordCodec } from '../abi.gen.ts';
import { recordHeaderCodec } from '../native.gen.ts';
import { check, native } from './native.ts';

const BUFFER_BYTES = 256 * 1024;

export class RecordReader {
  readonly #ring: number;
  readonly #buffer = Buffer.alloc(BUFFER_BYTES);
  readonly #cell = Buffer.alloc(4);

  constructor(ring: number) {
    this.#ring = ring;
  }

  /** Takes what is there, at most one buffer full, without waiting. */
  read(): FlowRecord[] {
    const count = check(native.sluice_ring__drain(this.#ring, this.#buffer, this.#buffer.length, 0, this.#cell), 'read flow records');
    const records: FlowRecord[] = [];
    for (let i = 0, at = 0; i < count; i++) {
      records.push(flowRecordCodec.read(this.#buffer, at + recordHeaderCodec.size));
      at += recordHeaderCodec.size + ((recordHeaderCodec.read(this.#buffer, at).length + 7) & ~7);
    }
    return records;
  }
}

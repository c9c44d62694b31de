/**
 * The memory that a flow worker and its standby share, and the kernel library works on: the batch in hand, its results, and what of it
 * is being settled.
 *
 * It is shared so that a standby can finish the batch of a worker that was stopped in the middle: no held packet is lost with a thread.
 * `evaluation` and `progress` are words of other files: evaluation-guard.ts, batch-results.ts.
 */
import { askCodec, verdictEntryCodec, verdictKeyCodec } from '../abi.gen.ts';
import { flowTurnCodec, recordHeaderCodec } from '../native.gen.ts';

/** Of each record in a batch, before its struct ask and the packet's bytes. */
export const RECORD_HEADER = recordHeaderCodec.size;
/** Room for many small packets, and for the largest one. */
export const BATCH_BYTES = 1024 * 1024;
/** Behind the batch: room for packets that are sent on from elsewhere, and for the largest packet. */
export const SENT_BYTES = 256 * 1024;
/** No record is smaller than its header and struct ask. */
export const BATCH_RECORDS_MAX = Math.ceil(BATCH_BYTES / (RECORD_HEADER + askCodec.size));

export interface SharedMemory {
  /** The evaluation under way; see evaluation-guard.ts. */
  readonly evaluation: SharedArrayBuffer;
  /** How far the batch is, and what became of each record; see batch-results.ts. */
  readonly progress: SharedArrayBuffer;
  readonly results: SharedArrayBuffer;
  /** A word that changes to wake a standby. */
  readonly wake: SharedArrayBuffer;
  readonly batch: SharedArrayBuffer;
  /** Verdicts to write, packed: struct verdict_key and struct verdict_entry. */
  readonly verdictKeys: SharedArrayBuffer;
  readonly verdictValues: SharedArrayBuffer;
  /** Packets to release: where in `batch` each is. */
  readonly offsets: SharedArrayBuffer;
  readonly errors: SharedArrayBuffer;
  /** The numbers of a worker's turn; see kernel/ask-ring.ts. */
  readonly turn: SharedArrayBuffer;
}

export function createSharedMemory(): SharedMemory {
  const records = (bytes: number): SharedArrayBuffer => new SharedArrayBuffer(BATCH_RECORDS_MAX * bytes);
  return {
    evaluation: new SharedArrayBuffer(16),
    progress: new SharedArrayBuffer(8),
    results: records(8),
    wake: new SharedArrayBuffer(4),
    batch: new SharedArrayBuffer(BATCH_BYTES + SENT_BYTES),
    verdictKeys: records(verdictKeyCodec.size),
    verdictValues: records(verdictEntryCodec.size),
    offsets: records(4),
    errors: records(4),
    turn: new SharedArrayBuffer(flowTurnCodec.size),
  };
}

/** Ends the wait of a standby. */
export function wakeStandby({ wake }: SharedMemory): void {
  const word = new Int32Array(wake);
  Atomics.add(word, 0, 1);
  Atomics.notify(word, 0);
}

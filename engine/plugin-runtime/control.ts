/**
 * What a flow worker and the standby that watches it share: which evaluation is under way, and the batch in hand.
 *
 * The batch lives in shared memory, so that a standby can finish it when its worker is stopped in the middle: no held
 * packet is lost with a thread.
 */
import { askCodec, verdictEntryCodec, verdictKeyCodec } from '../abi.gen.ts';
import { flowTurnCodec, recordHeaderCodec } from '../native.gen.ts';

/** Of each record in a batch, before its struct ask and the packet's bytes. */
export const RECORD_HEADER = recordHeaderCodec.size;
/** Room for many small packets, and for the largest one. */
export const BATCH_BYTES = 1024 * 1024;
/** Behind the batch: room for what is sent on from elsewhere, and for the largest packet. */
export const SENT_BYTES = 256 * 1024;
/** No record is smaller than its header and struct ask. */
export const BATCH_RECORDS_MAX = Math.ceil(BATCH_BYTES / (RECORD_HEADER + askCodec.size));

/** Words of `control`. */
export const Control = {
  /** Number of the evaluation under way; 0 when none is; STOPPED once the standby has ended it. */
  EVALUATION: 0,
  /** Plugin that is evaluating. */
  PLUGIN: 1,
  /** Milliseconds that this evaluation may take. */
  BUDGET_MS: 2,
  /** Records of the batch. */
  COUNT: 3,
  /** The record being decided: those before it are. */
  NEXT: 4,
  /** Changes to wake a standby. */
  WAKE: 5,
  /** Counts evaluations of all workers: no two have the same number. */
  EVALUATIONS: 6,
  WORDS: 8,
} as const;

export const STOPPED = -1;

/** After this many time-outs of one version it is not asked again. */
export const TIMEOUTS_MAX = 3;

/**
 * The first word of a result: DECIDED, and the second is the verdict word; WAITING for more of what the packet is part of, or REPEATED
 * of what was let through before; or a failure.
 */
export const DECIDED = 1 << 20;
export const WAITING = DECIDED + 1;
export const REPEATED = DECIDED + 2;
export const Failure = {
  NONE: 0,
  UNKNOWN_PLUGIN: 1,
  TRAP: 2,
  NONSENSE: 3,
  TIMEOUT: 4,
  EXPIRED: 5,
  SUSPENDED: 6,
  NO_HOOK: 7,
  OVER_SHARE: 8,
  OVERFLOW: 9,
} as const;
export type Failure = (typeof Failure)[keyof typeof Failure];

/** What people read about each failure. */
export const FAILURE_TEXT: Readonly<Record<Failure, string>> = {
  [Failure.NONE]: '',
  [Failure.UNKNOWN_PLUGIN]: 'plugin is not loaded',
  [Failure.TRAP]: 'plugin trapped',
  [Failure.NONSENSE]: 'plugin answered nonsense',
  [Failure.TIMEOUT]: 'plugin ran out of its time',
  [Failure.EXPIRED]: 'held longer than the hold time-out',
  [Failure.SUSPENDED]: 'plugin is suspended after a time-out',
  [Failure.NO_HOOK]: 'plugin does not answer this hook',
  [Failure.OVER_SHARE]: 'plugin has had its share of the time: its flows are too many, or take too long',
  [Failure.OVERFLOW]: 'too much is held of clients that have not said all',
};

export interface SharedMemory {
  readonly control: SharedArrayBuffer;
  readonly batch: SharedArrayBuffer;
  readonly results: SharedArrayBuffer;
  /** What is being settled: verdict keys and values, packed, and where the packets to release are. */
  readonly verdictKeys: SharedArrayBuffer;
  readonly verdictValues: SharedArrayBuffer;
  readonly offsets: SharedArrayBuffer;
  readonly errors: SharedArrayBuffer;
  /** The numbers of a worker's turn. */
  readonly turn: SharedArrayBuffer;
}

export function createSharedMemory(): SharedMemory {
  const records = (bytes: number): SharedArrayBuffer => new SharedArrayBuffer(BATCH_RECORDS_MAX * bytes);
  return {
    control: new SharedArrayBuffer(Control.WORDS * 4),
    batch: new SharedArrayBuffer(BATCH_BYTES + SENT_BYTES),
    results: records(8),
    verdictKeys: records(verdictKeyCodec.size),
    verdictValues: records(verdictEntryCodec.size),
    offsets: records(4),
    errors: records(4),
    turn: new SharedArrayBuffer(flowTurnCodec.size),
  };
}

/** Packs verdicts for the kernel's cache: which packets each answers, and until when. */
import { askCodec, Scope, Verdict, verdictEntryCodec, verdictKeyCodec } from '../abi.gen.ts';
import type { Outcome } from '../held/content.ts';
import type { PluginSetup } from '../plugin-runtime/plugin-setup.ts';
import type { SharedMemory } from './shared-memory.ts';

/** Longer than a released packet takes to come round, shorter than a port is reused. */
const ONCE_NS = 1_000_000_000n;
const ASK = askCodec.offsets;
const KEY = verdictKeyCodec.offsets;

export class VerdictWriter {
  readonly #batch: Buffer;
  readonly #keys: Buffer;
  readonly #values: Buffer;

  constructor(memory: SharedMemory) {
    this.#batch = Buffer.from(memory.batch);
    this.#keys = Buffer.from(memory.verdictKeys);
    this.#values = Buffer.from(memory.verdictValues);
  }

  /** Packs the verdict number `index` of this batch, about the ask at an offset of it. */
  write(
    index: number,
    at: number,
    setup: Pick<PluginSetup, 'id' | 'epoch'>,
    outcome: Pick<Outcome, 'allowed' | 'scope' | 'ttlMs'>,
    nowNs: bigint,
  ): void {
    const { allowed, scope, ttlMs } = outcome;
    const once = scope === Scope.NONE;
    const key = index * verdictKeyCodec.size;
    this.#keys.fill(0, key, key + verdictKeyCodec.size);
    if (scope === Scope.IDENTITY) this.#copy(key + KEY.sourceIdentity, at + ASK.sourceIdentity, 8);
    else this.#copy(key + KEY.source, at + ASK.source, 32);
    this.#keys.writeUInt32LE(setup.id, key + KEY.plugin);
    if (once || scope === Scope.FLOW) this.#copy(key + KEY.sourcePort, at + ASK.sourcePort, 2);
    this.#copy(key + KEY.destinationPort, at + ASK.destinationPort, 2);
    this.#copy(key + KEY.protocol, at + ASK.protocol, 1);
    this.#keys.writeUInt8(once ? Scope.FLOW : scope, key + KEY.scope);
    this.#copy(key + KEY.direction, at + ASK.direction, 1);
    this.#copy(key + KEY.context, at + ASK.context, 1);
    verdictEntryCodec.write(this.#values, index * verdictEntryCodec.size, {
      expiresNs: nowNs + (once ? ONCE_NS : BigInt(ttlMs) * 1_000_000n),
      epoch: setup.epoch,
      verdict: allowed ? Verdict.ALLOW : Verdict.DENY,
      backendSet: 0,
      once: once ? 1 : 0,
    });
  }

  #copy(to: number, from: number, length: number): void {
    this.#batch.copy(this.#keys, to, from, from + length);
  }
}

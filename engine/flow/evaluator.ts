/**
 * The worker's side of a batch of asks: decide each one, write the verdicts, release what may pass.
 *
 * Verdicts are written before anything is released, so that a released packet finds its own. What fails gets its
 * plugin's failure policy; the loop goes on. Runs in a flow worker, on memory that its standby can see.
 */
import { AskFlag, askCodec, type Direction, Scope, Verdict, verdictEntryCodec, verdictKeyCodec } from '../abi.gen.ts';
import { BATCH_RECORDS_MAX, Control, DECIDED, FAILURE_TEXT, Failure, RECORD_HEADER, type SharedMemory } from './control.ts';
import type { AskedFlow, PluginCounts, PluginVersion } from './messages.ts';

/** What a plugin is asked through; see engine/plugins for what implements it. */
export interface Guest<Question> {
  /** The verdict word; throws when the guest traps. */
  evaluateConnect(question: Question): number;
  readonly fieldsRead: number;
  readonly message: string;
}

export interface Texts {
  readonly namespace: Uint8Array;
  readonly labels: Uint8Array;
}

export interface Question {
  readonly addresses: Uint8Array;
  readonly sourceIdentity: number;
  readonly destinationIdentity: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly protocol: number;
  readonly direction: number;
  readonly rule: number;
  readonly established: boolean;
  readonly timeMs: number;
  readonly source: Texts | undefined;
  readonly destination: Texts | undefined;
  readonly sourcePod: Uint8Array | undefined;
  readonly destinationPod: Uint8Array | undefined;
}

export interface WordRules {
  decode(word: number): { verdict: Verdict; scope: Scope; ttlMs: number } | undefined;
  effectiveScope(asked: Scope, fieldsRead: number): Scope;
}

export interface Kernel {
  /**
   * Writes the first verdicts of the shared memory, then releases the first packets of its offsets. Returns how many
   * could not be released. Throws when not every verdict landed; nothing is released then.
   */
  settle(verdicts: number, releases: number): number;
}

export interface LoadedPlugin {
  readonly version: PluginVersion;
  guest: Guest<Question>;
  suspended: boolean;
}

/** Longer than a released packet takes to come round, shorter than a port is reused. */
const ONCE_NS = 1_000_000_000n;
/** Flows between two reports that are told one by one. */
const REPORTED_FLOWS_MAX = 256;
/** Decisions remembered for packets of the same flow that were held before the verdict was there. */
const RECENT_MAX = 4096;

const ASK = askCodec.offsets;

export class Evaluator {
  readonly plugins = new Map<number, LoadedPlugin>();
  readonly identities = new Map<number, Texts>();
  readonly pods = new Map<string, Uint8Array>();
  /** Called for each trap, with what the guest said; it returns a fresh instance or nothing. */
  onTrap: (plugin: LoadedPlugin, message: string) => void = () => {};

  readonly #batch: Buffer;
  readonly #control: Int32Array;
  readonly #results: Int32Array;
  readonly #kernel: Kernel;
  readonly #words: WordRules;
  readonly #holdTimeoutNs: bigint;
  readonly #offsets = new Uint32Array(BATCH_RECORDS_MAX);
  readonly #released: Uint32Array;
  readonly #keys: Buffer;
  readonly #values: Buffer;
  readonly #reasons = new Map<number, string>();
  readonly #recent = new Map<string, { result: number; epoch: number; decidedNs: bigint }>();
  #evaluation = 0;

  #flows: AskedFlow[] = [];
  #omitted = 0;
  #counts = new Map<number, PluginCounts>();
  #releaseFailures = 0;

  constructor(memory: SharedMemory, kernel: Kernel, words: WordRules, holdTimeoutMs: number) {
    this.#batch = Buffer.from(memory.batch);
    this.#control = new Int32Array(memory.control);
    this.#results = new Int32Array(memory.results);
    this.#released = new Uint32Array(memory.offsets);
    this.#keys = Buffer.from(memory.verdictKeys);
    this.#values = Buffer.from(memory.verdictValues);
    this.#kernel = kernel;
    this.#words = words;
    this.#holdTimeoutNs = BigInt(holdTimeoutMs) * 1_000_000n;
  }

  /** Decides and releases a batch that was just drained. */
  process(count: number): void {
    Atomics.store(this.#control, Control.COUNT, count);
    this.#indexRecords(count);
    this.#decideFrom(0, count);
    this.#flush(count);
  }

  /** Finishes the batch of a worker that was stopped: the record it was at fails, those before it keep their verdict. */
  finishUnfinished(): void {
    const count = Atomics.load(this.#control, Control.COUNT);
    const at = Atomics.load(this.#control, Control.NEXT);
    Atomics.store(this.#control, Control.EVALUATION, 0);
    this.#indexRecords(count);
    if (at < count) this.#results[at] = Failure.TIMEOUT;
    this.#decideFrom(at + 1, count);
    this.#flush(count);
  }

  /** What happened since the last report. */
  takeReport(): { flows: AskedFlow[]; omitted: number; counts: Map<number, PluginCounts>; releaseFailures: number } | undefined {
    if (!this.#counts.size) return undefined;
    const report = { flows: this.#flows, omitted: this.#omitted, counts: this.#counts, releaseFailures: this.#releaseFailures };
    this.#flows = [];
    this.#omitted = 0;
    this.#counts = new Map();
    this.#releaseFailures = 0;
    return report;
  }

  #indexRecords(count: number): void {
    let at = 0;
    for (let i = 0; i < count; i++) {
      this.#offsets[i] = at;
      at += RECORD_HEADER + ((this.#batch.readUInt32LE(at) + 7) & ~7);
    }
  }

  #decideFrom(first: number, count: number): void {
    for (let i = first; i < count; i++) {
      Atomics.store(this.#control, Control.NEXT, i);
      this.#results[i] = this.#decide(i);
    }
    Atomics.store(this.#control, Control.NEXT, count);
  }

  #decide(index: number): number {
    const at = (this.#offsets[index] as number) + RECORD_HEADER;
    const plugin = this.plugins.get(this.#batch.readUInt32LE(at + ASK.plugin));
    if (!plugin) return Failure.UNKNOWN_PLUGIN;
    if (plugin.suspended) return Failure.SUSPENDED;
    const heldNs = this.#batch.readBigUInt64LE(at + ASK.timeNs);
    const nowNs = process.hrtime.bigint();
    if (nowNs - heldNs > this.#holdTimeoutNs) return Failure.EXPIRED;

    const flow = this.#flowKey(at);
    const recent = this.#recent.get(flow);
    if (recent && recent.epoch === plugin.version.epoch && heldNs <= recent.decidedNs) return recent.result;
    const result = this.#evaluate(index, at, plugin, Number(nowNs / 1_000_000n));
    if (this.#recent.size >= RECENT_MAX) this.#recent.clear();
    this.#recent.set(flow, { result, epoch: plugin.version.epoch, decidedNs: process.hrtime.bigint() });
    return result;
  }

  #evaluate(index: number, at: number, plugin: LoadedPlugin, timeMs: number): number {
    const question = this.#question(at, timeMs);
    let word: number | undefined;
    this.#begin(plugin);
    try {
      word = plugin.guest.evaluateConnect(question);
    } catch (error) {
      this.#end();
      this.onTrap(plugin, (error as Error).message);
      return Failure.TRAP;
    }
    this.#end();
    const decoded = this.#words.decode(word);
    if (!decoded) return Failure.NONSENSE;
    if (decoded.verdict === Verdict.DENY) this.#reasons.set(index, plugin.guest.message);
    const scope = decoded.ttlMs ? this.#words.effectiveScope(decoded.scope, plugin.guest.fieldsRead) : Scope.NONE;
    // Scope is bits 4 to 7 of the word; the reason's index makes room for DECIDED.
    return (word & 0xfff0f) | (scope << 4) | DECIDED;
  }

  #begin(plugin: LoadedPlugin): void {
    this.#evaluation = (Atomics.add(this.#control, Control.EVALUATIONS, 1) & 0x3fffffff) + 1;
    Atomics.store(this.#control, Control.PLUGIN, plugin.version.id);
    Atomics.store(this.#control, Control.BUDGET_MS, plugin.version.evaluateMs);
    Atomics.store(this.#control, Control.EVALUATION, this.#evaluation);
  }

  /** Ends the evaluation, unless the standby has: then this thread has no say any more, and waits for its end. */
  #end(): void {
    if (Atomics.compareExchange(this.#control, Control.EVALUATION, this.#evaluation, 0) !== this.#evaluation)
      for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  }

  #question(at: number, timeMs: number): Question {
    const batch = this.#batch;
    const sourceIdentity = batch.readUInt32LE(at + ASK.sourceIdentity);
    const destinationIdentity = batch.readUInt32LE(at + ASK.destinationIdentity);
    return {
      addresses: batch.subarray(at + ASK.source, at + ASK.source + 32),
      sourceIdentity,
      destinationIdentity,
      sourcePort: batch.readUInt16BE(at + ASK.sourcePort),
      destinationPort: batch.readUInt16BE(at + ASK.destinationPort),
      protocol: batch.readUInt8(at + ASK.protocol),
      direction: batch.readUInt8(at + ASK.direction),
      rule: batch.readUInt32LE(at + ASK.rule),
      established: (batch.readUInt8(at + ASK.flags) & AskFlag.ESTABLISHED) !== 0,
      timeMs,
      source: this.identities.get(sourceIdentity),
      destination: this.identities.get(destinationIdentity),
      sourcePod: this.pods.get(batch.toString('latin1', at + ASK.source, at + ASK.source + 16)),
      destinationPod: this.pods.get(batch.toString('latin1', at + ASK.destination, at + ASK.destination + 16)),
    };
  }

  /** Addresses, ports, protocol, direction and plugin: the packets that one decision answers. */
  #flowKey(at: number): string {
    const { source, plugin, sourcePort, protocol, context } = ASK;
    return (
      this.#batch.toString('latin1', at + source, at + source + 32) +
      this.#batch.toString('latin1', at + plugin, at + plugin + 4) +
      this.#batch.toString('latin1', at + sourcePort, at + sourcePort + 4) +
      this.#batch.toString('latin1', at + protocol, at + context + 1)
    );
  }

  #flush(count: number): void {
    const nowNs = process.hrtime.bigint();
    let verdicts = 0;
    let released = 0;
    for (let i = 0; i < count; i++) {
      const at = (this.#offsets[i] as number) + RECORD_HEADER;
      const plugin = this.plugins.get(this.#batch.readUInt32LE(at + ASK.plugin));
      const { allowed, scope, ttlMs } = this.#outcome(at, this.#results[i] as number);
      // A refusal that holds for this connection only needs no entry: its packet is gone, and the next one is asked about.
      if (plugin && (allowed || scope !== Scope.NONE)) {
        const ttlNs = scope === Scope.NONE ? ONCE_NS : BigInt(ttlMs) * 1_000_000n;
        this.#writeVerdict(verdicts++, at, plugin.version, allowed, scope, nowNs + ttlNs);
      }
      if (plugin && allowed) this.#released[released++] = this.#offsets[i] as number;
    }
    if (verdicts) this.#releaseFailures += this.#kernel.settle(verdicts, released);
    for (let i = 0; i < count; i++) this.#report(i, nowNs);
    this.#reasons.clear();
  }

  /** What a result comes to: its verdict, or the plugin's failure policy. */
  #outcome(at: number, result: number): { allowed: boolean; scope: Scope; ttlMs: number } {
    const decoded = result & DECIDED ? this.#words.decode(result & (DECIDED - 1)) : undefined;
    if (decoded) return { allowed: decoded.verdict !== Verdict.DENY, scope: decoded.scope, ttlMs: decoded.ttlMs };
    const plugin = this.plugins.get(this.#batch.readUInt32LE(at + ASK.plugin));
    return { allowed: plugin?.version.failureAllow ?? false, scope: Scope.NONE, ttlMs: 0 };
  }

  #writeVerdict(index: number, at: number, version: PluginVersion, allowed: boolean, scope: Scope, expiresNs: bigint): void {
    const batch = this.#batch;
    const once = scope === Scope.NONE;
    const byIdentity = scope === Scope.IDENTITY;
    const key = index * verdictKeyCodec.size;
    const K = verdictKeyCodec.offsets;
    this.#keys.fill(0, key, key + verdictKeyCodec.size);
    if (byIdentity) batch.copy(this.#keys, key + K.sourceIdentity, at + ASK.sourceIdentity, at + ASK.sourceIdentity + 8);
    else batch.copy(this.#keys, key + K.source, at + ASK.source, at + ASK.source + 32);
    this.#keys.writeUInt32LE(version.id, key + K.plugin);
    if (once || scope === Scope.FLOW) batch.copy(this.#keys, key + K.sourcePort, at + ASK.sourcePort, at + ASK.sourcePort + 2);
    batch.copy(this.#keys, key + K.destinationPort, at + ASK.destinationPort, at + ASK.destinationPort + 2);
    this.#keys.writeUInt8(batch.readUInt8(at + ASK.protocol), key + K.protocol);
    this.#keys.writeUInt8(once ? Scope.FLOW : scope, key + K.scope);
    this.#keys.writeUInt8(batch.readUInt8(at + ASK.direction), key + K.direction);
    this.#keys.writeUInt8(batch.readUInt8(at + ASK.context), key + K.context);
    verdictEntryCodec.write(this.#values, index * verdictEntryCodec.size, {
      expiresNs,
      epoch: version.epoch,
      verdict: allowed ? Verdict.ALLOW : Verdict.DENY,
      once: once ? 1 : 0,
    });
  }

  /** Who is told: whether the flow passed, and why. Comes after the release, which it would only delay. */
  #report(index: number, nowNs: bigint): void {
    const at = (this.#offsets[index] as number) + RECORD_HEADER;
    const result = this.#results[index] as number;
    const { allowed, scope, ttlMs } = this.#outcome(at, result);
    const ask = this.#batch;
    const id = ask.readUInt32LE(at + ASK.plugin);
    let counts = this.#counts.get(id);
    if (!counts) this.#counts.set(id, (counts = { evaluations: 0, allowed: 0, denied: 0, failures: new Array(7).fill(0) }));
    counts.evaluations += 1;
    if (allowed) counts.allowed += 1;
    else counts.denied += 1;
    const failure = result & DECIDED ? Failure.NONE : (result as Failure);
    if (failure) counts.failures[failure] = (counts.failures[failure] ?? 0) + 1;
    if (this.#flows.length >= REPORTED_FLOWS_MAX) {
      this.#omitted += 1;
      return;
    }
    const timeNs = ask.readBigUInt64LE(at + ASK.timeNs);
    this.#flows.push({
      timeNs,
      source: Uint8Array.prototype.slice.call(ask, at + ASK.source, at + ASK.source + 16),
      destination: Uint8Array.prototype.slice.call(ask, at + ASK.destination, at + ASK.destination + 16),
      sourcePort: ask.readUInt16BE(at + ASK.sourcePort),
      destinationPort: ask.readUInt16BE(at + ASK.destinationPort),
      sourceIdentity: ask.readUInt32LE(at + ASK.sourceIdentity),
      destinationIdentity: ask.readUInt32LE(at + ASK.destinationIdentity),
      endpoint: ask.readUInt32LE(at + ASK.endpoint),
      rule: ask.readUInt32LE(at + ASK.rule),
      plugin: id,
      protocol: ask.readUInt8(at + ASK.protocol),
      direction: ask.readUInt8(at + ASK.direction) as Direction,
      allowed,
      reason: failure ? FAILURE_TEXT[failure] : (this.#reasons.get(index) ?? ''),
      scope,
      ttlMs,
      heldUs: Number((nowNs - timeNs) / 1000n),
    });
  }
}

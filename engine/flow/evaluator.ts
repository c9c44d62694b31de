/**
 * The worker's side of a batch of asks: decide each one, write the verdicts, release what may pass.
 *
 * Verdicts are written before anything is released, so that a released packet finds its own. What fails gets its
 * plugin's failure policy; the loop goes on. Runs in a flow worker, on memory that its standby can see.
 */
import { Abi, PluginAction, Scope } from '../abi.gen.ts';
import type { Content } from '../held/content.ts';
import { refuseHello } from '../held/server-names.ts';
import { Control, DECIDED, FAILURE_TEXT, Failure, REPEATED, type SharedMemory, WAITING } from '../plugin-runtime/control.ts';
import type { LoadedPlugin, RunningVersion } from '../plugin-runtime/loaded-plugin.ts';
import type { PluginSetup } from '../plugin-runtime/messages.ts';
import { PluginCaller, TRAPPED } from '../plugin-runtime/plugin-caller.ts';
import { Question } from '../plugin-runtime/question.ts';
import { Reporter } from '../plugin-runtime/reporter.ts';
import { actionOf, scopeOf, ttlMsOf } from '../plugin-runtime/verdict-word.ts';
import type { ServerNames } from '../policy/snapshot.ts';
import { AskBatch, type Cluster } from './ask-batch.ts';
import { Contents } from './contents.ts';
import type { Kernel } from './kernel.ts';
import { ReleaseBox } from './release-box.ts';
import { type Outcome, VerdictWriter } from './verdict-writer.ts';

/** Decisions remembered for packets of the same flow that were held before the verdict was there. */
const RECENT_MAX = 4096;
/** Shadows may delay the next batch by so much; flows that they are not asked about are counted. */
const SHADOWS_MS = 2;
/**
 * Of the hold time-out: what one plugin may take of a batch. Another one's flow waits for the batch before and for its own,
 * and must not expire in that time: whoever floods a plugin takes nothing from the others.
 */
const BATCH_SHARE = 0.2;

/** How the engine's own work is treated when it fails: a list of server names denies, and pieces pass as they come. */
const OWN: ReadonlyMap<number, Pick<PluginSetup, 'failureAllow' | 'enforced'>> = new Map([
  [Abi.SERVER_NAMES, { failureAllow: false, enforced: true }],
  [Abi.PIECES, { failureAllow: true, enforced: true }],
]);

const ACTION_NAMES = Object.keys(PluginAction).map((name) => name.toLowerCase());

export interface EvaluatorParts {
  readonly memory: SharedMemory;
  readonly kernel: Kernel;
  readonly cluster: Cluster;
  readonly holdTimeoutMs: number;
  /** Equal for all packets of a flow. */
  readonly flowHash: (question: Question) => number;
  /** Told of each trap; makes a fresh instance or leaves the version without one. */
  readonly onTrap: (running: RunningVersion, error: Error) => void;
}

export class Evaluator {
  readonly plugins = new Map<number, LoadedPlugin>();
  readonly reporter = new Reporter();
  /** Lists of server names by rule. */
  serverNames: ReadonlyMap<number, ServerNames> = new Map();
  readonly #contents = new Contents();
  readonly #caller: PluginCaller;
  readonly #box: ReleaseBox;
  readonly #parts: EvaluatorParts;
  readonly #batch: AskBatch;
  readonly #writer: VerdictWriter;
  readonly #control: Int32Array;
  /** Two words for each record: DECIDED or a failure, and the verdict word. */
  readonly #results: Int32Array;
  readonly #released: Uint32Array;
  readonly #holdTimeoutNs: bigint;
  readonly #question = new Question();
  /** What contents name, for those who are told. */
  readonly #named = new Question();
  readonly #reasons = new Map<number, string>();
  /** Response codes of denied DNS answers. */
  readonly #codes = new Map<number, number>();
  readonly #recent = new Map<string, { result: number; word: number; epoch: number; decidedNs: bigint }>();
  /** Milliseconds that each plugin has had of this batch. */
  readonly #spentMs = new Map<number, number>();
  readonly #shareMs: number;
  #evaluation = 0;

  constructor(parts: EvaluatorParts) {
    this.#parts = parts;
    const { memory, holdTimeoutMs } = parts;
    this.#batch = new AskBatch(memory.batch);
    this.#writer = new VerdictWriter(memory);
    this.#box = new ReleaseBox(memory, parts.kernel);
    this.#control = new Int32Array(memory.control);
    this.#results = new Int32Array(memory.results);
    this.#released = new Uint32Array(memory.offsets);
    this.#holdTimeoutNs = BigInt(holdTimeoutMs) * 1_000_000n;
    this.#shareMs = holdTimeoutMs * BATCH_SHARE;
    this.#caller = new PluginCaller({
      reporter: this.reporter,
      watch: {
        begin: (plugin) => this.#begin(plugin),
        end: () => this.#end(),
        spend: ({ setup }, ms) => void this.#spentMs.set(setup.id, (this.#spentMs.get(setup.id) ?? 0) + ms),
      },
      flowHash: parts.flowHash,
      onTrap: parts.onTrap,
    });
  }

  /** Decides and releases a batch that was just drained. */
  process(count: number): void {
    Atomics.store(this.#control, Control.COUNT, count);
    this.#batch.index(count);
    this.#decideFrom(0, count);
    this.#flush(count);
  }

  /** Finishes the batch of a worker that was stopped: the record it was at fails, those before it keep their verdict. */
  finishUnfinished(): void {
    const count = Atomics.load(this.#control, Control.COUNT);
    const at = Atomics.load(this.#control, Control.NEXT);
    Atomics.store(this.#control, Control.EVALUATION, 0);
    this.#batch.index(count);
    if (at < count) this.#results[2 * at] = Failure.TIMEOUT;
    this.#decideFrom(at + 1, count);
    this.#flush(count);
  }

  #decideFrom(first: number, count: number): void {
    this.#spentMs.clear();
    for (let i = first; i < count; i++) {
      Atomics.store(this.#control, Control.NEXT, i);
      this.#results[2 * i] = this.#decide(i);
    }
    Atomics.store(this.#control, Control.NEXT, count);
  }

  /** DECIDED, with the word in its place, or a failure. */
  #decide(index: number): number {
    const at = this.#batch.at(index);
    const plugin = this.plugins.get(this.#batch.plugin(at));
    if (!plugin && !OWN.has(this.#batch.plugin(at))) return Failure.UNKNOWN_PLUGIN;
    if (plugin?.suspended) return Failure.SUSPENDED;
    const heldNs = this.#batch.heldNs(at);
    const nowNs = process.hrtime.bigint();
    if (nowNs - heldNs > this.#holdTimeoutNs) return Failure.EXPIRED;

    const content = this.#contents.of(this.#batch, index);
    if (content) return this.#decideContent(index, content, plugin, Number(nowNs / 1_000_000n));
    if (!plugin) return Failure.UNKNOWN_PLUGIN;
    const flow = this.#batch.flowKey(at);
    const recent = this.#recent.get(flow);
    if (recent && recent.epoch === plugin.setup.epoch && heldNs <= recent.decidedNs) {
      this.#results[2 * index + 1] = recent.word;
      return recent.result;
    }
    this.#batch.ask(at, this.#question, Number(nowNs / 1_000_000n), this.#parts.cluster);
    const result = this.#ask(index, plugin);
    if (this.#recent.size >= RECENT_MAX) this.#recent.clear();
    const word = this.#results[2 * index + 1] as number;
    this.#recent.set(flow, { result, word, epoch: plugin.setup.epoch, decidedNs: process.hrtime.bigint() });
    return result;
  }

  /** Decides what a packet is part of, as far as it is known by now. */
  #decideContent(index: number, content: Content, plugin: LoadedPlugin | undefined, nowMs: number): number {
    const { reading } = content;
    if (reading.state === 'overflow') return Failure.OVERFLOW;
    if (reading.state === 'incomplete') return WAITING;
    if (reading.state === 'decided') return REPEATED;
    if (reading.state === 'unreadable') return this.#refuse(index, reading.reason);
    const at = this.#batch.at(index);
    // Put together, the kernel decides it.
    if (this.#batch.plugin(at) === Abi.PIECES) return REPEATED;
    this.#batch.ask(at, this.#question, nowMs, this.#parts.cluster);
    content.describe(this.#question);
    if (plugin) return this.#ask(index, plugin);
    const list = this.serverNames.get(this.#batch.rule(at));
    if (!list) return Failure.UNKNOWN_PLUGIN;
    const refusal = refuseHello(list, this.#question);
    if (refusal !== undefined) return this.#refuse(index, refusal);
    this.#results[2 * index + 1] = PluginAction.ALLOW;
    return DECIDED;
  }

  #refuse(index: number, reason: string): number {
    this.#reasons.set(index, reason);
    this.#results[2 * index + 1] = PluginAction.DENY;
    return DECIDED;
  }

  #ask(index: number, plugin: LoadedPlugin): number {
    if ((this.#spentMs.get(plugin.setup.id) ?? 0) > this.#shareMs) return Failure.OVER_SHARE;
    const failure = this.#caller.ask(plugin, this.#question);
    if (failure) return failure;
    const { word, decider, reason } = this.#caller;
    if (reason) this.#reasons.set(index, reason);
    if (actionOf(word) === PluginAction.DENY) this.#codes.set(index, decider?.guest?.responseCode ?? 0);
    this.#results[2 * index + 1] = word;
    return DECIDED;
  }

  #begin(plugin: LoadedPlugin): void {
    this.#evaluation = (Atomics.add(this.#control, Control.EVALUATIONS, 1) & 0x3fffffff) + 1;
    Atomics.store(this.#control, Control.PLUGIN, plugin.setup.id);
    Atomics.store(this.#control, Control.BUDGET_MS, plugin.setup.evaluateMs);
    Atomics.store(this.#control, Control.EVALUATION, this.#evaluation);
  }

  /** Ends the evaluation, unless the standby has: then this thread has no say any more, and waits for its end. */
  #end(): void {
    if (Atomics.compareExchange(this.#control, Control.EVALUATION, this.#evaluation, 0) !== this.#evaluation)
      for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  }

  #flush(count: number): void {
    try {
      this.#settle(count);
    } catch (error) {
      this.#contents.forget();
      throw error;
    }
  }

  #settle(count: number): void {
    const nowNs = process.hrtime.bigint();
    let verdicts = 0;
    let released = 0;
    for (let i = 0; i < count; i++) {
      const at = this.#batch.at(i);
      const plugin = this.plugins.get(this.#batch.plugin(at));
      if (!plugin || this.#contents.of(this.#batch, i)) continue;
      const outcome = this.#outcome(i);
      // A refusal that holds for this connection only needs no entry: its packet is gone, and the next one is asked about.
      if (outcome.allowed || outcome.scope !== Scope.NONE) this.#writer.write(verdicts++, at, plugin.setup, outcome, nowNs);
      if (outcome.allowed) this.#released[released++] = this.#batch.offsets[i] as number;
    }
    if (verdicts) this.reporter.releaseFailures += this.#parts.kernel.settle(verdicts, released);
    this.#flushContents(count);
    for (let i = 0; i < count; i++) this.#report(i, nowNs);
    this.#askShadows(count, nowNs);
    this.#reasons.clear();
    this.#codes.clear();
    this.#contents.clear();
  }

  /** Sends on, or ends, what was decided by its contents: the decision is in what is sent. */
  #flushContents(count: number): void {
    for (let i = 0; i < count; i++) {
      const content = this.#contents.of(this.#batch, i);
      if (!content) continue;
      if (this.#results[2 * i] === WAITING) content.wait(this.#box);
      else {
        const failed = (this.#results[2 * i] as number) < DECIDED;
        content.settle({ ...this.#outcome(i), code: this.#codes.get(i) ?? 0, failed }, this.#box);
      }
    }
    this.reporter.releaseFailures += this.#box.flush();
  }

  /** How the flow's plugin is treated; undefined where nobody knows it. */
  #setup(index: number): Pick<PluginSetup, 'failureAllow' | 'enforced'> | undefined {
    const id = this.#batch.plugin(this.#batch.at(index));
    return OWN.get(id) ?? this.plugins.get(id)?.setup;
  }

  /** What a result comes to: its verdict, or the plugin's failure policy. */
  #outcome(index: number): Outcome {
    const setup = this.#setup(index);
    if (this.#results[2 * index] === REPEATED) return { allowed: true, scope: Scope.NONE, ttlMs: 0 };
    if (this.#results[2 * index] !== DECIDED)
      return { allowed: setup ? setup.failureAllow || !setup.enforced : false, scope: Scope.NONE, ttlMs: 0 };
    const word = (this.#results[2 * index + 1] as number) >>> 0;
    return {
      allowed: actionOf(word) !== PluginAction.DENY || !setup?.enforced,
      scope: scopeOf(word),
      ttlMs: ttlMsOf(word),
    };
  }

  /** Who is told: whether the flow passed, and why. Comes after the release, which it would only delay. */
  #report(index: number, nowNs: bigint): void {
    const at = this.#batch.at(index);
    const id = this.#batch.plugin(at);
    const result = this.#results[2 * index] as number;
    if (result === WAITING || result === REPEATED) return;
    const outcome = this.#outcome(index);
    const failure = result === DECIDED ? Failure.NONE : (result as Failure);
    this.reporter.count(id, outcome.allowed, failure);
    if (!this.reporter.hasRoom) {
      this.reporter.omit();
      return;
    }
    const word = (this.#results[2 * index + 1] as number) >>> 0;
    this.reporter.flow({
      ...this.#batch.describe(at),
      ...outcome,
      contentName: this.#contentName(index),
      audited: !failure && actionOf(word) === PluginAction.AUDIT,
      failed: failure !== Failure.NONE,
      reason: failure ? FAILURE_TEXT[failure] : (this.#reasons.get(index) ?? ''),
      heldUs: Number((nowNs - this.#batch.heldNs(at)) / 1000n),
    });
  }

  #contentName(index: number): string {
    const content = this.#contents.of(this.#batch, index);
    if (!content) return '';
    this.#named.clearTexts();
    content.describe(this.#named);
    return this.#named.serverName || this.#named.dnsName;
  }

  /** Asks the versions that are only compared. Nobody waits for them: what was held is on its way. */
  #askShadows(count: number, nowNs: bigint): void {
    const until = performance.now() + SHADOWS_MS;
    for (let i = 0; i < count; i++) {
      const at = this.#batch.at(i);
      const plugin = this.plugins.get(this.#batch.plugin(at));
      const shadow = plugin?.shadow;
      if (!plugin || !shadow?.guest || plugin.suspended || this.#results[2 * i] !== DECIDED) continue;
      if (performance.now() > until) {
        this.reporter.version(shadow.version.serial).skipped += 1;
        continue;
      }
      this.#batch.ask(at, this.#question, Number(nowNs / 1_000_000n), this.#parts.cluster);
      this.#contents.of(this.#batch, i)?.describe(this.#question);
      const hooked = shadow.guest.answers(this.#question.hook);
      const word = hooked ? this.#caller.evaluate(plugin, shadow, this.#question) : TRAPPED;
      const live = ACTION_NAMES[actionOf(this.#results[2 * i + 1] as number)] ?? '';
      const said = !hooked ? 'no hook' : word === TRAPPED ? 'trap' : word < 0 ? 'nonsense' : (ACTION_NAMES[actionOf(word)] ?? '');
      if (said === live) continue;
      const { serial } = shadow.version;
      this.reporter.differs(serial, live, said, () => ({
        plugin: plugin.setup.id,
        serial,
        live,
        shadow: said,
        reason: word >= 0 ? (shadow.guest?.reason(word) ?? '') : '',
        flow: {
          ...this.#batch.describe(at),
          ...this.#outcome(i),
          contentName: this.#contentName(i),
          audited: false,
          failed: false,
          reason: this.#reasons.get(i) ?? '',
          heldUs: 0,
        },
      }));
    }
  }
}

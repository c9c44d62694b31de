/**
 * The worker's side of a batch of asks: decides each one, has the decisions carried out, and tells who is interested.
 *
 * Verdicts are written before anything is released, so that a released packet finds its own. A flow that cannot be decided gets its
 * plugin's failure policy; the loop goes on. Runs in a flow worker, on memory that its standby can see.
 */
import { Abi, PluginAction } from '../abi.gen.ts';
import type { Content } from '../held/content.ts';
import { refuseHello } from '../held/server-names.ts';
import { Failure } from '../plugin-runtime/failure.ts';
import type { LoadedPlugin, RunningVersion } from '../plugin-runtime/loaded-plugin.ts';
import { PluginCaller } from '../plugin-runtime/plugin-caller.ts';
import { Question } from '../plugin-runtime/question.ts';
import { Reporter } from '../plugin-runtime/reporter.ts';
import { actionOf } from '../plugin-runtime/verdict-word.ts';
import type { ServerNames } from '../policy/objects.ts';
import type { Cluster } from './ask-batch.ts';
import { BatchInHand } from './batch-in-hand.ts';
import { Result } from './batch-results.ts';
import type { EvaluationGuard } from './evaluation-guard.ts';
import { reportFlows } from './flow-report.ts';
import type { Kernel } from './kernel.ts';
import { OWN_WORK } from './own-work.ts';
import { RecentAnswers } from './recent-answers.ts';
import { Settlement } from './settlement.ts';
import { ShadowComparison } from './shadow-comparison.ts';
import type { SharedMemory } from './shared-memory.ts';

/**
 * Of the hold time-out: what one plugin may take of a batch. Another one's flow waits for the batch before and for its own,
 * and must not expire in that time: whoever floods a plugin takes nothing from the others.
 */
const BATCH_SHARE = 0.2;

export interface EvaluatorParts {
  readonly memory: SharedMemory;
  readonly guard: EvaluationGuard;
  readonly kernel: Kernel;
  readonly cluster: Cluster;
  readonly holdTimeoutMs: number;
  /** Equal for all packets of a flow. */
  readonly flowHash: (question: Question) => number;
  /** Told of each trap; makes a fresh instance or leaves the version without one. */
  readonly onTrap: (running: RunningVersion, error: Error) => void;
}

export class Evaluator {
  readonly reporter = new Reporter();
  /** Lists of server names by rule. */
  serverNames: ReadonlyMap<number, ServerNames> = new Map();
  readonly #parts: EvaluatorParts;
  readonly #batch: BatchInHand;
  readonly #caller: PluginCaller;
  readonly #settlement: Settlement;
  readonly #shadows: ShadowComparison;
  readonly #recent = new RecentAnswers();
  readonly #question = new Question();
  readonly #holdTimeoutNs: bigint;
  /** Milliseconds that each plugin has had of this batch, and how many it may have. */
  readonly #spentMs = new Map<number, number>();
  readonly #shareMs: number;

  constructor(parts: EvaluatorParts) {
    this.#parts = parts;
    const { memory, guard, kernel, cluster, holdTimeoutMs, flowHash, onTrap } = parts;
    this.#batch = new BatchInHand(memory);
    this.#settlement = new Settlement(this.#batch, memory, kernel);
    this.#holdTimeoutNs = BigInt(holdTimeoutMs) * 1_000_000n;
    this.#shareMs = holdTimeoutMs * BATCH_SHARE;
    this.#caller = new PluginCaller({
      reporter: this.reporter,
      watch: {
        begin: ({ setup }) => guard.begin(setup.id, setup.evaluateMs),
        end: () => {
          if (!guard.end()) waitForEnd();
        },
        spend: ({ setup }, ms) => void this.#spentMs.set(setup.id, (this.#spentMs.get(setup.id) ?? 0) + ms),
      },
      flowHash,
      onTrap,
    });
    this.#shadows = new ShadowComparison({ batch: this.#batch, caller: this.#caller, reporter: this.reporter, cluster });
  }

  /** The plugins that are asked, by id. */
  get plugins(): Map<number, LoadedPlugin> {
    return this.#batch.plugins;
  }

  /** Decides and releases a batch that was just drained. */
  process(count: number): void {
    this.#batch.results.count = count;
    this.#carryOut(0, count);
  }

  /** Finishes the batch of a worker that was stopped: the record it was at fails, those before it keep their verdict. */
  finishUnfinished(): void {
    const { results } = this.#batch;
    const { count, next } = results;
    if (next < count) results.fail(next, Failure.TIMEOUT);
    this.#carryOut(next + 1, count);
  }

  /** Decides the records from one on, and settles all. A batch that cannot be carried out leaves nothing of it to the next one. */
  #carryOut(first: number, count: number): void {
    try {
      this.#batch.asks.index(count);
      this.#decideFrom(first, count);
      this.#finish(count);
    } catch (error) {
      this.#batch.abandon();
      throw error;
    }
  }

  #decideFrom(first: number, count: number): void {
    const { results } = this.#batch;
    this.#spentMs.clear();
    for (let i = first; i < count; i++) {
      results.next = i;
      const failure = this.#decide(i);
      if (failure) results.fail(i, failure);
    }
    results.next = count;
  }

  /** Has a record's result set, or returns why nobody can decide it. */
  #decide(index: number): Failure {
    const { asks, contents } = this.#batch;
    const at = asks.at(index);
    const plugin = this.plugins.get(asks.plugin(at));
    if (!plugin && !OWN_WORK.has(asks.plugin(at))) return Failure.UNKNOWN_PLUGIN;
    if (plugin?.suspended) return Failure.SUSPENDED;
    const nowNs = process.hrtime.bigint();
    if (nowNs - asks.heldNs(at) > this.#holdTimeoutNs) return Failure.EXPIRED;
    const nowMs = Number(nowNs / 1_000_000n);
    const content = contents.of(asks, index);
    if (content) return this.#decideContent(index, content, plugin, nowMs);
    return plugin ? this.#decidePacket(index, plugin, nowMs) : Failure.UNKNOWN_PLUGIN;
  }

  /** Decides a packet by what its flow is, or as one of the same flow was decided a moment ago. */
  #decidePacket(index: number, plugin: LoadedPlugin, nowMs: number): Failure {
    const { asks, results } = this.#batch;
    const at = asks.at(index);
    const flow = asks.flowKey(at);
    const recent = this.#recent.find(flow, plugin.setup.epoch, asks.heldNs(at));
    if (recent) {
      if (recent.failure) return recent.failure;
      results.set(index, Result.DECIDED, recent.word);
      return Failure.NONE;
    }
    asks.ask(at, this.#question, nowMs, this.#parts.cluster);
    const failure = this.#ask(index, plugin);
    this.#recent.note(flow, { failure, word: failure ? 0 : results.word(index), epoch: plugin.setup.epoch });
    return failure;
  }

  /** Decides what a packet is part of, as far as it is known by now. */
  #decideContent(index: number, content: Content, plugin: LoadedPlugin | undefined, nowMs: number): Failure {
    const { asks, results } = this.#batch;
    const at = asks.at(index);
    const { reading } = content;
    switch (reading.state) {
      case 'overflow':
        return Failure.OVERFLOW;
      case 'incomplete':
        results.set(index, Result.WAITING);
        return Failure.NONE;
      case 'decided':
        results.set(index, Result.REPEATED);
        return Failure.NONE;
      case 'unreadable':
        results.decide(index, PluginAction.DENY, reading.reason, 0);
        return Failure.NONE;
      case 'read':
        break;
    }
    if (asks.plugin(at) === Abi.PIECES) {
      // Put together, the kernel decides it.
      results.set(index, Result.REPEATED);
      return Failure.NONE;
    }
    asks.ask(at, this.#question, nowMs, this.#parts.cluster);
    content.describe(this.#question);
    return plugin ? this.#ask(index, plugin) : this.#decideByServerNames(index, at);
  }

  #decideByServerNames(index: number, at: number): Failure {
    const list = this.serverNames.get(this.#batch.asks.rule(at));
    if (!list) return Failure.UNKNOWN_PLUGIN;
    const refusal = refuseHello(list, this.#question);
    this.#batch.results.decide(index, refusal === undefined ? PluginAction.ALLOW : PluginAction.DENY, refusal ?? '', 0);
    return Failure.NONE;
  }

  #ask(index: number, plugin: LoadedPlugin): Failure {
    if ((this.#spentMs.get(plugin.setup.id) ?? 0) > this.#shareMs) return Failure.OVER_SHARE;
    const failure = this.#caller.ask(plugin, this.#question);
    if (failure) return failure;
    const { word, decider, reason } = this.#caller;
    const code = actionOf(word) === PluginAction.DENY ? (decider?.guest?.responseCode ?? 0) : 0;
    this.#batch.results.decide(index, word, reason, code);
    return Failure.NONE;
  }

  /** Carries the decisions out, and tells who is interested. */
  #finish(count: number): void {
    const batch = this.#batch;
    const nowNs = process.hrtime.bigint();
    batch.conclude(count);
    // From here on there is nothing that a standby could finish: what it stops is a shadow, and every packet is on its way by then.
    batch.results.count = 0;
    this.reporter.releaseFailures += this.#settlement.settle(count, nowNs);
    reportFlows(batch, this.reporter, count, nowNs);
    this.#shadows.compare(count, nowNs);
    batch.clear();
  }
}

/** This thread has no say any more: the standby serves, and the main thread ends this one. */
function waitForEnd(): never {
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

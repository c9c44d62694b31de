/** Asks the versions that are only compared. Nobody waits for them: what was held is on its way. */
import { PluginAction } from '../abi.gen.ts';
import type { LoadedPlugin, RunningVersion } from '../plugin-runtime/loaded-plugin.ts';
import { type PluginCaller, TRAPPED } from '../plugin-runtime/plugin-caller.ts';
import { Question } from '../plugin-runtime/question.ts';
import type { Reporter } from '../plugin-runtime/reporter.ts';
import { actionOf } from '../plugin-runtime/verdict-word.ts';
import type { Cluster } from './ask-batch.ts';
import type { BatchInHand } from './batch-in-hand.ts';
import { Result } from './batch-results.ts';
import { askedFlow } from './flow-report.ts';

/** Shadows may delay the next batch by so much; flows that they are not asked about are counted. */
const SHADOWS_MS = 2;

const ACTION_NAMES = Object.keys(PluginAction).map((name) => name.toLowerCase());

export interface ShadowParts {
  readonly batch: BatchInHand;
  readonly caller: PluginCaller;
  readonly reporter: Reporter;
  readonly cluster: Cluster;
}

export class ShadowComparison {
  readonly #parts: ShadowParts;
  readonly #question = new Question();

  constructor(parts: ShadowParts) {
    this.#parts = parts;
  }

  compare(count: number, nowNs: bigint): void {
    const { batch, reporter } = this.#parts;
    const until = performance.now() + SHADOWS_MS;
    for (let i = 0; i < count; i++) {
      const plugin = batch.pluginOf(i);
      const shadow = plugin?.shadow;
      if (!plugin || !shadow?.guest || plugin.suspended || batch.results.kind(i) !== Result.DECIDED) continue;
      if (performance.now() > until) reporter.version(shadow.version.serial).skipped += 1;
      else this.#compareOne(i, plugin, shadow, nowNs);
    }
  }

  #compareOne(index: number, plugin: LoadedPlugin, shadow: RunningVersion, nowNs: bigint): void {
    const { batch, reporter } = this.#parts;
    const word = this.#ask(index, plugin, shadow, nowNs);
    const live = ACTION_NAMES[actionOf(batch.results.word(index))] ?? '';
    const said = word === undefined ? 'no hook' : word === TRAPPED ? 'trap' : word < 0 ? 'nonsense' : (ACTION_NAMES[actionOf(word)] ?? '');
    if (said === live) return;
    const { serial } = shadow.version;
    reporter.differs(serial, live, said, () => ({
      plugin: plugin.setup.id,
      serial,
      live,
      shadow: said,
      reason: word !== undefined && word >= 0 ? (shadow.guest?.reason(word) ?? '') : '',
      flow: askedFlow(batch, index, nowNs),
    }));
  }

  /** The shadow's word; undefined where it does not answer such questions. */
  #ask(index: number, plugin: LoadedPlugin, shadow: RunningVersion, nowNs: bigint): number | undefined {
    const { batch, caller, cluster } = this.#parts;
    const question = this.#question;
    batch.asks.ask(batch.asks.at(index), question, Number(nowNs / 1_000_000n), cluster);
    batch.contents.of(batch.asks, index)?.describe(question);
    return shadow.guest?.answers(question.hook) ? caller.evaluate(plugin, shadow, question) : undefined;
  }
}

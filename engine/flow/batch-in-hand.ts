/** The batch in hand, as everybody sees it who works on it: its records, what they are part of, who is asked, and what became of them. */
import { PluginAction, Scope } from '../abi.gen.ts';
import type { Outcome } from '../held/content.ts';
import type { LoadedPlugin } from '../plugin-runtime/loaded-plugin.ts';
import { passesFailures } from '../plugin-runtime/plugin-setup.ts';
import { Question } from '../plugin-runtime/question.ts';
import { actionOf, scopeOf, ttlMsOf } from '../plugin-runtime/verdict-word.ts';
import { AskBatch } from './ask-batch.ts';
import { BatchResults, Result } from './batch-results.ts';
import { Contents } from './contents.ts';
import { OWN_WORK, type Treatment } from './own-work.ts';
import type { SharedMemory } from './shared-memory.ts';

export class BatchInHand {
  readonly asks: AskBatch;
  readonly contents = new Contents();
  readonly results: BatchResults;
  readonly plugins = new Map<number, LoadedPlugin>();
  readonly #outcomes: Outcome[] = [];
  /** The fields that contents name, for those who are told. */
  readonly #named = new Question();

  constructor(memory: SharedMemory) {
    this.asks = new AskBatch(memory.batch);
    this.results = new BatchResults(memory);
  }

  pluginOf(index: number): LoadedPlugin | undefined {
    return this.plugins.get(this.asks.plugin(this.asks.at(index)));
  }

  /** How the flow of a record is treated; undefined where nobody knows who is asked. */
  #treatmentOf(index: number): Treatment | undefined {
    const id = this.asks.plugin(this.asks.at(index));
    return OWN_WORK.get(id) ?? this.plugins.get(id)?.setup;
  }

  /** Draws from every result what becomes of its packet: its verdict, or the failure policy. */
  conclude(count: number): void {
    for (let i = 0; i < count; i++) this.#outcomes[i] = outcomeOf(this.results, i, this.#treatmentOf(i));
  }

  /** Of a record, after conclude(). */
  outcome(index: number): Outcome {
    return this.#outcomes[index] as Outcome;
  }

  /** The server or domain that a record's content names; empty where there is none. */
  contentName(index: number): string {
    const content = this.contents.of(this.asks, index);
    if (!content) return '';
    this.#named.clearTexts();
    content.describe(this.#named);
    return this.#named.serverName || this.#named.dnsName;
  }

  /** Ends it: its texts, and what its packets are part of, are of no other batch. */
  clear(): void {
    this.results.clear();
    this.contents.clear();
  }

  /** Ends one that could not be carried out. */
  abandon(): void {
    this.results.count = 0;
    this.results.clear();
    this.contents.forget();
  }
}

function outcomeOf(results: BatchResults, index: number, treatment: Treatment | undefined): Outcome {
  const kind = results.kind(index);
  if (kind === Result.DECIDED) {
    const word = results.word(index);
    return {
      allowed: actionOf(word) !== PluginAction.DENY || !treatment?.enforced,
      scope: scopeOf(word),
      ttlMs: ttlMsOf(word),
      responseCode: results.responseCode(index),
      failed: false,
    };
  }
  const failed = kind === Result.FAILED;
  const allowed = kind === Result.REPEATED || (treatment !== undefined && passesFailures(treatment));
  return { allowed, scope: Scope.NONE, ttlMs: 0, responseCode: 0, failed };
}

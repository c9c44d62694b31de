/** Asking a plugin one question: which of its versions decides, another one where that traps, and what each of them did. */
import { performance } from 'node:perf_hooks';
import { PluginAction, Scope } from '../abi.gen.ts';
import { FUEL_BOUNDS, LATENCY_BOUNDS_NS, observe } from './counts.ts';
import { Failure } from './failure.ts';
import type { LoadedPlugin, RunningVersion } from './loaded-plugin.ts';
import type { Question } from './question.ts';
import type { Reporter } from './reporter.ts';
import { actionOf, reasonOf, scopeOf, withScope } from './verdict-word.ts';

/** The result of evaluate() after a trap. */
export const TRAPPED = -2;

/** Whoever looks after the time that evaluations take. */
export interface Watch {
  begin(plugin: LoadedPlugin): void;
  end(): void;
  /** Milliseconds that an evaluation took, and the fuel that it used. */
  spend(plugin: LoadedPlugin, ms: number, fuel: number): void;
}

export interface CallerParts {
  readonly reporter: Reporter;
  readonly watch: Watch;
  /** Equal for all packets of a flow. */
  readonly flowHash: (question: Question) => number;
  /** Told of each trap; makes a fresh instance or leaves the version without one. */
  readonly onTrap: (running: RunningVersion, error: Error) => void;
}

export class PluginCaller {
  /** Of the last call: the verdict word, where there is no failure. */
  word = 0;
  /** The version that decided. */
  decider: RunningVersion | undefined;
  readonly #parts: CallerParts;

  constructor(parts: CallerParts) {
    this.#parts = parts;
  }

  /** The reason of the last verdict that denies or wants to be shown; empty where there is none. */
  get reason(): string {
    const action = actionOf(this.word);
    return action === PluginAction.DENY || action === PluginAction.AUDIT ? (this.decider?.guest?.reason(this.word) ?? '') : '';
  }

  /** Has a plugin decide; the verdict is in `word`. Returns why it could not, or Failure.NONE. */
  ask(plugin: LoadedPlugin, question: Question): Failure {
    let decider = plugin.decider(plugin.splitsFlows ? this.#parts.flowHash(question) : 0);
    if (decider.guest && !decider.guest.answers(question.hook)) return Failure.NO_HOOK;
    let word = this.evaluate(plugin, decider, question);
    if (word === TRAPPED) {
      const other = plugin.fallback(decider);
      if (!other?.guest?.answers(question.hook)) return Failure.TRAP;
      decider = other;
      word = this.evaluate(plugin, other, question);
    }
    this.decider = decider;
    if (word === TRAPPED) return Failure.TRAP;
    if (word < 0) return Failure.NONSENSE;
    this.word = plugin.splitsFlows ? withScope(word, Math.min(scopeOf(word), Scope.FLOW) as Scope) : word;
    return Failure.NONE;
  }

  /** Has one version answer. Returns the verdict word; negative when it is none, TRAPPED after a trap. */
  evaluate(plugin: LoadedPlugin, running: RunningVersion, question: Question): number {
    const { reporter, watch, onTrap } = this.#parts;
    const { guest, version } = running;
    const counts = reporter.version(version.serial);
    counts.evaluations += 1;
    if (!guest) {
      // It trapped, and could not be started again: that counts towards its being taken back.
      counts.traps += 1;
      return TRAPPED;
    }
    watch.begin(plugin);
    const started = performance.now();
    let word: number;
    try {
      word = guest.evaluate(question);
    } catch (error) {
      watch.end();
      counts.traps += 1;
      onTrap(running, error as Error);
      watch.spend(plugin, performance.now() - started, guest.fuelUsed);
      return TRAPPED;
    }
    watch.end();
    const tookMs = performance.now() - started;
    watch.spend(plugin, tookMs, guest.fuelUsed);
    observe(counts.latency, LATENCY_BOUNDS_NS, tookMs * 1e6);
    observe(counts.fuel, FUEL_BOUNDS, guest.fuelUsed);
    if (word < 0) {
      counts.nonsense += 1;
      return word;
    }
    const action = actionOf(word);
    const reason = reasonOf(word);
    counts.actions[action] = (counts.actions[action] ?? 0) + 1;
    if (reason) counts.reasons[reason] = (counts.reasons[reason] ?? 0) + 1;
    return word;
  }
}

/** A plugin as a worker has it: the instances of its versions, and which of them decides a flow. */
import type { Context } from '../abi.gen.ts';
import { StateMachine } from '../transitions.ts';
import type { PluginSetup, PluginVersion } from './plugin-setup.ts';
import type { Question } from './question.ts';
import { STANDING } from './standing.ts';

/** An instance, as far as its callers know it; instance.ts is the real one. */
export interface Guest {
  answers(hook: Context): boolean;
  /** The verdict word, its scope narrowed, or a negative number for nonsense; throws when the guest traps. */
  evaluate(question: Question): number;
  /** Of a word that was just returned. */
  reason(word: number): string;
  /** Of the last evaluation's denial of a DNS answer; 0 where it does not say. */
  readonly responseCode: number;
  readonly fuelUsed: number;
  /** Of the last evaluation: where it routes to, or empty. */
  readonly route: string;
  /** Of the last evaluation: enum plugin_field bits that its verdict depends on. */
  readonly fieldsRead: number;
  /** A cookie for the answer to a request that it lets through, or empty. */
  readonly cookie: string;
  /** Headers and cookies that its verdicts may depend on, in lower case. */
  readonly reads: { readonly fields: number; readonly headers: readonly string[]; readonly cookies: readonly string[] };
}

/** A version with its instance; undefined when no instance could be made after a trap. */
export interface RunningVersion {
  readonly version: PluginVersion;
  guest: Guest | undefined;
}

export class LoadedPlugin {
  readonly setup: PluginSetup;
  readonly live: RunningVersion;
  readonly previous: RunningVersion | undefined;
  readonly shadow: RunningVersion | undefined;
  readonly #canary: RunningVersion | undefined;
  /** Whether it is asked; see standing.ts. */
  readonly standing = new StateMachine(STANDING, 'asked');

  constructor(setup: PluginSetup, running: (version: PluginVersion) => RunningVersion) {
    this.setup = setup;
    this.live = running(setup.live);
    this.previous = setup.previous && running(setup.previous);
    const candidate = setup.candidate && running(setup.candidate.version);
    this.shadow = setup.candidate?.mode === 'shadow' ? candidate : undefined;
    this.#canary = setup.candidate?.mode === 'canary' ? candidate : undefined;
  }

  /** All versions that are there. */
  get versions(): RunningVersion[] {
    return [this.live, this.previous, this.shadow, this.#canary].filter((version) => version !== undefined);
  }

  /** It is not asked: it overran its time. */
  get suspended(): boolean {
    return this.standing.state !== 'asked';
  }

  /** Whether a verdict may answer no more than its own flow: other flows may be another version's to decide. */
  get splitsFlows(): boolean {
    return this.#canary !== undefined;
  }

  /** Who decides a flow: its hash decides, so that it stays with a version. */
  decider(flowHash: number): RunningVersion {
    return this.#canary && flowHash % 100 < (this.setup.candidate?.weight ?? 0) ? this.#canary : this.live;
  }

  /** Who is asked when a version has trapped; undefined when there is nobody else. */
  fallback(trapped: RunningVersion): RunningVersion | undefined {
    return trapped === this.live ? this.previous : this.live;
  }
}

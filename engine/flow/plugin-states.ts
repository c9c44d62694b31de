/**
 * The states of plugins in the kernel. The worker that serves is their only writer; a standby keeps the same ones, and writes them when
 * it takes over.
 *
 * One writer, and this one, because a state says under which epoch verdicts count: it changes between two evaluations, together with the
 * version that is asked. Were it written by the main thread, a verdict of the new version could meet the old epoch, or one of the old
 * version the new epoch, and its packet would be held once more. The registry decides ids and epochs, and reads once, at its start, the
 * states that an engine before it left.
 */
import { type PluginState, PluginStatus, Verdict } from '../abi.gen.ts';
import { type PluginSetup, passesFailures } from '../plugin-runtime/plugin-setup.ts';
import { verdictScopes } from '../plugin-runtime/verdict-scopes.ts';
import { OWN_WORK } from './own-work.ts';

export class PluginStates {
  readonly #write: (id: number, state: PluginState) => void;
  readonly #states = new Map<number, PluginState>();
  #serves = false;

  constructor(write: (id: number, state: PluginState) => void) {
    this.#write = write;
    const own = { name: 0n, module: 0n, epoch: 1, status: PluginStatus.ON, scopes: 0 };
    for (const [id, treatment] of OWN_WORK) this.#states.set(id, { ...own, failure: failureOf(treatment) });
  }

  /** Writes every state; from now on each change is written at once. @throws Error of the first that the kernel refuses, when all were written */
  serve(): void {
    this.#serves = true;
    const refusals: unknown[] = [];
    for (const [id, state] of this.#states)
      try {
        this.#write(id, state);
      } catch (error) {
        refusals.push(error);
      }
    if (refusals.length) throw refusals[0];
  }

  /** Of an id without a version that runs: as the registry says. */
  declare(id: number, state: PluginState): void {
    this.#set(id, state);
  }

  /** This version is asked from now on. */
  run(setup: PluginSetup): void {
    this.#set(setup.id, {
      name: setup.nameHash,
      module: setup.moduleHash,
      epoch: setup.epoch,
      failure: failureOf(setup),
      status: PluginStatus.ON,
      scopes: verdictScopes(setup),
    });
  }

  /** Nobody is asked: the plugin's flows get the failure policy, without being held. */
  stop(id: number): void {
    const state = this.#states.get(id);
    if (state) this.#set(id, { ...state, status: PluginStatus.OFF });
  }

  #set(id: number, state: PluginState): void {
    // A state that the kernel refuses is not so.
    if (this.#serves) this.#write(id, state);
    this.#states.set(id, state);
  }
}

function failureOf(treatment: Pick<PluginSetup, 'failureAllow' | 'enforced'>): Verdict {
  return passesFailures(treatment) ? Verdict.ALLOW : Verdict.DENY;
}

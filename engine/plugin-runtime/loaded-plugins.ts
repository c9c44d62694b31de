/** What a thread that runs plugins has: their instances, what is lent to those, and who is behind identities and addresses. */
import { randomInt } from 'node:crypto';
import { Context } from '../abi.gen.ts';
import { messageOf } from '../errors.ts';
import { LOG_BURST, LOG_PER_SECOND, PluginTrap } from './host-functions.ts';
import { LineLimiter } from './line-limiter.ts';
import { LoadedPlugin, type RunningVersion } from './loaded-plugin.ts';
import type { FromWorker, PluginSetup, PluginVersion, ToWorker } from './messages.ts';
import { type IdentityTexts, Question } from './question.ts';
import { createInstance, type Lender, type VersionParts } from './version-parts.ts';

const HOOKS = Object.values(Context);
const encoder = new TextEncoder();

export class Guests {
  readonly identities = new Map<number, IdentityTexts>();
  /** By the address's 16 bytes as a latin1 string. */
  readonly pods = new Map<string, Uint8Array>();
  readonly #send: (message: Extract<FromWorker, { type: 'trap' | 'log' | 'ack' }>) => void;
  readonly #lender: Lender;
  /** Instances count their own lines, and a trap makes a new one: what reaches the main thread is bounded here. */
  readonly #limiters = new Map<string, LineLimiter>();

  constructor(send: (message: Extract<FromWorker, { type: 'trap' | 'log' | 'ack' }>) => void, map: Lender['map']) {
    this.#send = send;
    this.#lender = {
      map,
      seed: () => randomInt(2 ** 32),
      now: Date.now,
      log: (plugin, text) => {
        if (this.#linesOf(`log ${plugin}`).take(performance.now()) !== undefined) send({ type: 'log', plugin, text });
      },
    };
  }

  /** Does what it was told to, and says whether that went well. */
  acknowledge(seq: number, act: () => void): void {
    try {
      act();
      this.#send({ type: 'ack', seq });
    } catch (error) {
      this.#send({ type: 'ack', seq, error: messageOf(error) });
    }
  }

  /** Takes over who is behind identities and addresses that changed. */
  setCluster(message: Extract<ToWorker, { type: 'cluster' }>): void {
    for (const id of message.identitiesGone) this.identities.delete(id);
    for (const { id, namespace, labels } of message.identities)
      this.identities.set(id, { namespace: encoder.encode(namespace), labels: encoder.encode(labels) });
    for (const [address, name] of message.pods)
      if (name) this.pods.set(address, encoder.encode(name));
      else this.pods.delete(address);
  }

  /** A plugin as it is to run from now on; versions that ran in `before` go on as they are. @throws Error when one does not start */
  load(setup: PluginSetup, before: LoadedPlugin | undefined, trial: boolean): LoadedPlugin {
    const running = new Map(before?.versions.map((one) => [one.version.serial, one]));
    const run = (version: PluginVersion): RunningVersion => {
      const known = running.get(version.serial);
      if (known?.guest) return known;
      if (trial) this.#tryOnce(version.parts as VersionParts);
      const fresh = { version, guest: createInstance(version.parts as VersionParts, this.#lender) };
      running.set(version.serial, fresh);
      return fresh;
    };
    return new LoadedPlugin(setup, run);
  }

  /** After a trap a guest's state is undefined: it is dropped, and another one takes its place. */
  replaceTrapped(running: RunningVersion, error: Error): void {
    const { serial, parts } = running.version;
    // Each is counted; only some are told.
    if (this.#linesOf(`trap ${(parts as VersionParts).plugin}`).take(performance.now()) !== undefined)
      this.#send({ type: 'trap', serial, message: error.message, offsets: error instanceof PluginTrap ? error.offsets : [] });
    try {
      running.guest = createInstance(parts as VersionParts, this.#lender);
    } catch (again) {
      running.guest = undefined;
      this.#send({ type: 'trap', serial, message: messageOf(again), offsets: [] });
    }
  }

  /**
   * Asks a version what no policy asks, on tables of its own, to find one that traps or loops at once before it serves.
   * What is compiled by that is compiled for all threads.
   */
  #tryOnce(parts: VersionParts): void {
    const { tablesDirectory: _live, ...own } = parts;
    const trial = createInstance(own, { ...this.#lender, log: () => {} });
    const question = new Question();
    for (const hook of HOOKS) {
      if (!trial.answers(hook)) continue;
      question.hook = hook;
      try {
        if (trial.evaluate(question) < 0)
          throw new Error('it answers with a word that is no verdict, or says that it read what its manifest does not name');
      } catch (error) {
        throw new Error(`Cannot load module: asked once, with an empty question: ${messageOf(error)}`, { cause: error });
      }
    }
  }

  #linesOf(who: string): LineLimiter {
    const found = this.#limiters.get(who) ?? new LineLimiter(LOG_BURST, LOG_PER_SECOND);
    this.#limiters.set(who, found);
    return found;
  }
}

/**
 * The plugins of a thread that runs them: loaded, tried, told apart from those that trapped; and the names of the cluster that their
 * questions need.
 */
import { randomInt } from 'node:crypto';
import { Context } from '../abi.gen.ts';
import { messageOf } from '../errors.ts';
import { ClusterNames } from './cluster-names.ts';
import { LOG_BURST, LOG_PER_SECOND, PluginTrap } from './host-functions.ts';
import { LineLimiter } from './line-limiter.ts';
import { LoadedPlugin, type RunningVersion } from './loaded-plugin.ts';
import { type ClusterChange, type FromWorker, NOBODY_WAITS } from './messages.ts';
import type { PluginSetup, PluginVersion } from './plugin-setup.ts';
import { type IdentityTexts, type PodTexts, Question } from './question.ts';
import { createInstance, type Lender, type VersionParts } from './version-parts.ts';

const HOOKS = Object.values(Context);
const encoder = new TextEncoder();

type Said = Extract<FromWorker, { type: 'trap' | 'log' | 'ack' | 'error' }>;

export class LoadedPlugins {
  readonly #names = new ClusterNames<IdentityTexts, PodTexts, Uint8Array>({
    identity: ({ namespace, labels }) => ({ namespace: encoder.encode(namespace), labels: encoder.encode(labels) }),
    pod: ({ name, serviceAccount }) => ({
      name: encoder.encode(name),
      serviceAccount: serviceAccount ? encoder.encode(serviceAccount) : undefined,
    }),
    service: (name) => encoder.encode(name),
  });
  readonly #send: (message: Said) => void;
  readonly #lender: Lender;
  /** Instances count their own lines, and a trap makes a new one: what reaches the main thread is bounded here. */
  readonly #limiters = new Map<string, LineLimiter>();

  constructor(send: (message: Said) => void, map: Lender['map']) {
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

  get identities(): ReadonlyMap<number, IdentityTexts> {
    return this.#names.identities;
  }

  /** By the address's 16 bytes as a latin1 string. */
  get pods(): ReadonlyMap<string, PodTexts> {
    return this.#names.pods;
  }

  /** By the cluster address in the same form. */
  get services(): ReadonlyMap<string, Uint8Array> {
    return this.#names.services;
  }

  /** Acts as it was told to, and says whether that went well; of what it is told first nobody waits to hear, so a failure is an error. */
  acknowledge(seq: number, act: () => void): void {
    try {
      act();
      this.#send({ type: 'ack', seq });
    } catch (error) {
      const message = messageOf(error);
      this.#send(seq === NOBODY_WAITS ? { type: 'error', message } : { type: 'ack', seq, error: message });
    }
  }

  /** Takes over who is behind identities and addresses that changed. */
  setCluster(change: ClusterChange): void {
    this.#names.apply(change);
  }

  /** A plugin as it is to run from now on; versions that ran in `before` go on as they are. @throws Error when one does not start */
  load(setup: PluginSetup, before: LoadedPlugin | undefined, trial: boolean): LoadedPlugin {
    const running = new Map(before?.versions.map((one) => [one.version.serial, one]));
    const run = (version: PluginVersion): RunningVersion => {
      const known = running.get(version.serial);
      if (known?.guest) return known;
      if (trial) this.#tryOnce(version.parts);
      const fresh = { version, guest: createInstance(version.parts, this.#lender) };
      running.set(version.serial, fresh);
      return fresh;
    };
    return new LoadedPlugin(setup, run);
  }

  /** After a trap a guest's state is undefined: it is dropped, and another one takes its place. */
  replaceTrapped(running: RunningVersion, error: Error): void {
    const { serial, parts } = running.version;
    // Each is counted; only some are told.
    if (this.#linesOf(`trap ${parts.plugin}`).take(performance.now()) !== undefined)
      this.#send({ type: 'trap', serial, message: error.message, offsets: error instanceof PluginTrap ? error.offsets : [] });
    try {
      running.guest = createInstance(parts, this.#lender);
    } catch (again) {
      running.guest = undefined;
      this.#send({ type: 'trap', serial, message: messageOf(again), offsets: [] });
    }
  }

  /**
   * Asks a version what no policy asks, on tables of its own, to find one that traps or loops at once before it serves.
   * The code that this compiles is compiled for all threads.
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

/**
 * The flow workers as the main thread sees them: one serves, one stands by and watches it.
 *
 * A standby that takes over has finished the other's batch and serves already when this thread hears of it; here the
 * stopped thread is ended for real, and a new standby is started. The plugin that overran is suspended until then, so that
 * it can never leave nobody to take over; after some time-outs it is switched off.
 */
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { EngineError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { Control, createSharedMemory, type SharedMemory, TIMEOUTS_MAX } from '../plugin-runtime/control.ts';
import type { FromWorker, IdentityEntry, PluginSetup, ToWorker } from '../plugin-runtime/messages.ts';

/** How long a new version may take to start, to take its configuration and to answer one trial question. */
const TRIAL_MS = 1000;
const READY_MS = 10_000;
/** A worker's garbage is small and short-lived: more room for it would only make the process larger. */
const YOUNG_GENERATION_MB = 4;

type ClusterMessage = Extract<ToWorker, { type: 'cluster' }>;

export interface PoolEvents {
  report(report: Extract<FromWorker, { type: 'report' }>): void;
  trap(serial: number, message: string, offsets: readonly number[]): void;
  /** A line that a plugin wrote. */
  log(plugin: string, text: string): void;
  /** switchedOff: the plugin is not asked any more. */
  timeout(id: number, switchedOff: boolean): void;
  error(message: string): void;
}

export interface PoolOptions {
  /** Module of the worker thread, and what it needs besides its port and memory. */
  readonly worker: URL;
  readonly data: Readonly<Record<string, unknown>>;
  readonly wakeServing: () => void;
  readonly events: PoolEvents;
  readonly log: Logger;
}

interface Member {
  readonly worker: Worker;
  readonly port: MessagePort;
  readonly ready: Promise<void>;
  readonly waiting: Map<number, (error: string | undefined) => void>;
}

export class WorkerPool {
  readonly #options: PoolOptions;
  readonly #memory: SharedMemory = createSharedMemory();
  readonly #control: Int32Array;
  readonly #setups = new Map<number, PluginSetup>();
  readonly #timeouts = new Map<number, number>();
  readonly #identities = new Map<number, IdentityEntry>();
  readonly #pods = new Map<string, string>();
  #serverNames: ClusterMessage['serverNames'];
  #serving: Member | undefined;
  #standby: Member | undefined;
  #seq = 0;
  #closing = false;
  /** Changes of plugins, one after the other. */
  #queue: Promise<unknown> = Promise.resolve();

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#control = new Int32Array(this.#memory.control);
  }

  /** Starts both threads; nothing is served yet. */
  async start(): Promise<void> {
    this.#standby = this.#spawn();
    await this.#standby.ready;
  }

  /** Lets the first worker serve, with the plugins that were installed so far, and starts its standby. */
  async serve(): Promise<void> {
    this.#serving = this.#standby;
    this.#post(this.#serving, { type: 'activate' });
    this.#standby = this.#spawn();
    await this.#standby.ready;
  }

  /** Tells the workers who is behind identities and addresses that changed. Takes effect before the next evaluation. */
  setCluster(change: Omit<ClusterMessage, 'type'>): void {
    for (const id of change.identitiesGone) this.#identities.delete(id);
    for (const identity of change.identities) this.#identities.set(identity.id, identity);
    for (const [address, name] of change.pods)
      if (name) this.#pods.set(address, name);
      else this.#pods.delete(address);
    if (change.serverNames) this.#serverNames = change.serverNames;
    for (const member of this.#members()) this.#post(member, { type: 'cluster', ...change });
  }

  /** Labels of an identity, `key=value` each; empty for what is no pod. */
  labels(identity: number): string[] {
    return this.#identities.get(identity)?.labels.split('\n').filter(Boolean) ?? [];
  }

  /**
   * Puts a version in force: tried in the standby, then switched to by the serving worker between two evaluations.
   * When it returns, no verdict of the version before counts any more.
   *
   * @throws EngineError `PLUGIN_INVALID` when the version does not start, traps or loops; the one before stays in force.
   */
  install(setup: PluginSetup): Promise<void> {
    return this.#enqueue(async () => {
      await this.#try(setup);
      this.#setups.set(setup.id, setup);
      this.#timeouts.delete(setup.id);
      await this.#switchTo(setup);
    });
  }

  /** Has the serving worker run a version; when a standby takes over meanwhile, that one is asked. */
  async #switchTo(setup: PluginSetup): Promise<void> {
    const serving = this.#serving;
    if (!serving) return;
    try {
      await this.#ask(serving, (seq) => ({ type: 'plugin', seq, setup }), TRIAL_MS);
    } catch (error) {
      if (serving === this.#serving) throw error;
      await this.#switchTo(setup);
    }
  }

  /** Stops asking a plugin; its flows get the failure policy. */
  remove(id: number): Promise<void> {
    return this.#enqueue(async () => {
      this.#setups.delete(id);
      for (const member of this.#members()) await this.#ask(member, (seq) => ({ type: 'remove', seq, id }), TRIAL_MS);
    });
  }

  /** Finishes the batch in hand and ends the threads. What is held from then on gets its failure policy. */
  async close(): Promise<void> {
    this.#closing = true;
    await this.#queue.catch(() => {});
    const ended = this.#members().map((member) => new Promise((resolve) => member.worker.once('exit', resolve)));
    for (const member of this.#members()) this.#post(member, { type: 'stop' });
    await Promise.all(ended);
  }

  #enqueue<T>(act: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(act, act);
    this.#queue = result.catch(() => {});
    return result;
  }

  #members(): Member[] {
    return [this.#serving, this.#standby].filter((member) => member !== undefined);
  }

  #spawn(): Member {
    const { port1, port2 } = new MessageChannel();
    const worker = new Worker(this.#options.worker, {
      workerData: { ...this.#options.data, memory: this.#memory, port: port2 },
      transferList: [port2],
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
    });
    const waiting: Member['waiting'] = new Map();
    const ready = new Promise<void>((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new EngineError('TIMEOUT', `Cannot start a flow worker: not ready within ${READY_MS} ms`)),
        READY_MS,
      );
      port1.on('message', (message: FromWorker) => {
        if (message.type === 'ready') {
          clearTimeout(timer);
          resolve();
        } else if (message.type === 'took-over') this.#noteTakeOver(member, message.plugin);
        else this.#receive(waiting, message);
      });
      worker.on('error', (error) => {
        clearTimeout(timer);
        reject(error);
        this.#options.events.error(`flow worker failed: ${error.message}`);
      });
    });
    ready.catch(() => {});
    const member: Member = { worker, port: port1, ready, waiting };
    worker.on('exit', () => {
      port1.close();
      for (const answer of waiting.values()) answer('the flow worker ended');
      this.#replaceEnded(member);
    });
    this.#post(member, {
      type: 'cluster',
      identities: [...this.#identities.values()],
      identitiesGone: [],
      pods: [...this.#pods],
      serverNames: this.#serverNames,
    });
    for (const setup of this.#setups.values()) this.#post(member, { type: 'plugin', seq: 0, setup });
    return member;
  }

  #post(member: Member | undefined, message: ToWorker): void {
    if (!member) return;
    member.port.postMessage(message);
    if (member === this.#serving) this.#options.wakeServing();
    else {
      Atomics.add(this.#control, Control.WAKE, 1);
      Atomics.notify(this.#control, Control.WAKE);
    }
  }

  /** Sends a message and waits for its answer. @throws EngineError `PLUGIN_INVALID` with what the worker says. */
  async #ask(member: Member, message: (seq: number) => ToWorker, limitMs: number): Promise<void> {
    this.#seq += 1;
    const seq = this.#seq;
    const error = await new Promise<string | undefined>((resolve) => {
      const timer = setTimeout(() => resolve(`Cannot load module: it did not start within ${limitMs} ms`), limitMs);
      member.waiting.set(seq, (answer) => {
        clearTimeout(timer);
        resolve(answer);
      });
      this.#post(member, message(seq));
    });
    member.waiting.delete(seq);
    if (error !== undefined) throw new EngineError('PLUGIN_INVALID', error);
  }

  /** Runs a version in the standby. One that loops costs the standby its thread, and nobody else anything. */
  async #try(setup: PluginSetup): Promise<void> {
    const standby = this.#standby;
    if (!standby) throw new EngineError('PLUGIN_INVALID', 'Cannot load module: the engine is stopping');
    await standby.ready;
    const before = this.#setups.get(setup.id);
    try {
      await this.#ask(standby, (seq) => ({ type: 'plugin', seq, setup }), TRIAL_MS);
    } catch (error) {
      // It may hang in the trial, or have the refused version half installed: only a new one is known to be sound.
      this.#options.log.warn({ plugin: setup.name, before: before?.epoch }, 'plugin version refused');
      if (standby === this.#standby) {
        this.#standby = this.#spawn();
        void standby.worker.terminate();
        await this.#standby.ready;
      }
      throw error;
    }
  }

  #receive(waiting: Member['waiting'], message: FromWorker): void {
    const { events } = this.#options;
    if (message.type === 'ack') waiting.get(message.seq)?.(message.error);
    else if (message.type === 'report') events.report(message);
    else if (message.type === 'trap') events.trap(message.serial, message.message, message.offsets);
    else if (message.type === 'log') events.log(message.plugin, message.text);
    else if (message.type === 'error') events.error(message.message);
  }

  /** A standby serves in place of a worker that overran its budget. */
  #noteTakeOver(standby: Member, plugin: number): void {
    const stopped = this.#serving;
    this.#serving = standby;
    this.#standby = undefined;
    void stopped?.worker.terminate();

    const timeouts = (this.#timeouts.get(plugin) ?? 0) + 1;
    this.#timeouts.set(plugin, timeouts);
    const off = timeouts >= TIMEOUTS_MAX;
    this.#options.events.timeout(plugin, off);
    if (off) {
      this.#setups.delete(plugin);
      this.#post(standby, { type: 'switch-off', id: plugin });
    }
    if (this.#closing) return;
    const next = this.#spawn();
    this.#standby = next;
    void next.ready.then(
      () => off || this.#post(this.#serving, { type: 'resume', id: plugin }),
      () => {},
    );
  }

  /** A worker that ended by itself is a defect; the other one goes on in its place. */
  #replaceEnded(member: Member): void {
    if (this.#closing || (member !== this.#serving && member !== this.#standby)) return;
    if (member === this.#serving && this.#standby) {
      this.#serving = this.#standby;
      this.#post(this.#serving, { type: 'activate' });
      Atomics.add(this.#control, Control.WAKE, 1);
      Atomics.notify(this.#control, Control.WAKE);
    }
    this.#standby = this.#spawn();
  }
}

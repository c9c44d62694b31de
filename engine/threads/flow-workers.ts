/**
 * The flow workers: one serves, one stands by and watches it.
 *
 * A standby that takes over has finished the other's batch and serves already when this thread hears of it; here the
 * stopped thread is ended for real, and a new standby is started. The plugin that overran is suspended until then, so that
 * it can never leave nobody to take over; after some time-outs it is switched off.
 */
import { EngineError } from '../errors.ts';
import { createSharedMemory, type SharedMemory, wakeStandby } from '../flow/shared-memory.ts';
import type { Logger } from '../log.ts';
import type { FromWorker, ToWorker } from '../plugin-runtime/messages.ts';
import type { PluginSetup } from '../plugin-runtime/plugin-setup.ts';
import { Timeouts } from '../plugin-runtime/standing.ts';
import type { Briefing } from './briefing.ts';
import { Supervisor, type SupervisorOptions } from './supervisor.ts';
import type { Answer, Thread, ThreadModule } from './thread.ts';

/** How long a new version may take to start, to take its configuration and to answer one trial question. */
const TRIAL_MS = 1000;
/** For the batch in hand, when a worker is told to stop. */
const STOP_MS = 2000;
/** A worker's garbage is small and short-lived: more room for it would only make the process larger. */
const YOUNG_GENERATION_MB = 4;

export interface FlowEvents {
  report(report: Extract<FromWorker, { type: 'report' }>): void;
  trap(serial: number, message: string, offsets: readonly number[]): void;
  /** A line that a plugin wrote. */
  log(plugin: string, text: string): void;
  /** switchedOff: the plugin is not asked any more. */
  timeout(id: number, switchedOff: boolean): void;
  error(reason: string): void;
}

export interface FlowWorkersOptions {
  readonly module: ThreadModule;
  readonly briefing: Briefing;
  readonly wakeServing: () => void;
  readonly events: FlowEvents;
  readonly log: Logger;
  readonly pauses?: SupervisorOptions<ToWorker, FromWorker>['pauses'];
}

type Worker = Thread<ToWorker, FromWorker>;

export class FlowWorkers {
  readonly #options: FlowWorkersOptions;
  readonly #memory: SharedMemory = createSharedMemory();
  readonly #timeouts = new Timeouts();
  readonly #standby: Supervisor<ToWorker, FromWorker>;
  /** Plugins that are not asked until there is a standby. */
  readonly #suspended = new Set<number>();
  #serving: Worker | undefined;
  /** Somebody is to serve. */
  #serves = false;
  #closing = false;

  constructor(options: FlowWorkersOptions) {
    this.#options = options;
    const { module, briefing, events, pauses } = options;
    this.#standby = new Supervisor<ToWorker, FromWorker>({
      module: {
        ...module,
        data: { ...module.data, memory: this.#memory },
        resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
      },
      brief: () => briefing.forFlowWorker(),
      wake: (thread) => this.#wake(thread),
      ...(pauses && { pauses }),
      events: {
        receive: (thread, message) => this.#receive(thread, message),
        ready: () => this.#noteStandby(),
        failed: (thread, reason) => {
          events.error(`flow worker failed: ${reason}`);
          if (thread === this.#serving) this.#noteServingGone();
        },
      },
    });
  }

  /** Starts the first worker; nothing is served yet. @throws EngineError `TIMEOUT` when it does not start */
  async start(): Promise<void> {
    await this.#standby.start();
    await this.#ready('start a flow worker');
  }

  /** Lets the first worker serve, with the plugins that were installed so far, and starts its standby. @throws EngineError `TIMEOUT` */
  async serve(): Promise<void> {
    this.#serves = true;
    this.#noteStandby();
    await this.#ready('start a standby');
  }

  /** Tells the workers; takes effect before the next evaluation. */
  post(message: ToWorker): void {
    this.#serving?.post(message);
    this.#standby.post(message);
  }

  /**
   * Puts a version in force: tried in the standby, then switched to by the serving worker between two evaluations.
   * When it returns, no verdict of the version before counts any more.
   *
   * @throws EngineError `PLUGIN_INVALID` when the version does not start, traps or loops; the one before stays in force.
   */
  async install(setup: PluginSetup): Promise<void> {
    await this.#try(setup);
    this.#options.briefing.install(setup);
    this.#timeouts.forget(setup.id);
    await this.#switchTo(setup);
  }

  /** Stops asking a plugin; its flows get the failure policy. @throws EngineError `PLUGIN_INVALID` when a worker does not say that it did */
  async remove(id: number): Promise<void> {
    this.#options.briefing.remove(id);
    for (const worker of [this.#serving, this.#standby.thread])
      if (worker) check(await worker.ask((seq) => ({ type: 'remove', seq, id }), TRIAL_MS), worker);
  }

  /** Finishes the batch in hand and ends the threads. What is held from then on gets its failure policy. */
  async close(): Promise<void> {
    this.#closing = true;
    await Promise.all([this.#serving?.stop({ type: 'stop' }, STOP_MS), this.#standby.close({ type: 'stop' }, STOP_MS)]);
  }

  #wake(thread: Worker): void {
    if (thread === this.#serving) this.#options.wakeServing();
    else wakeStandby(this.#memory);
  }

  async #ready(what: string): Promise<Worker> {
    const worker = await this.#standby.whenReady();
    if (worker) return worker;
    throw new EngineError('TIMEOUT', `Cannot ${what}: ${this.#standby.problem ?? 'it was needed elsewhere at once'}`);
  }

  /** Runs a version in the standby. One that loops costs the standby its thread, and nobody else anything. */
  async #try(setup: PluginSetup): Promise<void> {
    if (this.#closing) throw new EngineError('PLUGIN_INVALID', 'Cannot load module: the engine is stopping');
    const standby = await this.#ready('load module');
    const answer = await standby.ask((seq) => ({ type: 'plugin', seq, setup }), TRIAL_MS);
    try {
      check(answer, standby);
    } catch (error) {
      // It may hang in the trial, or have the refused version half installed: only a new one is known to be sound.
      this.#options.log.warn({ plugin: setup.name, epoch: setup.epoch }, 'plugin version refused');
      if (!this.#standby.thread || this.#standby.thread === standby) await this.#standby.replace();
      throw error;
    }
  }

  /** Has the serving worker run a version; when a standby takes over meanwhile, that one is asked. */
  async #switchTo(setup: PluginSetup): Promise<void> {
    const serving = this.#serving;
    if (!serving) return;
    const answer = await serving.ask((seq) => ({ type: 'plugin', seq, setup }), TRIAL_MS);
    if (serving === this.#serving) check(answer, serving);
    else await this.#switchTo(setup);
  }

  #receive(worker: Worker, message: FromWorker): void {
    const { events } = this.#options;
    if (message.type === 'report') events.report(message);
    else if (message.type === 'trap') events.trap(message.serial, message.message, message.offsets);
    else if (message.type === 'log') events.log(message.plugin, message.text);
    else if (message.type === 'error') events.error(message.message);
    else if (message.type === 'took-over') this.#noteTakeOver(worker, message.plugin);
  }

  /** A standby serves in place of a worker that overran its budget. */
  #noteTakeOver(worker: Worker, plugin: number): void {
    if (worker === this.#standby.thread) {
      const stopped = this.#serving;
      this.#serving = this.#standby.take();
      stopped?.discard();
    }
    const off = this.#timeouts.add(plugin);
    if (off) this.#suspended.delete(plugin);
    else this.#suspended.add(plugin);
    this.#options.events.timeout(plugin, off);
    if (!this.#closing) void this.#standby.start();
  }

  /** A standby is ready: it serves where nobody does; else those are asked again that waited for it. */
  #noteStandby(): void {
    if (this.#serves && !this.#serving && !this.#closing) {
      this.#serving = this.#standby.take();
      this.#serving?.post({ type: 'activate' });
      if (this.#serving) void this.#standby.start();
      return;
    }
    for (const id of this.#suspended) this.#serving?.post({ type: 'resume', id });
    this.#suspended.clear();
  }

  /** A worker that ended by itself is a defect; the other one goes on in its place. */
  #noteServingGone(): void {
    this.#serving = undefined;
    this.#noteStandby();
  }
}

/** @throws EngineError `PLUGIN_INVALID` with the reason of a worker, or that it said nothing */
function check(answer: Answer | undefined, worker: Worker): void {
  if (answer && answer.error === undefined) return;
  const silent = worker.state === 'ended' ? 'the flow worker ended' : `it did not start within ${TRIAL_MS} ms`;
  throw new EngineError('PLUGIN_INVALID', answer?.error ?? `Cannot load module: ${silent}`);
}

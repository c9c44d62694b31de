/**
 * The flow workers: one serves, one stands by and watches it.
 *
 * A standby that takes over has finished the other's batch and serves already when this thread hears of it; here the
 * stopped thread is ended for real, and a new standby is started. The plugin that overran is suspended until then, so that
 * it can never leave nobody to take over; after some time-outs it is switched off.
 */
import { EngineError } from '../errors.ts';
import { EvaluationGuard } from '../flow/evaluation-guard.ts';
import { createSharedMemory, type SharedMemory, wakeStandby } from '../flow/shared-memory.ts';
import type { Logger } from '../log.ts';
import type { FromWorker, ToWorker } from '../plugin-runtime/messages.ts';
import type { PluginSetup } from '../plugin-runtime/plugin-setup.ts';
import { Timeouts } from '../plugin-runtime/standing.ts';
import type { Briefing } from './briefing.ts';
import type { ThreadModule } from './launch.ts';
import { Supervisor, type SupervisorOptions } from './supervisor.ts';
import type { Answer, Thread } from './thread.ts';

/** How long a new version may take to start, to take its configuration and to answer one trial question. */
const TRIAL_MS = 1000;
/** For the batch in hand, when a worker is told to stop. */
const STOP_MS = 2000;
/** A worker's garbage is small and short-lived: more room for it would only make the process larger. */
const YOUNG_GENERATION_MB = 4;
const SILENT = 'it does not answer: another one takes its place';

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
  readonly supervision?: Pick<SupervisorOptions<ToWorker, FromWorker>, 'pauses' | 'launch'>;
}

type Worker = Thread<ToWorker, FromWorker>;

export class FlowWorkers {
  readonly #options: FlowWorkersOptions;
  readonly #memory: SharedMemory = createSharedMemory();
  readonly #guard = new EvaluationGuard(this.#memory);
  readonly #timeouts = new Timeouts();
  readonly #standby: Supervisor<ToWorker, FromWorker>;
  /** Plugins that are not asked until there is a standby. */
  readonly #suspended = new Set<number>();
  #serving: Worker | undefined;
  /** Those that served at some time: none of them stops another one. */
  readonly #served = new WeakSet<Worker>();
  /** Somebody is to serve. */
  #serves = false;
  #closing = false;

  constructor(options: FlowWorkersOptions) {
    this.#options = options;
    const { module, briefing, events, supervision } = options;
    this.#standby = new Supervisor<ToWorker, FromWorker>({
      module: {
        ...module,
        data: { ...module.data, memory: this.#memory },
        resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
      },
      brief: () => briefing.forFlowWorker(),
      wake: (thread) => this.#wake(thread),
      ...supervision,
      events: {
        receive: (thread, message) => this.#receive(thread, message),
        ready: () => this.#noteStandby(),
        failed: (thread, reason) => {
          events.error(`flow worker failed: ${reason}`);
          if (thread === this.#serving) this.#noteServingGone();
        },
        ended: (thread) => this.#noteEnd(thread),
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
    const takeBack = this.#options.briefing.install(setup);
    try {
      await this.#switchTo(setup);
    } catch (error) {
      // The serving worker goes on with what was before: whoever comes after it does so, too.
      takeBack();
      await this.#standby.replace();
      throw error;
    }
    this.#timeouts.forget(setup.id);
  }

  /** Stops asking a plugin; its flows get the failure policy. @throws EngineError `PLUGIN_INVALID` when a worker does not say that it did */
  async remove(id: number): Promise<void> {
    this.#options.briefing.remove(id);
    // Both at once: one may take the other's place meanwhile.
    const workers = [this.#serving, this.#standby.thread].filter((worker) => worker !== undefined);
    await Promise.all(workers.map((worker) => removeFrom(worker, id)));
  }

  /** Finishes the batch in hand and ends the threads. What is held from then on gets its failure policy. */
  async close(): Promise<void> {
    this.#closing = true;
    await this.#standby.close({ type: 'stop' }, STOP_MS);
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
    if (!serving || this.#closing) return;
    const answer = await serving.ask((seq) => ({ type: 'plugin', seq, setup }), TRIAL_MS);
    if (serving === this.#serving) {
      if (answer) return check(answer, serving);
      // It might switch later, when everybody takes the version for refused. The standby runs it already.
      serving.fail(SILENT);
      await serving.ended;
    }
    await this.#switchTo(setup);
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
    if (worker !== this.#serving) {
      const stopped = this.#serving;
      // One that is being ended, because it refused a version, does not serve for long: the next standby does.
      this.#letServe(worker === this.#standby.thread ? this.#standby.take() : undefined);
      stopped?.discard();
    }
    const off = this.#timeouts.add(plugin);
    if (off) this.#suspended.delete(plugin);
    else this.#suspended.add(plugin);
    this.#options.events.timeout(plugin, off);
    void this.#standby.start();
    if (!this.#serving) this.#noteStandby();
  }

  #letServe(worker: Worker | undefined): void {
    this.#serving = worker;
    if (worker) this.#served.add(worker);
  }

  /**
   * A standby that stopped an evaluation and has ended before it said so leaves nobody that serves: the worker that it stopped waits for
   * its end.
   */
  #noteEnd(worker: Worker): void {
    if (!this.#served.has(worker) && this.#guard.state === 'stopped') this.#serving?.fail('a standby stopped it, and is gone');
  }

  /** A standby is ready: it serves where nobody does; else those are asked again that waited for it. */
  #noteStandby(): void {
    if (this.#serves && !this.#serving && !this.#closing) {
      const worker = this.#standby.take();
      this.#letServe(worker);
      worker?.post({ type: 'activate' });
      if (worker) void this.#standby.start();
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

/** One that starts looks at this before anything else, and one that ends decides nothing any more: neither has to say that it did. */
async function removeFrom(worker: Worker, id: number): Promise<void> {
  const { state } = worker;
  const answer = await worker.ask((seq) => ({ type: 'remove', seq, id }), TRIAL_MS);
  if (answer?.error !== undefined) throw new EngineError('PLUGIN_INVALID', answer.error);
  if (!answer && state === 'ready' && worker.state === 'ready')
    throw new EngineError('PLUGIN_INVALID', `Cannot remove plugin: a flow worker did not say within ${TRIAL_MS} ms that it did`);
}

/** @throws EngineError `PLUGIN_INVALID` with the reason of a worker, or that it said nothing */
function check(answer: Answer | undefined, worker: Worker): void {
  if (answer && answer.error === undefined) return;
  const silent = worker.state === 'ready' ? `it did not start within ${TRIAL_MS} ms` : 'the flow worker ended';
  throw new EngineError('PLUGIN_INVALID', answer?.error ?? `Cannot load module: ${silent}`);
}

/**
 * All threads that run plugins, as the others know them: told at once, and of the same. The registry has versions put in force here, the
 * reconciler says who is who and what the proxy goes by.
 */
import type { PluginState } from '../abi.gen.ts';
import type { Logger } from '../log.ts';
import type { SocketEnds } from '../native.gen.ts';
import type { ClusterChange } from '../plugin-runtime/messages.ts';
import type { PluginSetup } from '../plugin-runtime/plugin-setup.ts';
import type { ExplainedRequest, ProxyPolicy, Request } from '../proxy/messages.ts';
import { Briefing } from './briefing.ts';
import { type FlowEvents, FlowWorkers } from './flow-workers.ts';
import type { ThreadModule } from './launch.ts';
import { type ProxyEvents, ProxyThreads } from './proxy-threads.ts';

/** Told of everything that threads say. */
export interface ThreadEvents extends Omit<FlowEvents, 'error'>, Omit<ProxyEvents, 'error'> {
  error(room: 'flow' | 'proxy', reason: string): void;
}

export interface PluginThreadsOptions {
  readonly flowWorker: ThreadModule;
  readonly proxy: ThreadModule;
  /** End the waits of a flow worker that serves, and of a thread of the proxy. */
  readonly wakeServing: () => void;
  readonly wakeProxy: (handle: number) => void;
  /** Cleans up behind a thread of the proxy that has ended, by the same handle. */
  readonly cleanUpProxy: (handle: number) => void;
  readonly closeSocket: (fd: number) => void;
  readonly log: Logger;
}

export class PluginThreads {
  readonly #briefing = new Briefing();
  readonly #flow: FlowWorkers;
  readonly #proxy: ProxyThreads;
  #events: ThreadEvents | undefined;
  /** Changes of plugins, one after the other. */
  #queue: Promise<unknown> = Promise.resolve();

  constructor({ flowWorker, proxy, wakeServing, wakeProxy, cleanUpProxy, closeSocket, log }: PluginThreadsOptions) {
    const briefing = this.#briefing;
    const both: Omit<FlowEvents & ProxyEvents, 'error' | 'requests' | 'report'> = {
      trap: (serial, message, offsets) => this.#events?.trap(serial, message, offsets),
      log: (plugin, text) => this.#events?.log(plugin, text),
      timeout: (id, switchedOff) => this.#noteTimeout(id, switchedOff),
    };
    this.#flow = new FlowWorkers({
      module: flowWorker,
      briefing,
      wakeServing,
      log,
      events: {
        ...both,
        report: (report) => this.#events?.report(report),
        error: (reason) => this.#events?.error('flow', reason),
      },
    });
    this.#proxy = new ProxyThreads({
      module: proxy,
      briefing,
      wake: wakeProxy,
      cleanUp: cleanUpProxy,
      closeSocket,
      events: {
        ...both,
        requests: (thread, report) => this.#events?.requests(thread, report),
        error: (reason) => this.#events?.error('proxy', reason),
      },
    });
  }

  /** Why requests are not decided; undefined when they are. */
  get proxyProblem(): string | undefined {
    return this.#proxy.problem;
  }

  /** Starts the first flow worker: versions can be installed, nothing is served yet. @throws EngineError `TIMEOUT` */
  start(events: ThreadEvents): Promise<void> {
    this.#events = events;
    return this.#flow.start();
  }

  /** Has held packets served, with the versions that were installed so far. @throws EngineError `TIMEOUT` */
  serve(): Promise<void> {
    return this.#flow.serve();
  }

  /** Starts the proxy; returns when it serves, or cannot: then it is tried again and again, and `proxyProblem` says why. */
  startProxy(): Promise<void> {
    return this.#proxy.start();
  }

  /** Tells who is behind identities and addresses that changed. Takes effect before the next evaluation. */
  setCluster(change: ClusterChange): void {
    this.#briefing.setCluster(change);
    this.#flow.post({ type: 'cluster', ...change });
    this.#proxy.post({ type: 'cluster', ...change });
  }

  /** Has requests judged by another revision of policy from now on. */
  setPolicy(policy: ProxyPolicy): void {
    this.#briefing.setPolicy(policy);
    this.#proxy.post({ type: 'policy', policy });
  }

  /** Labels of an identity, `key=value` each; empty for what is no pod. */
  labels(identity: number): string[] {
    return this.#briefing.labels(identity);
  }

  /**
   * Puts versions of a plugin in force. When it returns, no verdict of those before counts any more.
   *
   * @throws EngineError `PLUGIN_INVALID` when one does not start, traps or loops; the one before stays in force.
   */
  install(setup: PluginSetup): Promise<void> {
    return this.#enqueue(async () => {
      // Tried by the flow workers first: what reaches the proxy starts.
      await this.#flow.install(setup);
      await this.#proxy.install(setup);
    });
  }

  /** Stops asking a plugin; its flows get the failure policy. */
  remove(id: number): Promise<void> {
    return this.#enqueue(async () => {
      // Both, even where one of them does not say that it did.
      const removals = await Promise.allSettled([this.#flow.remove(id), this.#proxy.remove(id)]);
      for (const removal of removals) if (removal.status === 'rejected') throw removal.reason;
    });
  }

  /** Sets the state in the kernel of an id without a version that runs. */
  declare(id: number, state: PluginState): void {
    this.#briefing.declare(id, state);
    this.#flow.post({ type: 'declare', id, state });
  }

  /** The way that a request would go; undefined where nobody says, or policy does not have it decided. */
  explainRequest(ends: SocketEnds, request: Request): Promise<ExplainedRequest | undefined> {
    return this.#proxy.explain(ends, request);
  }

  async closeProxy(): Promise<void> {
    await this.#proxy.close();
  }

  async close(): Promise<void> {
    await this.#queue;
    await this.#flow.close();
  }

  /** A plugin that is switched off is off everywhere, and for threads to come. */
  #noteTimeout(id: number, switchedOff: boolean): void {
    if (switchedOff) {
      this.#briefing.switchOff(id);
      this.#flow.post({ type: 'switch-off', id });
      this.#proxy.post({ type: 'switch-off', id });
    }
    this.#events?.timeout(id, switchedOff);
  }

  #enqueue<T>(act: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(act, act);
    this.#queue = result.catch(() => {});
    return result;
  }
}

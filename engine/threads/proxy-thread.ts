/**
 * A thread of the proxy as the main thread sees it: it has everything that it needs told, is watched, and replaced when it fails.
 *
 * While there is none, new connections get the failure policy of what they are tagged for; the kernel sees to that.
 */
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { EngineError, messageOf } from '../errors.ts';
import type { SocketEnds } from '../native.gen.ts';
import type { IdentityEntry, PluginSetup, ToWorker } from '../plugin-runtime/messages.ts';
import { DRAIN_MS, type ExplainedRequest, type FromProxy, type ProxyPolicy, type Request, type ToProxy } from '../proxy/messages.ts';

const READY_MS = 10_000;
const ANSWER_MS = 2000;
/** How often it is looked after, and how often it may fail to answer before another one takes its place. */
const WATCH_MS = 1000;
const MISSED_MAX = 5;
/** A thread that ended is not started again at once: what ended it may still be there. Each time that it does not start, twice as long. */
const RESTART_MS = 200;
const RESTART_MAX_MS = 30_000;

export type RequestsReport = Extract<FromProxy, { type: 'requests' }>;

export interface ProxyEvents {
  requests(report: RequestsReport): void;
  trap(serial: number, message: string, offsets: readonly number[]): void;
  log(plugin: string, text: string): void;
  timeout(plugin: number, switchedOff: boolean): void;
  error(message: string): void;
}

export interface ProxyThreadOptions {
  /** Module of the thread, and what it needs besides its port. */
  readonly worker: URL;
  readonly data: Readonly<Record<string, unknown>>;
  /** Ends a wait of the thread, by the handle that it said when it was ready. */
  readonly wake: (handle: number) => void;
  /** Cleans up behind a thread that has ended, by the same handle. */
  readonly cleanUp: (handle: number) => void;
  readonly events: ProxyEvents & {
    /** A client that speaks another version of HTTP. */
    handOver(connection: Extract<FromProxy, { type: 'hand-over' }>): void;
    /** Another thread has taken its place. */
    replaced(): void;
  };
}

interface Running {
  readonly worker: Worker;
  readonly port: MessagePort;
  readonly waiting: Map<number, (answer: Answer | undefined) => void>;
  handle: number;
  missed: number;
}

type Answer = Extract<FromProxy, { type: 'ack' | 'explained' }>;
type ClusterMessage = Extract<ToWorker, { type: 'cluster' }>;

export class ProxyThread {
  readonly #options: ProxyThreadOptions;
  readonly #setups = new Map<number, PluginSetup>();
  readonly #identities = new Map<number, IdentityEntry>();
  readonly #pods = new Map<string, string>();
  #policy: ProxyPolicy | undefined;
  #running: Running | undefined;
  #seq = 0;
  #closing = false;
  #problem: string | undefined;
  /** How often it was started in vain since it served last. */
  #failures = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: ProxyThreadOptions) {
    this.#options = options;
  }

  /** Why nobody serves; undefined when somebody does. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Starts the thread; returns when it serves, or cannot: then it is tried again and again, and `problem` says why. */
  async start(): Promise<void> {
    await this.#spawn();
    this.#timer = setInterval(() => this.#watch(), WATCH_MS);
  }

  /** Ends the thread; another one takes its place. */
  restart(): void {
    void this.#running?.worker.terminate();
  }

  setCluster({ identities, identitiesGone, pods }: Omit<ClusterMessage, 'type'>): void {
    for (const id of identitiesGone) this.#identities.delete(id);
    for (const identity of identities) this.#identities.set(identity.id, identity);
    for (const [address, name] of pods)
      if (name) this.#pods.set(address, name);
      else this.#pods.delete(address);
    this.post({ type: 'cluster', identities, identitiesGone, pods });
  }

  /** Has everything judged by another revision from now on. */
  setPolicy(policy: ProxyPolicy): void {
    this.#policy = policy;
    this.post({ type: 'policy', policy });
  }

  /** Puts a version in force that has been tried elsewhere. @throws EngineError `PLUGIN_INVALID` */
  async install(setup: PluginSetup): Promise<void> {
    this.#setups.set(setup.id, setup);
    await this.#tell((seq) => ({ type: 'plugin', seq, setup }));
  }

  async remove(id: number): Promise<void> {
    this.#setups.delete(id);
    await this.#tell((seq) => ({ type: 'remove', seq, id }));
  }

  /** What would become of a request; undefined where nobody says, or policy does not have it decided. */
  async explain(ends: SocketEnds, request: Request): Promise<ExplainedRequest | undefined> {
    const answer = await this.#ask((seq) => ({ type: 'explain', seq, ends, request }));
    return answer?.type === 'explained' ? answer.request : undefined;
  }

  /** Returns whether there is somebody to be told. */
  post(message: ToProxy): boolean {
    const running = this.#running;
    if (!running) return false;
    running.port.postMessage(message);
    if (running.handle) this.#options.wake(running.handle);
    return true;
  }

  async close(): Promise<void> {
    this.#closing = true;
    clearInterval(this.#timer);
    const running = this.#running;
    if (!running) return;
    const ended = new Promise((resolve) => running.worker.once('exit', resolve));
    this.post({ type: 'stop' });
    const late = setTimeout(() => void running.worker.terminate(), DRAIN_MS + ANSWER_MS);
    await ended;
    clearTimeout(late);
  }

  async #spawn(): Promise<void> {
    const { port1, port2 } = new MessageChannel();
    const worker = new Worker(this.#options.worker, { workerData: { ...this.#options.data, port: port2 }, transferList: [port2] });
    const running: Running = { worker, port: port1, waiting: new Map(), handle: 0, missed: 0 };
    this.#running = running;
    const ready = new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new Error(`it was not ready within ${READY_MS} ms`));
        void worker.terminate();
      }, READY_MS);
      port1.on('message', (message: FromProxy) => {
        if (message.type === 'ready') {
          clearTimeout(timer);
          running.handle = message.handle;
          resolve();
        } else if (message.type === 'failed') {
          clearTimeout(timer);
          reject(new Error(message.reason));
        } else this.#receive(running, message);
      });
      worker.on('error', (error) => {
        clearTimeout(timer);
        reject(error);
        this.#noteProblem(error.message);
      });
      worker.on('exit', () => {
        clearTimeout(timer);
        reject(new Error('it ended'));
        this.#noteExit(running);
      });
    });
    this.post({ type: 'cluster', identities: [...this.#identities.values()], identitiesGone: [], pods: [...this.#pods] });
    for (const setup of this.#setups.values()) this.post({ type: 'plugin', seq: 0, setup });
    if (this.#policy) this.post({ type: 'policy', policy: this.#policy });
    try {
      await ready;
      this.#problem = undefined;
      this.#failures = 0;
    } catch (error) {
      this.#failures += 1;
      this.#noteProblem(messageOf(error));
    }
  }

  /** Each is told once. */
  #noteProblem(reason: string): void {
    if (reason === this.#problem) return;
    this.#problem = reason;
    this.#options.events.error(reason);
  }

  async #tell(message: (seq: number) => ToProxy): Promise<void> {
    const answer = await this.#ask(message);
    if (answer?.type === 'ack' && answer.error !== undefined) throw new EngineError('PLUGIN_INVALID', answer.error);
  }

  async #ask(message: (seq: number) => ToProxy): Promise<Answer | undefined> {
    const running = this.#running;
    if (!running) return undefined;
    this.#seq += 1;
    const seq = this.#seq;
    const answer = await new Promise<Answer | undefined>((resolve) => {
      // A proxy that hangs is replaced, and the next one has everything from the start.
      const timer = setTimeout(() => resolve(undefined), ANSWER_MS);
      running.waiting.set(seq, (answer) => {
        clearTimeout(timer);
        resolve(answer);
      });
      this.post(message(seq));
    });
    running.waiting.delete(seq);
    return answer;
  }

  #receive(running: Running, message: FromProxy): void {
    const { events } = this.#options;
    running.missed = 0;
    if (message.type === 'ack' || message.type === 'explained') running.waiting.get(message.seq)?.(message);
    else if (message.type === 'requests') events.requests(message);
    else if (message.type === 'hand-over') events.handOver(message);
    else if (message.type === 'trap') events.trap(message.serial, message.message, message.offsets);
    else if (message.type === 'log') events.log(message.plugin, message.text);
    else if (message.type === 'timeout') events.timeout(message.plugin, message.switchedOff);
    else if (message.type === 'error') events.error(message.message);
  }

  #watch(): void {
    const running = this.#running;
    if (!running) return;
    running.missed += 1;
    this.post({ type: 'ping' });
    if (running.missed <= MISSED_MAX) return;
    this.#options.events.error('the proxy does not answer: another one takes its place');
    void running.worker.terminate();
  }

  #noteExit(ended: Running): void {
    ended.port.close();
    for (const answer of ended.waiting.values()) answer(undefined);
    if (ended.handle) this.#options.cleanUp(ended.handle);
    ended.handle = 0;
    if (ended !== this.#running) return;
    this.#running = undefined;
    if (this.#closing) return;
    setTimeout(
      () => {
        if (this.#closing) return;
        void this.#spawn().then(() => {
          if (!this.#problem) this.#options.events.replaced();
        });
      },
      Math.min(RESTART_MS * 2 ** this.#failures, RESTART_MAX_MS),
    );
  }
}

/**
 * Keeps one thread of a kind: whichever ends, does not start or does not answer is replaced, and the reason is told. One that does not
 * start is tried again after a pause that doubles; what ended it may still be there.
 */
import { type Launch, launchWorker, type ThreadModule } from './launch.ts';
import { type Answer, Thread } from './thread.ts';

const READY_MS = 10_000;
/** The pause before another one is started, and the longest. */
const RESTART_MS = 200;
const RESTART_MAX_MS = 30_000;

export interface Pauses {
  readonly readyMs: number;
  readonly restartMs: number;
  readonly restartMaxMs: number;
}

export interface SupervisorOptions<To, From extends { readonly type: string }> {
  readonly module: ThreadModule;
  /** Everything that a thread is told before anything else. */
  readonly brief: () => readonly To[];
  readonly wake: (thread: Thread<To, From>) => void;
  readonly events: SupervisorEvents<To, From>;
  /** How often it is looked after, how, and how often it may fail to say anything in between; absent: others see to that. */
  readonly watch?: { readonly everyMs: number; readonly missedMax: number; readonly ping: To };
  readonly pauses?: Pauses;
  /** Absent: as a worker of Node. */
  readonly launch?: Launch;
}

export interface SupervisorEvents<To, From extends { readonly type: string }> {
  receive(thread: Thread<To, From>, message: From): void;
  /** A thread is ready. `again`: it takes the place of another one. */
  ready(thread: Thread<To, From>, again: boolean): void;
  /** A thread ended that nobody told to, or did not start. */
  failed(thread: Thread<To, From>, reason: string): void;
  /** A thread has ended, whatever ended it: what it leaves behind can be taken away. */
  ended?(thread: Thread<To, From>): void;
}

export class Supervisor<To, From extends { readonly type: string }> {
  readonly #options: SupervisorOptions<To, From>;
  readonly #pauses: Pauses;
  #thread: Thread<To, From> | undefined;
  /** Every one that was started here and has not ended, whoever has it now. */
  readonly #alive = new Set<Thread<To, From>>();
  #problem: string | undefined;
  /** How often one was started in vain since the last that was ready. */
  #failures = 0;
  #missed = 0;
  #started = 0;
  /** The last one that was started is ready, or has failed. */
  #settled: Promise<void> = Promise.resolve();
  #closing = false;
  #watch: NodeJS.Timeout | undefined;
  #restart: NodeJS.Timeout | undefined;

  constructor(options: SupervisorOptions<To, From>) {
    this.#options = options;
    this.#pauses = options.pauses ?? { readyMs: READY_MS, restartMs: RESTART_MS, restartMaxMs: RESTART_MAX_MS };
  }

  /** The thread that starts or is ready. */
  get thread(): Thread<To, From> | undefined {
    return this.#thread;
  }

  /** Why there is none that is ready, once one has failed. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Starts one. Returns when it is ready, or has failed: then another one is tried, and `problem` says why. */
  start(): Promise<void> {
    const { watch } = this.#options;
    if (watch) this.#watch ??= setInterval(() => this.#look(watch), watch.everyMs);
    return this.#spawn();
  }

  /** The thread, once it is ready; undefined where it has failed. */
  async whenReady(): Promise<Thread<To, From> | undefined> {
    for (let settled: Promise<void> | undefined; settled !== this.#settled; ) {
      settled = this.#settled;
      await settled;
    }
    return this.#thread?.state === 'ready' ? this.#thread : undefined;
  }

  /** Hands out the thread, if it is ready: its end is told, and no other one takes its place. start() makes the next one. */
  take(): Thread<To, From> | undefined {
    const thread = this.#thread;
    if (thread?.state !== 'ready') return undefined;
    this.#thread = undefined;
    return thread;
  }

  /** Has another thread take the place of this one. Returns when it is ready, or has failed. */
  replace(): Promise<void> {
    const before = this.#thread;
    this.#thread = undefined;
    before?.discard();
    return this.#spawn();
  }

  /** Returns whether there is somebody to be told. */
  post(message: To): boolean {
    this.#thread?.post(message);
    return this.#thread !== undefined;
  }

  /** The answer of the thread; undefined where it has none in that time, or there is no thread. */
  async ask(message: (seq: number) => To, limitMs: number): Promise<Answer | undefined> {
    return this.#thread?.ask(message, limitMs);
  }

  /** Starts none any more, and ends those that there are, handed out ones too. When it returns, none is running that was started here. */
  async close(stop: To, graceMs: number): Promise<void> {
    this.#closing = true;
    clearInterval(this.#watch);
    clearTimeout(this.#restart);
    await Promise.all([...this.#alive].map((thread) => thread.stop(stop, graceMs)));
  }

  #spawn(): Promise<void> {
    clearTimeout(this.#restart);
    if (this.#closing || this.#thread) return this.#settled;
    const again = this.#started > 0;
    this.#started += 1;
    this.#missed = 0;
    this.#settled = new Promise((settled) => {
      const thread: Thread<To, From> = new Thread({
        module: this.#options.module,
        launch: this.#options.launch ?? launchWorker,
        readyMs: this.#pauses.readyMs,
        wake: () => this.#options.wake(thread),
        events: {
          ready: () => {
            this.#problem = undefined;
            this.#failures = 0;
            this.#options.events.ready(thread, again);
            settled();
          },
          receive: (message) => {
            if (thread === this.#thread) this.#missed = 0;
            this.#options.events.receive(thread, message);
          },
          ended: (reason) => {
            this.#alive.delete(thread);
            this.#options.events.ended?.(thread);
            this.#noteEnd(thread, reason);
            settled();
          },
        },
      });
      this.#thread = thread;
      this.#alive.add(thread);
      for (const message of this.#options.brief()) thread.post(message);
    });
    return this.#settled;
  }

  #noteEnd(thread: Thread<To, From>, reason: string | undefined): void {
    const own = thread === this.#thread;
    if (own) this.#thread = undefined;
    if (reason !== undefined) {
      // Each is told once, however often it is met.
      if (!own || reason !== this.#problem) this.#options.events.failed(thread, reason);
      if (own) this.#problem = reason;
    }
    if (!own || this.#closing) return;
    const pauseMs = Math.min(this.#pauses.restartMs * 2 ** this.#failures, this.#pauses.restartMaxMs);
    this.#failures += 1;
    this.#restart = setTimeout(() => void this.#spawn(), pauseMs);
  }

  #look({ missedMax, ping }: { readonly missedMax: number; readonly ping: To }): void {
    const thread = this.#thread;
    if (thread?.state !== 'ready') return;
    this.#missed += 1;
    thread.post(ping);
    if (this.#missed > missedMax) thread.fail('it does not answer: another one takes its place');
  }
}

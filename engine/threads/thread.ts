/**
 * One thread with its port, as the main thread sees it: started, told, asked, ended. It is used by one supervisor, which replaces it when
 * it ends.
 *
 * Every thread says `ready` or `failed` first. A message with a `seq` is an answer to what had that number; all others are passed on.
 */
import { MessageChannel, type MessagePort, type ResourceLimits, Worker } from 'node:worker_threads';
import { StateMachine, type Transitions } from '../transitions.ts';

export type ThreadState = 'starting' | 'ready' | 'ended';

export const THREAD: Transitions<ThreadState, 'ready' | 'end'> = {
  starting: { ready: 'ready', end: 'ended' },
  ready: { end: 'ended' },
  ended: {},
};

/** Module of a thread, and what it needs besides its port. */
export interface ThreadModule {
  readonly worker: URL;
  readonly data: Readonly<Record<string, unknown>>;
  readonly resourceLimits?: ResourceLimits;
}

/** A message that answers one with the same number. */
export interface Answer {
  readonly type: string;
  readonly seq: number;
  /** Why what was asked for was not done; absent where it was. */
  readonly error?: string;
}

export interface ThreadEvents<From> {
  ready(): void;
  receive(message: From): void;
  /** Told once, whatever ends it. `reason` is undefined where it ended as it was told to. */
  ended(reason: string | undefined): void;
}

export interface ThreadOptions<From> {
  readonly module: ThreadModule;
  /** How long it may take to be ready. */
  readonly readyMs: number;
  /** Ends a wait of the thread, so that it looks for messages. */
  readonly wake: () => void;
  readonly events: ThreadEvents<From>;
}

type Said = { readonly type: 'ready'; readonly handle?: number } | { readonly type: 'failed'; readonly reason: string };

export class Thread<To, From extends { readonly type: string }> {
  readonly #options: ThreadOptions<From>;
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #life = new StateMachine('thread', THREAD, 'starting');
  readonly #waiting = new Map<number, (answer: Answer | undefined) => void>();
  readonly #late: NodeJS.Timeout;
  readonly #ended: Promise<void>;
  #handle = 0;
  #seq = 0;
  #stopping = false;
  /** Why it ends, as far as that is known before it does. */
  #reason: string | undefined;

  constructor(options: ThreadOptions<From>) {
    this.#options = options;
    const { worker, data, resourceLimits } = options.module;
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    this.#worker = new Worker(worker, {
      workerData: { ...data, port: port2 },
      transferList: [port2],
      ...(resourceLimits && { resourceLimits }),
    });
    this.#late = setTimeout(() => this.fail(`it was not ready within ${options.readyMs} ms`), options.readyMs);
    port1.on('message', (message: From | Said | Answer) => this.#receive(message));
    this.#worker.on('error', (error) => {
      this.#reason ??= error.message;
    });
    this.#ended = new Promise((resolve) =>
      this.#worker.once('exit', () => {
        this.#noteEnd();
        resolve();
      }),
    );
  }

  get state(): ThreadState {
    return this.#life.state;
  }

  /** By which its wait is ended; 0 where it has none, or has ended. */
  get handle(): number {
    return this.#handle;
  }

  post(message: To): void {
    this.#port.postMessage(message);
    this.#options.wake();
  }

  /** Sends a message and waits for its answer; undefined when it has none within that time, or ends. */
  async ask(message: (seq: number) => To, limitMs: number): Promise<Answer | undefined> {
    if (this.state === 'ended') return undefined;
    this.#seq += 1;
    const seq = this.#seq;
    const answer = await new Promise<Answer | undefined>((resolve) => {
      const timer = setTimeout(() => resolve(undefined), limitMs);
      this.#waiting.set(seq, (answer) => {
        clearTimeout(timer);
        resolve(answer);
      });
      this.post(message(seq));
    });
    this.#waiting.delete(seq);
    return answer;
  }

  /** Ends it at once, for that reason. */
  fail(reason: string): void {
    this.#reason ??= reason;
    void this.#worker.terminate();
  }

  /** Ends it as it is told to by a message; after so long, at once. Returns when it has ended. */
  async stop(message: To, graceMs: number): Promise<void> {
    this.#stopping = true;
    if (this.state === 'ended') return;
    this.post(message);
    const late = setTimeout(() => void this.#worker.terminate(), graceMs);
    await this.#ended;
    clearTimeout(late);
  }

  /** Ends it at once, because it is needed no more. */
  discard(): void {
    this.#stopping = true;
    void this.#worker.terminate();
  }

  #receive(message: From | Said | Answer): void {
    if (this.state === 'ended') return;
    if (message.type === 'ready') {
      clearTimeout(this.#late);
      this.#handle = (message as Extract<Said, { type: 'ready' }>).handle ?? 0;
      this.#life.on('ready');
      this.#options.events.ready();
    } else if (message.type === 'failed') {
      this.fail((message as Extract<Said, { type: 'failed' }>).reason);
    } else if ('seq' in message) {
      this.#waiting.get(message.seq)?.(message);
    } else this.#options.events.receive(message as From);
  }

  #noteEnd(): void {
    clearTimeout(this.#late);
    this.#life.on('end');
    this.#port.close();
    for (const answer of this.#waiting.values()) answer(undefined);
    this.#options.events.ended(this.#stopping ? undefined : (this.#reason ?? 'it ended'));
    this.#handle = 0;
  }
}

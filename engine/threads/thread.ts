/**
 * One thread with its port, as the main thread sees it: started, told, asked, ended. It is used by one supervisor, which replaces it when
 * it ends.
 *
 * Every thread says `ready` or `failed` first. A message with a `seq` is an answer to what had that number; all others are passed on.
 */
import { StateMachine, type Transitions } from '../transitions.ts';
import type { Launch, LaunchedThread, ThreadModule } from './launch.ts';

export type ThreadState = 'starting' | 'ready' | 'ending' | 'ended';

/**
 * The life of a thread. One that is told to end is nobody's any more, whatever it still says.
 *
 *     starting -> ready     ready
 *     starting -> ending    leave: it failed, or is needed no more
 *     ready -> ending       leave
 *     ending -> ending      leave, ready
 *     starting -> ended     end: by itself
 *     ready -> ended        end: by itself
 *     ending -> ended       end
 */
export const THREAD: Transitions<ThreadState, 'ready' | 'leave' | 'end'> = {
  starting: { ready: 'ready', leave: 'ending', end: 'ended' },
  ready: { leave: 'ending', end: 'ended' },
  ending: { ready: 'ending', leave: 'ending', end: 'ended' },
  ended: {},
};

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
  readonly launch: Launch;
  /** How long it may take to be ready. */
  readonly readyMs: number;
  /** Ends a wait of the thread, so that it looks for messages. */
  readonly wake: () => void;
  readonly events: ThreadEvents<From>;
}

type Said = { readonly type: 'ready'; readonly handle?: number } | { readonly type: 'failed'; readonly reason: string };

export class Thread<To, From extends { readonly type: string }> {
  readonly #options: ThreadOptions<From>;
  readonly #launched: LaunchedThread;
  readonly #life = new StateMachine(THREAD, 'starting');
  readonly #waiting = new Map<number, (answer: Answer | undefined) => void>();
  readonly #late: NodeJS.Timeout;
  /** Resolves when it has ended. */
  readonly ended: Promise<void>;
  #handle = 0;
  #seq = 0;
  /** It ends because it is told to. */
  #wanted = false;
  /** Why it ends, as far as that is known before it does. */
  #reason: string | undefined;

  constructor(options: ThreadOptions<From>) {
    this.#options = options;
    const ended = Promise.withResolvers<void>();
    this.ended = ended.promise;
    this.#launched = options.launch(options.module, {
      message: (message) => this.#receive(message as From | Said | Answer),
      error: (error) => {
        this.#reason ??= error.message;
      },
      exit: () => {
        this.#noteEnd();
        ended.resolve();
      },
    });
    this.#late = setTimeout(() => this.fail(`it was not ready within ${options.readyMs} ms`), options.readyMs);
  }

  get state(): ThreadState {
    return this.#life.state;
  }

  /** By which its wait is ended; 0 where it has none, or has not said it yet, or has ended. */
  get handle(): number {
    return this.#handle;
  }

  post(message: To): void {
    if (this.state === 'ended') return;
    this.#launched.post(message);
    this.#options.wake();
  }

  /** Sends a message and waits for its answer; undefined when it has none within that time, or ends. */
  async ask(message: (seq: number) => To, limitMs: number): Promise<Answer | undefined> {
    if (this.state === 'ended' || this.state === 'ending') return undefined;
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
    this.#leave();
  }

  /** Ends it as it is told to by a message; after so long, at once. Returns when it has ended. */
  async stop(message: To, graceMs: number): Promise<void> {
    this.#wanted = true;
    if (this.state === 'starting' || this.state === 'ready') {
      this.#life.on('leave');
      this.post(message);
      const late = setTimeout(() => this.#launched.terminate(), graceMs);
      await this.ended;
      clearTimeout(late);
    } else await this.ended;
  }

  /** Ends it at once, because it is needed no more. */
  discard(): void {
    this.#wanted = true;
    this.#leave();
  }

  #leave(): void {
    if (this.state === 'ended') return;
    this.#life.on('leave');
    this.#launched.terminate();
  }

  #receive(message: From | Said | Answer): void {
    if (this.state === 'ended') return;
    if (message.type === 'ready') this.#noteReady((message as Extract<Said, { type: 'ready' }>).handle ?? 0);
    else if (message.type === 'failed') this.fail((message as Extract<Said, { type: 'failed' }>).reason);
    else if ('seq' in message) this.#waiting.get(message.seq)?.(message);
    else this.#options.events.receive(message as From);
  }

  #noteReady(handle: number): void {
    clearTimeout(this.#late);
    // One that ends has it all the same: something has to be cleaned up behind it.
    this.#handle = handle;
    if (this.#life.on('ready') === 'ready') this.#options.events.ready();
  }

  #noteEnd(): void {
    clearTimeout(this.#late);
    this.#life.on('end');
    for (const answer of this.#waiting.values()) answer(undefined);
    this.#options.events.ended(this.#wanted ? undefined : (this.#reason ?? 'it ended'));
    this.#handle = 0;
  }
}

/** Threads that do nothing by themselves: a test says what they say, and when they end. */
import type { Launch, ThreadListener, ThreadModule } from '../../engine/threads/launch.ts';

/** A message with whatever else it has. */
export type Message = { readonly type: string; readonly seq?: number } & Readonly<Record<string, unknown>>;

export class FakeThread {
  /** Everything that it was told so far. */
  readonly told: Message[] = [];
  readonly data: ThreadModule['data'];
  /** How often it was to be ended at once. */
  terminations = 0;
  ended = false;
  readonly #listener: ThreadListener;

  constructor(module: ThreadModule, listener: ThreadListener) {
    this.data = module.data;
    this.#listener = listener;
  }

  say(message: Message): void {
    this.#listener.message(message);
  }

  ready(handle?: number): void {
    this.say({ type: 'ready', ...(handle !== undefined && { handle }) });
  }

  /** Answers the latest question of that type. */
  answer(type: string, error?: string): void {
    const seq = this.told.findLast((message) => message.type === type && message.seq)?.seq;
    if (!seq) throw new Error(`nobody asked for ${type}`);
    this.say({ type: 'ack', seq, ...(error !== undefined && { error }) });
  }

  /** It ends, by an error where one is given. */
  end(error?: string): void {
    if (error !== undefined) this.#listener.error(new Error(error));
    this.ended = true;
    this.#listener.exit();
  }

  /** Types of what it was told. */
  get types(): string[] {
    return this.told.map(({ type }) => type);
  }
}

/** Starts such threads. `endsAtOnce`: one that is to be ended has ended when whoever asked goes on. */
export class FakeThreads {
  readonly all: FakeThread[] = [];
  endsAtOnce = true;

  readonly launch: Launch = (module, listener) => {
    const thread = new FakeThread(module, listener);
    this.all.push(thread);
    return {
      post: (message) => void thread.told.push(message as Message),
      terminate: () => {
        thread.terminations += 1;
        if (this.endsAtOnce && !thread.ended) queueMicrotask(() => thread.ended || thread.end());
      },
    };
  };

  /** The one that was started last. */
  get last(): FakeThread {
    return this.at(-1);
  }

  at(index: number): FakeThread {
    const thread = this.all.at(index);
    if (!thread) throw new Error(`there is no thread ${index}`);
    return thread;
  }
}

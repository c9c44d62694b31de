/** An API server of which a test says each answer: what a reflector does is seen by what it asks and tells. */
import type { ApiClient } from '../../engine/sources/kubernetes/api-client.ts';
import { ApiFailure } from '../../engine/sources/kubernetes/api-failure.ts';
import type { ApiEvent, Page, RawRecord } from '../../engine/sources/kubernetes/encodings.ts';
import { KnownObjects } from '../../engine/sources/kubernetes/known-objects.ts';
import { Reflector } from '../../engine/sources/kubernetes/reflector.ts';
import type { Resource } from '../../engine/sources/kubernetes/resources.ts';
import type { Timing } from '../../engine/sources/kubernetes/timing.ts';

/** Short ones, for tests: a failure is tried again after 1 to 8 ms. */
export const SHORT_TIMING: Timing = {
  answerMs: 300,
  pageMs: 300,
  silenceMs: 300,
  watchMs: 2000,
  pingMs: 200,
  backOffMs: [2, 8],
  retryAfterMs: 50,
  absentMs: 5,
  catchUpMs: 1000,
};

export const PODS: Resource = { kind: 'Pod', apiVersion: 'v1', plural: 'pods', encoding: 'protobuf' };

export const rawPod = (name: string, ip = '10.0.0.1', version = 1): RawRecord => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'shop', uid: `uid-of-${name}`, resourceVersion: String(version) },
  spec: {},
  status: { podIPs: [{ ip }] },
});

export const page = (resourceVersion: number, names: readonly string[], more = ''): Page => ({
  items: names.map((name) => rawPod(name, undefined, resourceVersion)),
  resourceVersion,
  continue: more,
});

type Question =
  | { readonly ask: 'list'; readonly limit: number; readonly continue: string }
  | { readonly ask: 'watch'; readonly from: number };

/** A question that waits for what the test says to it. */
export class Asked {
  readonly question: Question;
  readonly #listen: Parameters<ApiClient['watch']>[2] | undefined;
  readonly #end: (page: Page | ApiFailure | undefined) => void;

  constructor(question: Question, end: (page: Page | ApiFailure | undefined) => void, listen?: Parameters<ApiClient['watch']>[2]) {
    this.question = question;
    this.#end = end;
    this.#listen = listen;
  }

  answer(answer: Page | ApiFailure): void {
    this.#end(answer);
  }

  opened(): this {
    this.#listen?.opened();
    return this;
  }

  event(type: ApiEvent['type'], resourceVersion: number, name = '', ip?: string): this {
    this.#listen?.event({ type, resourceVersion, object: name ? rawPod(name, ip, resourceVersion) : {} });
    return this;
  }

  /** The server ends the watch. */
  end(): void {
    this.#end(undefined);
  }
}

export class ScriptedApi implements Pick<ApiClient, 'list' | 'watch' | 'isServed'> {
  /** A version: that one alone. */
  served: boolean | ApiFailure | string = true;
  readonly #asked: Asked[] = [];
  readonly #waiting: ((asked: Asked) => void)[] = [];

  /** The next question; it waits for its answer. */
  async next(): Promise<Asked> {
    return this.#asked.shift() ?? (await new Promise((resolve) => this.#waiting.push(resolve)));
  }

  async list(_: Resource, at: { readonly limit: number; readonly continue: string }, signal: AbortSignal): Promise<Page> {
    return (await this.#ask({ ask: 'list', ...at }, signal)) as Page;
  }

  async watch(
    _: Resource,
    from: { readonly resourceVersion: number },
    listen: Parameters<ApiClient['watch']>[2],
    signal: AbortSignal,
  ): Promise<void> {
    await this.#ask({ ask: 'watch', from: from.resourceVersion }, signal, listen);
  }

  async isServed({ apiVersion }: Resource): Promise<boolean> {
    if (this.served instanceof ApiFailure) throw this.served;
    return typeof this.served === 'string' ? this.served === apiVersion : this.served;
  }

  async #ask(question: Question, signal: AbortSignal, listen?: Parameters<ApiClient['watch']>[2]): Promise<Page | undefined> {
    return await new Promise((resolve, reject) => {
      const stopped = (): void => reject(new ApiFailure('unreachable', 'stopped'));
      if (signal.aborted) return stopped();
      signal.addEventListener('abort', stopped, { once: true });
      const asked = new Asked(
        question,
        (answer) => {
          signal.removeEventListener('abort', stopped);
          if (answer instanceof ApiFailure) reject(answer);
          else resolve(answer);
        },
        listen,
      );
      const waiting = this.#waiting.shift();
      if (waiting) waiting(asked);
      else this.#asked.push(asked);
    });
  }
}

/** A reflector of pods, and the names of the pods that it has told of and not taken back. */
export class Followed {
  readonly api = new ScriptedApi();
  readonly pods = new Set<string>();
  readonly reflector: Reflector;

  constructor({ resource = PODS, timing = SHORT_TIMING }: { resource?: Resource; timing?: Timing } = {}) {
    this.reflector = new Reflector({
      resource,
      api: this.api,
      known: new KnownObjects({ locate: () => ({ at: 'object', object: { kind: 'Pod', namespace: 'shop', name: 'any' } }) }),
      timing,
      tell: (changes) => {
        for (const { slot, entry } of changes) {
          const name = slot.replace(/^.*\//, '');
          if (entry) this.pods.add(name);
          else this.pods.delete(name);
        }
      },
      changed: () => {},
    });
    this.reflector.start();
  }

  get names(): string {
    return [...this.pods].sort().join(' ');
  }

  /** Answers the next question, a list. */
  async list(answer: Page | ApiFailure): Promise<Asked> {
    const asked = await this.asked('list');
    asked.answer(answer);
    return asked;
  }

  /** The next question, a watch, which is opened. */
  async watch(): Promise<Asked> {
    return (await this.asked('watch')).opened();
  }

  async asked(kind: Question['ask']): Promise<Asked> {
    const asked = await this.api.next();
    if (asked.question.ask !== kind) throw new Error(`Expected a ${kind}, and was asked ${JSON.stringify(asked.question)}`);
    return asked;
  }
}

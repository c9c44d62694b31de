/**
 * The threads of the proxy: one for each version of HTTP. Clients go from the first to the second; all they are told is the same.
 *
 * While there is none, new connections get the failure policy of what they are tagged for; the kernel sees to that.
 */
import { EngineError } from '../errors.ts';
import type { SocketEnds } from '../native.gen.ts';
import type { PluginSetup } from '../plugin-runtime/plugin-setup.ts';
import { DRAIN_MS, type ExplainedRequest, type FromProxy, type Request, type ToProxy } from '../proxy/messages.ts';
import type { Briefing } from './briefing.ts';
import type { Launch, ThreadModule } from './launch.ts';
import { Supervisor } from './supervisor.ts';
import type { Answer } from './thread.ts';

const ANSWER_MS = 2000;
/** How often a thread is looked after, and how often it may fail to answer before another one takes its place. */
const WATCH = { everyMs: 1000, missedMax: 5, ping: { type: 'ping' } } as const;

export type HttpVersion = 'HTTP/1' | 'HTTP/2';
export type RequestsReport = Extract<FromProxy, { type: 'requests' }>;

export interface ProxyEvents {
  requests(thread: HttpVersion, report: RequestsReport): void;
  trap(serial: number, message: string, offsets: readonly number[]): void;
  log(plugin: string, text: string): void;
  timeout(plugin: number, switchedOff: boolean): void;
  error(reason: string): void;
}

export interface ProxyThreadsOptions {
  readonly module: ThreadModule;
  readonly briefing: Briefing;
  /** Ends a wait of a thread, by the handle that it said when it was ready. */
  readonly wake: (handle: number) => void;
  /** Cleans up behind a thread that has ended, by the same handle. */
  readonly cleanUp: (handle: number) => void;
  /** Closes a socket that nobody serves. */
  readonly closeSocket: (fd: number) => void;
  readonly events: ProxyEvents;
  readonly launch?: Launch;
}

type ProxySupervisor = Supervisor<ToProxy, FromProxy>;

export class ProxyThreads {
  readonly #options: ProxyThreadsOptions;
  readonly #http1: ProxySupervisor;
  readonly #http2: ProxySupervisor;

  constructor(options: ProxyThreadsOptions) {
    this.#options = options;
    this.#http2 = this.#supervisor('HTTP/2', () => {});
    // With a network of its own: nothing reaches the clients any more that the other one has in the network that is gone.
    this.#http1 = this.#supervisor('HTTP/1', () => void this.#http2.replace());
  }

  /** Why requests are not decided; undefined when they are. */
  get problem(): string | undefined {
    return this.#http1.problem ?? this.#http2.problem;
  }

  /** Starts both; returns when they serve, or cannot: then they are tried again and again, and `problem` says why. */
  async start(): Promise<void> {
    await this.#http1.start();
    await this.#http2.start();
  }

  post(message: ToProxy): void {
    for (const supervisor of this.#both) supervisor.post(message);
  }

  /** Puts a version in force that has been tried elsewhere. @throws EngineError `PLUGIN_INVALID` */
  async install(setup: PluginSetup): Promise<void> {
    await this.#tell((seq) => ({ type: 'plugin', seq, setup }));
  }

  async remove(id: number): Promise<void> {
    await this.#tell((seq) => ({ type: 'remove', seq, id }));
  }

  /** The way that a request would go; undefined where nobody says, or policy does not have it decided. */
  async explain(ends: SocketEnds, request: Request): Promise<ExplainedRequest | undefined> {
    const answer = await this.#http1.ask((seq) => ({ type: 'explain', seq, ends, request }), ANSWER_MS);
    return isExplained(answer) ? answer.request : undefined;
  }

  async close(): Promise<void> {
    await Promise.all(this.#both.map((supervisor) => supervisor.close({ type: 'stop' }, DRAIN_MS + ANSWER_MS)));
  }

  get #both(): ProxySupervisor[] {
    return [this.#http1, this.#http2];
  }

  #supervisor(speaks: HttpVersion, replaced: () => void): ProxySupervisor {
    const { module, briefing, wake, cleanUp, events, launch } = this.#options;
    return new Supervisor<ToProxy, FromProxy>({
      module: { ...module, data: { ...module.data, speaks } },
      brief: () => briefing.forProxy(),
      wake: ({ handle }) => {
        if (handle) wake(handle);
      },
      watch: WATCH,
      ...(launch && { launch }),
      events: {
        receive: (_thread, message) => this.#receive(speaks, message),
        ready: (_thread, again) => {
          if (again) replaced();
        },
        failed: (_thread, reason) => events.error(reason),
        ended: ({ handle }) => {
          if (handle) cleanUp(handle);
        },
      },
    });
  }

  /** A thread that hangs says nothing: it is replaced, and the next one has everything from the start. */
  async #tell(message: (seq: number) => ToProxy): Promise<void> {
    const answers = await Promise.all(this.#both.map((supervisor) => supervisor.ask(message, ANSWER_MS)));
    for (const answer of answers) if (answer?.error !== undefined) throw new EngineError('PLUGIN_INVALID', answer.error);
  }

  #receive(speaks: HttpVersion, message: FromProxy): void {
    const { events } = this.#options;
    if (message.type === 'requests') events.requests(speaks, message);
    else if (message.type === 'hand-over') this.#handOver(message);
    else if (message.type === 'trap') events.trap(message.serial, message.message, message.offsets);
    else if (message.type === 'log') events.log(message.plugin, message.text);
    else if (message.type === 'timeout') events.timeout(message.plugin, message.switchedOff);
    else if (message.type === 'error') events.error(message.message);
  }

  /** A client of the first thread speaks the other version. */
  #handOver({ fd, first, ends }: Extract<FromProxy, { type: 'hand-over' }>): void {
    if (!this.#http2.post({ type: 'connection', fd, first, ends })) this.#options.closeSocket(fd);
  }
}

function isExplained(answer: Answer | undefined): answer is Extract<FromProxy, { type: 'explained' }> {
  return answer?.type === 'explained';
}

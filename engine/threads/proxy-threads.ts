/** Both threads of the proxy as one: what one is told the other is told too, and clients go from the first to the second. */

import type { SocketEnds } from '../native.gen.ts';
import type { PluginSetup } from '../plugin-runtime/messages.ts';
import type { ExplainedRequest, ProxyPolicy, Request } from '../proxy/messages.ts';
import { type ProxyEvents, ProxyThread, type RequestsReport } from './proxy-thread.ts';

export interface ProxyOptions {
  readonly worker: URL;
  readonly data: Readonly<Record<string, unknown>>;
  readonly wake: (handle: number) => void;
  readonly cleanUp: (handle: number) => void;
  /** Closes a socket that nobody serves. */
  readonly closeSocket: (fd: number) => void;
  readonly events: Omit<ProxyEvents, 'requests'> & { requests(thread: string, report: RequestsReport): void };
}

export class ProxyThreads {
  readonly #http1: ProxyThread;
  readonly #http2: ProxyThread;

  constructor({ worker, data, wake, cleanUp, closeSocket, events }: ProxyOptions) {
    this.#http2 = new ProxyThread({
      worker,
      data: { ...data, speaks: 'HTTP/2' },
      wake,
      cleanUp,
      events: { ...events, requests: (report) => events.requests('HTTP/2', report), handOver: () => {}, replaced: () => {} },
    });
    this.#http1 = new ProxyThread({
      worker,
      data: { ...data, speaks: 'HTTP/1' },
      wake,
      cleanUp,
      events: {
        ...events,
        requests: (report) => events.requests('HTTP/1', report),
        handOver: ({ fd, first, ends }) => {
          if (!this.#http2.post({ type: 'connection', fd, first, ends })) closeSocket(fd);
        },
        // With a network of its own: nothing reaches the clients any more that the other one has in the network that is gone.
        replaced: () => this.#http2.restart(),
      },
    });
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

  setCluster(change: Parameters<ProxyThread['setCluster']>[0]): void {
    for (const thread of this.#threads) thread.setCluster(change);
  }

  setPolicy(policy: ProxyPolicy): void {
    for (const thread of this.#threads) thread.setPolicy(policy);
  }

  /** @throws EngineError `PLUGIN_INVALID` */
  async install(setup: PluginSetup): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.install(setup)));
  }

  async remove(id: number): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.remove(id)));
  }

  /** What would become of a request; undefined where nobody says, or policy does not have it decided. */
  explain(ends: SocketEnds, request: Request): Promise<ExplainedRequest | undefined> {
    return this.#http1.explain(ends, request);
  }

  /** Asks a plugin no more. */
  switchOff(id: number): void {
    for (const thread of this.#threads) thread.post({ type: 'switch-off', id });
  }

  async close(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.close()));
  }

  get #threads(): ProxyThread[] {
    return [this.#http1, this.#http2];
  }
}

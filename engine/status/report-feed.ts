/** Follows the reports of all nodes, as long as this engine leads. */
import { setTimeout as pause } from 'node:timers/promises';
import { messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import { type AnyObject, type ObjectApi, REPORTS } from './object-api.ts';
import type { Reports } from './reports.ts';

const PAUSE_MS = { first: 1000, longest: 30_000 } as const;

export class ReportFeed {
  readonly #api: Pick<ObjectApi, 'list' | 'watch'>;
  readonly #reports: Reports;
  readonly #log: Logger;
  readonly #stop = new AbortController();
  #complete = false;

  constructor(api: Pick<ObjectApi, 'list' | 'watch'>, reports: Reports, log: Logger) {
    this.#api = api;
    this.#reports = reports;
    this.#log = log;
  }

  /** Whether every report that there was has come. */
  get isComplete(): boolean {
    return this.#complete;
  }

  close(): void {
    this.#stop.abort();
  }

  /** Follows until it is closed. Never throws. */
  async run(): Promise<void> {
    let failures = 0;
    while (!this.#stop.signal.aborted) {
      try {
        await this.#once();
        failures = 0;
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        if (!failures) this.#log.warn({ reason: messageOf(error) }, 'the reports of nodes cannot be followed');
        failures += 1;
      }
      const pauseMs = Math.min(PAUSE_MS.longest, PAUSE_MS.first * 2 ** failures) * (0.5 + Math.random() / 2);
      await pause(pauseMs, undefined, { signal: this.#stop.signal }).catch(() => undefined);
    }
  }

  async #once(): Promise<void> {
    const seen = new Set<string>();
    const version = await this.#api.list(REPORTS, (object) => {
      const name = nameOf(object);
      seen.add(name);
      this.#reports.set(name, object.report);
    });
    for (const name of this.#reports.names) if (!seen.has(name)) this.#reports.set(name, undefined);
    this.#complete = true;
    await this.#api.watch(
      REPORTS,
      version,
      (type, object) => this.#reports.set(nameOf(object), type === 'deleted' ? undefined : object.report),
      this.#stop.signal,
    );
  }
}

function nameOf({ metadata }: AnyObject): string {
  return String((metadata as { name?: unknown } | undefined)?.name ?? '');
}

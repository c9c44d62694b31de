/** Collects the deeds of a thread until the main thread is told: counts of everything, and the flows one by one up to a bound. */
import { emptyCounts, type PluginCounts, type VersionCounts } from './counts.ts';
import { Failure } from './failure.ts';
import type { AskedFlow, FromWorker, ShadowDifference } from './messages.ts';

/** Flows between two reports that are told one by one. */
const FLOWS_MAX = 256;
const DIFFERENCES_MAX = 16;
const FAILURES = Object.keys(Failure).length;

export type Report = Omit<Extract<FromWorker, { type: 'report' }>, 'type'>;

export class Reporter {
  releaseFailures = 0;
  #flows: AskedFlow[] = [];
  #omitted = 0;
  #counts = new Map<number, PluginCounts>();
  #versions = new Map<number, VersionCounts>();
  #differences: ShadowDifference[] = [];
  #changed = new Map<number, Map<string, number>>();

  /** Whether one more flow would be told. */
  get hasRoom(): boolean {
    return this.#flows.length < FLOWS_MAX;
  }

  /** The counts of a version, to be added to. */
  version(serial: number): VersionCounts {
    let found = this.#versions.get(serial);
    if (!found) this.#versions.set(serial, (found = emptyCounts()));
    return found;
  }

  count(plugin: number, allowed: boolean, failure: number): void {
    let counts = this.#counts.get(plugin);
    if (!counts) this.#counts.set(plugin, (counts = { flows: 0, allowed: 0, denied: 0, failures: new Array(FAILURES).fill(0) }));
    counts.flows += 1;
    if (allowed) counts.allowed += 1;
    else counts.denied += 1;
    if (failure) counts.failures[failure] = (counts.failures[failure] ?? 0) + 1;
  }

  flow(flow: AskedFlow): void {
    this.#flows.push(flow);
  }

  omit(): void {
    this.#omitted += 1;
  }

  /** Notes that a shadow would have decided otherwise; some of them are told with their flow, made by `sample`. */
  differs(serial: number, live: string, shadow: string, sample: () => ShadowDifference): void {
    const changed = this.#changed.get(serial) ?? new Map<string, number>();
    const name = `${live} → ${shadow}`;
    this.#changed.set(serial, changed.set(name, (changed.get(name) ?? 0) + 1));
    if (this.#differences.length < DIFFERENCES_MAX) this.#differences.push(sample());
  }

  /** Everything since the last report; undefined when there is nothing. */
  take(): Report | undefined {
    if (!this.#counts.size && !this.#versions.size) return undefined;
    const report: Report = {
      flows: this.#flows,
      omitted: this.#omitted,
      counts: this.#counts,
      versions: this.#versions,
      differences: this.#differences,
      changed: this.#changed,
      releaseFailures: this.releaseFailures,
    };
    this.#flows = [];
    this.#omitted = 0;
    this.#counts = new Map();
    this.#versions = new Map();
    this.#differences = [];
    this.#changed = new Map();
    this.releaseFailures = 0;
    return report;
  }
}

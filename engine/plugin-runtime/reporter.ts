/** Collects what a worker has done until the main thread is told: counts of everything, and the flows one by one up to a bound. */
import { PluginAction } from '../abi.gen.ts';
import { Failure } from './control.ts';
import {
  type AskedFlow,
  type FromWorker,
  FUEL_BOUNDS,
  type HistogramCounts,
  LATENCY_BOUNDS_NS,
  type PluginCounts,
  type ShadowDifference,
  type VersionCounts,
} from './messages.ts';

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

  /** What a version has done so far. */
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

  /** What happened since the last report; undefined when nothing did. */
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

export function emptyCounts(): VersionCounts {
  return {
    evaluations: 0,
    traps: 0,
    nonsense: 0,
    skipped: 0,
    actions: new Array(PluginAction.MAX).fill(0),
    reasons: [],
    fuel: { sum: 0, buckets: new Array(FUEL_BOUNDS.length + 1).fill(0) },
    latency: { sum: 0, buckets: new Array(LATENCY_BOUNDS_NS.length + 1).fill(0) },
  };
}

export function observe(histogram: HistogramCounts, bounds: readonly number[], value: number): void {
  let bucket = 0;
  while (bucket < bounds.length && value > (bounds[bucket] as number)) bucket++;
  histogram.buckets[bucket] = (histogram.buckets[bucket] as number) + 1;
  histogram.sum += value;
}

/** Adds what a report says to a total. */
export function addCounts(total: VersionCounts, added: VersionCounts): void {
  total.evaluations += added.evaluations;
  total.traps += added.traps;
  total.nonsense += added.nonsense;
  total.skipped += added.skipped;
  addEach(total.actions, added.actions);
  addEach(total.reasons, added.reasons);
  for (const name of ['fuel', 'latency'] as const) {
    total[name].sum += added[name].sum;
    addEach(total[name].buckets, added[name].buckets);
  }
}

function addEach(total: number[], added: readonly number[]): void {
  for (let i = 0; i < added.length; i++) total[i] = (total[i] ?? 0) + (added[i] ?? 0);
}

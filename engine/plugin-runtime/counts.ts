/** The figures of plugins, as threads report them and the main thread adds them up. */
import { PluginAction } from '../abi.gen.ts';

/** The figures of one version. Arrays are by enum plugin_action, by number of the manifest's reason, and by bucket. */
export interface VersionCounts {
  evaluations: number;
  traps: number;
  nonsense: number;
  /** Flows that a shadow was not asked about, for want of time. */
  skipped: number;
  readonly actions: number[];
  readonly reasons: number[];
  readonly fuel: HistogramCounts;
  /** Nanoseconds. */
  readonly latency: HistogramCounts;
}

export interface HistogramCounts {
  sum: number;
  /** One for each bound, and one for what is beyond the last. */
  readonly buckets: number[];
}

/** Upper bounds of the buckets. */
export const FUEL_BOUNDS: readonly number[] = [300, 1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000];
export const LATENCY_BOUNDS_NS: readonly number[] = [500, 1000, 2000, 5000, 10_000, 50_000, 250_000, 1_000_000, 5_000_000];

/** The verdicts that a plugin's flows came to, failure policies included. */
export interface FlowCounts {
  flows: number;
  allowed: number;
  denied: number;
}

export interface PluginCounts extends FlowCounts {
  /** By enum Failure. */
  readonly failures: number[];
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

/**
 * Counts a value in the bucket of the first bound that it does not exceed.
 *
 * @example
 * const histogram = { sum: 0, buckets: [0, 0, 0] };
 * for (const value of [10, 11, 99]) observe(histogram, [10, 20], value);
 * histogram // { sum: 120, buckets: [1, 1, 1] }
 */
export function observe(histogram: HistogramCounts, bounds: readonly number[], value: number): void {
  let bucket = 0;
  while (bucket < bounds.length && value > (bounds[bucket] as number)) bucket++;
  histogram.buckets[bucket] = (histogram.buckets[bucket] as number) + 1;
  histogram.sum += value;
}

/** Adds the counts of a report to a total. */
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

/** Metrics whose true values stand elsewhere: they are read when somebody scrapes, so that nothing is counted twice. */
import { Counter, Gauge, type Metric, Registry } from 'prom-client';

export type Labels = Readonly<Record<string, string>>;
/** Labels, and the value that goes with them. */
export type Sample = readonly [labels: Labels, value: number];

/** Counts by bucket, one more than there are bounds. */
export interface HistogramSample {
  readonly sum: number;
  readonly bounds: readonly number[];
  readonly buckets: readonly number[];
}

/** Name, sentence and names of labels. */
type Declared = readonly [name: string, help: string, labelNames?: readonly string[]];

export class Exposition {
  readonly registry = new Registry();

  counter(declared: Declared, read: () => Iterable<Sample>): void {
    this.#expose(Counter, declared, read);
  }

  gauge(declared: Declared, read: () => Iterable<Sample>): void {
    this.#expose(Gauge, declared, read);
  }

  /** A histogram that is counted elsewhere: prom-client's own can only observe one value after the other. */
  histogram([name, help]: Declared, read: () => readonly (HistogramSample & { readonly labels: Labels })[]): void {
    const get = async () => ({
      name,
      help,
      type: 'histogram',
      aggregator: 'sum',
      values: read().flatMap(({ labels, bounds, buckets, sum }) => {
        let seen = 0;
        const cumulated = buckets.map((count, i) => {
          seen += count;
          return { metricName: `${name}_bucket`, labels: { ...labels, le: bounds[i] ?? '+Inf' }, value: seen };
        });
        return [...cumulated, { metricName: `${name}_sum`, labels, value: sum }, { metricName: `${name}_count`, labels, value: seen }];
      }),
    });
    this.registry.registerMetric({ name, help, get, reset: () => {} } as unknown as Metric);
  }

  #expose(Kind: typeof Counter | typeof Gauge, [name, help, labelNames = []]: Declared, read: () => Iterable<Sample>): void {
    new Kind({
      name,
      help,
      labelNames: [...labelNames],
      registers: [this.registry],
      collect() {
        this.reset();
        for (const [labels, value] of read()) this.inc(labels, value);
      },
    });
  }
}

/** Counts flows by those of their fields that are labels: the outlet behind `sluice_flow_records_total`. */
import { type FlowView, labelsOf } from './flow-fields.ts';
import { Lost, type Outlet } from './outlet.ts';

/** Combinations of labels that are told apart; further ones are counted together. */
const SERIES_MAX = 2048;

export interface FlowCount {
  readonly labels: Readonly<Record<string, string>>;
  count: number;
}

export class FlowCounts implements Outlet<FlowView> {
  readonly kind = 'metrics';
  readonly name = '';
  readonly capacity = 65_536;
  readonly #series = new Map<string, FlowCount>();

  get series(): readonly FlowCount[] {
    return [...this.#series.values()];
  }

  write(items: readonly (FlowView | Lost)[]): void {
    for (const item of items) if (!(item instanceof Lost)) this.#find(labelsOf(item)).count += 1;
  }

  #find(labels: Record<string, string>): FlowCount {
    const key = Object.values(labels).join('\n');
    return this.#series.get(key) ?? (this.#series.size < SERIES_MAX ? this.#add(key, labels) : this.#others(labels));
  }

  #add(key: string, labels: Record<string, string>): FlowCount {
    const made = { labels, count: 0 };
    this.#series.set(key, made);
    return made;
  }

  #others(labels: Record<string, string>): FlowCount {
    const names = Object.keys(labels);
    return this.#series.get('') ?? this.#add('', Object.fromEntries(names.map((label) => [label, 'other'])));
  }
}

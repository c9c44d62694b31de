/** Where what threads report goes: counts to the tally of plugins, flows to the log. */
import type { PluginCounts, VersionCounts } from '../plugin-runtime/counts.ts';
import type { FromWorker } from '../plugin-runtime/messages.ts';
import type { FlowLog } from './flow-log.ts';
import type { RequestRecord } from './flow-origins.ts';

/** Of the plugins' registry, what reports are about. */
export interface Tally {
  add(flows: ReadonlyMap<number, PluginCounts>, versions: ReadonlyMap<number, VersionCounts>): void;
  addDifferences(
    changed: ReadonlyMap<number, ReadonlyMap<string, number>>,
    samples: readonly { readonly plugin: number; readonly sample: unknown }[],
  ): void;
}

/** Of flows and plugins, as every thread that asks plugins has it. */
export type ThreadReport = Omit<Extract<FromWorker, { type: 'report' }>, 'type' | 'releaseFailures'>;

/** Of requests that went through a proxy's thread. */
export interface RequestsReport {
  readonly records: readonly RequestRecord[];
  /** Requests that this report leaves out. */
  readonly omitted: number;
  readonly report?: ThreadReport | undefined;
}

export class ReportIntake {
  readonly #tally: Tally;
  readonly #flows: FlowLog;

  constructor(tally: Tally, flows: FlowLog) {
    this.#tally = tally;
    this.#flows = flows;
  }

  takeReport({ counts, versions, changed, differences, flows, omitted }: ThreadReport): void {
    this.#tally.add(counts, versions);
    this.#tally.addDifferences(
      changed,
      differences.map(({ plugin, live, shadow, reason, flow }) => ({
        plugin,
        sample: { live, shadow, reason, flow: this.#flows.describe(flow) },
      })),
    );
    for (const flow of flows) this.#flows.add('asked', flow);
    this.#flows.lost += omitted;
  }

  takeRequests({ records, omitted, report }: RequestsReport): void {
    if (report) this.takeReport(report);
    for (const record of records) this.#flows.add('request', record);
    this.#flows.lost += omitted;
  }
}

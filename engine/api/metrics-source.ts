/** Where the metrics read: the parts of the engine, asked when somebody scrapes. */
import type { Datapath } from '../kernel/datapath.ts';
import type { Pressure } from '../kernel/pressure.ts';
import type { Feed } from '../observe/feed.ts';
import type { FlowCounts } from '../observe/flow-counts.ts';
import type { FlowLog } from '../observe/flow-log.ts';
import { reasonCode } from '../observe/reasons.ts';
import type { PluginRegistry } from '../plugins/registry.ts';
import type { RequestTotals } from '../proxy/request-totals.ts';
import type { Reconciler } from '../reconcile/reconciler.ts';
import type { MetricsParts } from './metrics.ts';
import { pluginSamples } from './plugin-parts.ts';
import { findProblems, type StatusParts } from './status.ts';

export interface MetricsSource {
  readonly datapath: Datapath;
  readonly pressure: Pressure;
  readonly registry: PluginRegistry;
  readonly reconciler: Reconciler;
  readonly threads: StatusParts['threads'];
  readonly requests: RequestTotals;
  readonly flows: FlowLog;
  readonly flowCounts: FlowCounts;
  readonly feeds: Readonly<Record<string, Pick<Feed<unknown>, 'totals'>>>;
  readonly ruleName: (id: number) => string;
}

export function metricsParts(source: MetricsSource): MetricsParts {
  const { datapath, pressure, registry, reconciler, requests, flows, flowCounts, feeds } = source;
  return {
    counters: () =>
      datapath
        .readCounters()
        .map(({ reason, packets, bytes }) => ({ reason: reasonCode(reason), packets: Number(packets), bytes: Number(bytes) })),
    maps: () => pressure.maps,
    connections: () => pressure.connections,
    plugins: () => pluginSamples(registry, () => datapath.readVerdictHits()),
    status: () => ({
      revision: reconciler.status.revision,
      endpoints: reconciler.status.endpoints.length,
      problems: findProblems(source).length,
      reconcileSeconds: reconciler.durationMs / 1000,
    }),
    flows: () => ({ lost: flows.lost, series: flowCounts.series }),
    outlets: () => Object.entries(feeds).flatMap(([feed, each]) => [...each.totals()].map(([kind, total]) => ({ feed, kind, ...total }))),
    requests: () => ({ counts: requests.counts, ways: requests.samples(source.ruleName) }),
  };
}

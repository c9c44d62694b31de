/** The engine's metrics: packets, maps, connections, policy, flows and their outlets; plugins and requests have files of their own. */
import { collectDefaultMetrics, type Registry } from 'prom-client';
import type { FlowCount } from '../observe/flow-counts.ts';
import { FLOW_LABELS } from '../observe/flow-fields.ts';
import { Exposition, type Sample } from './exposition.ts';
import { exposePlugins, type PluginSample } from './plugin-metrics.ts';
import { exposeRequests, type RequestsSample } from './request-metrics.ts';

export interface MetricsParts {
  counters(): readonly { reason: string; packets: number; bytes: number }[];
  maps(): readonly { map: string; entries: number; maxEntries: number }[];
  connections(): { live: number; expired: number };
  plugins(): readonly PluginSample[];
  status(): { revision: number; endpoints: number; problems: number; reconcileSeconds: number };
  flows(): { lost: number; series: readonly FlowCount[] };
  outlets(): readonly OutletSample[];
  requests(): RequestsSample;
}

/** All outlets of one kind that are told of one thing. */
export interface OutletSample {
  /** flows or events. */
  readonly feed: string;
  readonly kind: string;
  readonly outlets: number;
  readonly queued: number;
  readonly delivered: number;
  readonly lost: number;
}

/** One scrape asks many metrics about the same plugins: within this time the answer is the same one. */
const SCRAPE_MS = 20;

export function createMetrics(parts: MetricsParts): Registry {
  const exposition = new Exposition();
  collectDefaultMetrics({ register: exposition.registry, prefix: 'sluice_engine_' });
  exposeKernel(exposition, parts);
  exposePlugins(exposition, held(parts.plugins));
  exposeRequests(exposition, parts.requests);
  exposePolicy(exposition, parts.status);
  exposeFlows(exposition, parts);
  return exposition.registry;
}

function exposeKernel(exposition: Exposition, { counters, maps, connections }: MetricsParts): void {
  exposition.counter(['sluice_packets_total', 'Packets by how they ended', ['reason']], () =>
    counters().map(({ reason, packets }): Sample => [{ reason }, packets]),
  );
  exposition.counter(['sluice_bytes_total', 'Bytes of packets by how they ended', ['reason']], () =>
    counters().map(({ reason, bytes }): Sample => [{ reason }, bytes]),
  );
  exposition.gauge(['sluice_map_entries', 'Entries of a policy map', ['map']], () =>
    maps().map(({ map, entries }): Sample => [{ map }, entries]),
  );
  exposition.gauge(['sluice_map_entries_max', 'Entries that a policy map has room for', ['map']], () =>
    maps().map(({ map, maxEntries }): Sample => [{ map }, maxEntries]),
  );
  exposition.gauge(
    ['sluice_connections', 'Tracked connections that were answered; an expired one keeps its place until it is needed', ['state']],
    () => {
      const { live, expired } = connections();
      return [
        [{ state: 'live' }, live],
        [{ state: 'expired' }, expired],
      ];
    },
  );
}

function exposePolicy(exposition: Exposition, status: MetricsParts['status']): void {
  exposition.gauge(['sluice_policy_revision', 'Counts changes that were put in force'], () => [[{}, status().revision]]);
  exposition.gauge(['sluice_endpoints', 'Attached endpoints'], () => [[{}, status().endpoints]]);
  exposition.gauge(['sluice_policy_problems', 'What is in the source and not in force as meant'], () => [[{}, status().problems]]);
  exposition.gauge(['sluice_reconcile_duration_seconds', 'How long the last run took'], () => [[{}, status().reconcileSeconds]]);
}

function exposeFlows(exposition: Exposition, { flows, outlets }: MetricsParts): void {
  exposition.counter(['sluice_flows_lost_total', 'Flow records that nobody could be told'], () => [[{}, flows().lost]]);
  exposition.counter(
    ['sluice_flow_records_total', 'Flow records by what was decided; packets are counted whole in sluice_packets_total', FLOW_LABELS],
    () => flows().series.map(({ labels, count }): Sample => [labels, count]),
  );
  const each = (kind: 'counter' | 'gauge', name: string, help: string, value: (outlet: OutletSample) => number): void =>
    exposition[kind]([name, help, ['feed', 'outlet']], () =>
      outlets().map((outlet): Sample => [{ feed: outlet.feed, outlet: outlet.kind }, value(outlet)]),
    );
  each('gauge', 'sluice_outlets', 'Outlets of flows and events that are there', (outlet) => outlet.outlets);
  each('gauge', 'sluice_outlet_queued', 'Items that wait for an outlet', ({ queued }) => queued);
  each('counter', 'sluice_outlet_items_total', 'Items that outlets took', ({ delivered }) => delivered);
  each('counter', 'sluice_outlet_lost_total', 'Items that outlets were too slow for', ({ lost }) => lost);
}

function held<T>(read: () => T): () => T {
  let last: { readonly value: T; readonly atMs: number } | undefined;
  return () => {
    const now = performance.now();
    if (!last || now - last.atMs > SCRAPE_MS) last = { value: read(), atMs: now };
    return last.value;
  };
}

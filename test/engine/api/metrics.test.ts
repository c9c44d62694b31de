/** Metrics: what the parts of an engine say comes out, under names and labels that dashboards rely on. */
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { Reason } from '../../../engine/abi.gen.ts';
import { createMetrics } from '../../../engine/api/metrics.ts';
import { type MetricsSource, metricsParts } from '../../../engine/api/metrics-source.ts';
import { findProblems, type StatusParts, viewStatus } from '../../../engine/api/status.ts';
import { FlowCounts } from '../../../engine/observe/flow-counts.ts';
import { FlowLog } from '../../../engine/observe/flow-log.ts';
import { emptyCounts } from '../../../engine/plugin-runtime/counts.ts';
import { engineProblem } from '../../../engine/policy/problem.ts';
import { RequestTotals } from '../../../engine/proxy/request-totals.ts';
import { flowRecord, names } from '../../support/flows.ts';

const counts = { ...emptyCounts(), evaluations: 7, latency: { sum: 3000, buckets: [1, 6, 0, 0, 0, 0, 0, 0, 0, 0] } };
const version = { audited: { manifest: { version: '1.0.0', reasons: ['too many'] } }, counts: { ...counts, reasons: [0, 4] } };
const plugin = {
  id: 3,
  on: true,
  epoch: 9,
  timeouts: 2,
  flows: { flows: 10, allowed: 6, denied: 4 },
  declaration: { name: 'rate' },
  versions: { live: version, candidate: { version: { ...version, counts: emptyCounts() }, mode: 'shadow' } },
};

const POLICY_PROBLEM = engineProblem('policy', 'a');

/** The parts of an engine, as far as metrics read them. */
function engine() {
  const flows = new FlowLog(names);
  const flowCounts = new FlowCounts();
  flows.feed.subscribe(flowCounts);
  const parts = {
    datapath: {
      attachment: 'tcx',
      readCounters: () => [{ reason: Reason.DROP_SPOOFED, packets: 5n, bytes: 300n }],
      readVerdictHits: () => new Map([[3, 11]]),
    },
    pressure: { maps: [{ map: 'peers', entries: 2, maxEntries: 8 }], connections: { live: 1, expired: 2 } },
    registry: { plugins: [{ ...plugin, versions: undefined, declaration: { name: 'absent' }, id: 4, on: false }] },
    reconciler: {
      status: { revision: 4, appliedAt: '', endpoints: [{}], problems: [POLICY_PROBLEM] },
      durationMs: 1500,
      compiled: { requestRules: new Map([[1, {}]]) },
    },
    threads: { proxyProblem: undefined as string | undefined },
    requests: new RequestTotals(),
    flows,
    flowCounts,
    feeds: { flows: flows.feed },
    ruleName: (id: number) => `rule ${id}`,
  };
  return parts as typeof parts & MetricsSource & StatusParts;
}

const scrape = async (source: MetricsSource): Promise<string> => createMetrics(metricsParts(source)).metrics();

describe('metrics', () => {
  test('of packets, maps, connections and policy', async () => {
    const text = await scrape(engine());
    for (const line of [
      'sluice_packets_total{reason="drop_spoofed"} 5',
      'sluice_bytes_total{reason="drop_spoofed"} 300',
      'sluice_map_entries{map="peers"} 2',
      'sluice_map_entries_max{map="peers"} 8',
      'sluice_connections{state="expired"} 2',
      'sluice_policy_revision 4',
      'sluice_endpoints 1',
      'sluice_policy_problems 1',
      'sluice_reconcile_duration_seconds 1.5',
      'sluice_http_clients 0',
    ])
      expect(text.split('\n')).toContain(line);
  });

  test('of flows by their labels, and of outlets', async () => {
    const source = engine();
    source.flows.add('kernel', flowRecord({ reason: Reason.DROP_MALFORMED, protocol: 0 }));
    source.flows.lost = 6;
    await turn();
    const lines = (await scrape(source)).split('\n');
    expect(lines.join('\n')).toMatch(/^sluice_flow_records_total\{verdict="deny",.*reason="drop_malformed".*\} 1$/m);
    expect(lines).toContain('sluice_flows_lost_total 6');
    expect(lines).toContain('sluice_outlets{feed="flows",outlet="metrics"} 1');
    expect(lines).toContain('sluice_outlet_items_total{feed="flows",outlet="metrics"} 1');
    expect(lines).toContain('sluice_outlet_lost_total{feed="flows",outlet="metrics"} 0');
  });

  test('of plugins: the one that is off, too', async () => {
    const lines = (await scrape(engine())).split('\n');
    expect(lines).toContain('sluice_plugin_on{plugin="absent"} 0');
    expect(lines).toContain('sluice_plugin_outcomes_total{plugin="absent",verdict="deny"} 4');
  });
});

describe('status', () => {
  test('has who is told of flows, and what that lost', () => {
    const source = engine();
    expect(viewStatus(source)).toMatchObject({
      revision: 4,
      attachment: 'tcx',
      outlets: [{ feed: 'flows', kind: 'metrics', lost: 0 }],
    });
  });

  test('has a problem for rules about HTTP that nobody decides, and none where there are no such rules', () => {
    const source = engine();
    source.threads.proxyProblem = 'no right to make a network namespace';
    expect(findProblems(source)).toEqual([
      POLICY_PROBLEM,
      engineProblem('rules about HTTP', 'requests are not decided and get the failure policy: no right to make a network namespace'),
    ]);
    (source.reconciler.compiled.requestRules as Map<number, unknown>).clear();
    expect(findProblems(source)).toEqual([POLICY_PROBLEM]);
  });
});

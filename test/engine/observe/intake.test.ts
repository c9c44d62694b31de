/** Threads' reports come to the tally and the log, whole: flows that a report leaves out are counted. */
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { FlowCounts } from '../../../engine/observe/flow-counts.ts';
import { FlowLog } from '../../../engine/observe/flow-log.ts';
import { ReportIntake, type Tally, type ThreadReport } from '../../../engine/observe/intake.ts';
import { askedFlow, flowRecord, names, requestRecord } from '../../support/flows.ts';

function start() {
  const told: { counts: unknown[]; differences: unknown[] } = { counts: [], differences: [] };
  const tally: Tally = {
    add: (flows, versions) => told.counts.push([flows, versions]),
    addDifferences: (changed, samples) => told.differences.push([changed, samples]),
  };
  const flows = new FlowLog(names);
  return { told, flows, intake: new ReportIntake(tally, flows) };
}

const report = (different: Partial<ThreadReport> = {}): ThreadReport => ({
  flows: [],
  omitted: 0,
  counts: new Map(),
  versions: new Map(),
  differences: [],
  changed: new Map(),
  ...different,
});

describe('ReportIntake', () => {
  test('puts flows into the log, and counts those that a report leaves out', () => {
    const { flows, intake } = start();
    intake.takeReport(report({ flows: [askedFlow(), askedFlow({ allowed: false })], omitted: 3 }));
    expect(flows.feed.latest(10).map(({ verdict }) => verdict)).toEqual(['allow', 'deny']);
    expect(flows.lost).toBe(3);
  });

  test('hands counts and differences to the tally; a difference has its flow as people see it', () => {
    const { told, intake } = start();
    const changed = new Map([[4, new Map([['allow → deny', 1]])]]);
    const difference = { plugin: 1, serial: 4, live: 'allow', shadow: 'deny', reason: 'why', flow: askedFlow() };
    const counts = new Map([[1, { flows: 1, allowed: 1, denied: 0, failures: [] }]]);
    intake.takeReport(report({ counts, changed, differences: [difference] }));
    expect(told.counts).toEqual([[counts, new Map()]]);
    expect(told.differences).toEqual([
      [
        changed,
        [
          {
            plugin: 1,
            sample: {
              live: 'allow',
              shadow: 'deny',
              reason: 'why',
              flow: expect.objectContaining({ source: expect.objectContaining({ pod: 'shop/web' }) }),
            },
          },
        ],
      ],
    ]);
  });

  test('takes requests, and what a proxy’s thread says of plugins', () => {
    const { flows, told, intake } = start();
    intake.takeRequests({ records: [requestRecord()], omitted: 2, report: report({ omitted: 1 }) });
    expect(flows.feed.latest(10)).toHaveLength(1);
    expect(flows.lost).toBe(3);
    expect(told.counts).toHaveLength(1);
    intake.takeRequests({ records: [], omitted: 0 });
    expect(told.counts).toHaveLength(1);
  });
});

test('FlowCounts counts by labels, each flow once', async () => {
  const { flows } = start();
  const counts = new FlowCounts();
  flows.feed.subscribe(counts);
  for (let i = 0; i < 5; i++) flows.add('kernel', flowRecord({ destinationPort: i }));
  flows.add('asked', askedFlow());
  await turn();
  expect(counts.series.map(({ labels, count }) => [labels.reason, labels.plugin, count])).toEqual([
    ['drop_policy', '', 5],
    ['pass_verdict', 'plugin-1', 1],
  ]);
});

test('FlowCounts keeps a bounded number of series, and still counts everything', async () => {
  const log = new FlowLog({ ...names, plugin: (id) => `plugin-${id}` });
  const counts = new FlowCounts();
  log.feed.subscribe(counts);
  for (let plugin = 1; plugin <= 5000; plugin++) log.add('asked', askedFlow({ plugin }));
  for (let i = 0; i < 100; i++) await turn();
  expect(counts.series.reduce((sum, { count }) => sum + count, 0)).toBe(5000);
  expect(counts.series.length).toBe(2049);
  expect(new Set(Object.values(counts.series.at(-1)?.labels ?? {}))).toEqual(new Set(['other']));
});

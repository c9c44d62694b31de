/** The report of a node: bounded, and written when it says something else. */
import { expect, test } from 'vitest';
import { silentLogger as log } from '../../../engine/log.ts';
import { ObjectVersions, versionKey } from '../../../engine/policy/object-versions.ts';
import { engineProblem, objectProblem, type Problem } from '../../../engine/policy/problem.ts';
import { inForceOf } from '../../../engine/status/in-force.ts';
import { type InForce, NodeReporter, reportOf } from '../../../engine/status/node-reporter.ts';
import { FAILING_OBJECTS_MAX, nodeReport } from '../../../engine/status/status-schema.ts';
import { FakeObjects } from '../../support/fake-objects.ts';

const version = { apiVersion: 'sluice.dev/v1alpha1', kind: 'HostPolicy', name: 'ssh', uid: 'u', generation: 1 };
const checksums = new Uint32Array(64);

test('a report is written when it changes, belongs to its node, and is not written while nothing is known', async () => {
  const api = new FakeObjects();
  api.objects.set('/api/v1/nodes/n1', { metadata: { name: 'n1', uid: 'node-uid' } });
  let inForce: InForce | undefined;
  const reporter = new NodeReporter({ api, nodeName: 'n1', engineVersion: '1', inForce: () => inForce, nodes: () => 1, log });
  await reporter.report();
  expect(api.writes).toEqual([]);
  inForce = { checksums, problems: [] };
  await reporter.report();
  await reporter.report();
  expect(api.writes).toHaveLength(1);
  expect(api.writes[0]?.object.metadata.ownerReferences).toEqual([{ apiVersion: 'v1', kind: 'Node', name: 'n1', uid: 'node-uid' }]);
  inForce = { checksums, problems: [objectProblem({ kind: 'HostPolicy', name: 'ssh@12ab34cd' }, 'off')] };
  await reporter.report();
  expect(api.writes[1]?.object.report).toMatchObject({ failing: [{ kind: 'HostPolicy', name: 'ssh', reason: 'off' }] });
});

test('a report that could not be written is written again', async () => {
  const api = new FakeObjects();
  const reporter = new NodeReporter({
    api,
    nodeName: 'n1',
    engineVersion: '1',
    inForce: () => ({ checksums, problems: [] }),
    nodes: () => 1,
    log,
  });
  api.fails = (how) => {
    if (how === 'apply') throw new Error('away');
  };
  await expect(reporter.report()).rejects.toThrow('away');
  api.fails = () => {};
  await reporter.report();
  expect(api.writes).toHaveLength(1);
});

test('whatever goes wrong, a report has a bounded number of objects and characters, and does not depend on an order', () => {
  const problems = Array.from({ length: 500 }, (_, i) =>
    objectProblem({ kind: 'PluginPolicy', namespace: 'shop', name: `p${i}` }, 'x'.repeat(5000)),
  );
  const report = reportOf({ checksums, problems, failure: 'y'.repeat(5000) }, '1');
  expect(report).toEqual(reportOf({ checksums, problems: problems.toReversed(), failure: 'y'.repeat(5000) }, '1'));
  expect([report.failing?.length, report.more]).toEqual([FAILING_OBJECTS_MAX, 500 - FAILING_OBJECTS_MAX]);
  expect(nodeReport.safeParse({ ...report, reportedAt: '' }).success).toBe(true);
  expect(JSON.stringify(report).length).toBeLessThan(32_768);
});

test('what could not be put in force is not reported as in force, and reading problems are the leader’s', () => {
  const versions = new ObjectVersions();
  versions.set(versionKey(version), version);
  const read = objectProblem(version, 'a port is 1 to 65535');
  let own: Problem[] = [];
  let isTaken = false;
  const inForce = inForceOf({ versions, isTaken: () => isTaken, readProblems: () => [read], problems: () => [read, ...own] });
  expect(inForce()).toBeUndefined();
  isTaken = true;
  const before = versions.checksums;
  expect(inForce()).toEqual({ checksums: before, problems: [] });
  versions.set(versionKey(version), { ...version, generation: 2 });
  own = [engineProblem('', 'the map is full'), engineProblem('host firewall', 'off')];
  expect(inForce()).toMatchObject({ checksums: before, failure: 'the map is full' });
  own = [];
  expect(inForce()).toMatchObject({ checksums: versions.checksums });
});

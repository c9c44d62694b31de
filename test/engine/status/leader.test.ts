/** How many writes a change costs, and what they say; Events; another leader; an object that is refused. */
import { beforeEach, describe, expect, test } from 'vitest';
import { silentLogger as log } from '../../../engine/log.ts';
import { formatChecksums, type ObjectVersion, ObjectVersions, versionKey } from '../../../engine/policy/object-versions.ts';
import { objectProblem, type Problem } from '../../../engine/policy/problem.ts';
import { Leader } from '../../../engine/status/leader.ts';
import { Reports } from '../../../engine/status/reports.ts';
import { FakeObjects } from '../../support/fake-objects.ts';

const NODES = 100;
const POLICIES = '/apis/sluice.dev/v1alpha1/namespaces/shop/pluginpolicies';

let api: FakeObjects;
let versions: ObjectVersions;
let reports: Reports;
let now = 0;
let problems: Problem[] = [];

const version = (name: string, generation: number): ObjectVersion => ({
  ...{ apiVersion: 'sluice.dev/v1alpha1', kind: 'PluginPolicy', namespace: 'shop' },
  ...{ name, uid: `uid-${name}`, generation },
});
const put = (name: string, generation = 1): void => {
  const each = version(name, generation);
  versions.set(versionKey(each), each);
  const path = `${POLICIES}/${name}`;
  api.objects.set(path, {
    ...api.objects.get(path),
    kind: 'PluginPolicy',
    metadata: { namespace: 'shop', name, uid: each.uid, generation },
  });
};
const report = (node: number, more: object = {}): void =>
  reports.set(`n${node}`, { engine: '1', reportedAt: '', objects: formatChecksums(versions.checksums), ...more });
const reportAll = (): void => {
  for (let node = 0; node < NODES; node++) report(node);
};
const leader = (): Leader => new Leader({ api, versions, reports, readProblems: () => problems, identity: 'n0', nowMs: () => now, log });
const rounds = async (by: Leader, count: number): Promise<void> => {
  for (let i = 0; i < count; i++) {
    now += 5000;
    await by.round();
  }
};
const statuses = () => api.writesTo('/status');
const statusOf = (name: string) => api.objects.get(`${POLICIES}/${name}`).status;

beforeEach(() => {
  api = new FakeObjects();
  versions = new ObjectVersions();
  reports = new Reports(versions);
  problems = [];
  now = 1_000_000;
});

describe('Leader', () => {
  test('a change on 100 nodes, which report one after the other, costs two writes of its object', async () => {
    for (let i = 0; i < 20; i++) put(`p${i}`);
    const own = leader();
    reports.follow();
    reportAll();
    await rounds(own, 3);
    expect(statuses()).toHaveLength(20);
    expect(statusOf('p1').conditions[1]).toMatchObject({ status: 'True', message: 'In force on 100 nodes.' });
    put('p1', 2);
    await rounds(own, 1);
    expect(statusOf('p1')).toMatchObject({ observedGeneration: 2, nodes: { ready: 0, total: 100 } });
    expect(statusOf('p1').conditions[1]).toMatchObject({ status: 'False', reason: 'Pending' });
    for (let node = 0; node < NODES; node += 25) {
      for (let i = node; i < node + 25; i++) report(i);
      await rounds(own, 1);
    }
    await rounds(own, 20);
    expect(statuses()).toHaveLength(22);
    expect(statusOf('p1')).toMatchObject({ observedGeneration: 2, nodes: { ready: 100, total: 100 } });
  });

  test('while a change takes long its numbers follow, once in a minute', async () => {
    put('p');
    const own = leader();
    reports.follow();
    reportAll();
    await rounds(own, 1);
    put('p', 2);
    await rounds(own, 1);
    for (let node = 0; node < 90; node++) report(node);
    await rounds(own, 24);
    expect(statusOf('p').nodes).toEqual({ ready: 90, total: 100 });
    expect(statuses()).toHaveLength(3);
  });

  test('a node more is told slowly, so that it does not cost a write of each object at once', async () => {
    for (let i = 0; i < 200; i++) put(`p${i}`);
    const own = leader();
    reports.follow();
    reportAll();
    await rounds(own, 20);
    const before = statuses().length;
    expect(before).toBe(200);
    report(NODES);
    await rounds(own, 1);
    expect(statuses().length - before).toBeLessThanOrEqual(10);
    await rounds(own, 40);
    expect(statusOf('p199').nodes).toEqual({ ready: 101, total: 101 });
    expect(statuses()).toHaveLength(400);
  });

  test('another leader writes nothing that is said already, and the same when there are two', async () => {
    put('p');
    reports.follow();
    reportAll();
    await rounds(leader(), 1);
    const said = statusOf('p');
    expect(statuses()).toHaveLength(1);
    const [second, third] = [leader(), leader()];
    await rounds(second, 20);
    expect(statuses()).toHaveLength(1);
    put('p', 2);
    await Promise.all([second.round(), third.round()]);
    expect(statuses()[1]).toMatchObject({ ...statuses()[2], status: { observedGeneration: 2 } });
    expect(statusOf('p').conditions[0].lastTransitionTime).toBe(said.conditions[0].lastTransitionTime);
  });

  test('an object whose status is refused does not keep the others waiting', async () => {
    put('a');
    put('b');
    api.fails = (how, path) => {
      if (how === 'apply' && path.includes('/a/')) throw new Error('422 Invalid');
    };
    reports.follow();
    reportAll();
    const own = leader();
    await rounds(own, 2);
    expect(statusOf('b')).toBeDefined();
    api.fails = () => {};
    await rounds(own, 7);
    expect(statusOf('a')).toBeDefined();
  });

  test('of a ClusterNetworkPolicy the conditions are written, and nothing that it does not have', async () => {
    const guard = { apiVersion: 'policy.networking.k8s.io/v1alpha2', kind: 'ClusterNetworkPolicy', name: 'guard', uid: 'u', generation: 1 };
    versions.set(versionKey(guard), guard);
    const path = '/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies/guard';
    api.objects.set(path, { metadata: { name: 'guard', uid: 'u' } });
    reports.follow();
    report(1);
    await rounds(leader(), 1);
    expect(Object.keys(api.objects.get(path).status)).toEqual(['conditions']);
    const before = statuses().length;
    await rounds(leader(), 20);
    expect(statuses()).toHaveLength(before);
  });

  test('an object that is another one by now is left alone', async () => {
    put('p');
    reports.follow();
    report(1);
    Object.assign(api.objects.get(`${POLICIES}/p`).metadata, { uid: 'another' });
    await rounds(leader(), 1);
    expect(api.objects.get(`${POLICIES}/p`).status).toBeUndefined();
  });

  test('a problem has one Event, wherever it is and however often it is found, told again while it lasts', async () => {
    put('p');
    reports.follow();
    const failing = [{ kind: 'PluginPolicy', namespace: 'shop', name: 'p', reason: 'no PolicyPlugin x' }];
    for (let node = 0; node < NODES; node++) report(node, { failing });
    const own = leader();
    await rounds(own, 100);
    const events = api.writes.filter(({ how, path }) => how === 'create' && path.includes('/events/'));
    expect(events).toHaveLength(1);
    expect(events[0]?.object).toMatchObject({
      reason: 'NotProgrammed',
      note: 'On 100 nodes (n0, n1, n10, n11, n12 and 95 more): no PolicyPlugin x',
      regarding: { kind: 'PluginPolicy', namespace: 'shop', name: 'p', uid: 'uid-p' },
    });
    await rounds(own, 300);
    expect(api.objects.get(events[0]?.path as string).series).toMatchObject({ count: 2 });
    // Another leader knows its name.
    await rounds(leader(), 1);
    expect([...api.objects.keys()].filter((path) => path.includes('/events/'))).toHaveLength(1);
  });

  test('many problems at once come as many Events one after the other, and none is forgotten', async () => {
    for (let i = 0; i < 40; i++) put(`p${i}`);
    problems = Array.from({ length: 40 }, (_, i) => objectProblem({ kind: 'PluginPolicy', namespace: 'shop', name: `p${i}` }, 'wrong'));
    const own = leader();
    const count = (): number => [...api.objects.keys()].filter((path) => path.includes('/events/')).length;
    await rounds(own, 1);
    expect(count()).toBe(5);
    await rounds(own, 10);
    expect(count()).toBe(40);
    expect(statusOf('p0').conditions[0]).toMatchObject({ status: 'False', reason: 'Invalid', message: 'wrong' });
  });

  test('an API server that is away is tried again', async () => {
    put('p');
    reports.follow();
    report(1);
    api.fails = () => {
      throw new Error('away');
    };
    const own = leader();
    await rounds(own, 3);
    api.fails = () => {};
    await rounds(own, 8);
    expect(statusOf('p')).toBeDefined();
  });
});

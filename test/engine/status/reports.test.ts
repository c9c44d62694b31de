/** From the nodes' reports to what is in force where: by checksums, also of versions that are over. */
import { beforeEach, describe, expect, test } from 'vitest';
import { formatChecksums, type ObjectVersion, ObjectVersions, versionKey } from '../../../engine/policy/object-versions.ts';
import { Reports } from '../../../engine/status/reports.ts';

const own = { apiVersion: 'sluice.dev/v1alpha1', kind: 'PluginPolicy', namespace: 'shop' };
const key = (name: string): string => versionKey({ ...own, name });
const version = (name: string, generation: number): ObjectVersion => ({ ...own, name, uid: `uid-${name}`, generation });

let versions: ObjectVersions;
let reports: Reports;
const put = (name: string, generation: number): void => versions.set(key(name), version(name, generation));
const report = (more: object = {}, of = versions) => ({
  engine: '1',
  reportedAt: '2026-01-01T00:00:00Z',
  objects: formatChecksums(of.checksums),
  ...more,
});

beforeEach(() => {
  versions = new ObjectVersions();
  reports = new Reports(versions);
});

describe('Reports', () => {
  test('a node is ready for what it had when it reported, and not for what changed since', () => {
    put('a', 1);
    put('b', 1);
    reports.follow();
    const before = report();
    put('a', 2);
    reports.follow();
    // Reported late: our own state is another one by now.
    reports.set('n1', before);
    expect(reports.spread(key('a'))).toMatchObject({ ready: 0, total: 1, failing: [] });
    expect(reports.spread(key('b'))).toMatchObject({ ready: 1, total: 1 });
    reports.set('n1', report());
    expect(reports.spread(key('a'))).toMatchObject({ ready: 1 });
  });

  test('a node that is ahead is ready when we have heard of it, too', () => {
    put('a', 1);
    reports.follow();
    reports.set('n1', report());
    put('a', 2);
    reports.set('n1', report());
    reports.follow();
    expect(reports.spread(key('a'))).toMatchObject({ ready: 1 });
  });

  test('a node that is behind with one object does not lose others that never changed', () => {
    put('a', 1);
    for (let i = 0; i < 200; i++) put(`other-${i}`, 1);
    reports.follow();
    reports.set('n1', report());
    for (let generation = 2; generation < 100; generation++) {
      put('a', generation);
      reports.follow();
    }
    expect(reports.spread(key('a'))).toMatchObject({ ready: 0 });
    for (let i = 0; i < 200; i++) expect(reports.spread(key(`other-${i}`))).toMatchObject({ ready: 1 });
  });

  test('a node that names an object is not ready for it, and says why; the first ones are named', () => {
    put('a', 1);
    reports.follow();
    for (let i = 10; i < 35; i++) reports.set(`n${i}`, report({ failing: [{ ...own, name: 'a', reason: 'no room' }] }));
    reports.set('n99', report());
    const { failing, ...numbers } = reports.spread(key('a'));
    expect(numbers).toEqual({ total: 26, ready: 1, failingTotal: 25 });
    expect(failing.map(({ node }) => node)).toEqual(Array.from({ length: 10 }, (_, i) => `n${i + 10}`));
    expect([...reports.failures()]).toEqual([{ key: key('a'), reason: 'no room', nodes: expect.arrayContaining(['n10', 'n34']) }]);
    reports.set('n10', report());
    expect(reports.spread(key('a'))).toMatchObject({ ready: 2, failingTotal: 24 });
  });

  test('a node that can put nothing in force says so for what it does not have', () => {
    put('a', 1);
    put('b', 1);
    reports.follow();
    reports.set('n1', report());
    put('a', 2);
    reports.follow();
    reports.set('n1', { ...report({ problem: 'the map is full' }), objects: '0'.repeat(512) });
    expect(reports.spread(key('a'))).toMatchObject({ ready: 0, failing: [{ node: 'n1', reason: 'the map is full' }] });
    expect(reports.spread(key('b'))).toMatchObject({ ready: 1, failing: [] });
  });

  test.each([{}, null, 'text', { objects: 1 }, { ...{}, engine: 'x'.repeat(1000) }])(
    'a report that is none is as good as none: %j',
    (written) => {
      put('a', 1);
      reports.follow();
      reports.set('n1', report());
      reports.set('n1', written);
      expect(reports.names).toEqual([]);
      expect(reports.spread(key('a'))).toEqual({ total: 0, ready: 0, failing: [], failingTotal: 0 });
    },
  );

  test('5,000 nodes and 10,000 objects are compared in moments', () => {
    for (let i = 0; i < 10_000; i++) put(`p${i}`, 1);
    reports.follow();
    const same = report();
    for (let i = 0; i < 5000; i++) reports.set(`n${i}`, same);
    put('p1', 2);
    const started = performance.now();
    reports.follow();
    for (const name of reports.objects.keys()) reports.spread(name);
    expect(performance.now() - started).toBeLessThan(3000);
    expect(reports.spread(key('p1'))).toMatchObject({ ready: 0, total: 5000 });
  });
});

/** Engines on a real API server: conditions, numbers of nodes and Events on objects, by one leader, and by another one when that is gone. */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { objectProblem } from '../../engine/policy/problem.ts';
import { LEASE_NAME } from '../../engine/status/election.ts';
import { collectionPath, EVENTS, LEASES, objectPath } from '../../engine/status/object-api.ts';
import { type Cluster, startCluster } from '../cluster/cluster.ts';
import { until } from '../cluster/until.ts';
import { applyCrds, applyObject, askJson } from '../support/own-kinds.ts';
import { ENGINES, StatusEngine } from '../support/status-engine.ts';

const POLICIES = '/apis/sluice.dev/v1alpha1/namespaces/default/pluginpolicies';

let cluster: Cluster;
let engines: StatusEngine[] = [];
const startEngine = async (name: string): Promise<StatusEngine> => {
  const engine = new StatusEngine(name, cluster.kubeconfig, () => engines.map((each) => each.name));
  engines.push(engine);
  return await engine.start();
};

const policy = (name: string, spec: unknown) => ({ apiVersion: 'sluice.dev/v1alpha1', kind: 'PluginPolicy', metadata: { name }, spec });
// biome-ignore lint/suspicious/noExplicitAny: an object as it comes
const read = async (name: string): Promise<any> => (await askJson(cluster.api, 'GET', `${POLICIES}/${name}`)).body;
const conditionOf = async (name: string, type: string) =>
  (await read(name)).status?.conditions?.find((each: { type: string }) => each.type === type);
const holder = async (): Promise<string> =>
  (await askJson(cluster.api, 'GET', objectPath(LEASES, { namespace: ENGINES, name: LEASE_NAME }))).body.spec?.holderIdentity;

beforeAll(async () => {
  cluster = await startCluster({ name: 'status-test' });
  await applyCrds(cluster.api);
  await cluster.api.create('/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: ENGINES } });
  for (const name of ['n1', 'n2', 'n3']) await cluster.api.create('/api/v1/nodes', { apiVersion: 'v1', kind: 'Node', metadata: { name } });
});
afterEach(async () => {
  for (const engine of engines) await engine.stop();
  engines = [];
});
afterAll(async () => await cluster?.stop());

test('a policy says on how many nodes it is in force, why not on others, and that it is when it is', async () => {
  const [n1, n2, n3] = (await Promise.all(['n1', 'n2', 'n3'].map(async (name) => await startEngine(name)))) as [
    StatusEngine,
    StatusEngine,
    StatusEngine,
  ];
  await applyObject(cluster.api, `${POLICIES}/web`, policy('web', { egress: [{ ask: { plugin: 'p' } }] }));
  await until(async () => (await conditionOf('web', 'Programmed'))?.status === 'True', { what: 'the policy', timeoutMs: 40_000 });
  expect((await read('web')).status).toMatchObject({
    observedGeneration: 1,
    conditions: [
      { type: 'Accepted', status: 'True', reason: 'Accepted', observedGeneration: 1 },
      { type: 'Programmed', status: 'True', reason: 'Programmed', message: 'In force on 3 nodes.' },
    ],
    nodes: { ready: 3, total: 3 },
  });
  expect(await cluster.kubectl(['get', 'plp', 'web'])).toMatch(/web +True +True +3 +3 /);

  // A problem that only one node has, and an Event that says where.
  n2.problems = [objectProblem({ kind: 'PluginPolicy', namespace: 'default', name: 'web' }, 'no PolicyPlugin p: it is denied')];
  await until(async () => (await conditionOf('web', 'Programmed'))?.reason === 'Failing', { what: 'the problem', timeoutMs: 30_000 });
  expect((await read('web')).status.nodes).toEqual({
    ready: 2,
    total: 3,
    failing: [{ node: 'n2', reason: 'no PolicyPlugin p: it is denied' }],
  });
  const events = async () => (await askJson(cluster.api, 'GET', '/apis/events.k8s.io/v1/namespaces/default/events')).body.items;
  await until(async () => (await events()).length > 0, { what: 'the event', timeoutMs: 30_000 });
  expect((await events())[0]).toMatchObject({
    type: 'Warning',
    reason: 'NotProgrammed',
    note: 'On 1 node (n2): no PolicyPlugin p: it is denied',
    regarding: { kind: 'PluginPolicy', name: 'web' },
  });
  expect(await cluster.kubectl(['describe', 'plp', 'web'])).toContain('NotProgrammed');

  // The leader is gone without a word.
  const first = await holder();
  const leader = [n1, n2, n3].find(({ name }) => name === first) as StatusEngine;
  engines = engines.filter((each) => each !== leader);
  await leader.stop(true);
  const goneMs = performance.now();
  await until(async () => (await holder()) !== first, { what: 'another leader', timeoutMs: 25_000 });
  expect(performance.now() - goneMs).toBeLessThan(16_000);
  // Its node has not reported the next change.
  for (const engine of engines) engine.problems = [];
  await applyObject(cluster.api, `${POLICIES}/web`, policy('web', { egress: [{ ask: { plugin: 'q' } }] }));
  await until(async () => (await read('web')).status.observedGeneration === 2, { what: 'the new version', timeoutMs: 30_000 });
  await until(async () => (await read('web')).status.nodes.ready === 2, { what: 'both nodes', timeoutMs: 70_000 });
  expect(await conditionOf('web', 'Programmed')).toMatchObject({ status: 'False' });
}, 240_000);

test('what the reader refuses and the server has all the same is not accepted, with its sentence; of upstream’s kinds there is an Event', async () => {
  // An older CRD let it in; with the present one its status can be written.
  const crd = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/hostpolicies.sluice.dev';
  const loose = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
  const old = [{ op: 'replace', path: '/spec/versions/0/schema/openAPIV3Schema', value: loose }];
  await askJson(cluster.api, 'PATCH', crd, old, 'application/json-patch+json');
  const path = '/apis/sluice.dev/v1alpha1/hostpolicies';
  const bad = {
    apiVersion: 'sluice.dev/v1alpha1',
    kind: 'HostPolicy',
    metadata: { name: 'ssh' },
    spec: { ingress: [{ ports: [{ port: 0 }] }] },
  };
  await until(async () => (await askJson(cluster.api, 'POST', path, bad)).status === 201, { what: 'an older CRD', timeoutMs: 20_000 });
  const restored = await applyCrds(cluster.api);
  expect(restored.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
  await askJson(cluster.api, 'POST', '/apis/networking.k8s.io/v1/namespaces/default/networkpolicies', {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name: 'odd' },
    spec: { podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: '10.0.0.0/08' } }] }] },
  });

  await startEngine('n1');
  const status = async () => (await askJson(cluster.api, 'GET', `${path}/ssh`)).body.status;
  await until(async () => (await status())?.conditions?.length === 2, { what: 'the status', timeoutMs: 40_000 });
  expect((await status()).conditions).toMatchObject([
    { type: 'Accepted', status: 'False', reason: 'Invalid', message: expect.stringContaining('a port is 1 to 65535') },
    { type: 'Programmed', status: 'False', reason: 'Invalid' },
  ]);
  const events = async (namespace: string) => (await askJson(cluster.api, 'GET', collectionPath(EVENTS, namespace))).body.items;
  const about = async (name: string) =>
    (await events('default')).find((event: { regarding: { name: string } }) => event.regarding.name === name);
  await until(async () => (await about('odd')) && (await about('ssh')), { what: 'the events', timeoutMs: 30_000 });
  expect(await about('odd')).toMatchObject({ reason: 'NotAccepted', note: expect.stringContaining('"10.0.0.0/08" is not a CIDR') });
  expect(await about('ssh')).toMatchObject({ reason: 'NotAccepted', regarding: { kind: 'HostPolicy' } });
}, 120_000);

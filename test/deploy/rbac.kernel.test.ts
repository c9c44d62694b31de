/**
 * The rights of an engine are those that it needs: with them everything is done, each request is one that a rule is about, and without any
 * one verb of any rule something is refused that the engine asks for.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { CLUSTER_RIGHTS, NAMESPACE, OWN_RIGHTS, type Right, type Verb } from '../../deploy/codegen/rights.ts';
import { Connection, type Request } from '../../engine/sources/kubernetes/connection.ts';
import { EventWriter } from '../../engine/status/event-writer.ts';
import type { ApiClient } from '../cluster/api-client.ts';
import { type Cluster, startCluster } from '../cluster/cluster.ts';
import { until } from '../cluster/until.ts';
import { applyCrds, applyObject, askJson } from '../support/own-kinds.ts';
import { StatusEngine } from '../support/status-engine.ts';

const file = fileURLToPath(new URL('../../deploy/kubernetes/rbac.yaml', import.meta.url));
const ROLES = '/apis/rbac.authorization.k8s.io/v1';
const roles = [
  { path: `${ROLES}/clusterroles/sluice`, kind: 'ClusterRole', rights: CLUSTER_RIGHTS },
  { path: [ROLES, 'namespaces', NAMESPACE, 'roles/sluice'].join('/'), kind: 'Role', rights: OWN_RIGHTS },
];

interface Asked {
  readonly request: Request;
  readonly status: number;
  readonly group: string;
  /** `pods`, `pluginpolicies/status` */
  readonly resource: string;
  readonly verb: Verb;
}

const asked: Asked[] = [];
let cluster: Cluster;
let engine: StatusEngine;
let account: ApiClient;

/** The question to RBAC about a request; undefined: of no resource. */
function describeRequest({ method, path }: Request): Pick<Asked, 'group' | 'resource' | 'verb'> | undefined {
  const url = new URL(path, 'https://api');
  const [, group = '', rest] = /^\/(?:api|apis\/([^/]+))\/[^/]+\/(?:namespaces\/[^/]+\/(?=.))?(.+)$/.exec(url.pathname) ?? [];
  if (!rest) return undefined;
  const [plural = '', name, part] = rest.split('/');
  const reading: Verb = url.searchParams.has('watch') ? 'watch' : name ? 'get' : 'list';
  return {
    group,
    resource: part ? `${plural}/${part}` : plural,
    verb: method === 'GET' ? reading : method === 'POST' ? 'create' : 'patch',
  };
}

/** A CRD of somebody else's, as far as the engine's requests need it. */
const foreign = (group: string, version: string, kind: string, plural: string, scope: string) => ({
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: `${plural}.${group}`, annotations: { 'api-approved.kubernetes.io': 'unapproved, for a test' } },
  spec: {
    group,
    scope,
    names: { kind, plural, listKind: `${kind}List`, singular: kind.toLowerCase() },
    versions: [
      {
        ...{ name: version, served: true, storage: true, subresources: { status: {} } },
        schema: { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } },
      },
    ],
  },
});

const own = (kind: string, plural: string, spec: object, namespace?: string) => ({
  path: ['/apis/sluice.dev/v1alpha1', ...(namespace ? ['namespaces', namespace] : []), plural, 'example'].join('/'),
  object: { apiVersion: 'sluice.dev/v1alpha1', kind, metadata: { name: 'example', ...(namespace && { namespace }) }, spec },
});

beforeAll(async () => {
  const send = Connection.prototype.send;
  vi.spyOn(Connection.prototype, 'send').mockImplementation(async function (this: Connection, request, signal) {
    const answer = await send.call(this, request, signal);
    const what = describeRequest(request);
    if (what) asked.push({ request, status: answer.status, ...what });
    return answer;
  });
  cluster = await startCluster({ name: 'rbac-test' });
  const guard = foreign('policy.networking.k8s.io', 'v1alpha2', 'ClusterNetworkPolicy', 'clusternetworkpolicies', 'Cluster');
  const route = foreign('gateway.networking.k8s.io', 'v1', 'HTTPRoute', 'httproutes', 'Namespaced');
  for (const crd of [guard, route]) await cluster.api.create('/apis/apiextensions.k8s.io/v1/customresourcedefinitions', crd);
  await applyCrds(cluster.api);
  await cluster.kubectl(['apply', '-f', file]);
  await cluster.api.create('/api/v1/nodes', { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n1' } });
  const policies = [
    own('PluginPolicy', 'pluginpolicies', { egress: [{ ask: { plugin: 'p' } }] }, 'default'),
    own('PolicyPlugin', 'policyplugins', {}),
    own('HostPolicy', 'hostpolicies', {}),
    {
      path: '/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies/guard',
      object: {
        apiVersion: 'policy.networking.k8s.io/v1alpha2',
        kind: 'ClusterNetworkPolicy',
        metadata: { name: 'guard' },
        spec: { tier: 'Odd' },
      },
    },
  ];
  for (const { path, object } of policies)
    await until(async () => (await applyObject(cluster.api, path, object)).status === 201, { what: path, timeoutMs: 20_000 });

  const tokens = ['/api/v1/namespaces', NAMESPACE, 'serviceaccounts/sluice/token'].join('/');
  const { body } = await askJson(cluster.api, 'POST', tokens, { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: {} });
  account = cluster.apiAs(body.status.token);
  engine = new StatusEngine('n1', kubeconfigOf(body.status.token), () => ['n1']);
  await engine.start();
});
afterAll(async () => {
  await engine?.stop();
  vi.restoreAllMocks();
  await cluster?.stop();
});

/** As the engine reaches the API server in its pod, but for the file of its token. */
function kubeconfigOf(token: string): string {
  const config = parseAllDocuments(readFileSync(cluster.kubeconfig, 'utf8'))[0]?.toJS();
  config.users[0].user = { token };
  const path = join(tmpdir(), `sluice-rbac-${process.pid}.kubeconfig`);
  writeFileSync(path, JSON.stringify(config), { mode: 0o600 });
  return path;
}

const matching = ({ group, resource }: Right, verb: Verb): Asked[] =>
  asked.filter((each) => each.group === group && each.resource === resource && each.verb === verb);
const PATCHED_INTO_BEING = 'nodereports';

test('with exactly these rights everything is done, and nothing else is asked for', async () => {
  await until(() => asked.filter(({ resource }) => resource.endsWith('/status')).length >= 4, { what: 'four statuses', timeoutMs: 40_000 });
  await until(() => asked.some(({ resource, verb }) => resource === 'events' && verb === 'create'), {
    what: 'an event',
    timeoutMs: 20_000,
  });
  // An event is told again after half an hour, and the Lease is looked at again.
  const trouble = {
    object: { apiVersion: 'v1', kind: 'Node', name: 'n1', uid: 'x' },
    reason: 'NotProgrammed' as const,
    why: 'a test',
  };
  let now = 0;
  const events = new EventWriter(engine.objects, 'n1', () => now);
  await events.tell([trouble]);
  now = 3_600_000;
  await events.tell([trouble]);
  await until(() => asked.some(({ resource, verb }) => resource === 'leases' && verb === 'patch'), {
    what: 'the Lease',
    timeoutMs: 20_000,
  });

  expect(asked.filter(({ status }) => status === 401 || status === 403)).toEqual([]);
  const rights = [...CLUSTER_RIGHTS, ...OWN_RIGHTS];
  const unlisted = asked.filter(
    ({ group, resource, verb }) =>
      !rights.some((right) => right.group === group && right.resource === resource && right.verbs.includes(verb)),
  );
  expect(unlisted).toEqual([]);
});

const each = roles.flatMap(({ path, kind, rights }) =>
  rights.flatMap((right, index) =>
    right.verbs.map((verb) => ({ path, kind, rights, right, index, verb, name: `${verb} ${right.resource}` })),
  ),
);

test.each(each)(
  'without $name the engine is refused something that it asks for',
  async ({ path, kind, rights, right, index, verb }) => {
    // Server-side apply makes an object where there is none, for which that has to be allowed, too.
    const isApplied = verb === 'create' && right.resource === PATCHED_INTO_BEING;
    const [first] = matching(right, isApplied ? 'patch' : verb);
    expect(first, 'the engine never asks for that').toBeDefined();
    const { request } = first as Asked;
    const body = request.body && JSON.parse(request.body.text);
    const other = isApplied ? { ...body, metadata: { name: 'n2' } } : body;
    const where = (isApplied ? request.path.replace('/n1', '/n2') : request.path).replace(/timeoutSeconds=\d+/, 'timeoutSeconds=1');
    const again = async (): Promise<number> =>
      (await account.ask(request.method, where, other, request.body ? { contentType: request.body.type } : {})).status;

    const rules = (less: boolean) =>
      rights.map(({ group, resource, names, verbs }, i) => ({
        ...{ apiGroups: [group], resources: [resource], ...(names && { resourceNames: names }) },
        verbs: less && i === index ? verbs.filter((one) => one !== verb) : verbs,
      }));
    const setRules = async (less: boolean): Promise<void> => {
      // A rule without a verb is none.
      const role = { apiVersion: 'rbac.authorization.k8s.io/v1', kind, rules: rules(less).filter(({ verbs }) => verbs.length) };
      const { status, body: answer } = await askJson(cluster.api, 'PATCH', path, role, 'application/merge-patch+json');
      expect(status, answer.message).toBe(200);
    };
    await setRules(true);
    try {
      await until(async () => (await again()) === 403, { what: 'the refusal', timeoutMs: 20_000 });
    } finally {
      await setRules(false);
    }
    await until(async () => (await again()) !== 403, { what: 'the right', timeoutMs: 20_000 });
  },
  60_000,
);

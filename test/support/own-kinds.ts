/** Our kinds in a test's cluster. */
import { parse } from 'yaml';
import { writeCrds } from '../../deploy/codegen/crds.ts';
import type { ApiClient } from '../cluster/api-client.ts';
import { until } from '../cluster/until.ts';

const crds = [...writeCrds().values()].map((text) => parse(text));
const CRDS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
const APPLY = 'application/apply-patch+yaml';

export interface JsonAnswer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: an object of whatever kind
  readonly body: any;
}

/** Asks, and reads the answer. */
export async function askJson(api: ApiClient, method: string, path: string, body?: unknown, contentType?: string): Promise<JsonAnswer> {
  const answer = await api.ask(method, path, body, contentType ? { contentType } : {});
  return { status: answer.status, body: answer.body.startsWith('{') ? JSON.parse(answer.body) : answer.body };
}

/** As `kubectl apply --server-side` does. */
export async function applyObject(api: ApiClient, path: string, object: unknown): Promise<JsonAnswer> {
  return await askJson(api, 'PATCH', `${path}?fieldManager=test&fieldValidation=Strict&force=true`, object, APPLY);
}

/** Applies our CRDs, and returns the answers when every kind is served. */
export async function applyCrds(api: ApiClient): Promise<JsonAnswer[]> {
  const answers = await Promise.all(crds.map((crd) => applyObject(api, `${CRDS}/${crd.metadata.name}`, crd)));
  const isServed = async (crd: { spec: { names: { plural: string } } }): Promise<boolean> =>
    (await api.ask('GET', `/apis/sluice.dev/v1alpha1/${crd.spec.names.plural}`)).status === 200;
  const allServed = async (): Promise<boolean> => (await Promise.all(crds.map(isServed))).every(Boolean);
  if (answers.every(({ status }) => status < 300)) await until(allServed, { what: 'our kinds', timeoutMs: 30_000 });
  return answers;
}

/** The CRDs as the API server has them now. */
export async function storedCrds(api: ApiClient): Promise<JsonAnswer[]> {
  return await Promise.all(crds.map((crd) => askJson(api, 'GET', `${CRDS}/${crd.metadata.name}`)));
}

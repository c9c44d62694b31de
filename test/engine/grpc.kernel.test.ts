/** A real gRPC client in a pod and real servers behind a Service, with every call decided by a plugin. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { buildPlugin } from '../../engine/plugin-tools/build-plugin.ts';
import { CHECKOUT, CHECKOUT_IPV6, httpLab, plugin, SERVICES, tag } from '../support/http-cluster.ts';
import { TestNode, until } from '../support/test-node.ts';

const fixture = (name: string): string => fileURLToPath(new URL(`../fixtures/${name}.ts`, import.meta.url));
const node = new TestNode();
const call = async (...args: string[]): Promise<unknown> =>
  JSON.parse((await node.exec('shop/client', process.execPath, fixture('grpc-client'), ...args)).stdout);
const answersOf = (name: string) => ({
  get: `${name} has a cart`,
  large: 1_000_000 + `${name} has `.length,
  watch: [`${name} item 0`, `${name} item 1`, `${name} item 2`],
  chat: [`${name} heard one`, `${name} heard two`],
  fail: `5 ${name} has nothing`,
});

beforeAll(async () => {
  await node.lab(httpLab(fixture('grpc-server')));
  const canary = (await buildPlugin('plugins/canary', join(node.directory, 'canary.wasm'))).path;
  node.write('services.yaml', SERVICES);
  node.write('canary.yaml', `${plugin('canary', canary)}---\n${tag('canary')}`);
  await node.engine();
  await node.apply();
  await until(async () => (await node.exec('shop/v2', 'ss', '-Hltn', 'sport', '80')).stdout.includes('LISTEN'), 10_000);
});
afterAll(() => node.remove());

test.each([
  { name: 'of everybody go to the stable version', args: [`${CHECKOUT}:80`], version: 'v1' },
  { name: 'of canary users go to the new one', args: [`${CHECKOUT}:80`, 'session=1; canary=v2'], version: 'v2' },
  { name: 'over IPv6 do, too', args: [`[${CHECKOUT_IPV6}]:80`, 'canary=v2'], version: 'v2' },
])('calls $name: with one answer, with many, both ways at once, and with an error', async ({ args, version }) => {
  expect(await call(...args)).toEqual(answersOf(version));
});

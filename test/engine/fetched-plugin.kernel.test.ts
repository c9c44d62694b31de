/** A plugin whose module comes from a web server, in a running engine: nobody waits for it, and a restart without the server has it. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { hashOf } from '../../engine/plugins/version-store.ts';
import { askingPolicy, webPod } from '../support/cluster.ts';
import { plugin } from '../support/plugin-modules.ts';
import { type RunningEngine, TestNode, until } from '../support/test-node.ts';

const MODULE = plugin({}, { version: '1.0.0' });
const PORT = 8000;

interface StatusAnswer {
  readonly problems: readonly { object: string; reason: string; pending?: boolean }[];
}

describe.skipIf(inject('missing'))('a plugin whose module is fetched', () => {
  let node: TestNode;
  let engine: RunningEngine;
  let backend = '';

  beforeAll(async () => {
    node = new TestNode();
    await node.lab(webPod('shop', 'frontend') + webPod('shop', 'backend', [80]));
    backend = node.podAddress('backend');
    engine = await node.engine();
  }, 120_000);
  afterAll(() => node?.remove());

  const reaches = (): Promise<boolean> => node.reaches('shop/frontend', backend, 80);
  const problems = async (): Promise<StatusAnswer['problems']> => (await node.api<StatusAnswer>('/v1/status')).problems;

  test('has the failure policy until it is here, decides then, and after a restart without the server', async () => {
    const url = `http://${backend}:${PORT}/p.wasm`;
    const declared = askingPolicy('p', { app: 'frontend', spec: `module: { url: "${url}", sha256: ${hashOf(MODULE)} }` });
    node.write('ask.yaml', declared);
    await until(async () => (await problems()).some(({ reason }) => reason.startsWith('Cannot fetch module: http://')), 10_000);
    expect(await problems()).toEqual([{ object: 'PolicyPlugin p', reason: expect.stringContaining('ECONNREFUSED'), pending: true }]);
    expect(await reaches()).toBe(false);

    writeFileSync(join(node.directory, 'p.wasm'), MODULE);
    const server = node.start('shop/backend', 'python3', '-m', 'http.server', String(PORT), '--directory', node.directory);
    await until(
      async () => (await problems()).length === 0,
      20_000,
      () => engine.log(),
    );
    expect(await reaches()).toBe(true);
    expect(await node.api('/v1/plugins/p')).toMatchObject({ state: 'on', version: '1.0.0', origin: 'url', problem: '' });

    server.kill('SIGKILL');
    await engine.stop('SIGKILL');
    engine = await node.engine();
    expect(await problems()).toEqual([]);
    expect(await reaches()).toBe(true);
  });
});

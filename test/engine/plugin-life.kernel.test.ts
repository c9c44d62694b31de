/** The life of versions in a running engine: shadow, canary, promote, roll back, trap, restart. Real sockets, real Wasm. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest';
import { askingPolicy, webPod } from '../support/cluster.ts';
import { BuiltPlugins, plugin } from '../support/plugin-modules.ts';
import { type RunningEngine, TestNode, until } from '../support/test-node.ts';

interface PluginAnswer {
  readonly state: string;
  readonly version: string;
  readonly sha256: string;
  readonly epoch: number;
  readonly origin: string;
  readonly problem: string;
  readonly flows: number;
  readonly cached: number;
  readonly traps: number;
  readonly lastTrap: string;
  readonly reasons: Record<string, number>;
  readonly previous: { version: string } | null;
  readonly candidate: {
    mode: string;
    weight: number;
    evaluations: number;
    changed: Record<string, number>;
    samples: { live: string; shadow: string; reason: string; flow: { source: { pod: string }; destination: { port: number } } }[];
  } | null;
  readonly history: readonly { what: string; version: string }[];
}
interface PushAnswer {
  readonly code?: string;
  readonly message?: string;
  readonly plugin: PluginAnswer;
  readonly audit: { fields: string[]; capabilities: string[]; changes: string[]; signer: string };
}

const ALLOW = plugin({}, { version: '1.0.0' });
const DENY = plugin({ evaluate: '(i32.const 0x100002)' }, { version: '2.0.0', reasons: ['never'], fields: ['destination-port'] });
/** Denies, for the identity and 40 seconds. */
const DENY_LONG = plugin({ evaluate: '(i32.const 0x4fa42)' }, { version: '2.1.0' });
const ALLOW_LONG = plugin({ evaluate: '(i32.const 0x4fa41)' }, { version: '1.1.0' });
const TRAP = plugin(
  { evaluate: '(if (i32.load16_u (i32.const 1090)) (then (unreachable))) (i32.const 1)' },
  { version: '3.0.0', fields: ['destination-port'] },
);

describe.skipIf(inject('missing'))('the life of a plugin', () => {
  const built = new BuiltPlugins();
  let node: TestNode;
  let engine: RunningEngine;
  let backend = '';

  beforeAll(async () => {
    node = new TestNode();
    await built.build(['plugins/connection-rate', 'test/fixtures/misbehaving']);
    await node.lab(webPod('shop', 'frontend') + webPod('shop', 'backend', [80, 7001]));
    backend = /ip: (\d+\S+)/.exec(readFileSync(join(node.source, 'cluster.yaml'), 'utf8').split('---\n')[1] as string)?.[1] ?? '';
    engine = await node.engine();
  }, 120_000);
  afterAll(async () => {
    await node?.remove();
    built.remove();
  });
  beforeEach(async () => {
    // A pushed module is kept for a plugin that is not declared for a while.
    await node.api('/v1/plugins/p', '-X', 'DELETE');
    node.delete('ask.yaml');
    await node.apply();
  });

  const module = (name: string, bytes: Uint8Array): string => {
    const path = join(node.directory, `${name}.wasm`);
    writeFileSync(path, bytes);
    return path;
  };
  const declare = async (spec = ''): Promise<void> => {
    node.write('ask.yaml', askingPolicy('p', { file: module('declared', ALLOW), app: 'frontend', spec }));
    await node.apply();
  };
  const push = (bytes: Uint8Array, query = ''): Promise<PushAnswer> =>
    node.api(`/v1/plugins/p${query}`, '-X', 'PUT', '-H', 'content-type: application/wasm', '--data-binary', `@${module('pushed', bytes)}`);
  const show = (): Promise<PluginAnswer> => node.api('/v1/plugins/p');
  const change = (what: string): Promise<PluginAnswer & { code?: string; message?: string }> =>
    node.api(`/v1/plugins/p/${what}`, '-X', 'POST');
  const reaches = (port = 80): Promise<boolean> => node.reaches('shop/frontend', backend, port);
  const restart = async (): Promise<void> => {
    await engine.stop('SIGKILL');
    engine = await node.engine();
  };

  test('the answer to a push says what the module reads and wants, and what differs from the one in force', async () => {
    await declare('capabilities: [counters]');
    const answer = await push(DENY);
    expect(answer.audit).toMatchObject({ fields: ['destination-port'], capabilities: [], signer: '' });
    expect(answer.audit.changes).toEqual(['version 1.0.0 → 2.0.0', '+ field destination-port', '+ reason never']);
    expect(answer.plugin).toMatchObject({ version: '2.0.0', origin: 'pushed', previous: { version: '1.0.0' } });
    expect(await reaches()).toBe(false);
    await until(async () => (await show()).reasons.never !== undefined, 3000);
    expect((await push(built.bytes('plugins/connection-rate'))).audit).toMatchObject({
      fields: ['source-address', 'time', 'established'],
      capabilities: ['counters'],
    });
  });

  test('what is not granted is refused, with what to write, and what was in force stays', async () => {
    await declare();
    const before = await show();
    expect(await push(built.bytes('plugins/connection-rate'))).toMatchObject({
      code: 'PLUGIN_INVALID',
      message: expect.stringContaining('wants capability counters; grant it with capabilities: [counters] in its PolicyPlugin'),
    });
    expect(await show()).toMatchObject({ sha256: before.sha256, epoch: before.epoch });
    expect(await reaches()).toBe(true);
  });

  test('a shadow decides nothing, and says what it would change; promoted, it does; rolled back, it does not', async () => {
    await declare();
    const { epoch } = await show();
    expect((await push(DENY, '?mode=shadow')).plugin.candidate).toMatchObject({ mode: 'shadow' });
    for (let i = 0; i < 5; i++) expect(await reaches()).toBe(true);
    await until(async () => (await show()).candidate?.changed['allow → deny'] === 5, 5000);
    const shown = await show();
    expect(shown.epoch).toBe(epoch);
    expect(shown.candidate?.samples.at(-1)).toMatchObject({
      live: 'allow',
      shadow: 'deny',
      reason: 'never',
      flow: { source: { pod: 'shop/frontend' }, destination: { port: 80 } },
    });
    expect(await change('promote')).toMatchObject({ version: '2.0.0', candidate: null, epoch: epoch + 1 });
    expect(await reaches()).toBe(false);
    expect(await change('rollback')).toMatchObject({ version: '1.0.0', previous: null });
    expect(await reaches()).toBe(true);
    expect(await change('rollback')).toMatchObject({ code: 'NOTHING_PENDING' });
    expect((await show()).history.map(({ what, version }) => `${what} ${version}`)).toEqual([
      'rolled back 2.0.0',
      'promoted 2.0.0',
      'shadow 2.0.0',
      'enforced 1.0.0',
    ]);
  });

  test('a shadow that traps disturbs nobody, and is taken away', async () => {
    await declare();
    await push(TRAP, '?mode=shadow');
    for (let i = 0; i < 5; i++) expect(await reaches()).toBe(true);
    await until(async () => (await show()).candidate === null, 5000);
    expect((await show()).problem).toContain('version 3.0.0');
  });

  test('a canary decides its share of the flows, whatever was cached before, and nothing of it stays behind', async () => {
    await declare();
    await push(ALLOW_LONG);
    for (let i = 0; i < 3; i++) expect(await reaches()).toBe(true);
    await push(DENY_LONG, '?mode=canary&weight=50');
    const reached: boolean[] = [];
    for (let i = 0; i < 24; i++) reached.push(await node.reaches('shop/frontend', backend, 80, 0.15));
    const passed = reached.filter(Boolean).length;
    // Of 24 fair coins, fewer than 2 or more than 22 fall one way in one run of 300,000.
    expect(passed).toBeGreaterThan(1);
    expect(passed).toBeLessThan(23);
    await change('rollback');
    for (let i = 0; i < 5; i++) expect(await reaches()).toBe(true);
  });

  test('nobody sees a trap: the version before answers, and is in force again after a few', async () => {
    await declare();
    await push(built.bytes('test/fixtures/misbehaving'));
    for (let i = 0; i < 4; i++) expect(await reaches(7001)).toBe(true);
    await until(async () => (await show()).origin === 'file', 5000);
    const shown = await show();
    expect(shown.problem).toMatch(
      /version 1\.0\.0 \(\w+\) was rolled back by itself: it trapped 4 times in 4 evaluations: .*unreachable.* at index\.ts:13/,
    );
    expect(shown.history[0]).toMatchObject({ what: 'rolled back by itself' });
    expect((await node.sluice('wait', '--timeout', '2s')).stderr).toContain('rolled back by itself');
    // It does not come again by itself, and another version is another chance.
    expect((await push(DENY)).plugin.problem).toBe('');
    expect(await reaches()).toBe(false);
  });

  test('versions survive a restart: the one in force, the one before, the shadow and the history', async () => {
    await declare();
    await push(DENY);
    // The same once more is no step that could be taken back.
    await push(DENY);
    await push(ALLOW_LONG, '?mode=shadow');
    const before = await show();
    await restart();
    const after = await show();
    expect(after).toMatchObject({ sha256: before.sha256, epoch: before.epoch, previous: before.previous, history: before.history });
    expect(after.candidate).toMatchObject({ mode: 'shadow' });
    expect(await reaches()).toBe(false);
    expect(await change('rollback')).toMatchObject({ candidate: null, version: '2.0.0' });
    expect(await change('rollback')).toMatchObject({ version: '1.0.0' });
  });

  test('a damaged module is reported, and the version before is used', async () => {
    await declare();
    await push(DENY);
    await push(ALLOW_LONG);
    const { sha256 } = await show();
    const path = join(node.directory, 'state/modules', `${sha256}.wasm`);
    const bytes = readFileSync(path);
    bytes[bytes.length - 1] = (bytes.at(-1) as number) ^ 1;
    writeFileSync(path, bytes);
    await restart();
    expect(await show()).toMatchObject({
      version: '2.0.0',
      problem: expect.stringContaining('is damaged: its content has another checksum'),
    });
    expect(await reaches()).toBe(false);
  });

  test('a damaged state is reported, and the state before is used', async () => {
    await declare();
    await push(DENY);
    await push(ALLOW_LONG);
    const path = join(node.directory, 'state/plugins/p.json');
    writeFileSync(path, readFileSync(path).subarray(0, 100));
    await restart();
    expect(await show()).toMatchObject({ version: '2.0.0', problem: expect.stringContaining('p.json is damaged') });
    expect(await reaches()).toBe(false);
  });

  test('forgetting what was pushed brings the declared file back, and leaves no module behind', async () => {
    await declare();
    await push(DENY);
    expect(await reaches()).toBe(false);
    expect(await node.api('/v1/plugins/p', '-X', 'DELETE')).toMatchObject({ version: '1.0.0', origin: 'file' });
    expect(await reaches()).toBe(true);
    const { sha256 } = await show();
    expect(readdirSync(join(node.directory, 'state/modules'))).toEqual([`${sha256}.wasm`]);
  });

  test('counters survive another version of the plugin and a killed engine', async () => {
    await declare('capabilities: [counters], config: { connections: 3, seconds: 3000 }');
    await push(built.bytes('plugins/connection-rate'));
    expect(await reaches()).toBe(true);
    await push(ALLOW);
    await push(built.bytes('plugins/connection-rate'));
    expect(await reaches()).toBe(true);
    await restart();
    expect(await reaches()).toBe(true);
    expect(await reaches()).toBe(false);
    expect(await show()).toMatchObject({ tables: [{ name: 'opened', slots: 16_384, evictions: 0 }] });
    expect((await node.curl('http://127.0.0.1:9470/metrics')).stdout).toContain(
      'sluice_plugin_table_evictions_total{plugin="p",table="opened"} 0',
    );
  });

  test('a table of another size is another table: nobody loses the one that is in use', async () => {
    await declare('capabilities: [counters]');
    const counting = (slots: number): Uint8Array =>
      plugin(
        {
          imports: '(import "sluice" "kv_add" (func $add (param i32 i32 i32 i32) (result i32)))',
          // Denies from the third connection on.
          evaluate:
            '(if (result i32) (i32.gt_s (call $add (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 1)) (i32.const 2)) (then (i32.const 2)) (else (i32.const 1)))',
        },
        { version: `${slots}.0.0`, capabilities: ['counters'], tables: [{ name: 'seen', slots }] },
      );
    await push(counting(65_536));
    expect([await reaches(), await reaches()]).toEqual([true, true]);
    for (let i = 0; i < 5; i++) {
      await push(counting(8));
      await push(counting(65_536));
    }
    expect(await reaches()).toBe(false);
    await push(counting(8));
    expect(await reaches()).toBe(true);
    expect(engine.process.exitCode).toBeNull();
  });

  test('forgetting what was pushed is harmless where nothing was', async () => {
    node.write('ask.yaml', askingPolicy('p', { app: 'frontend' }));
    await node.sluice('wait', '--timeout', '2s');
    expect(await node.api('/v1/plugins/p', '-X', 'DELETE')).toMatchObject({ state: 'off', problem: 'no module yet: push one' });
  });

  test('a push says what is wrong with its query', async () => {
    await declare();
    for (const query of ['?mode=maybe', '?mode=canary&weight=0', '?mode=canary&weight=100', '?weight=5'])
      expect(await push(ALLOW, query), query).toMatchObject({ code: 'CONFIG_INVALID' });
    await node.api('/v1/plugins/p', '-X', 'DELETE');
    expect(await push(ALLOW, '?mode=shadow')).toMatchObject({ plugin: { candidate: { mode: 'shadow' } } });
  });

  test('a PolicyPlugin in mode Shadow is asked, and lets everything pass', async () => {
    await declare('mode: Shadow');
    await push(DENY);
    expect(await reaches()).toBe(true);
    await until(async () => (await show()).reasons.never === 1, 3000);
    node.write('ask.yaml', askingPolicy('p', { file: module('declared', ALLOW), app: 'frontend', spec: 'mode: Enforce' }));
    await node.apply();
    expect(await reaches()).toBe(false);
  });

  test('metrics say which version does what, and how often the kernel answered alone', async () => {
    await declare();
    await push(ALLOW_LONG);
    const { cached } = await show();
    for (let i = 0; i < 4; i++) await reaches();
    await until(async () => (await show()).flows > 0, 3000);
    const text = (await node.curl('http://127.0.0.1:9470/metrics')).stdout;
    expect(text).toContain('sluice_plugin_evaluations_total{plugin="p",role="live",version="1.1.0"} 1');
    expect(text).toContain('sluice_plugin_verdicts_total{plugin="p",role="live",version="1.1.0",action="allow"} 1');
    expect(text).toMatch(/sluice_plugin_evaluation_seconds_bucket\{plugin="p",role="live",version="1\.1\.0",le="\+Inf"\} 1/);
    expect(text).toContain('sluice_plugin_evaluation_fuel_count{plugin="p",role="live",version="1.1.0"} 1');
    // A connection of before may be closing, and be judged again.
    const hits = Number(/sluice_plugin_cache_hits_total\{plugin="p"\} (\d+)/.exec(text)?.[1]) - cached;
    expect(hits).toBeGreaterThanOrEqual(3);
    expect(hits).toBeLessThan(12);
  });

  test('flows are recorded, and decided again by another version on the author’s machine', async () => {
    await declare();
    const file = join(node.directory, 'flows.ndjson');
    const recording = node.sluiceOk('flows', '--record', file, '--for', '3s');
    await until(async () => {
      await reaches();
      return readFileSync(file, { encoding: 'utf8', flag: 'a+' }).includes('"pod":"shop/frontend"');
    }, 10_000);
    expect((await recording).stdout).toMatch(/: [1-9]\d* flows/);
    const folder = join(node.directory, 'policy');
    await node.sluiceOk('plugin', 'new', folder);
    writeFileSync(join(folder, 'cases.yaml'), 'config: { app: backend }\ncases: []\n');
    expect((await node.sluiceOk('plugin', 'test', folder, '--flows', file)).stdout).toMatch(/✓ shop\/frontend → shop\/backend:80 .*allow/);
    writeFileSync(join(folder, 'cases.yaml'), 'config: { app: other }\ncases: []\n');
    const changed = await node.sluice('plugin', 'test', folder, '--flows', file);
    expect(changed.code).toBe(1);
    expect(changed.stdout).toContain('+ deny: only the backend on port 80');
  });

  test('watch builds, tests and shadows at each save, shows what would change, and promotes by a key', async () => {
    await declare();
    const folder = join(node.directory, 'watched');
    await node.sluiceOk('plugin', 'new', folder);
    const source = (verdict: string): string =>
      `import { allow, Connection, deny, Policy, Verdict } from '@sluice/plugin-sdk';\n@policy({ name: 'watched', version: '1.0.0' })\nexport class Watched extends Policy {\n  @on('connect') onConnect(connection: Connection): Verdict { return ${verdict}; }\n}\n`;
    writeFileSync(join(folder, 'index.ts'), source('allow()'));
    writeFileSync(join(folder, 'cases.yaml'), 'cases: []\n');
    const watching = node.startOnNode(process.execPath, 'engine/cli/sluice.js', 'plugin', 'watch', folder, '--name', 'p');
    let text = '';
    watching.stdout?.on('data', (chunk) => (text += chunk));
    watching.stderr?.on('data', (chunk) => (text += chunk));
    const says = (what: string): Promise<void> =>
      until(
        () => text.includes(what),
        15_000,
        () => text,
      );
    await says('ms after the save');
    text = '';
    writeFileSync(join(folder, 'index.ts'), source('nonsense'));
    await says("Cannot find name 'nonsense'");
    writeFileSync(join(folder, 'index.ts'), source('deny("watched")'));
    await says('+ reason watched');
    expect(await reaches()).toBe(true);
    await says('allow → deny');
    await says('shop/frontend → shop/backend:80: deny watched');
    watching.stdin?.write('p');
    await says('is in force');
    expect(await reaches()).toBe(false);
    watching.stdin?.write('r');
    await until(async () => (await show()).origin === 'file', 5000);
    watching.stdin?.write('q');
    expect(await new Promise((resolve) => watching.once('exit', resolve))).toBe(0);
  });

  test('a flow whose hook the plugin does not answer gets the failure policy, and its reason says so', async () => {
    await declare();
    await push(plugin({}, { hooks: ['tls'] }));
    expect(await reaches()).toBe(false);
    await until(async () => (await node.sluiceOk('flows', '--last', '5')).stdout.includes('plugin does not answer this hook'), 3000);
  });

  test('with trusted keys and tokens, it takes signed modules from those who may push, and says what is wrong otherwise', async () => {
    await declare();
    const key = join(node.directory, 'release.pem');
    await node.sluiceOk('plugin', 'keygen', key);
    const token = 't'.repeat(40);
    writeFileSync(join(node.directory, 'token'), token);
    const config = join(node.directory, 'config.yaml');
    writeFileSync(config, `trustedKeys: [${key}.pub]\naccess: { plainText: true, tokens: [{ name: ci, role: push, file: token }] }\n`);
    await engine.stop();
    const refused = await node.sluice('run', '--source', `dir:${node.source}`, '--bpffs', node.bpffs, '--api', '0.0.0.0:9470');
    expect([refused.code, refused.stderr]).toEqual([2, expect.stringContaining('whoever reaches it could push plugins')]);
    engine = await node.engine('--config', config, '--api', '0.0.0.0:9470');
    try {
      expect((await node.sluice('plugin', 'list')).stderr).toContain('[API_DENIED]');
      process.env.SLUICE_TOKEN = token;
      // The declared module is not signed: it does not run, and that is said.
      expect((await node.sluice('wait', '--timeout', '2s')).stderr).toContain('it is not signed, and this engine has trusted keys');
      const path = module('mine', DENY);
      expect((await node.sluice('plugin', 'push', 'p', path)).stderr).toContain('it is not signed');
      await node.sluiceOk('plugin', 'sign', path, '--key', key);
      const pushed = await node.sluiceOk('plugin', 'push', 'p', path);
      expect(pushed.stdout).toMatch(/p 2\.0\.0 \(\w+\): in force[\s\S]*signed by [0-9a-f]{16}/);
      expect(await reaches()).toBe(false);
      await node.sluiceOk('plugin', 'rm', 'p').catch(() => {});
    } finally {
      delete process.env.SLUICE_TOKEN;
      await engine.stop();
      engine = await node.engine();
    }
  });
});

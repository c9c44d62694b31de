/** The path of a tagged flow: hold, ask, verdict, release; swaps under load; plugins that misbehave. Real sockets, real Wasm. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest';
import { buildPlugin } from '../../engine/plugin-tools/build-plugin.ts';
import { askingPolicy, barePod, networkPolicy, webPod } from '../support/cluster.ts';
import { type RunningEngine, TestNode, until } from '../support/test-node.ts';

interface Plugin {
  name: string;
  state: string;
  epoch: number;
  flows: number;
  traps: number;
  timeouts: number;
  problem: string;
}

const LOOP_PORT = 7002;

describe.skipIf(inject('missing'))('plugin path', () => {
  let node: TestNode;
  let engine: RunningEngine;
  let backend: { ipv4: string; ipv6: string };
  const modules: Record<string, string> = {};

  beforeAll(async () => {
    node = new TestNode();
    for (const [name, source] of Object.entries({
      list: 'plugins/egress-allow-list',
      rate: 'plugins/connection-rate',
      bad: 'test/fixtures/misbehaving',
      hostile: 'test/fixtures/hostile-start',
    }))
      modules[name] = (await buildPlugin(source, join(node.directory, `${name}.wasm`))).path;
    await node.lab(
      webPod('shop', 'frontend') + webPod('shop', 'backend', [80, 8080, 7001, 7003, 7004, LOOP_PORT]) + barePod('shop', 'other'),
    );
    const status = readFileSync(join(node.source, 'cluster.yaml'), 'utf8').split('---\n')[1] as string;
    const [ipv4 = '', ipv6 = ''] = [...status.matchAll(/ip: (\S+)/g)].map((match) => match[1]);
    backend = { ipv4, ipv6 };
    engine = await node.engine();
  }, 120_000);
  afterAll(() => node?.remove());
  beforeEach(async () => {
    // A pushed module is kept for a plugin that is not declared for a while.
    for (const { name } of await plugins()) await node.api(`/v1/plugins/${name}`, '-X', 'DELETE');
    for (const file of ['ask.yaml', 'more.yaml', 'policy.yaml']) node.delete(file);
    await node.apply();
  });

  const plugins = (): Promise<Plugin[]> => node.api<Plugin[]>('/v1/plugins');
  const plugin = async (name: string): Promise<Plugin> => (await plugins()).find((candidate) => candidate.name === name) as Plugin;
  const push = (name: string, module: string): Promise<{ code: string; message: string }> =>
    node.api(`/v1/plugins/${name}`, '-X', 'PUT', '-H', 'content-type: application/wasm', '--data-binary', `@${module}`);
  const counter = async (reason: string): Promise<number> =>
    Number(
      new RegExp(`sluice_packets_total\\{reason="${reason}"\\} (\\d+)`).exec(
        (await node.curl('http://127.0.0.1:9470/metrics')).stdout,
      )?.[1] ?? 0,
    );
  const synRetransmissions = async (pod: string): Promise<number> =>
    Number(/TcpExtTCPSynRetrans\s+(\d+)/.exec((await node.exec(pod, 'nstat', '-az', 'TcpExtTCPSynRetrans')).stdout)?.[1]);
  const allowBackend = '{ allow: [{ label: app=backend, port: 80 }] }';

  test.each([
    { direction: 'egress' as const, app: 'frontend' },
    { direction: 'ingress' as const, app: 'backend' },
  ])('holds, asks and releases the first packet, over both families, without a retransmission: $direction', async ({ direction, app }) => {
    node.write('ask.yaml', askingPolicy('list', { file: modules.list as string, spec: `config: ${allowBackend}`, app, direction }));
    await node.apply();
    const before = await synRetransmissions('shop/frontend');
    expect(await node.reaches('shop/frontend', backend.ipv4, 80)).toBe(true);
    expect(await node.reaches('shop/frontend', backend.ipv6, 80)).toBe(true);
    expect(await synRetransmissions('shop/frontend')).toBe(before);
    expect(await node.reaches('shop/frontend', backend.ipv4, 8080)).toBe(false);
    const flows = (await node.sluiceOk('flows', '-o', 'json', '--last', '50')).stdout;
    expect(flows).toContain('destination is not listed');
    expect(flows).toContain(`PluginPolicy shop/list-${direction} ${direction}[0]`);
  });

  test('asks once for what a verdict answers, and the kernel answers the rest', async () => {
    node.write('ask.yaml', askingPolicy('list', { file: modules.list as string, spec: `config: ${allowBackend}`, app: 'frontend' }));
    await node.apply();
    await node.reaches('shop/frontend', backend.ipv4, 80);
    const asked = (await plugin('list')).flows;
    const cached = await counter('pass_verdict');
    for (let i = 0; i < 10; i++) expect(await node.reaches('shop/frontend', backend.ipv4, 80)).toBe(true);
    expect((await plugin('list')).flows).toBe(asked);
    expect((await counter('pass_verdict')) - cached).toBe(10);
  });

  test('UDP is held and released as well, with a checksum that its receiver takes', async () => {
    const received = node.start(
      'shop/backend',
      process.execPath,
      '-e',
      "const s = require('dgram').createSocket('udp6'); s.on('message', (m, r) => s.send(m, r.port, r.address)); s.bind(80, () => console.log('ready'))",
    );
    await new Promise((resolve) => received.stdout?.once('data', resolve));
    node.write('ask.yaml', askingPolicy('list', { file: modules.list as string, spec: `config: ${allowBackend}`, app: 'frontend' }));
    await node.apply();
    for (const [family, address] of [
      ['udp4', backend.ipv4],
      ['udp6', backend.ipv6],
    ]) {
      const script = `const s = require('dgram').createSocket('${family}'); s.on('message', (m) => { console.log(String(m)); process.exit(0); }); s.send('hello', 80, '${address}'); setTimeout(() => process.exit(1), 2000)`;
      expect((await node.exec('shop/frontend', process.execPath, '-e', script)).stdout).toBe('hello\n');
    }
  });

  test('limits new connections by source, and lets the others be', async () => {
    node.write(
      'ask.yaml',
      askingPolicy('rate', {
        file: modules.rate as string,
        spec: 'capabilities: [counters], config: { connections: 3, seconds: 600 }',
        app: 'backend',
        direction: 'ingress',
      }),
    );
    await node.apply();
    const reached: boolean[] = [];
    for (let i = 0; i < 4; i++) reached.push(await node.reaches('shop/frontend', backend.ipv4, 80, 0.4));
    expect(reached).toEqual([true, true, true, false]);
    expect(await node.reaches('shop/other', backend.ipv4, 80)).toBe(true);
    expect((await node.sluiceOk('flows', '-o', 'json')).stdout).toContain('too many new connections');
  });

  test('can narrow what policy allows, and cannot widen it', async () => {
    node.write('policy.yaml', networkPolicy('closed', 'shop', '{ podSelector: { matchLabels: { app: backend } } }'));
    node.write(
      'ask.yaml',
      askingPolicy('list', { file: modules.list as string, spec: `config: ${allowBackend}`, app: 'backend', direction: 'ingress' }),
    );
    await node.apply();
    expect(await node.reaches('shop/frontend', backend.ipv4, 80)).toBe(false);
  });

  test('swaps under load: no request fails, and no verdict of the old module counts once the swap is acknowledged', async () => {
    node.write(
      'ask.yaml',
      askingPolicy('p', {
        file: modules.bad as string,
        app: 'frontend',
        spec: 'capabilities: [counters], config: { connections: 1000000 }',
      }),
    );
    await node.apply();
    const script = `const http = require('http'); let ok = 0, failed = 0; const go = () => http.get({ host: '${backend.ipv4}', port: 80, agent: false, timeout: 900 }, (r) => { r.resume(); r.on('end', () => { ok++; setImmediate(go); }); }).on('error', () => { failed++; setImmediate(go); }).on('timeout', function () { this.destroy(); }); for (let i = 0; i < 4; i++) go(); process.on('SIGTERM', () => { console.log(JSON.stringify({ ok, failed })); process.exit(0); });`;
    const client = node.start('shop/frontend', process.execPath, '-e', script);
    let result = '';
    client.stdout?.on('data', (chunk) => (result += chunk));
    const first = (await plugin('p')).epoch;
    for (let i = 0; i < 20; i++) expect((await push('p', (i % 2 ? modules.bad : modules.rate) as string)).code).toBeUndefined();
    client.kill('SIGTERM');
    await new Promise((resolve) => client.once('exit', resolve));
    const { ok, failed } = JSON.parse(result) as { ok: number; failed: number };
    expect(failed).toBe(0);
    expect(ok).toBeGreaterThan(50);
    expect((await plugin('p')).epoch).toBe(first + 20);
  });

  test('a swap ends what the old module allowed: from the next packet on, the new one decides', async () => {
    node.write('ask.yaml', askingPolicy('p', { file: modules.bad as string, app: 'frontend', spec: `config: ${allowBackend}` }));
    await node.apply();
    const script = `const s = require('net').connect(8080, '${backend.ipv4}', () => setInterval(() => s.write('GET / HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n'), 20)); s.on('data', () => console.log('data')); s.on('error', () => {});`;
    const client = node.start('shop/frontend', process.execPath, '-e', script);
    let answers = 0;
    client.stdout?.on('data', () => (answers += 1));
    await until(() => answers > 3, 5000);
    await push('p', modules.list as string);
    await new Promise((resolve) => setTimeout(resolve, 100));
    const stopped = answers;
    expect(await node.reaches('shop/frontend', backend.ipv4, 8080)).toBe(false);
    expect(answers).toBe(stopped);
    expect(await node.reaches('shop/frontend', backend.ipv4, 80)).toBe(true);
    client.kill('SIGKILL');
  });

  test('a large packet of an established connection is held and released whole', async () => {
    node.write(
      'ask.yaml',
      askingPolicy('p', {
        file: modules.bad as string,
        app: 'backend',
        direction: 'ingress',
        spec: 'capabilities: [counters], config: { connections: 1000000 }',
      }),
    );
    await node.apply();
    const sink = node.start(
      'shop/backend',
      process.execPath,
      '-e',
      "let n = 0; require('net').createServer((s) => s.on('data', (d) => { n += d.length; if (n >= 3e7) { console.log('all ' + n); } })).listen(91, () => console.log('ready'))",
    );
    let text = '';
    sink.stdout?.on('data', (chunk) => (text += chunk));
    await until(() => text.includes('ready'), 5000);
    const script = `const s = require('net').connect(91, '${backend.ipv4}'); let n = 0; const go = () => { if (n >= 30) return s.end(); n++; s.write(Buffer.alloc(1e6), () => setTimeout(go, 10)); }; go();`;
    const client = node.start('shop/frontend', process.execPath, '-e', script);
    // Each swap makes the next packet of the connection, now a large one, go through the plugin again.
    for (let i = 0; i < 6; i++) await push('p', (i % 2 ? modules.bad : modules.rate) as string);
    await until(
      () => text.includes('all 30000000'),
      15_000,
      () => text,
    );
    client.kill('SIGKILL');
    const sizes = (await node.sluiceOk('flows', '-o', 'json', '--last', '200')).stdout;
    expect(sizes).toContain(`"port":91`);
  });

  test.each([
    { name: 'is text', module: 'package.json', reason: 'not a WebAssembly module' },
    { name: 'loops while it starts', module: 'hostile', reason: 'ran out of fuel' },
    { name: 'refuses its configuration', module: 'list', reason: 'allow.0.label must be key=value' },
  ])('a module that $name leaves the old one in place, and the answer says why', async ({ module, reason }) => {
    node.write('ask.yaml', askingPolicy('p', { file: modules.bad as string, app: 'frontend', spec: 'config: { allow: [{ label: x }] }' }));
    await node.apply();
    const before = await plugin('p');
    const { stdout } = await node.run(
      'curl',
      '-s',
      '-m',
      '10',
      '-w',
      '\n%{http_code}',
      '-X',
      'PUT',
      '-H',
      'content-type: application/wasm',
      '--data-binary',
      `@${modules[module] ?? 'package.json'}`,
      'http://127.0.0.1:9470/v1/plugins/p',
    );
    const [body = '', status] = stdout.trim().split('\n');
    expect(status).toBe('422');
    expect((JSON.parse(body) as { message: string }).message).toContain(reason);
    expect((await plugin('p')).epoch).toBe(before.epoch);
    expect(await node.reaches('shop/frontend', backend.ipv4, 80)).toBe(true);
  });

  test('a push for a plugin that nobody declared is 404', async () => {
    expect(await push('nobody', modules.bad as string)).toMatchObject({ code: 'PLUGIN_UNKNOWN' });
  });

  test.each([
    { name: 'traps', port: 7001, reason: 'plugin trapped' },
    { name: 'loops', port: LOOP_PORT, reason: 'plugin trapped' },
    { name: 'grows its memory without bound', port: 7003, reason: 'plugin trapped' },
    { name: 'answers nonsense', port: 7004, reason: 'plugin answered nonsense' },
  ])('a plugin that $name gets its failure policy, and the loop goes on', async ({ port, reason }) => {
    node.write('ask.yaml', askingPolicy('p', { file: modules.bad as string, app: 'frontend' }));
    await node.apply();
    expect(await node.reaches('shop/frontend', backend.ipv4, port)).toBe(false);
    expect(await node.reaches('shop/frontend', backend.ipv4, 80)).toBe(true);
    expect((await node.sluiceOk('flows', '-o', 'json', '--last', '20')).stdout).toContain(reason);
    node.write('ask.yaml', askingPolicy('p', { file: modules.bad as string, app: 'frontend', spec: 'failurePolicy: Allow' }));
    await node.apply();
    expect(await node.reaches('shop/frontend', backend.ipv4, port)).toBe(true);
  });

  test('who floods a plugin that takes long for each flow takes nothing from another plugin’s', async () => {
    node.write('ask.yaml', askingPolicy('p', { file: modules.bad as string, app: 'frontend' }));
    node.write(
      'more.yaml',
      askingPolicy('rate', {
        file: modules.rate as string,
        app: 'other',
        spec: 'capabilities: [counters], config: { connections: 1000000 }',
      }),
    );
    await node.apply();
    // Each of these runs out of its fuel, a millisecond later: 100 at once are more than the hold time-out.
    const flood = node.start(
      'shop/frontend',
      process.execPath,
      '-e',
      `const d = require('dgram').createSocket('udp4'); const go = () => { for (let i = 0; i < 100; i++) { const s = require('dgram').createSocket('udp4'); s.send('x', ${LOOP_PORT}, '${backend.ipv4}', () => s.close()); } setTimeout(go, 50); }; go(); setTimeout(() => process.exit(0), 3000)`,
    );
    const ended = new Promise((resolve) => flood.once('exit', resolve));
    await new Promise((resolve) => setTimeout(resolve, 300));
    let asked = 0;
    const until = performance.now() + 2000;
    while (performance.now() < until) {
      expect(await node.reaches('shop/other', backend.ipv4, 80)).toBe(true);
      asked += 1;
    }
    await ended;
    expect(asked).toBeGreaterThan(5);
    const flows = (await node.sluiceOk('flows', '-o', 'json', '--last', '4000')).stdout.trim().split('\n');
    const of = (plugin: string): string[] => flows.filter((line) => line.includes(`"plugin":"${plugin}"`));
    expect(of('p').some((line) => line.includes('had its share of the time'))).toBe(true);
    expect(of('rate').filter((line) => line.includes('"verdict":"deny"'))).toEqual([]);
  });

  test('with more fuel than time, an endless loop is stopped for real, delays no other plugin for long, and is switched off', async () => {
    const spec = 'limits: { fuel: 1000000000 }, capabilities: [counters], config: { connections: 1000000 }';
    node.write('ask.yaml', askingPolicy('p', { file: modules.bad as string, app: 'frontend', spec }));
    node.write(
      'more.yaml',
      askingPolicy('rate', {
        file: modules.rate as string,
        app: 'other',
        spec: 'capabilities: [counters], config: { connections: 1000000 }',
      }),
    );
    await node.apply();
    // The other plugin's flows, one connection after another: how long the slowest of them took.
    const script = `const net = require('net'); let worst = 0, n = 0; const go = () => { const t = performance.now(); const s = net.connect(80, '${backend.ipv4}', () => { worst = Math.max(worst, performance.now() - t); n++; s.destroy(); setTimeout(go, 2); }); s.on('error', () => {}); }; go(); process.on('SIGTERM', () => { console.log(JSON.stringify({ worst, n })); process.exit(0); });`;
    const client = node.start('shop/other', process.execPath, '-e', script);
    let result = '';
    client.stdout?.on('data', (chunk) => (result += chunk));
    await new Promise((resolve) => setTimeout(resolve, 500));
    // Compiling this keeps the main thread busy meanwhile: it is not on the way.
    const rules = Array.from({ length: 5000 }, (_, n) => `{ from: [{ ipBlock: { cidr: 172.16.${n >> 8}.${n & 255}/32 } }] }`);
    node.write('policy.yaml', networkPolicy('large', 'elsewhere', `{ podSelector: {}, ingress: [${rules.join(', ')}] }`));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await node.reaches('shop/frontend', backend.ipv4, LOOP_PORT, 0.5)).toBe(false);
    await until(async () => (await plugin('p')).timeouts >= 1, 5000);
    await new Promise((resolve) => setTimeout(resolve, 500));
    client.kill('SIGTERM');
    await new Promise((resolve) => client.once('exit', resolve));
    const { worst, n } = JSON.parse(result) as { worst: number; n: number };
    expect(n).toBeGreaterThan(20);
    // Budget 5 ms plus 100 ms; a lost SYN would be a second.
    expect(worst).toBeLessThan(1000);
    console.log(`slowest connection of the other plugin while one looped: ${worst.toFixed(1)} ms of ${n}`);

    expect((await plugin('p')).state).toBe('on');
    for (let i = 0; i < 4 && (await plugin('p')).state === 'on'; i++) {
      await node.reaches('shop/frontend', backend.ipv4, LOOP_PORT, 0.5);
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    expect(await plugin('p')).toMatchObject({ state: 'off', problem: expect.stringContaining('switched off: overran its 5 ms') });
    expect(await node.reaches('shop/frontend', backend.ipv4, 80)).toBe(false);
    expect(await node.reaches('shop/other', backend.ipv4, 80)).toBe(true);
    // Another version is another chance.
    expect((await push('p', modules.rate as string)).code).toBeUndefined();
    expect(await node.reaches('shop/frontend', backend.ipv4, 80)).toBe(true);
    expect(engine.process.exitCode).toBeNull();
  });
});

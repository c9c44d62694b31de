/** An engine that is killed, stopped, started again: what the kernel goes on doing, with traffic running. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { Abi, engineStateCodec } from '../../engine/abi.gen.ts';
import { type KernelMap, openPinnedMap } from '../../engine/kernel/kernel-map.ts';
import { buildPlugin } from '../../engine/plugin-tools/build-plugin.ts';
import { askingPolicy, networkPolicy, webPod } from '../support/cluster.ts';
import { type RunningEngine, TestNode, until } from '../support/test-node.ts';

/** Opens a connection after the other, and counts how they end; also keeps one open all the time. */
const client = (address: string, port: number): string => `
const net = require('net');
const counts = { ok: 0, refused: 0, longest: 0, pings: 0, broken: 0 };
const go = () => {
  const t = performance.now();
  let done = false;
  const s = net.connect(${port}, '${address}', () => { done = true; counts.ok++; counts.longest = Math.max(counts.longest, performance.now() - t); s.destroy(); setTimeout(go, 3); });
  s.on('error', () => {});
  setTimeout(() => { if (!done) { counts.refused++; s.destroy(); go(); } }, 300);
};
go();
const kept = net.connect(${port}, '${address}', () => setInterval(() => kept.write('GET / HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n'), 20));
kept.on('data', () => counts.pings++);
kept.on('error', () => counts.broken++);
kept.on('close', () => counts.broken++);
setInterval(() => console.log(JSON.stringify(counts)), 50);
`;

interface Counts {
  ok: number;
  refused: number;
  longest: number;
  pings: number;
  broken: number;
}

describe.skipIf(inject('missing'))('takeover', () => {
  let node: TestNode;
  let engine: RunningEngine;
  let backend = '';

  beforeAll(async () => {
    node = new TestNode();
    const list = (await buildPlugin('plugins/egress-allow-list', join(node.directory, 'list.wasm'))).path;
    const rate = (await buildPlugin('plugins/connection-rate', join(node.directory, 'rate.wasm'))).path;
    await node.lab(
      webPod('shop', 'frontend') +
        webPod('shop', 'asking') +
        webPod('shop', 'lenient') +
        webPod('shop', 'backend') +
        webPod('shop', 'stranger'),
    );
    backend = /name: backend[\s\S]*?ip: (\S+)/.exec(readFileSync(join(node.source, 'cluster.yaml'), 'utf8'))?.[1] as string;
    node.write(
      'policy.yaml',
      networkPolicy(
        'web',
        'shop',
        '{ podSelector: { matchLabels: { app: backend } }, ingress: [{ from: [{ podSelector: { matchExpressions: [{ key: app, operator: NotIn, values: [stranger] }] } }], ports: [{ port: 80 }] }] }',
      ),
    );
    // Asked about each connection, so that it notices at once when nobody answers.
    node.write(
      'ask.yaml',
      askingPolicy('rate', { file: rate, app: 'asking', spec: 'capabilities: [counters], config: { connections: 1000000 }' }),
    );
    node.write('lenient.yaml', askingPolicy('list', { file: list, app: 'lenient', spec: 'failurePolicy: Allow, config: { allow: [] }' }));
    engine = await node.engine();
    await node.apply();
  }, 120_000);
  afterAll(() => node?.remove());

  function load(pod: string): { counts(): Counts; settled(): Promise<Counts>; end(): void } {
    const child = node.start(pod, process.execPath, '-e', client(backend, 80));
    let last: Counts = { ok: 0, refused: 0, longest: 0, pings: 0, broken: 0 };
    let lines = 0;
    child.stdout?.on('data', (chunk) => {
      for (const line of String(chunk).trim().split('\n')) last = JSON.parse(line) as Counts;
      lines += 1;
    });
    return {
      counts: () => last,
      settled: async () => {
        const seen = lines;
        await until(() => lines > seen + 1, 5000);
        return { ...last };
      },
      end: () => child.kill('SIGKILL'),
    };
  }

  test('after kill -9 connections go on, policy holds, plugins get their failure policy at once, and a restart takes over without a gap', async () => {
    const plain = load('shop/frontend');
    const asking = load('shop/asking');
    await until(() => plain.counts().pings > 5 && asking.counts().pings > 5 && asking.counts().ok > 5, 10_000);

    await engine.stop('SIGKILL');
    const killed = { plain: await plain.settled(), asking: await asking.settled() };
    await until(() => plain.counts().ok > killed.plain.ok + 50 && plain.counts().pings > killed.plain.pings + 20, 10_000);
    // Connections that a plugin allowed live on; new ones of the same pod are refused, and do not wait for anybody.
    await until(() => asking.counts().pings > killed.asking.pings + 20 && asking.counts().refused > 2, 10_000);
    const dead = { plain: await plain.settled(), asking: await asking.settled() };
    expect(dead.plain).toMatchObject({ refused: 0, broken: 0 });
    expect(dead.asking.broken).toBe(0);
    expect(dead.asking.ok).toBeLessThanOrEqual(killed.asking.ok + 2);
    expect(await node.reaches('shop/stranger', backend, 80)).toBe(false);
    expect(await node.reaches('shop/lenient', backend, 80)).toBe(true);

    engine = await node.engine();
    await node.apply();
    const started = { plain: await plain.settled(), asking: await asking.settled() };
    await until(
      () => asking.counts().ok > started.asking.ok + 20 && plain.counts().ok > started.plain.ok + 50,
      10_000,
      () => engine.log(),
    );
    expect(await node.reaches('shop/stranger', backend, 80)).toBe(false);
    const end = { plain: await plain.settled(), asking: await asking.settled() };
    // Not one connection of the pod that needs no plugin was lost, over the kill and the restart.
    expect(end.plain).toMatchObject({ refused: 0, broken: 0 });
    expect(end.asking.broken).toBe(0);
    console.log(`over kill and restart: ${end.plain.ok} connections, slowest ${end.plain.longest.toFixed(1)} ms`);
    plain.end();
    asking.end();
  });

  test('an engine that hangs is noticed by its heartbeat, and its flows get the failure policy', async () => {
    engine.process.kill('SIGSTOP');
    // The nsenter process is the engine: exec keeps its pid.
    await until(
      async () => !(await node.reaches('shop/asking', backend, 80, 0.3)) && (await node.reaches('shop/lenient', backend, 80, 0.3)),
      10_000,
    );
    expect(await node.reaches('shop/frontend', backend, 80)).toBe(true);
    engine.process.kill('SIGCONT');
    await until(
      () => node.reaches('shop/asking', backend, 80),
      10_000,
      () => engine.log(),
    );
  });

  test('SIGTERM leaves enforcement in place; a second engine is refused while one lives', async () => {
    const second = node.spawnEngine('--api', '127.0.0.1:9471');
    await new Promise((resolve) => second.process.once('exit', resolve));
    expect(second.process.exitCode).toBe(1);
    expect(second.log()).toMatch(/another engine is using it/);
    const { code, stderr } = await node.sluice('cleanup', '--bpffs', node.bpffs);
    expect([code, stderr]).toEqual([1, expect.stringContaining('another engine is using it')]);
    await engine.stop('SIGTERM');
    expect(engine.process.exitCode).toBe(0);
    expect(await node.reaches('shop/stranger', backend, 80)).toBe(false);
    expect(await node.reaches('shop/frontend', backend, 80)).toBe(true);
    engine = await node.engine();
  });

  test('keeps epoch and connections over a restart with the same plugin, and a pushed module as well', async () => {
    interface Plugin {
      name: string;
      epoch: number;
      origin: string;
      sha256: string;
    }
    const find = async (): Promise<Plugin> => (await node.api<Plugin[]>('/v1/plugins')).find((plugin) => plugin.name === 'rate') as Plugin;
    const before = await find();
    await engine.stop();
    engine = await node.engine();
    expect(await find()).toEqual(expect.objectContaining({ epoch: before.epoch, origin: 'file' }));
    await node.sluiceOk('plugin', 'push', 'rate', join(node.directory, 'list.wasm'));
    const pushed = await find();
    expect(pushed.epoch).toBe(before.epoch + 1);
    await engine.stop('SIGKILL');
    engine = await node.engine();
    expect(await find()).toMatchObject({ epoch: pushed.epoch, origin: 'pushed', sha256: pushed.sha256 });
  });

  test('a policy that changed while no engine ran is in force when the next one is ready', async () => {
    await engine.stop();
    node.write('policy.yaml', networkPolicy('web', 'shop', '{ podSelector: { matchLabels: { app: backend } } }'));
    expect(await node.reaches('shop/frontend', backend, 80)).toBe(true);
    engine = await node.engine();
    expect(await node.reaches('shop/frontend', backend, 80)).toBe(false);
  });

  /** Starts an engine that is to refuse what is pinned, and returns what it says. */
  async function refusal(): Promise<string> {
    const refused = node.spawnEngine();
    await new Promise((resolve) => refused.process.once('exit', resolve));
    expect(refused.log()).toMatch(/MAP_MISMATCH/);
    return refused.log();
  }

  test('refuses maps of the same sizes that mean another thing', async () => {
    await engine.stop();
    const states = openPinnedMap(node.bpffs, 'engine_states') as KernelMap;
    const state = states.find(Buffer.alloc(4)) as Buffer;
    const say = (version: number): void => {
      state.writeUInt32LE(version, engineStateCodec.offsets.abiVersion);
      states.update(new Map([['\0\0\0\0', state]]));
    };
    say(Abi.VERSION - 1);
    expect(await refusal()).toMatch(/the layouts of ABI version \d+, wanted \d+; another version made it; run sluice cleanup/);
    say(Abi.VERSION);
    engine = await node.engine();
  });

  test('refuses maps of another layout with what to do, and cleanup takes everything away', async () => {
    await engine.stop();
    const { code } = await node.run(
      'sh',
      '-c',
      `rm ${node.bpffs}/engine_states && bpftool map create ${node.bpffs}/engine_states type array key 4 value 4096 entries 1 name engine_states`,
    );
    expect(code).toBe(0);
    expect(await refusal()).toMatch(
      /map engine_states has key, value and entries of 4, 4096 and 1, wanted 4, 48 and 1.*run sluice cleanup/,
    );
    expect((await node.sluiceOk('cleanup', '--bpffs', node.bpffs)).stdout).toMatch(/removed \d+ things/);
    expect(() => readdirSync(node.bpffs)).toThrow(/ENOENT/);
    expect(await node.reaches('shop/frontend', backend, 80)).toBe(true);
    expect((await node.sluiceOk('cleanup', '--bpffs', node.bpffs)).stdout).toMatch(/nothing to remove/);
  });
});

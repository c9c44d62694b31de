/**
 * How long until a pushed module is live, does a swap lose a connection or leave a stale verdict, does memory stay flat, and
 * does a hostile module delay another plugin's verdicts?
 *
 * A real engine, real connections from a pod, each decided by the plugin. Run as root with `npm run bench plugins`.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { askingPolicy, webPod } from '../support/cluster.ts';
import { assemble, plugin, pluginText, withManifest } from '../support/plugin-modules.ts';
import { type RunningEngine, TestNode } from '../support/test-node.ts';

const { values: options } = parseArgs({
  options: { swaps: { type: 'string', default: '1000' }, pushes: { type: 'string', default: '40' } },
});
const SWAPS = Number(options.swaps);
const PUSHES = Number(options.pushes);

/** Functions that nobody calls in the first question: what is compiled when. `each` is about how many bytes one has. */
function padded(bytes: number, each: number, version: string, hostile = false): Uint8Array {
  const count = Math.ceil(bytes / each);
  const body = Array.from(
    { length: Math.floor(each / 9) },
    (_, i) => `(local.set 0 (i32.add (local.get 0) (i32.const ${(i * 65_537) % 2_000_000_000})))`,
  ).join(' ');
  const functions = Array.from({ length: count }, (_, i) => `(func $f${i} (param i32) (result i32) ${body} (local.get 0))`).join('\n');
  const calls = Array.from({ length: count }, (_, i) => `(drop (call $f${i} (i32.const 1)))`).join(' ');
  const evaluate = `(if (i32.load16_u (i32.const 1090)) (then ${hostile ? calls : ''})) (i32.const 1)`;
  return withManifest(assemble(pluginText({ evaluate, more: functions })), { version, fields: ['destination-port'] });
}

/** A client that opens one connection after another, and tells how long each took; 0 = failed. */
const CLIENT = `
const net = require('net');
const [host, gap] = process.argv.slice(1);
const times = [];
const go = () => {
  const began = performance.now();
  const socket = net.connect({ host, port: 80 }, () => { times.push([began + performance.timeOrigin, performance.now() - began]); socket.destroy(); setTimeout(go, Number(gap)); });
  socket.setTimeout(900, () => { times.push([began + performance.timeOrigin, 0]); socket.destroy(); setTimeout(go, Number(gap)); });
  socket.on('error', () => { times.push([began + performance.timeOrigin, 0]); setTimeout(go, Number(gap)); });
};
go();
process.on('SIGTERM', () => { process.stdout.write(JSON.stringify(times), () => process.exit(0)); });`;

class Bench {
  readonly node = new TestNode();
  engine!: RunningEngine;
  backend = '';

  async up(): Promise<void> {
    await this.node.lab(webPod('shop', 'frontend') + webPod('shop', 'backend', [80]) + webPod('shop', 'other', [80]));
    this.backend = /ip: (\d+\S+)/.exec(readFileSync(join(this.node.source, 'cluster.yaml'), 'utf8').split('---\n')[1] as string)?.[1] ?? '';
    const file = this.module('first', plugin({}, { version: '0' }));
    this.node.write('ask.yaml', askingPolicy('p', { file, app: 'frontend' }));
    this.node.write('more.yaml', askingPolicy('quiet', { file, app: 'other' }));
    this.engine = await this.node.engine('--log-level', 'warn');
    await this.node.apply();
  }

  module(name: string, bytes: Uint8Array): string {
    const path = join(this.node.directory, `${name}.wasm`);
    writeFileSync(path, bytes);
    return path;
  }

  /** Pushes a file; returns the milliseconds until the answer, as curl sees them. @throws Error when it is refused. */
  async push(path: string): Promise<number> {
    const { stdout } = await this.node.run(
      'curl',
      '-s',
      '-o',
      '/dev/null',
      '-w',
      '%{http_code} %{time_total}',
      '-X',
      'PUT',
      '-H',
      'content-type: application/wasm',
      '--data-binary',
      `@${path}`,
      'http://127.0.0.1:9470/v1/plugins/p',
    );
    const [code, seconds] = stdout.split(' ');
    if (code !== '200') throw new Error(`push answered ${code}`);
    return Number(seconds) * 1000;
  }

  /** Has a pod open connections while `act` runs; returns when each began (Unix ms) and how long it took, 0 = failed. */
  async load(pod: string, gapMs: number, act: () => Promise<void>): Promise<[number, number][]> {
    const client = this.node.start(pod, process.execPath, '-e', CLIENT, this.backend, String(gapMs));
    let text = '';
    client.stdout?.on('data', (chunk) => (text += chunk));
    await pause(500);
    await act();
    await pause(200);
    client.kill('SIGTERM');
    await new Promise((resolve) => client.once('close', resolve));
    return JSON.parse(text) as [number, number][];
  }

  /** Microseconds from hold to verdict of the latest flows that a plugin decided. */
  async held(plugin: string, count: number): Promise<number[]> {
    const { stdout } = await this.node.run('curl', '-s', 'http://127.0.0.1:9470/v1/flows?last=4096');
    const flows = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { plugin: string; heldUs: number });
    return flows
      .filter((flow) => flow.plugin === plugin)
      .slice(-count)
      .map(({ heldUs }) => heldUs / 1000);
  }

  rssMiB(): number {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${this.engine.process.pid}/status`, 'utf8'))?.[1]) / 1024;
  }
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const sorted = (values: number[]): number[] => values.sort((a, b) => a - b);
const at = (values: number[], share: number): string => (sorted(values)[Math.floor(values.length * share)] as number).toFixed(1);

async function measurePush(bench: Bench): Promise<void> {
  const table = new Table({ head: ['push to live, ms', 'bytes', 'p50', 'worst', 'wanted p50'] });
  for (const [name, kib] of [
    ['small', 1],
    ['100 KiB', 100],
    ['900 KiB', 900],
  ] as const) {
    const paths = [0, 1].map((i) => bench.module(`${name}-${i}`, padded(kib * 1024, 400, `${name} ${i}`)));
    const times: number[] = [];
    for (let i = 0; i < PUSHES; i++) times.push(await bench.push(paths[i % 2] as string));
    table.push([name, readFileSync(paths[0] as string).length, at(times, 0.5), at(times, 0.999), kib === 100 ? '≤ 20' : '']);
  }
  console.log(table.toString());
}

async function measureSwaps(bench: Bench): Promise<void> {
  // The word's TTL is long: a verdict that outlived its version would be seen.
  const versions = [1, 2].map((i) => bench.module(`swap-${i}`, plugin({ evaluate: '(i32.const 0x4fa41)' }, { version: String(i) })));
  const closed = bench.module('closed', plugin({ evaluate: '(i32.const 0x4fa42)' }, { version: 'closed' }));
  const memory: number[] = [];
  let stale = 0;
  const times = await bench.load('shop/frontend', 0, async () => {
    for (let i = 0; i < SWAPS; i++) {
      await bench.push(versions[i % 2] as string);
      if (i % 100 === 99) memory.push(bench.rssMiB());
    }
  });
  // And the other way round: after each acknowledged swap to a version that denies, not one connection passes.
  for (let i = 0; i < 20; i++) {
    await bench.push(versions[0] as string);
    if (!(await bench.node.reaches('shop/frontend', bench.backend, 80))) stale += 1;
    await bench.push(closed);
    if (await bench.node.reaches('shop/frontend', bench.backend, 80, 0.05)) stale += 1;
  }
  await bench.push(versions[0] as string);
  const lost = times.filter(([, ms]) => ms === 0).length;
  const took = times.map(([, ms]) => ms).filter(Boolean);
  console.log(
    `${SWAPS} swaps under load: ${times.length} connections, ${lost} lost; p50 ${at(took, 0.5)} ms, p99 ${at(took, 0.99)} ms, worst ${at(took, 0.99999)} ms`,
  );
  console.log(`verdicts of a retired version after its swap was acknowledged: ${stale} of 40`);
  console.log(`engine, MiB resident after each 100 swaps: ${memory.map((mib) => mib.toFixed(0)).join(', ')}\n`);
}

async function measureHostile(bench: Bench): Promise<void> {
  const quiet = async (): Promise<void> => pause(3000);
  const alone = (await bench.load('shop/other', 1, quiet)).map(([, ms]) => ms);
  const table = new Table({ head: ['another plugin’s, ms', 'connections', 'p50', 'p99', 'worst', 'lost', 'verdicts p50', 'p99', 'worst'] });
  const row = async (name: string, times: number[]): Promise<void> => {
    const held = await bench.held('quiet', times.length);
    const lost = times.filter((ms) => !ms).length;
    table.push([
      name,
      times.length,
      at(times, 0.5),
      at(times, 0.99),
      at(times, 0.99999),
      lost,
      at(held, 0.5),
      at(held, 0.99),
      at(held, 0.99999),
    ]);
  };
  await row('nothing else happens', alone);
  for (const [name, each] of [
    ['900 KB in functions of 400 bytes', 400],
    ['900 KB in functions of 50 KB', 50_000],
    ['one function of 900 KB', 900_000],
  ] as const) {
    const paths = [0, 1].map((i) => bench.module(`hostile-${each}-${i}`, padded(900_000, each, `${each} ${i}`, true)));
    const times = await bench.load('shop/other', 1, async () => {
      for (let i = 0; i < 10; i++) {
        await bench.push(paths[i % 2] as string);
        // The first question that runs all of it.
        await bench.node.reaches('shop/frontend', bench.backend, 80);
      }
    });
    await row(
      name,
      times.map(([, ms]) => ms),
    );
  }
  console.log(table.toString());
}

const bench = new Bench();
try {
  console.log(`${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}, Node ${process.version}\n`);
  await bench.up();
  await measurePush(bench);
  await measureSwaps(bench);
  await measureHostile(bench);
} finally {
  await bench.node.remove();
}

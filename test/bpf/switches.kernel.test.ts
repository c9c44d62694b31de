/** A switch that changes while real sockets talk: nothing is lost or let past policy, and the stage that is off is not called. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { readChain } from '../../bpf/codegen/stages.ts';
import { networkPolicy, webPod } from '../support/cluster.ts';
import { TestNode, until } from '../support/test-node.ts';

const SWITCHER = fileURLToPath(new URL('../fixtures/switcher.ts', import.meta.url));
/** Changes on the way to each position; odd, so that the first of them is one, too. */
const FLIPS = 9;

/** Connects again and again, keeps one connection talking, and asks port 53; counts what does not come back. */
const CLIENT = `
const net = require('net'), dgram = require('dgram');
const [address] = process.argv.slice(1);
const counts = { ok: 0, lost: 0, pings: 0, broken: 0, asked: 0, answered: 0 };
const go = () => {
  let done = false;
  const s = net.connect(80, address, () => { done = true; counts.ok++; s.destroy(); setTimeout(go, 3); });
  s.on('error', () => {});
  setTimeout(() => { if (!done) { counts.lost++; s.destroy(); go(); } }, 500);
};
go();
const kept = net.connect(80, address, () => setInterval(() => kept.write('GET / HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n'), 20));
kept.on('data', () => counts.pings++);
kept.on('error', () => counts.broken++);
kept.on('close', () => counts.broken++);
const socket = dgram.createSocket('udp4');
socket.on('message', () => counts.answered++);
let asking = true;
socket.bind(() => setInterval(() => { if (asking) { counts.asked++; socket.send('a question of some length', 53, address); } }, 3));
process.on('SIGUSR1', () => (asking = false));
setInterval(() => console.log(JSON.stringify(counts)), 50);
`;
const ECHO = `const s = require('dgram').createSocket('udp4'); s.on('message', (m, r) => s.send(m, r.port, r.address)); s.bind(53, '0.0.0.0', () => console.log('ready'));`;

interface Programs {
  readonly tookMs: readonly number[];
  readonly from_pod: number;
  readonly dns_from_pod: number;
  readonly dns_to_pod: number;
}
type Counts = Record<'ok' | 'lost' | 'pings' | 'broken' | 'asked' | 'answered', number>;

describe.skipIf(inject('missing'))('switches', () => {
  let node: TestNode;
  let address: string;
  let interfaces: string[];

  beforeAll(async () => {
    node = new TestNode();
    await node.lab(webPod('shop', 'frontend') + webPod('shop', 'backend') + webPod('shop', 'stranger'));
    address = node.podAddress('backend');
    interfaces = [...readFileSync(join(node.source, 'cluster.yaml'), 'utf8').matchAll(/sluice\.dev\/interface: (\S+)/g)].map(
      ([, name]) => name as string,
    );
    const from = '[{ podSelector: { matchLabels: { app: frontend } } }]';
    const ports = '[{ port: 80 }, { port: 53, protocol: UDP }]';
    node.write(
      'policy.yaml',
      networkPolicy('web', 'shop', `{ podSelector: { matchLabels: { app: backend } }, ingress: [{ from: ${from}, ports: ${ports} }] }`),
    );
    const engine = await node.engine();
    await node.apply();
    await engine.stop();
  }, 60_000);
  afterAll(() => node?.remove());

  /** Talks to the backend from a pod; `counts` is how it stands. */
  function talk(pod: string): { counts(): Counts; quiet(): void } {
    const child = node.start(pod, process.execPath, '-e', CLIENT, address);
    let last: Counts = { ok: 0, lost: 0, pings: 0, broken: 0, asked: 0, answered: 0 };
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => (last = JSON.parse(line) as Counts));
    return { counts: () => last, quiet: () => void child.kill('SIGUSR1') };
  }

  /** Starts what changes switches; the function that is returned goes to a position. */
  async function switcher(): Promise<(names: 0 | 1) => Promise<Programs>> {
    const child = node.startOnNode(process.execPath, SWITCHER, node.bpffs, String(FLIPS), ...interfaces);
    let [problem, lines] = ['', [] as string[]];
    child.stderr?.on('data', (chunk) => (problem += chunk));
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => lines.push(line));
    const next = async (): Promise<string> => {
      await until(
        () => lines.length > 0,
        60_000,
        () => problem,
      );
      const [line = ''] = lines;
      lines = lines.slice(1);
      return line;
    };
    expect(await next()).toBe('ready');
    return async (names) => {
      child.stdin?.write(`${names}\n`);
      return JSON.parse(await next()) as Programs;
    };
  }

  /** The stages that the program in force at an interface, any of them, leads to. */
  function entered(program: string): string[] {
    const { stages } = readChain();
    const tool = (...args: string[]): string => execFileSync('bpftool', args, { encoding: 'utf8' });
    const pin = readdirSync(node.bpffs).find((name) => name.startsWith(`${program}-`));
    const { prog_id } = JSON.parse(tool('-j', 'link', 'show', 'pinned', `${node.bpffs}/${pin}`)) as { prog_id: number };
    const code = tool('prog', 'dump', 'xlated', 'id', String(prog_id));
    return [...code.matchAll(/r3 = (\d+)\n[^\n]*bpf_tail_call/g)].map(([, number]) => stages[Number(number)]?.program ?? '').sort();
  }

  test('changes under traffic: each packet arrives, none passes that policy refuses, and what is off is neither verified nor called', async () => {
    node.start('shop/backend', process.execPath, '-e', ECHO);
    const [allowed, refused] = [talk('shop/frontend'), talk('shop/stranger')];
    const go = await switcher();
    await until(() => allowed.counts().ok > 20 && allowed.counts().pings > 5 && allowed.counts().answered > 20, 10_000);
    // Those were asked before the server listened.
    const before = { ...allowed.counts() };
    const unanswered = before.asked - before.answered;

    const off = await go(0);
    const enteredOff = entered('from_pod');
    const between = allowed.counts().answered;
    const on = await go(1);
    const enteredOn = entered('from_pod');

    expect(enteredOn.filter((stage) => !enteredOff.includes(stage))).toEqual(['dns_from_pod']);
    expect(enteredOff).toContain('judge_from_pod');
    expect(off.from_pod).toBeLessThan(on.from_pod);
    expect(off.dns_from_pod).toBeLessThan(on.dns_from_pod / 10);
    expect(off.dns_to_pod).toBeLessThan(on.dns_to_pod / 10);

    await until(() => allowed.counts().answered > between + 20 && allowed.counts().ok > before.ok + 50, 10_000);
    allowed.quiet();
    await until(
      () => allowed.counts().asked - allowed.counts().answered <= unanswered,
      5000,
      () => JSON.stringify(allowed.counts()),
    );
    const end = allowed.counts();
    expect(end).toMatchObject({ lost: before.lost, broken: 0 });
    expect(end.pings).toBeGreaterThan(before.pings + 20);
    expect(refused.counts()).toMatchObject({ ok: 0, pings: 0, answered: 0 });
    expect(refused.counts().lost).toBeGreaterThan(5);
    console.log(`${2 * FLIPS} changes: off ${JSON.stringify(off)}, on ${JSON.stringify(on)}; ${JSON.stringify(end)}`);
  }, 120_000);
});

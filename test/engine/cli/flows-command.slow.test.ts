/** `sluice flows` as a user meets it: filters, formats, exit codes, and an engine that goes away. */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { FastifyInstance } from 'fastify';
import { Registry } from 'prom-client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Reason } from '../../../engine/abi.gen.ts';
import { type ApiParts, createApi, listen } from '../../../engine/api/api.ts';
import { NO_CONFIG_FILE } from '../../../engine/config-file.ts';
import { createLogger } from '../../../engine/log.ts';
import { Feed } from '../../../engine/observe/feed.ts';
import type { FlowView } from '../../../engine/observe/flow-fields.ts';
import { decided, denied } from '../../support/flows.ts';
import { until } from '../../support/test-node.ts';

const cli = fileURLToPath(new URL('../../../engine/cli/sluice.js', import.meta.url));
const NOBODY = '127.0.0.1:59471';

const flows = new Feed<FlowView>(100);
let api: FastifyInstance;
let url: string;

async function startApi(): Promise<FastifyInstance> {
  const parts = { version: '0', ready: () => true, metrics: new Registry(), flows, events: new Feed(10), moduleBytesMax: 1000 };
  const options = { access: NO_CONFIG_FILE.access, listen: { host: '127.0.0.1', port: 0 }, log: createLogger('silent') };
  return createApi({ ...parts, ...options } as unknown as ApiParts);
}

beforeAll(async () => {
  api = await startApi();
  url = (await listen(api, { host: '127.0.0.1', port: 0 })).slice('http://'.length);
  flows.add(denied());
  flows.add(denied({ reason: Reason.DROP_SPOOFED }));
  flows.add(decided());
});
afterAll(() => api.close());

interface Running {
  readonly process: ChildProcess;
  readonly ended: Promise<{ code: number | null; out: string; err: string }>;
  out(): string;
}

function run(...args: string[]): Running {
  const process_ = spawn(process.execPath, [cli, 'flows', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  let err = '';
  process_.stdout.on('data', (chunk) => (out += chunk));
  process_.stderr.on('data', (chunk) => (err += chunk));
  const ended = new Promise<{ code: number | null; out: string; err: string }>((resolve) =>
    process_.once('close', (code) => resolve({ code, out, err })),
  );
  return { process: process_, ended, out: () => out };
}

const sluice = (...args: string[]) => run('--api', url, ...args).ended;

describe('sluice flows', () => {
  test('shows a line for each flow', async () => {
    const { code, out } = await sluice();
    expect(code).toBe(0);
    expect(out.trim().split('\n')).toHaveLength(3);
  });

  test.each([
    { args: ['-o', 'json', '--reason', 'spoofed'], count: 1 },
    { args: ['-o', 'jsonl', '--verdict', 'deny', '--pod', 'shop/web', '--since', '5m'], count: 2 },
    { args: ['-o', 'json', '--verdict', 'allow', '--verdict', 'deny', '--last', '1'], count: 1 },
  ])('$args shows $count, as an object a line', async ({ args, count }) => {
    const { code, out } = await sluice(...args);
    expect(code).toBe(0);
    const lines = out.split('\n').filter(Boolean);
    expect(lines.map((line) => JSON.parse(line).verdict)).toHaveLength(count);
  });

  test('shows a table', async () => {
    const { code, out } = await sluice('-o', 'table', '--verdict', 'deny');
    expect(code).toBe(0);
    expect(out.trim().split('\n')).toHaveLength(3);
    expect(out).toMatch(/TIME\s+VERDICT\s+SOURCE/);
    expect((await sluice('-o', 'table', '--namespace', 'nowhere')).out).toBe('no flows\n');
  });

  test.each([
    {
      name: 'a reason that is none',
      args: ['--reason', 'spoof'],
      says: 'Cannot filter flows by reason "spoof": must be one of drop_policy',
    },
    { name: 'a time that is none', args: ['--since', 'noon'], says: 'must be a duration such as 5m' },
    { name: 'a flag that is none', args: ['--podd', 'shop/web'], says: 'Unknown argument: podd' },
    { name: 'a flag without its value', args: ['--pod'], says: 'Not enough arguments following: pod' },
    { name: 'a table without an end', args: ['-o', 'table', '--follow'], says: 'Cannot follow flows in a table' },
    { name: 'a format that is none', args: ['-o', 'xml'], says: 'Invalid values' },
  ])('$name: exit 2 and a sentence, without an engine', async ({ args, says }) => {
    const { code, out, err } = await run('--api', NOBODY, ...args).ended;
    expect(out + err).toContain(says);
    expect(code).toBe(2);
  });

  test('goes on with --follow until Ctrl-C, which is no failure', async () => {
    const running = run('--api', url, '--follow', '--last', '0', '--reason', 'spoofed');
    await until(() => flows.outlets.length === 1, 10_000);
    flows.add(denied());
    flows.add(denied({ reason: Reason.DROP_SPOOFED }));
    await until(() => running.out() !== '', 10_000);
    running.process.kill('SIGINT');
    const { code, out, err } = await running.ended;
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(out.trim().split('\n')).toHaveLength(1);
    await until(() => flows.outlets.length === 0, 10_000);
  });

  test('fails when the engine goes away while it is followed', async () => {
    const other = await startApi();
    const address = (await listen(other, { host: '127.0.0.1', port: 0 })).slice('http://'.length);
    const running = run('--api', address, '--follow');
    await until(() => flows.outlets.length === 1, 10_000);
    await other.close();
    const { code, err } = await running.ended;
    expect(err).toContain('Cannot follow flows any longer: the engine has gone away [API_UNREACHABLE]');
    expect(code).toBe(1);
  });
});

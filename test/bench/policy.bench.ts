/**
 * What does enforcement cost a connection, with 0, 1,000 and 10,000 rules, with a plugin, and with its verdict cached?
 *
 * Every variant has a client and a server of its own in one lab, and all take turns in every round, so that what the
 * machine does besides hits them alike. `plain` has no programs attached. Ratios are of one round's figures; what is
 * printed is their median over the rounds. Run with `npm run bench`; --rounds and --connections change the size.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { buildPlugin } from '../../engine/author/build-plugin.ts';
import { TestNode, until } from '../support/test-node.ts';

const { values: options } = parseArgs({
  options: { rounds: { type: 'string', default: '9' }, connections: { type: 'string', default: '2000' } },
});
const ROUNDS = Number(options.rounds);
const CONNECTIONS = Number(options.connections);
const PORT = 5000;

/** `plain` is measured twice in a round: the ratio of the two says how much the machine itself varies. */
const VARIANTS = ['plain', 'plain again', '0 rules', '1000 rules', '10000 rules', 'cached verdict', 'asked each time'] as const;
type Variant = (typeof VARIANTS)[number];

interface Times {
  readonly p50: number;
  readonly p99: number;
}
interface Measured {
  readonly connect: Times;
  readonly whole: Times;
  readonly perSecond: number;
  readonly trip: Times;
  readonly retransmissions: number;
}

const key = (variant: Variant): string => variant.replaceAll(' ', '-');
const root = fileURLToPath(new URL('../..', import.meta.url));

function labManifests(): string {
  return VARIANTS.flatMap((variant) =>
    ['client', 'server'].map(
      (role) => `apiVersion: v1
kind: Pod
metadata: { name: ${key(variant)}-${role}, namespace: bench, labels: { role: ${role}, variant: ${key(variant)} } }
spec: {}
`,
    ),
  ).join('---\n');
}

/** The rules that matter come last: whoever looked through a list would pay for the length of it. */
function rulesPolicy(variant: Variant, count: number): string {
  const others = Array.from(
    { length: count },
    (_, i) =>
      `  - { from: [{ ipBlock: { cidr: 172.${16 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}/32 } }], ports: [{ port: ${1000 + (i % 5000)} }] }`,
  );
  return `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: ${key(variant)}, namespace: bench }
spec:
  podSelector: { matchLabels: { role: server, variant: ${key(variant)} } }
  ingress:
${others.join('\n')}
  - { from: [{ podSelector: { matchLabels: { role: client } } }], ports: [{ port: ${PORT} }] }
`;
}

function pluginPolicy(variant: Variant, module: string, config: string): string {
  return `apiVersion: sluice.dev/v1alpha1
kind: PolicyPlugin
metadata: { name: ${key(variant)} }
spec: { module: { file: ${module} }, config: ${config} }
---
apiVersion: sluice.dev/v1alpha1
kind: PluginPolicy
metadata: { name: ${key(variant)}, namespace: bench }
spec:
  podSelector: { matchLabels: { role: client, variant: ${key(variant)} } }
  egress: [{ ask: { plugin: ${key(variant)} } }]
`;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}

async function measure(node: TestNode, load: string, variant: Variant, address: string): Promise<Measured> {
  const client = `bench/${key(variant)}-client`;
  const retransmitted = async (): Promise<number> => {
    const { stdout } = await node.exec(client, 'nstat', '-az', 'TcpExtTCPSynRetrans');
    return Number(/TcpExtTCPSynRetrans\s+(\d+)/.exec(stdout)?.[1] ?? Number.NaN);
  };
  const run = async (mode: string): Promise<Measured> => {
    const { code, stdout, stderr } = await node.exec(client, load, mode, address, String(PORT), String(CONNECTIONS));
    if (code !== 0) throw new Error(`${variant} ${mode}: ${stderr}`);
    return JSON.parse(stdout) as Measured;
  };
  const before = await retransmitted();
  const connections = await run('connect');
  const after = await retransmitted();
  const trips = await run('trip');
  return {
    connect: connections.connect,
    whole: connections.whole,
    perSecond: connections.perSecond,
    trip: trips.whole,
    retransmissions: after - before,
  };
}

async function main(): Promise<void> {
  const node = new TestNode();
  try {
    const load = join(node.directory, 'load');
    execFileSync('gcc', ['-O2', '-Wall', '-o', load, join(root, 'test/bench/load.c')]);
    const plugins = { cached: join(node.directory, 'cached.wasm'), asked: join(node.directory, 'asked.wasm') };
    await buildPlugin(join(root, 'plugins/egress-allow-list'), plugins.cached);
    await buildPlugin(join(root, 'plugins/connection-rate'), plugins.asked);
    await node.lab(labManifests());
    const status = await attach(node, plugins);
    for (const variant of VARIANTS) await until(() => startServer(node, load, variant), 5000);

    const rounds: Map<Variant, Measured>[] = [];
    for (let round = 0; round <= ROUNDS; round++) {
      const measured = new Map<Variant, Measured>();
      // Every other round in the opposite order: what a turn leaves behind hits others in the next one.
      const order = round % 2 ? [...VARIANTS].reverse() : VARIANTS;
      for (const variant of order)
        measured.set(variant, await measure(node, load, variant, status.get(`bench/${key(variant)}-server`) as string));
      // The first round warms up.
      if (round) rounds.push(measured);
      process.stderr.write(`\rround ${round} of ${ROUNDS}`);
    }
    process.stderr.write('\n');
    print(rounds);
  } finally {
    await node.remove();
  }
}

/** Writes the policies, takes the plain pods out of the source, starts the engine. Returns addresses by pod. */
async function attach(node: TestNode, plugins: { cached: string; asked: string }): Promise<Map<string, string>> {
  const cluster = readFileSync(join(node.source, 'cluster.yaml'), 'utf8');
  const documents = cluster.split('---\n');
  const addresses = new Map(documents.map((text) => [`bench/${/name: (\S+)/.exec(text)?.[1]}`, /ip: (\d\S+)/.exec(text)?.[1] ?? '']));
  writeFileSync(join(node.source, 'cluster.yaml'), documents.filter((text) => !text.includes('variant: plain')).join('---\n'));
  node.write('rules-0.yaml', rulesPolicy('0 rules', 0));
  node.write('rules-1000.yaml', rulesPolicy('1000 rules', 1000));
  node.write('rules-10000.yaml', rulesPolicy('10000 rules', 10_000));
  node.write(
    'cached.yaml',
    pluginPolicy('cached verdict', plugins.cached, `{ allow: [{ label: role=server, port: ${PORT} }], ttlSeconds: 3600 }`),
  );
  node.write('asked.yaml', pluginPolicy('asked each time', plugins.asked, '{ perSecond: 10000000, burst: 10000000 }'));
  await node.engine('--log-level', 'warn');
  await node.apply();
  return addresses;
}

async function startServer(node: TestNode, load: string, variant: Variant): Promise<boolean> {
  const child = node.start(`bench/${key(variant)}-server`, load, 'server', String(PORT));
  return new Promise((resolve) => {
    child.stdout?.once('data', () => resolve(true));
    child.once('exit', () => resolve(false));
  });
}

function print(rounds: readonly Map<Variant, Measured>[]): void {
  const of = (variant: Variant, pick: (m: Measured) => number): number =>
    median(rounds.map((round) => pick(round.get(variant) as Measured)));
  const ratio = (variant: Variant, base: Variant, pick: (m: Measured) => number): string =>
    median(rounds.map((round) => pick(round.get(variant) as Measured) / pick(round.get(base) as Measured))).toFixed(3);
  console.log(
    `\n${cpus()[0]?.model}, ${cpus().length} cores; ${rounds.length} rounds of ${CONNECTIONS}; medians over rounds, ratios within a round\n`,
  );
  const table = new Table({
    head: [
      '',
      'connections/s',
      '× plain',
      'whole p50 µs',
      '× plain',
      'connect p50 µs',
      'p99 µs',
      'trip p50 µs',
      '× plain',
      'SYN retransmissions',
    ],
    style: { head: [], border: [] },
  });
  for (const variant of VARIANTS)
    table.push([
      variant,
      of(variant, (m) => m.perSecond).toFixed(0),
      ratio(variant, 'plain', (m) => m.perSecond),
      of(variant, (m) => m.whole.p50).toFixed(1),
      ratio(variant, 'plain', (m) => m.whole.p50),
      of(variant, (m) => m.connect.p50).toFixed(1),
      of(variant, (m) => m.connect.p99).toFixed(1),
      of(variant, (m) => m.trip.p50).toFixed(2),
      ratio(variant, 'plain', (m) => m.trip.p50),
      String(rounds.reduce((sum, round) => sum + (round.get(variant) as Measured).retransmissions, 0)),
    ]);
  console.log(table.toString());
  const more = (percentile: 'p50' | 'p99'): string =>
    (of('asked each time', (m) => m.connect[percentile]) - of('0 rules', (m) => m.connect[percentile])).toFixed(1);
  console.log(`first packet decided by a plugin: p50 ${more('p50')} µs, p99 ${more('p99')} µs more than the same connect without one`);
  console.log(`cached verdict over a plain allow: whole p50 × ${ratio('cached verdict', '0 rules', (m) => m.whole.p50)}`);
  console.log(`10,000 rules over none: whole p50 × ${ratio('10000 rules', '0 rules', (m) => m.whole.p50)}`);
}

await main();

/**
 * What does enforcement cost a connection, at 0 to 50,000 rules, beside iptables, ipset and nftables, with a plugin, and with
 * its verdict cached?
 *
 * `plain` has nothing attached. Ours stands at both ends of each connection; the others once, in the node's forward chain. Run with
 * `npm run bench connection`; --rounds, --connections and --sizes change what is done, --beside DIR has the engine of another, built
 * checkout in the same turns, and leaves the other tools out.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { buildPlugin } from '../../engine/plugin-tools/build-plugin.ts';
import { TestNode } from '../support/test-node.ts';
import { bringUp, buildLoad, type Measured, median, PORT, ratioOf, root, type Turn, takeTurns, type Variant, variant } from './pairs.ts';
import { otherRule, RIVALS, type Rival } from './rivals.ts';

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '40' },
    connections: { type: 'string', default: '300' },
    sizes: { type: 'string', default: '0,100,1000,10000,50000' },
    beside: { type: 'string' },
  },
});
const ROUNDS = Number(options.rounds);
const CONNECTIONS = Number(options.connections);
const SIZES = options.sizes.split(',').map(Number);

const PLAIN = variant('plain');
/** Its ratio says how much the machine itself varies. */
const AGAIN = variant('plain again');
const OURS = SIZES.map((size) => ({ ...variant(`sluice ${size}`), size }));
const CACHED = variant('cached verdict');
const ASKED = variant('asked each time');
/** The same of the other checkout, by its own engine. */
const beside = <V extends Variant>(each: V): V => ({ ...each, ...variant(`beside ${each.name}`) });
const BESIDE = options.beside ? { ours: OURS.map(beside), cached: beside(CACHED), asked: beside(ASKED) } : undefined;
const RIVALS_HERE = options.beside ? [] : (Object.keys(RIVALS) as Rival[]);
const OTHERS = RIVALS_HERE.flatMap((rival) => SIZES.map((size) => ({ ...variant(`${rival} ${size}`), rival, size })));
const ALL: readonly Variant[] = [
  AGAIN,
  ...OURS,
  CACHED,
  ASKED,
  ...(BESIDE ? [...BESIDE.ours, BESIDE.cached, BESIDE.asked] : []),
  ...OTHERS,
];

/** The rules that matter come last: whoever looked through a list would pay for the length of it. */
function rulesPolicy(key: string, count: number): string {
  const others = Array.from({ length: count }, (_, i) => {
    const { address, port } = otherRule(i);
    return `  - { from: [{ ipBlock: { cidr: ${address}/32 } }], ports: [{ port: ${port} }] }`;
  });
  return `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: ${key}, namespace: bench }
spec:
  podSelector: { matchLabels: { role: server, variant: ${key} } }
  ingress:
${others.join('\n')}
  - { from: [{ podSelector: { matchLabels: { role: client } } }], ports: [{ port: ${PORT} }] }
`;
}

function pluginPolicy({ key }: Variant, module: string, config: string): string {
  return `apiVersion: sluice.dev/v1alpha1
kind: PolicyPlugin
metadata: { name: ${key} }
spec: { module: { file: ${module} }, capabilities: [counters], config: ${config} }
---
apiVersion: sluice.dev/v1alpha1
kind: PluginPolicy
metadata: { name: ${key}, namespace: bench }
spec:
  podSelector: { matchLabels: { role: client, variant: ${key} } }
  egress: [{ ask: { plugin: ${key} } }]
`;
}

/** SYN retransmissions of the client so far. */
async function retransmissions({ key, node }: Variant): Promise<number> {
  const { stdout } = (await node?.exec(`bench/${key}-client`, 'nstat', '-az', 'TcpExtTCPSynRetrans')) ?? { stdout: '' };
  return Number(/TcpExtTCPSynRetrans\s+(\d+)/.exec(stdout)?.[1] ?? Number.NaN);
}

async function main(): Promise<void> {
  const nodes: TestNode[] = [];
  try {
    const ours = new TestNode();
    nodes.push(ours);
    const load = buildLoad(ours.directory);
    const addNode = async (variants: readonly Variant[], checkout?: string): Promise<TestNode> => {
      const node = new TestNode(checkout);
      nodes.push(node);
      await bringUp(node, variants, load);
      return node;
    };
    const engine = await addNode([PLAIN, AGAIN, ...OURS, CACHED, ASKED]);
    await attach(engine, { ours: OURS, cached: CACHED, asked: ASKED });
    if (BESIDE) await attach(await addNode([...BESIDE.ours, BESIDE.cached, BESIDE.asked], options.beside), BESIDE);
    for (const other of OTHERS) {
      const node = await addNode([other]);
      await loadRival(node, other);
      process.stderr.write(`\r\x1b[Kset up: ${other.name}`);
    }

    const turns = await takeTurns(ALL, PLAIN, { rounds: ROUNDS, connections: CONNECTIONS, load });
    const lost = new Map<Variant, number>();
    for (const each of ALL) lost.set(each, await retransmissions(each));
    print(turns, lost);
  } finally {
    for (const node of nodes) await node.remove();
  }
}

/** Writes the policies, takes the plain pods out of the source, starts the engine. */
async function attach(node: TestNode, { ours, cached, asked }: { ours: typeof OURS; cached: Variant; asked: Variant }): Promise<void> {
  const plugins = { cached: join(node.directory, 'cached.wasm'), asked: join(node.directory, 'asked.wasm') };
  await buildPlugin(join(root, 'plugins/egress-allow-list'), plugins.cached);
  await buildPlugin(join(root, 'plugins/connection-rate'), plugins.asked);
  const cluster = join(node.source, 'cluster.yaml');
  const documents = readFileSync(cluster, 'utf8').split('---\n');
  writeFileSync(cluster, documents.filter((text) => !text.includes('variant: plain')).join('---\n'));
  for (const { key, size } of ours) node.write(`${key}.yaml`, rulesPolicy(key, size));
  node.write('cached.yaml', pluginPolicy(cached, plugins.cached, `{ allow: [{ label: role=server, port: ${PORT} }], ttlSeconds: 3600 }`));
  node.write('asked.yaml', pluginPolicy(asked, plugins.asked, '{ connections: 10000000 }'));
  await node.engine('--log-level', 'warn');
  await node.sluiceOk('wait', '--timeout', '60s');
}

async function loadRival(node: TestNode, { rival, key, size, server = '' }: Variant & { rival: Rival; size: number }): Promise<void> {
  const cluster = readFileSync(join(node.source, 'cluster.yaml'), 'utf8').split('---\n');
  const client = /ip: (\d\S+)/.exec(cluster.find((text) => text.includes(`name: ${key}-client`)) ?? '')?.[1] ?? '';
  const { files, commands } = RIVALS[rival]({ server, client, port: PORT, count: size });
  for (const [file, text] of Object.entries(files)) writeFileSync(join(node.directory, file), text);
  for (const command of commands) {
    const { code, stderr } = await node.run('sh', '-c', `cd ${node.directory} && ${command}`);
    if (code !== 0) throw new Error(`${command}: ${stderr}`);
  }
}

function print(turns: ReadonlyMap<Variant, readonly Turn[]>, lost: ReadonlyMap<Variant, number>): void {
  type Pick = (m: Measured) => number;
  const of = (each: Variant, pick: Pick): number => median((turns.get(each) ?? []).map(({ own }) => pick(own)));
  const toPlain = (each: Variant, pick: Pick): number => median((turns.get(each) ?? []).map(({ own, plain }) => pick(own) / pick(plain)));
  const whole: Pick = (m) => m.whole.p50;
  const trip: Pick = (m) => m.trip.p50;
  console.log(
    `\n${cpus()[0]?.model}, ${cpus().length} cores; ${ROUNDS} turns of ${CONNECTIONS} connections and as many trips; medians over turns`,
  );
  console.log('× plain: of a turn and one of plain right beside it\n');
  const table = new Table({
    head: ['', 'connections/s', '× plain', 'whole p50 µs', '× plain', 'connect p50 µs', 'p99 µs', 'trip p50 µs', '× plain', 'SYNs lost'],
    style: { head: [], border: [], compact: true },
  });
  for (const each of ALL)
    table.push([
      each.name,
      of(each, (m) => m.perSecond).toFixed(0),
      toPlain(each, (m) => m.perSecond).toFixed(3),
      of(each, whole).toFixed(1),
      toPlain(each, whole).toFixed(3),
      of(each, (m) => m.connect.p50).toFixed(1),
      of(each, (m) => m.connect.p99).toFixed(1),
      of(each, trip).toFixed(2),
      toPlain(each, trip).toFixed(3),
      String(lost.get(each)),
    ]);
  console.log(table.toString());
  const none = OURS[0] as Variant;
  const most = OURS.at(-1) as Variant;
  const ratio = (a: Variant, b: Variant, pick: Pick): string => ratioOf(turns.get(a) ?? [], turns.get(b) ?? [], pick).toFixed(3);
  const more = (percentile: 'p50' | 'p99'): string =>
    (of(ASKED, (m) => m.connect[percentile]) - of(none, (m) => m.connect[percentile])).toFixed(1);
  console.log(`first packet decided by a plugin: p50 ${more('p50')} µs, p99 ${more('p99')} µs more than the same connect without one`);
  console.log(`cached verdict over a plain allow: whole p50 × ${ratio(CACHED, none, whole)}`);
  console.log(`${most.name} over ${none.name}: whole p50 × ${ratio(most, none, whole)}`);
  for (const [now, before] of BESIDE
    ? [...OURS.map((each, i) => [each, BESIDE.ours[i]] as const), [CACHED, BESIDE.cached], [ASKED, BESIDE.asked]]
    : [])
    if (now && before)
      console.log(`${now.name} over ${before.name}: whole p50 × ${ratio(now, before, whole)}, trip p50 × ${ratio(now, before, trip)}`);
  for (const other of OTHERS) {
    const mine = OURS.find(({ size }) => size === other.size) as Variant;
    console.log(`${mine.name} over ${other.name}: whole p50 × ${ratio(mine, other, whole)}, trip p50 × ${ratio(mine, other, trip)}`);
  }
}

await main();

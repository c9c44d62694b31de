/**
 * What does it cost a TLS connection that its hello is held and read: from connect to the first byte of the answer, and what comes
 * after?
 *
 * An echo stands for the server, so that no handshake hides the difference; every connection says a hello and waits for its echo.
 * Beside `plain`: ours with rules that read nothing, with a list of server names, with a plugin, and with a hello in two packets as
 * post-quantum key shares make it. Run with `npm run bench tls`; --rounds and --connections change what is done, --beside DIR has the
 * engine of another, built checkout in the same turns.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { buildPlugin } from '../../engine/plugin-tools/build-plugin.ts';
import { TestNode } from '../support/test-node.ts';
import { clientHello } from '../support/tls.ts';
import { bringUp, buildLoad, type Measured, median, PORT, root, takeTurns, type Variant, variant } from './pairs.ts';

const { values: options } = parseArgs({
  options: { rounds: { type: 'string', default: '30' }, connections: { type: 'string', default: '300' }, beside: { type: 'string' } },
});
const PLAIN = variant('plain');
const AGAIN = variant('plain again');
const UNREAD = variant('not read');
const LIST = variant('list');
const PLUGIN = variant('plugin');
const LONG = { ...variant('list, long hello'), key: 'long' };
const OURS: Variants = [UNREAD, LIST, PLUGIN, LONG];
/** The same of the other checkout, by its own engine. */
const BESIDE = options.beside ? (OURS.map(({ key }) => variant(`beside ${key}`)) as unknown as Variants) : undefined;
const ALL: readonly Variant[] = [AGAIN, ...OURS, ...(BESIDE ?? [])];

/** As common clients say it, and as they do with X25519MLKEM768. */
const HELLO_BYTES = 517;
const LONG_HELLO_BYTES = 1780;

function helloOf(bytes: number): Buffer {
  const base = { serverName: 'api.example.com', protocols: ['h2', 'http/1.1'] };
  return clientHello({ ...base, padding: bytes - clientHello({ ...base, padding: 1 }).length + 1 });
}

const policy = (key: string, rule: string): string => `apiVersion: sluice.dev/v1alpha1
kind: PluginPolicy
metadata: { name: ${key}, namespace: bench }
spec:
  podSelector: { matchLabels: { role: client, variant: ${key} } }
  egress: [{ ports: [{ port: ${PORT} }], ${rule} }]
`;

type Variants = readonly [unread: Variant, list: Variant, plugin: Variant, long: Variant];

/** Pods, policies and an engine in a node. Pods without anything are no endpoints. */
async function bringUpWithEngine(
  node: TestNode,
  variants: readonly Variant[],
  [, list, plugin, long]: Variants,
  load: string,
): Promise<void> {
  for (const each of variants) each.first = join(first.directory, each === long ? 'long' : 'short');
  await bringUp(node, variants, load);
  const cluster = join(node.source, 'cluster.yaml');
  const documents = readFileSync(cluster, 'utf8').split('---\n');
  writeFileSync(cluster, documents.filter((text) => !text.includes('variant: plain')).join('---\n'));
  const module = join(node.directory, 'rules.wasm');
  await buildPlugin(join(root, 'plugins/domain-rules'), module);
  const sets = 'sets: { allowed: { domains: ["*.example.com"] }, blocked: { domains: [] } }';
  node.write(
    'rules.yaml',
    `apiVersion: sluice.dev/v1alpha1\nkind: PolicyPlugin\nmetadata: { name: rules }\nspec: { module: { file: ${module} }, capabilities: [sets, clock], ${sets} }\n`,
  );
  for (const { key } of [list, long]) node.write(`${key}.yaml`, policy(key, 'serverNames: { names: ["*.example.com"] }'));
  node.write('plugin.yaml', policy(plugin.key, 'ask: { plugin: rules, context: tls }'));
  await node.engine('--log-level', 'warn');
  await node.sluiceOk('wait', '--timeout', '60s');
}

const first = new TestNode();
const nodes = [first];
try {
  const load = buildLoad(first.directory);
  for (const [key, bytes] of [
    ['short', HELLO_BYTES],
    ['long', LONG_HELLO_BYTES],
  ] as const)
    writeFileSync(join(first.directory, key), helloOf(bytes));
  await bringUpWithEngine(first, [PLAIN, AGAIN, ...OURS], OURS, load);
  if (BESIDE) {
    const other = new TestNode(options.beside);
    nodes.push(other);
    await bringUpWithEngine(other, BESIDE, BESIDE, load);
  }

  const turns = await takeTurns(ALL, PLAIN, { rounds: Number(options.rounds), connections: Number(options.connections), load });
  const of = (each: (typeof ALL)[number], pick: (m: Measured) => number): number =>
    median((turns.get(each) ?? []).map(({ own }) => pick(own)));
  const over = (each: (typeof ALL)[number], pick: (m: Measured) => number): number =>
    median((turns.get(each) ?? []).map(({ own, plain }) => pick(own) - pick(plain)));
  const ratio = (each: (typeof ALL)[number], pick: (m: Measured) => number): number =>
    median((turns.get(each) ?? []).map(({ own, plain }) => pick(own) / pick(plain)));
  console.log(
    `\n${cpus()[0]?.model}, ${cpus().length} cores; ${options.rounds} turns of ${options.connections} connections; medians over turns`,
  );
  console.log('whole: from connect to the first byte of the answer. + and × plain: of a turn and one of plain right beside it\n');
  const head = ['', 'whole p50 µs', '+ plain', '× plain', 'p99 µs', '+ plain', 'trip after it p50 µs', '× plain'];
  const table = new Table({ head, style: { head: [], border: [], compact: true } });
  for (const each of ALL)
    table.push([
      each.name,
      of(each, (m) => m.whole.p50).toFixed(1),
      over(each, (m) => m.whole.p50).toFixed(1),
      ratio(each, (m) => m.whole.p50).toFixed(3),
      of(each, (m) => m.whole.p99).toFixed(1),
      over(each, (m) => m.whole.p99).toFixed(1),
      of(each, (m) => m.trip.p50).toFixed(2),
      ratio(each, (m) => m.trip.p50).toFixed(3),
    ]);
  console.log(table.toString());
} finally {
  for (const node of nodes) await node.remove();
}

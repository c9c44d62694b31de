/**
 * Does every request get its answer, from the right version, whatever happens meanwhile? Clients ask without pause while the plugin is
 * swapped every second, backends come and go every three, and the engine is killed every minute. Without an engine connections are
 * refused (failure policy Deny) and asked again: an answer of the wrong version would be a defect. Run with `npm run bench soak`;
 * --minutes, --workers and --kill-every (seconds; 0: never) change what is done. Exits with 1 when anything is lost or wrong.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildPlugin } from '../../engine/plugin-tools/build-plugin.ts';
import { CHECKOUT, plugin, service, tag } from '../support/http-cluster.ts';
import { TestNode } from '../support/test-node.ts';

const { values: options } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    workers: { type: 'string', default: '32' },
    'kill-every': { type: 'string', default: '60' },
  },
});
const fixture = (name: string): string => fileURLToPath(new URL(`../fixtures/${name}.ts`, import.meta.url));
const VERSIONS = { v1: ['v1a', 'v1b'], v2: ['v2a', 'v2b'] };
const seconds = Number(options.minutes) * 60;
const killEvery = Number(options['kill-every']);

const node = new TestNode();
const pod = (name: string): string => `apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: shop, labels: { app: ${name} } }
spec: { containers: [{ name: main, command: ['${process.execPath}', '${fixture('http-server')}', ${name}] }] }
`;
const slice = (version: string, addresses: readonly string[]): string => `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: checkout-${version}-1, namespace: shop, labels: { kubernetes.io/service-name: checkout-${version} } }
addressType: IPv4
endpoints: [${addresses.map((ip) => `{ addresses: ['${ip}'], conditions: { ready: true } }`).join(', ')}]
ports: [{ name: web, port: 80, protocol: TCP }]
`;
const withName = (text: string): string => text.replaceAll('port: 80, targetPort', 'name: web, port: 80, targetPort');
const done = { swaps: 0, changes: 0, kills: 0, refusedWhileDown: 0 };
let down = false;

async function swap(modules: readonly string[]): Promise<void> {
  const push = ['-gsSf', '-X', 'PUT', '-H', 'content-type: application/wasm', '--data-binary', `@${modules[done.swaps % 2]}`];
  const { code, stderr } = await node.run('curl', ...push, 'http://127.0.0.1:9470/v1/plugins/canary');
  if (!code) done.swaps += 1;
  else if (down) done.refusedWhileDown += 1;
  else throw new Error(`plugin not swapped: ${stderr}`);
}

/** One backend of each version in turn, then both again. */
function change(addresses: ReadonlyMap<string, string>): void {
  for (const [version, names] of Object.entries(VERSIONS)) {
    const turn = done.changes % 3;
    const there = turn === 2 ? names : [names[turn] ?? ''];
    node.write(
      `${version}.yaml`,
      slice(
        version,
        there.map((name) => addresses.get(name) ?? ''),
      ),
    );
  }
  done.changes += 1;
}

try {
  await node.lab(
    `apiVersion: v1\nkind: Pod\nmetadata: { name: client, namespace: shop, labels: { app: client } }\nspec: {}\n---\n${Object.values(VERSIONS).flat().map(pod).join('---\n')}`,
  );
  const cluster = readFileSync(join(node.source, 'cluster.yaml'), 'utf8');
  const addresses = new Map([...cluster.matchAll(/name: (\w+)\n[\s\S]*?- ip: ([\d.]+)/g)].map(([, name = '', ip = '']) => [name, ip]));
  const canary = (await buildPlugin('plugins/canary', join(node.directory, 'canary.wasm'))).path;
  const other = join(node.directory, 'other.wasm');
  // The same, but for its bytes.
  writeFileSync(other, Buffer.concat([readFileSync(canary), Buffer.from([0, 5, 4, 0x6e, 0x6f, 0x74, 0x65])]));
  node.write(
    'services.yaml',
    withName(
      ['checkout', 'checkout-v1', 'checkout-v2']
        .map((name, i) => service(name, [i ? `10.96.0.1${i}` : CHECKOUT], '{ app: none }'))
        .join('---\n'),
    ),
  );
  node.write('canary.yaml', `${plugin('canary', canary)}---\n${tag('canary')}`);
  done.changes = 2;
  change(addresses);
  let engine = await node.engine('--log-level', 'info');
  await node.apply();

  const client = node.start('shop/client', process.execPath, fixture('soak-client'), CHECKOUT, String(seconds), options.workers);
  let last = '';
  client.stdout?.on('data', (bytes: Buffer) => {
    last = bytes.toString().trim().split('\n').at(-1) ?? last;
    console.log(last);
  });
  const ended = new Promise<void>((resolve) => client.once('exit', () => resolve()));
  let over = false;
  void ended.then(() => (over = true));
  const started = performance.now();
  for (let second = 1; !over; second++) {
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, started + second * 1000 - performance.now())));
    await swap([canary, other]);
    if (second % 3 === 0) change(addresses);
    if (!killEvery || second % killEvery || second >= seconds) continue;
    down = true;
    await engine.stop('SIGKILL');
    done.kills += 1;
    engine = await node.engine('--log-level', 'info');
    down = false;
  }
  await ended;
  console.log(JSON.stringify(done));
  const { sent, answered, wrong, lost } = JSON.parse(last) as { sent: number; answered: number; wrong: number; lost: number };
  console.log(`${sent} requests, ${answered} answered, ${wrong} by the wrong version, ${lost} lost`);
  if (sent !== answered || wrong || lost) process.exitCode = 1;
} finally {
  await node.remove();
}

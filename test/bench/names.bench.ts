/**
 * What does it cost to decide by domain name, and does a connection that follows an answer at once ever fail? Beside it a
 * real alternative: dnsmasq that fills an nftables set before it answers.
 *
 * Everything runs on one processor: who wakes whom on which of several makes ten times the difference that is looked for.
 * Pods ask a dnsmasq with an upstream in turns (A B A B), one query at a time; the third one's puts addresses into a set that its
 * forwarding rule looks into. `plain` is nothing at all, twice. With --beside DIR the engine of another, built checkout is one more.
 */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { TestNode, until } from '../support/test-node.ts';

const { values: options } = parseArgs({ options: { beside: { type: 'string' }, rounds: { type: 'string', default: '20' } } });
const ROUNDS = Number(options.rounds);
const QUERIES = 5000;
const FRESH = 10_000;
const RESOLVER = '198.18.255.53';
const UPSTREAM = '198.18.255.54';
const THIRTY = 30;
const ONE_CPU = ['taskset', '-c', '1'] as const;
const root = fileURLToPath(new URL('../..', import.meta.url));
const freshAddress = (i: number): string => `198.18.${100 + (i >> 8)}.${i & 255}`;

interface Measured {
  readonly p50: number;
  readonly p99: number;
  readonly perSecond: number;
  readonly failed: number;
}

interface Variant {
  readonly name: string;
  readonly node: TestNode;
  readonly pod: string;
}

const POD = (name: string): string =>
  `apiVersion: v1\nkind: Pod\nmetadata: { name: ${name}, namespace: bench, labels: { app: ${name} } }\nspec: {}\n---\n`;
const POLICY = `apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: { name: names }
spec:
  tier: Admin
  priority: 1
  subject: { pods: { namespaceSelector: {}, podSelector: { matchLabels: { app: names } } } }
  egress:
  - { action: Accept, to: [{ domainNames: ['*.bench.test'] }], protocols: [{ tcp: { destinationPort: { number: 80 } } }] }
  - { action: Deny, to: [{ networks: [0.0.0.0/0, '::/0'] }] }
`;

/** Addresses that are nobody's interface, dnsmasq with the names, and who takes connections to port 80. */
async function serve(node: TestNode, tool: string, ...options: string[]): Promise<void> {
  await node.run('ip', 'route', 'add', 'local', '198.18.0.0/16', 'dev', 'lo');
  await node.run('sysctl', '-qw', 'net.ipv4.ip_nonlocal_bind=1');
  const hosts = [
    '198.18.0.1 one.bench.test',
    ...Array.from({ length: THIRTY }, (_, i) => `198.18.1.${i + 1} thirty.bench.test`),
    ...Array.from({ length: 2 * FRESH }, (_, i) => `${freshAddress(i)} n${i}.bench.test`),
  ];
  writeFileSync(join(node.directory, 'hosts'), hosts.join('\n'));
  const dnsmasq = (name: string, address: string, ...more: string[]): void => {
    const own = ['--keep-in-foreground', '--conf-file=/dev/null', '--no-resolv', '--no-hosts', '--bind-interfaces', '--user=root'];
    const pid = `--pid-file=${join(node.directory, name)}`;
    node.startOnNode(...ONE_CPU, 'dnsmasq', ...own, '--edns-packet-max=4096', pid, `--listen-address=${address}`, ...more);
  };
  dnsmasq('upstream', UPSTREAM, `--addn-hosts=${join(node.directory, 'hosts')}`, '--local=/test/', '--local-ttl=3600');
  // A set is filled with what comes from upstream only.
  dnsmasq('resolver', RESOLVER, `--server=${UPSTREAM}`, '--cache-size=20000', ...options);
  node.startOnNode(...ONE_CPU, tool, 'listen');
  await until(
    async () => (await node.run('dig', '+short', '+tries=1', '+time=1', `@${RESOLVER}`, 'one.bench.test')).stdout.trim() === '198.18.0.1',
    10_000,
  );
}

async function run({ node, pod }: Variant, tool: string, ...args: string[]): Promise<Measured> {
  const { code, stdout, stderr } = await node.exec(`bench/${pod}`, ...ONE_CPU, tool, ...args);
  if (code !== 0) throw new Error(`${pod} ${args.join(' ')}: ${stderr}`);
  const measured = JSON.parse(stdout) as Measured;
  if (args[0] === 'query' && measured.failed) throw new Error(`${pod} ${args.join(' ')}: ${measured.failed} queries had no answer`);
  return measured;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

/** Kilobytes that a pinned map takes. */
async function mapKiB(node: TestNode, map: string): Promise<number> {
  const { stdout } = await node.run('bpftool', '-j', 'map', 'show', 'pinned', join(node.bpffs, map));
  return (JSON.parse(stdout) as { bytes_memlock: number }).bytes_memlock / 1024;
}

/** Starts an engine, of whose endpoints the plain pod is none. */
async function enforce(node: TestNode): Promise<void> {
  const attached = (await node.run('cat', join(node.source, 'cluster.yaml'))).stdout
    .split('---\n')
    .filter((text) => !text.includes('name: plain'));
  node.write('cluster.yaml', attached.join('---\n'));
  node.write('policy.yaml', POLICY);
  await node.engine('--resolver', RESOLVER, '--log-level', 'warn', '--dns', 'minimum-ttl=1h');
  await node.apply();
}

async function main(): Promise<void> {
  const [ours, theirs] = [new TestNode(), new TestNode()];
  const before = options.beside ? new TestNode(options.beside) : undefined;
  try {
    const tool = join(ours.directory, 'resolve');
    execFileSync('gcc', ['-O2', '-Wall', '-o', tool, join(root, 'test/bench/resolve.c')]);
    await ours.lab(POD('plain') + POD('names'));
    await theirs.lab(POD('set'));
    await serve(ours, tool);
    const rules = `table inet bench {
  set known { type ipv4_addr; }
  chain input {
    type filter hook input priority 0;
    iifname "sl*" ip daddr @known accept
    iifname "sl*" tcp dport 80 drop
  }
}
`;
    writeFileSync(join(theirs.directory, 'rules.nft'), rules);
    const loaded = await theirs.run('nft', '-f', join(theirs.directory, 'rules.nft'));
    if (loaded.code !== 0) throw new Error(`nft: ${loaded.stderr}`);
    await serve(theirs, tool, '--nftset=/bench.test/4#inet#bench#known');
    await enforce(ours);
    if (before) {
      await before.lab(POD('names'));
      await serve(before, tool);
      await enforce(before);
    }

    const plain: Variant = { name: 'plain', node: ours, pod: 'plain' };
    const variants: Variant[] = [
      { ...plain, name: 'plain again' },
      { name: 'sluice', node: ours, pod: 'names' },
      ...(before ? [{ name: 'sluice beside', node: before, pod: 'names' }] : []),
      { name: 'dnsmasq nftset', node: theirs, pod: 'set' },
    ];
    const table = new Table({
      head: ['', 'name', 'p50 µs', 'more', 'p99 µs', 'more', 'queries/s', '× plain'],
      style: { head: [], border: [], compact: true },
    });
    for (const name of ['one', 'thirty']) {
      const turns = new Map<Variant, { own: Measured; beside: Measured }[]>(variants.map((each) => [each, []]));
      for (let round = 0; round <= ROUNDS; round++) {
        for (const each of round % 2 ? [...variants].reverse() : variants) {
          const ask = (who: Variant): Promise<Measured> => run(who, tool, 'query', RESOLVER, `${name}.bench.test`, String(QUERIES));
          const early = round % 4 < 2 ? await ask(plain) : undefined;
          const own = await ask(each);
          if (round) turns.get(each)?.push({ own, beside: early ?? (await ask(plain)) });
        }
        process.stderr.write(`\r\x1b[K${name}: round ${round} of ${ROUNDS}`);
      }
      for (const [each, measured] of turns) {
        const of = (pick: (m: Measured) => number): number => median(measured.map(({ own }) => pick(own)));
        const more = (pick: (m: Measured) => number): string =>
          median(measured.map(({ own, beside }) => pick(own) - pick(beside))).toFixed(1);
        const times = median(measured.map(({ own, beside }) => own.perSecond / beside.perSecond)).toFixed(3);
        table.push([
          each.name,
          name,
          of((m) => m.p50).toFixed(1),
          more((m) => m.p50),
          of((m) => m.p99).toFixed(1),
          more((m) => m.p99),
          of((m) => m.perSecond).toFixed(0),
          times,
        ]);
      }
    }
    const emptyKiB = (await mapKiB(ours, 'known_addresses')) + (await mapKiB(ours, 'queries')) + (await mapKiB(ours, 'dns_names'));
    const lines: string[] = [];
    for (const [each, first] of [
      [plain, 0],
      [variants[1], FRESH],
      [variants.at(-1), 0],
    ] as [Variant, number][]) {
      const { p50, p99, perSecond, failed } = await run(each, tool, 'fresh', RESOLVER, 'bench.test', String(first), String(FRESH));
      lines.push(
        `${each.name}: ${FRESH} fresh names, each connected to at once: ${failed} failed; query p50 ${p50} µs, p99 ${p99} µs, ${perSecond} names/s`,
      );
    }
    const fullKiB = (await mapKiB(ours, 'known_addresses')) + (await mapKiB(ours, 'queries')) + (await mapKiB(ours, 'dns_names'));
    console.log(
      `\n${cpus()[0]?.model}, ${cpus().length} cores; ${ROUNDS} turns of ${QUERIES} queries; medians; more: than plain right beside it\n`,
    );
    console.log(table.toString());
    for (const line of lines) console.log(line);
    console.log(`memory: ${emptyKiB.toFixed(0)} KiB of maps before, ${(fullKiB - emptyKiB).toFixed(0)} KiB more for ${FRESH} addresses`);
  } finally {
    for (const node of [ours, theirs, ...(before ? [before] : [])]) await node.remove();
  }
}

await main();

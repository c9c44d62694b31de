/**
 * How long until a change of policy is in force: 1,000 and 10,000 rules changed, one rule changed, one pod added, changed and
 * removed, all of it also beside 100,000 pods that have nothing to do with it; beside iptables-restore, ipset restore and nft -f?
 *
 * Ours is measured in its steps, on real maps: walking the directory and reading the files that changed, compiling, writing to the
 * kernel. A watch names the file: what the walk costs is for who must be sure. The others are their commands, from start to end,
 * as an agent runs them. All take turns. Run with `npm run bench programming`; --pods 0 leaves the pods out.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { DEFAULT_LIMITS } from '../../engine/config.ts';
import { Datapath } from '../../engine/kernel/datapath.ts';
import { removeDatapath } from '../../engine/kernel/pins.ts';
import { PolicyMaps } from '../../engine/kernel/policy-maps.ts';
import { createLogger } from '../../engine/log.ts';
import { Compiler } from '../../engine/policy/compile.ts';
import { ClusterFeed } from '../../engine/sources/cluster-feed.ts';
import { DirectorySource } from '../../engine/sources/directory.ts';
import { TestNode } from '../support/test-node.ts';
import { otherRule, RIVALS, type Rival } from './rivals.ts';

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '9' },
    sizes: { type: 'string', default: '1000,10000' },
    pods: { type: 'string', default: '100000' },
  },
});
const ROUNDS = Number(options.rounds);
const SIZES = options.sizes.split(',').map(Number);
const PODS = Number(options.pods);
const PODS_A_FILE = 1000;
/** As policies are: many of a moderate size. */
const RULES_A_POLICY = 100;
const SERVER = '10.88.0.1';

/** Milliseconds of each step. */
interface Steps {
  readonly read: number;
  readonly compile: number;
  readonly program: number;
  readonly entries: number;
}

/** An engine's way from files to maps, without the engine around it. */
class Pipeline {
  readonly directory = mkdtempSync(join(tmpdir(), 'sluice-bench-'));
  readonly #feed: ClusterFeed;
  readonly #compiler = new Compiler();
  readonly #maps: PolicyMaps;

  constructor(datapath: Datapath) {
    this.#feed = new ClusterFeed([new DirectorySource(this.directory, createLogger('silent'))]);
    this.#maps = new PolicyMaps(datapath, DEFAULT_LIMITS);
  }

  async start(): Promise<void> {
    await this.#feed.start();
  }

  async close(): Promise<void> {
    await this.#feed.close();
    rmSync(this.directory, { recursive: true });
  }

  write(file: string, text: string): void {
    writeFileSync(join(this.directory, file), text);
  }

  remove(file: string): void {
    rmSync(join(this.directory, file));
  }

  async run(): Promise<Steps> {
    const started = performance.now();
    await this.#feed.catchUp();
    const changes = this.#feed.take();
    const read = performance.now();
    const [problem] = this.#feed.problems.all;
    if (problem) throw new Error(problem.reason);
    this.#compiler.update(changes, new Map(), []);
    const compiled = performance.now();
    const applied = this.#maps.apply({ ...this.#compiler.maps, endpoints: new Map(), ownsAddress: () => true, sameEndpoints: true });
    const programmed = performance.now();
    const retired = this.#compiler.retire();
    const tidied = performance.now();
    const later = retired
      ? this.#maps.apply({ ...this.#compiler.maps, endpoints: new Map(), ownsAddress: () => true, sameEndpoints: true })
      : undefined;
    for (const failure of [...applied.failures, ...(later?.failures ?? [])]) throw failure;
    return {
      read: read - started,
      compile: compiled - read + (tidied - programmed),
      program: programmed - compiled + (performance.now() - tidied),
      entries: applied.changes + (later?.changes ?? 0),
    };
  }
}

/** Pods elsewhere, of 1,000 different label sets, in namespaces that no policy is about. */
function otherPods(file: number): string {
  return Array.from({ length: PODS_A_FILE }, (_, n) => {
    const i = file * PODS_A_FILE + n;
    return JSON.stringify({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: `other-${i}`, namespace: `other-${i % 50}`, labels: { app: `app-${i % 1000}`, tier: `t${i % 7}` } },
      spec: {},
      status: { podIPs: [{ ip: `10.${100 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}` }] },
    });
  }).join('\n---\n');
}

function podText(name: string, address: string, labels: string): string {
  return `apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: bench, labels: { ${labels} }, annotations: { sluice.dev/interface: i-${name} } }
spec: {}
status: { podIPs: [{ ip: ${address} }] }
`;
}

/** One policy of RULES_A_POLICY rules; another turn, other addresses. */
function policyText(index: number, turn: number): string {
  const rules = Array.from({ length: RULES_A_POLICY }, (_, i) => ruleText(index * RULES_A_POLICY + i, turn));
  return `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: policy-${index}, namespace: bench }
spec:
  podSelector: { matchLabels: { role: server } }
  ingress:
${rules.join('')}`;
}

function ruleText(i: number, turn: number): string {
  const { address, port } = otherRule(i + (turn % 2) * 65_536);
  return `  - { from: [{ ipBlock: { cidr: ${address}/32 } }], ports: [{ port: ${port} }] }\n`;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}

/** The rivals' way of changing one entry. */
const ONE_CHANGE: Readonly<Record<Rival, (turn: number) => string>> = {
  iptables: (turn) => `iptables -R FORWARD 2 -s 172.30.0.${turn % 250}/32 -d ${SERVER}/32 -p tcp -m tcp --dport 80 -j ACCEPT`,
  ipset: (turn) => `ipset add peers 172.30.${turn % 250}.1,tcp:80 -exist`,
  nftables: (turn) => `nft add element ip bench peers '{ 172.30.${turn % 250}.1 . 80 }'`,
};

async function timed(node: TestNode, command: string): Promise<number> {
  const started = performance.now();
  const { code, stderr } = await node.run('sh', '-c', `cd ${node.directory} && ${command}`);
  if (code !== 0) throw new Error(`${command}: ${stderr}`);
  return performance.now() - started;
}

type Ours = Readonly<Record<'all' | 'rule' | 'added' | 'changed' | 'removed', Steps[]>>;

async function measureSize(datapath: Datapath, nodes: ReadonlyMap<Rival, TestNode>, size: number): Promise<void> {
  const pipeline = new Pipeline(datapath);
  const ours: Ours = { all: [], rule: [], added: [], changed: [], removed: [] };
  const others = new Map<Rival, { all: number[]; one: number[] }>([...nodes.keys()].map((rival) => [rival, { all: [], one: [] }]));
  const count = Math.ceil(size / RULES_A_POLICY);
  pipeline.write('server.yaml', podText('server', SERVER, 'role: server'));
  for (let file = 0; file < PODS / PODS_A_FILE; file++) pipeline.write(`others-${file}.yaml`, otherPods(file));
  await pipeline.start();
  for (let round = 0; round <= ROUNDS; round++) {
    for (let i = 0; i < count; i++) pipeline.write(`policy-${i}.yaml`, policyText(i, round));
    const all = await pipeline.run();
    const lines = policyText(0, round).split('\n');
    lines[lines.length - 2] = ruleText(200_000 + round, 0).trimEnd();
    pipeline.write('policy-0.yaml', lines.join('\n'));
    const rule = await pipeline.run();
    pipeline.write('peer.yaml', podText('peer', `10.88.1.${round + 1}`, 'role: client'));
    const added = await pipeline.run();
    pipeline.write('peer.yaml', podText('peer', `10.88.1.${round + 1}`, 'role: client, turn: second'));
    const changed = await pipeline.run();
    pipeline.remove('peer.yaml');
    const removed = await pipeline.run();
    // The first round warms up.
    if (round) for (const [name, steps] of Object.entries({ all, rule, added, changed, removed })) ours[name as keyof Ours].push(steps);
    for (const [rival, node] of nodes) {
      const { files, commands } = RIVALS[rival]({
        server: SERVER,
        client: `10.88.0.${(round % 200) + 2}`,
        port: 5000 + round,
        count: size,
      });
      for (const [file, text] of Object.entries(files)) writeFileSync(join(node.directory, file), text);
      const loaded = await timed(node, rival === 'ipset' && round ? (commands[0] as string) : commands.join(' && '));
      const one = await timed(node, ONE_CHANGE[rival](round));
      if (round) others.get(rival)?.all.push(loaded);
      if (round) others.get(rival)?.one.push(one);
    }
    process.stderr.write(`\r\x1b[K${size} rules: round ${round} of ${ROUNDS}`);
  }
  process.stderr.write('\n');
  await pipeline.close();
  print(size, ours, others);
}

function print(size: number, ours: Ours, others: ReadonlyMap<Rival, { all: number[]; one: number[] }>): void {
  const table = new Table({
    head: ['', 'ms', 'read', 'compile', 'program', 'compile + program', 'entries', 'compile + program over it'],
    style: { head: [], border: [], compact: true },
  });
  const of = (steps: readonly Steps[], pick: (step: Steps) => number): number => median(steps.map(pick));
  const inForce = (step: Steps): number => step.compile + step.program;
  for (const [name, steps] of [
    [`sluice: ${size} rules changed`, ours.all],
    ['sluice: one rule changed', ours.rule],
    ['sluice: one pod added', ours.added],
    ['sluice: its labels changed', ours.changed],
    ['sluice: it is removed', ours.removed],
  ] as const)
    table.push([
      name,
      of(steps, (step) => step.read + inForce(step)).toFixed(1),
      of(steps, (step) => step.read).toFixed(1),
      of(steps, (step) => step.compile).toFixed(1),
      of(steps, (step) => step.program).toFixed(1),
      of(steps, inForce).toFixed(2),
      of(steps, (step) => step.entries).toFixed(0),
      '',
    ]);
  const over = (steps: readonly Steps[], times: readonly number[]): string =>
    `× ${(of(steps, inForce) / median(times)).toFixed(2)}; with reading × ${(of(steps, (step) => step.read + inForce(step)) / median(times)).toFixed(2)}`;
  for (const [rival, { all, one }] of others) {
    table.push([`${rival}: ${size} rules changed`, median(all).toFixed(1), '', '', '', '', '', over(ours.all, all)]);
    table.push([`${rival}: one entry changed`, median(one).toFixed(1), '', '', '', '', '', over(ours.rule, one)]);
  }
  console.log(`\n${cpus()[0]?.model}, ${cpus().length} cores; medians of ${ROUNDS} rounds, beside ${PODS} other pods`);
  console.log(table.toString());
}

const bpffs = `/sys/fs/bpf/sluice-bench-${process.pid}`;
const nodes = new Map((Object.keys(RIVALS) as Rival[]).map((rival) => [rival, new TestNode()]));
try {
  const datapath = await Datapath.load(bpffs, { peers: 2 ** Math.ceil(Math.log2(Math.max(16_384, PODS * 2))) });
  for (const size of SIZES) await measureSize(datapath, nodes, size);
  datapath.close();
} finally {
  await removeDatapath(bpffs);
  for (const node of nodes.values()) await node.remove();
}

/**
 * How long until a change of policy is in force: 1,000 and 10,000 rules changed, one rule changed, one pod added; beside
 * iptables-restore, ipset restore and nft -f?
 *
 * Ours is measured in its steps, on real maps: reading the files that changed, compiling, writing to the kernel. The others
 * are their commands, from start to end, as an agent runs them. All take turns. Run with `npm run bench programming`.
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
import { DirectorySource } from '../../engine/sources/directory.ts';
import { TestNode } from '../support/test-node.ts';
import { otherRule, RIVALS, type Rival } from './rivals.ts';

const { values: options } = parseArgs({
  options: { rounds: { type: 'string', default: '9' }, sizes: { type: 'string', default: '1000,10000' } },
});
const ROUNDS = Number(options.rounds);
const SIZES = options.sizes.split(',').map(Number);
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
  readonly #source: DirectorySource;
  readonly #compiler = new Compiler();
  readonly #maps: PolicyMaps;

  constructor(datapath: Datapath) {
    this.#source = new DirectorySource(this.directory, createLogger('silent'));
    this.#maps = new PolicyMaps(datapath, DEFAULT_LIMITS);
  }

  write(file: string, text: string): void {
    writeFileSync(join(this.directory, file), text);
  }

  run(): Steps {
    const started = performance.now();
    const snapshot = this.#source.read();
    const read = performance.now();
    if (snapshot.problems.length) throw new Error(snapshot.problems[0]?.reason);
    this.#compiler.update(snapshot, new Map(), []);
    const compiled = performance.now();
    const applied = this.#maps.apply({ ...this.#compiler.maps, endpoints: new Map() });
    const programmed = performance.now();
    this.#compiler.retire();
    const retired = performance.now();
    const later = this.#maps.apply({ ...this.#compiler.maps, endpoints: new Map() });
    for (const failure of [...applied.failures, ...later.failures]) throw failure;
    return {
      read: read - started,
      compile: compiled - read + (retired - programmed),
      program: programmed - compiled + (performance.now() - retired),
      entries: applied.changes + later.changes,
    };
  }
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

async function measureSize(datapath: Datapath, nodes: ReadonlyMap<Rival, TestNode>, size: number): Promise<void> {
  const pipeline = new Pipeline(datapath);
  const ours = { all: [] as Steps[], rule: [] as Steps[], pod: [] as Steps[] };
  const others = new Map<Rival, { all: number[]; one: number[] }>([...nodes.keys()].map((rival) => [rival, { all: [], one: [] }]));
  const count = Math.ceil(size / RULES_A_POLICY);
  pipeline.write('server.yaml', podText('server', SERVER, 'role: server'));
  for (let round = 0; round <= ROUNDS; round++) {
    for (let i = 0; i < count; i++) pipeline.write(`policy-${i}.yaml`, policyText(i, round));
    const all = pipeline.run();
    const lines = policyText(0, round).split('\n');
    lines[lines.length - 2] = ruleText(200_000 + round, 0).trimEnd();
    pipeline.write('policy-0.yaml', lines.join('\n'));
    const rule = pipeline.run();
    pipeline.write('peer.yaml', podText('peer', `10.88.1.${round + 1}`, 'role: client'));
    const pod = pipeline.run();
    // The first round warms up.
    if (round) ours.all.push(all);
    if (round) ours.rule.push(rule);
    if (round) ours.pod.push(pod);
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
  rmSync(pipeline.directory, { recursive: true });
  print(size, ours, others);
}

function print(
  size: number,
  ours: Readonly<Record<'all' | 'rule' | 'pod', Steps[]>>,
  others: ReadonlyMap<Rival, { all: number[]; one: number[] }>,
): void {
  const table = new Table({
    head: ['', 'ms', 'read', 'compile', 'program', 'entries', 'compile + program over it'],
    style: { head: [], border: [], compact: true },
  });
  const of = (steps: readonly Steps[], pick: (step: Steps) => number): number => median(steps.map(pick));
  const inForce = (step: Steps): number => step.compile + step.program;
  for (const [name, steps] of [
    [`sluice: ${size} rules changed`, ours.all],
    ['sluice: one rule changed', ours.rule],
    ['sluice: one pod added', ours.pod],
  ] as const)
    table.push([
      name,
      of(steps, (step) => step.read + inForce(step)).toFixed(1),
      of(steps, (step) => step.read).toFixed(1),
      of(steps, (step) => step.compile).toFixed(1),
      of(steps, (step) => step.program).toFixed(1),
      of(steps, (step) => step.entries).toFixed(0),
      '',
    ]);
  const over = (steps: readonly Steps[], times: readonly number[]): string =>
    `× ${(of(steps, inForce) / median(times)).toFixed(2)}; with reading × ${(of(steps, (step) => step.read + inForce(step)) / median(times)).toFixed(2)}`;
  for (const [rival, { all, one }] of others) {
    table.push([`${rival}: ${size} rules changed`, median(all).toFixed(1), '', '', '', '', over(ours.all, all)]);
    table.push([`${rival}: one entry changed`, median(one).toFixed(1), '', '', '', '', over(ours.rule, one)]);
  }
  console.log(`\n${cpus()[0]?.model}, ${cpus().length} cores; medians of ${ROUNDS} rounds`);
  console.log(table.toString());
}

const bpffs = `/sys/fs/bpf/sluice-bench-${process.pid}`;
const nodes = new Map((Object.keys(RIVALS) as Rival[]).map((rival) => [rival, new TestNode()]));
try {
  const datapath = await Datapath.load(bpffs);
  for (const size of SIZES) await measureSize(datapath, nodes, size);
  datapath.close();
} finally {
  await removeDatapath(bpffs);
  for (const node of nodes.values()) await node.remove();
}

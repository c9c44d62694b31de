/**
 * Do two builds of the programs decide the same? `npm run fuzz:programs -- --old TREE`: the same packets through both objects by
 * test-run, until one of them does something else.
 *
 * Here the objects are compared by their BTF, so that their layouts may differ: what both have is filled and compared field by
 * field. The packets are made and run in C (main.c), since a call from here costs more than a packet.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type BtfTypes, bytesOf, plainType, readBtf } from '../../../bpf/codegen/btf.ts';
import { type MapLayout, readMaps } from '../../../bpf/codegen/maps.ts';
import { nameHash, nameToWire } from '../../../engine/policy/domain-name.ts';

const here = fileURLToPath(new URL('.', import.meta.url));
const root = resolve(here, '../../..');

/** A built tree. */
export interface Side {
  readonly object: string;
  /** Compiled from abi.bpf.c: it has the structs of records. */
  readonly records: string;
  readonly stages: readonly Stage[];
}

interface Stage {
  readonly map: string;
  readonly index: number;
  readonly program: string;
  /** The gate that keeps it open, as enum stage_gate. */
  readonly gate: 0 | 1 | 2;
}

export interface Run {
  readonly old: Side;
  readonly new: Side;
  readonly seed: number;
  readonly firstEpisode: number;
  readonly episodes: number;
  readonly packets: number;
  /** Maps are compared each so many packets; absent: after each episode. */
  readonly every?: number;
}

/** Maps that programs write: compared after each episode. */
const STATE: ReadonlySet<string> = new Set([
  'connections',
  'dns_names',
  'fragments',
  'known_addresses',
  'name_shares',
  'openings',
  'queries',
  'shares',
  'verdicts',
]);
/** Packets of an episode: few enough that no map that forgets comes to that. */
const EPISODE = 50_000;
const NAMES = ['api.example.com', 'example.com', 'b.test', 'a.b.test', 'deep.er.other.test', 'unknown.invalid'];

/** How a field is compared, as enum leaf_kind. */
const EXACT = 0;
const NANOSECONDS = 1;
const SECONDS = 2;
/** struct bpf_spin_lock: the kernel's own. */
const UNCOMPARED = /(^|\.)(lock|time_ns)(\.|$)/;

interface Leaf {
  readonly at: number;
  readonly size: number;
  readonly kind: number;
}

/** The fields of a type by their paths. */
function leavesOf(types: BtfTypes, id: number | undefined, path = '', at = 0): Map<string, Leaf> {
  if (id === undefined) return new Map();
  const type = plainType(types, id);
  if (type.kind === 'STRUCT')
    return new Map(
      (type.members ?? []).flatMap((member) => [...leavesOf(types, member.type_id, `${path}.${member.name}`, at + member.bits_offset / 8)]),
    );
  if (type.kind === 'ARRAY' && plainType(types, type.type_id).kind === 'STRUCT') {
    const size = bytesOf(types, type.type_id);
    return new Map(
      Array.from({ length: type.nr_elems ?? 0 }, (_, i) => [...leavesOf(types, type.type_id, `${path}[${i}]`, at + i * size)]).flat(),
    );
  }
  const kind = /_ns$/.test(path) ? NANOSECONDS : /expires_s$/.test(path) ? SECONDS : EXACT;
  return new Map([[path, { at, size: bytesOf(types, id), kind }]]);
}

interface Typed {
  readonly types: BtfTypes;
  readonly id: number | undefined;
}

/** One line of the plan: what both types have. Fields that only one has are told. */
function layoutLine(word: string, old: Typed, now: Typed, name: string): string {
  const [a, b] = [
    leavesOf(old.types, old.id, name === 'fragments' ? '.until_ns' : ''),
    leavesOf(now.types, now.id, name === 'fragments' ? '.until_ns' : ''),
  ];
  const both = [...a].flatMap(([path, leaf]) => {
    const other = b.get(path);
    return other && other.size === leaf.size && !UNCOMPARED.test(path) ? [{ leaf, other }] : [];
  });
  for (const [path] of a) if (b.get(path)?.size !== a.get(path)?.size) console.log(`only the old ${name} has ${path}`);
  for (const [path] of b) if (b.get(path)?.size !== a.get(path)?.size) console.log(`only the new ${name} has ${path}`);
  const size = ({ types, id }: Typed): number => (id === undefined ? 0 : bytesOf(types, id));
  const leaves = both.map(({ leaf, other }) => `${leaf.at}:${other.at}:${leaf.size}:${leaf.kind}`);
  return `${word} ${size(old)} ${size(now)} ${leaves.length} ${leaves.join(' ')}`;
}

function structOf(types: BtfTypes, name: string): Typed {
  const found = [...types.values()].find((type) => type.kind === 'STRUCT' && type.name === name);
  if (!found) throw new Error(`Cannot compare records: an object has no struct ${name}`);
  return { types, id: found.id };
}

function isTable({ kind }: MapLayout): boolean {
  return ['hash', 'lru_hash', 'lpm_trie', 'array'].includes(kind);
}

/** The plan for main.c, as plan.h describes it. */
function planOf(run: Run): string {
  const [old, now] = [run.old, run.new].map(({ object }) => {
    const types = readBtf(object);
    return { types, maps: new Map(readMaps(object, types).map((map) => [map.name, map])) };
  }) as [{ types: BtfTypes; maps: Map<string, MapLayout> }, { types: BtfTypes; maps: Map<string, MapLayout> }];
  const lines = [run.old, run.new].flatMap(({ object, stages }, side) => [
    `object ${side} ${object}`,
    ...stages.map(({ map, index, program, gate }) => `stage ${side} ${map} ${index} ${program} ${gate}`),
  ]);
  for (const map of [...old.maps.values()].filter(isTable)) {
    const other = now.maps.get(map.name);
    if (!other) {
      console.log(`only the old one has a map ${map.name}`);
      continue;
    }
    lines.push(`map ${map.name} ${Number(STATE.has(map.name))} ${Number(map.kind === 'array')} ${map.maxEntries}`);
    lines.push(layoutLine('key', { types: old.types, id: map.key }, { types: now.types, id: other.key }, `${map.name}_key`));
    lines.push(layoutLine('value', { types: old.types, id: map.value }, { types: now.types, id: other.value }, map.name));
  }
  for (const record of ['ask', 'flow_record'])
    lines.push(layoutLine(record, structOf(readBtf(run.old.records), record), structOf(readBtf(run.new.records), record), record));
  for (const name of NAMES) lines.push(`name ${nameHash(name).toString(16)} ${nameToWire(name).toString('hex')}`);
  return `${lines.join('\n')}\n`;
}

type Row = readonly [map: string, index: number, program: string];

/** Where a tree's programs are reached: its table of stages, or that of trees from before there was one. */
async function stagesOf(tree: string): Promise<Stage[]> {
  const path = resolve(tree, 'engine/kernel/stages.gen.ts');
  const stage = ([map, index, program]: Row, gate: Stage['gate']): Stage => ({ map, index, program, gate });
  if (existsSync(path)) {
    const { STAGES, ENGINE_STAGES } = (await import(path)) as { STAGES: readonly Row[]; ENGINE_STAGES: { hold: Row; to_proxy: Row } };
    return [...STAGES.map((row) => stage(row, 0)), stage(ENGINE_STAGES.hold, 1), stage(ENGINE_STAGES.to_proxy, 2)];
  }
  const { STAGES } = (await import(resolve(tree, 'engine/kernel/programs.ts'))) as { STAGES: readonly Row[] };
  return [...STAGES.map((row) => stage(row, 0)), stage(['hold_stage', 0, 'hold'], 1), stage(['proxy_stage', 0, 'to_proxy'], 2)];
}

/** A tree's object and where its programs are reached; `object` in place of the tree's own. */
export async function sideOf(tree: string, object = `${tree}/build/endpoint.bpf.o`): Promise<Side> {
  return { object: resolve(object), records: resolve(tree, 'build/abi.bpf.o'), stages: await stagesOf(tree) };
}

/** Builds the driver against this tree's bpf/abi.h, and runs it. Returns whether both did the same, and what it said. */
export function compare(run: Run, show = false): { same: boolean; text: string } {
  const directory = mkdtempSync(join(tmpdir(), 'sluice-differential-'));
  try {
    const [driver, plan] = [join(directory, 'driver'), join(directory, 'plan')];
    const sources = readdirSync(here).filter((name) => name.endsWith('.c'));
    const warnings = ['-Wall', '-Wextra', '-Werror', '-Wno-missing-field-initializers'];
    execFileSync('gcc', ['-std=gnu11', '-O2', '-g', ...warnings, '-o', driver, ...sources, '-lbpf'], { cwd: here });
    writeFileSync(plan, planOf(run));
    const numbers = [run.seed, run.firstEpisode, run.episodes, run.packets, run.every ?? 0].map(String);
    const { status, stdout, stderr } = spawnSync(driver, [plan, ...numbers], {
      encoding: 'utf8',
      stdio: ['ignore', show ? 'inherit' : 'pipe', show ? 'inherit' : 'pipe'],
      maxBuffer: 64 << 20,
    });
    if (status !== 0 && status !== 1) throw new Error(`Cannot compare: ${stderr ?? `exit code ${status}`}`);
    return { same: status === 0, text: stdout ?? '' };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function main(): Promise<void> {
  const { parseArgs } = await import('node:util');
  const { values } = parseArgs({
    options: {
      old: { type: 'string' },
      object: { type: 'string' },
      seed: { type: 'string', default: '1' },
      packets: { type: 'string', default: '10000000' },
      episode: { type: 'string' },
      every: { type: 'string', default: '0' },
      'first-episode': { type: 'string', default: '0' },
    },
  });
  if (!values.old)
    throw new Error(
      'usage: npm run fuzz:programs -- --old TREE [--object FILE] [--seed N] [--packets N] [--first-episode N] [--episode N [--every N]]',
    );
  const episodes = values.episode === undefined ? Math.ceil(Number(values.packets) / EPISODE) : 1;
  const firstEpisode = Number(values.episode ?? values['first-episode']);
  console.log(`seed ${values.seed}, ${episodes} episodes of ${EPISODE} packets from ${firstEpisode} on`);
  const { same } = compare(
    {
      old: await sideOf(values.old),
      new: await sideOf(root, values.object),
      seed: Number(values.seed),
      firstEpisode,
      episodes,
      packets: EPISODE,
      every: Number(values.every),
    },
    true,
  );
  process.exitCode = same ? 0 : 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();

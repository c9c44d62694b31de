/**
 * Variants of one path, measured side by side: each has a client and a server of its own, and all take turns in every round, so that
 * what the machine does besides hits them alike. The plain one has a turn beside each turn of the others: a ratio is of two turns
 * side by side.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type TestNode, until } from '../support/test-node.ts';

export const PORT = 5000;
export const root = fileURLToPath(new URL('../..', import.meta.url));

/** Microseconds. */
interface Times {
  readonly p50: number;
  readonly p99: number;
}
export interface Measured {
  readonly connect: Times;
  readonly whole: Times;
  readonly perSecond: number;
  readonly trip: Times;
}

/** A variant's turn, and that of the one without anything right beside it. */
export interface Turn {
  readonly own: Measured;
  readonly plain: Measured;
}

/** A client and a server in one node, with something between them or nothing. */
export interface Variant {
  readonly name: string;
  /** Pods are `bench/KEY-client` and `bench/KEY-server`. */
  readonly key: string;
  /** File with what its connections say first. */
  first?: string;
  node?: TestNode;
  server?: string;
}

export const variant = (name: string): Variant => ({ name, key: name.replaceAll(' ', '-').toLowerCase() });

/** The client and server program; see load.c. */
export function buildLoad(directory: string): string {
  const load = join(directory, 'load');
  execFileSync('gcc', ['-O2', '-Wall', '-o', load, join(root, 'test/bench/load.c')]);
  return load;
}

function labManifests(variants: readonly Variant[]): string {
  return variants
    .flatMap(({ key }) =>
      ['client', 'server'].map(
        (role) => `apiVersion: v1
kind: Pod
metadata: { name: ${key}-${role}, namespace: bench, labels: { role: ${role}, variant: ${key} } }
spec: {}
`,
      ),
    )
    .join('---\n');
}

/** Makes the variants' pods in a node, and starts their servers. */
export async function bringUp(node: TestNode, variants: readonly Variant[], load: string): Promise<void> {
  await node.lab(labManifests(variants));
  const documents = readFileSync(join(node.source, 'cluster.yaml'), 'utf8').split('---\n');
  const addresses = new Map(documents.map((text) => [/name: (\S+)/.exec(text)?.[1] ?? '', /ip: (\d\S+)/.exec(text)?.[1] ?? '']));
  for (const each of variants) {
    each.node = node;
    each.server = addresses.get(`${each.key}-server`) ?? '';
    await until(() => startServer(node, load, each), 5000);
  }
}

async function startServer(node: TestNode, load: string, { key }: Variant): Promise<boolean> {
  const child = node.start(`bench/${key}-server`, load, 'server', String(PORT));
  return new Promise((resolve) => {
    child.stdout?.once('data', () => resolve(true));
    child.once('exit', () => resolve(false));
  });
}

async function measure({ name, key, node, server, first }: Variant, load: string, connections: number): Promise<Measured> {
  if (!node || !server) throw new Error(`${name} is not set up`);
  const command = [load, 'client', server, String(PORT), String(connections), ...(first ? [first] : [])];
  const { code, stdout, stderr } = await node.exec(`bench/${key}-client`, ...command);
  if (code !== 0) throw new Error(`${name}: ${stderr}`);
  return JSON.parse(stdout) as Measured;
}

/** Rounds of a turn for each variant, after one that warms up. */
export async function takeTurns(
  variants: readonly Variant[],
  plain: Variant,
  { rounds, connections, load }: { rounds: number; connections: number; load: string },
): Promise<ReadonlyMap<Variant, readonly Turn[]>> {
  const turns = new Map<Variant, Turn[]>(variants.map((each) => [each, []]));
  for (let round = 0; round <= rounds; round++) {
    // Each round begins with another one: nobody stands first, last, or twice in a row more often than the others.
    const first = round % variants.length;
    for (const each of [...variants.slice(first), ...variants.slice(0, first)]) {
      // And who goes first of the two takes turns too.
      const early = round % 2 ? await measure(plain, load, connections) : undefined;
      const own = await measure(each, load, connections);
      const turn = { own, plain: early ?? (await measure(plain, load, connections)) };
      if (round) turns.get(each)?.push(turn);
    }
    process.stderr.write(`\r\x1b[Kround ${round} of ${rounds}`);
  }
  process.stderr.write('\n');
  return turns;
}

/** How much more one took than another: of their turns in the same round. */
export function ratioOf(a: readonly Turn[], b: readonly Turn[], pick: (measured: Measured) => number): number {
  return median(a.flatMap(({ own }, round) => (b[round] ? [pick(own) / pick(b[round].own)] : [])));
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}

/** The engine on each node of a cluster, as a plain process in the node's network and mounts. */
import { fileURLToPath } from 'node:url';
import type { Cluster } from './cluster.ts';
import type { Daemon } from './daemon.ts';
import type { ClusterNode } from './node.ts';
import { until } from './until.ts';

const cli = fileURLToPath(new URL('../../engine/cli/sluice.js', import.meta.url));
const root = fileURLToPath(new URL('../..', import.meta.url));
const READY_MS = 30_000;

/** The command line of sluice on a node: its API and its pins are the node's own. */
export const sluice = (...args: readonly string[]): string[] => [process.execPath, cli, ...args];

/** The daemon of a node's engine, not started. */
export function engineOf(cluster: Cluster, node: ClusterNode, flags: readonly string[] = []): Daemon {
  const source = ['--source', 'kubernetes', '--kubeconfig', cluster.kubeconfig, '--node-name', node.name];
  return node.daemon('engine', sluice('run', ...source, ...flags), { cwd: root });
}

/** Starts an engine on every node, and returns when each enforces what the API says. */
export async function startEngines(
  cluster: Cluster,
  { signal, flags }: { signal?: AbortSignal; flags?: readonly string[] } = {},
): Promise<void> {
  await Promise.all(cluster.nodes.map((node) => startEngine(engineOf(cluster, node, flags), node, signal)));
}

async function startEngine(engine: Daemon, node: ClusterNode, signal?: AbortSignal): Promise<void> {
  engine.start();
  const isReady = async (): Promise<boolean> =>
    (await node.exec(['curl', '-sf', 'http://127.0.0.1:9470/readyz'], { signal })) !== undefined;
  await until(isReady, {
    ...{ what: `the engine of ${node.name}`, timeoutMs: READY_MS, signal },
    ...{ inVain: () => engine.ended(), hint: () => engine.hint(10) },
  });
}

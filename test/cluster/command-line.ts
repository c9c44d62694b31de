/** `npm run cluster up|down|status`: a cluster to play with, and what to type next. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs, styleText } from 'node:util';
import { messageOf } from '../../engine/errors.ts';
import { Cluster, startCluster } from './cluster.ts';
import { startEngines } from './engines.ts';
import { interruption } from './interruption.ts';
import { PROXY_MODES, type ProxyMode, readProxyMode } from './layout.ts';
import { clusterNames, findState, isWanted } from './state.ts';
import { takeAway } from './take-away.ts';

const USAGE = `npm run cluster up     -- [--nodes N] [--name NAME] [--proxy ${PROXY_MODES.join('|')}] [--no-engine]
npm run cluster down   -- [--name NAME | --all]
npm run cluster status`;

const SETUP = fileURLToPath(new URL('../../deploy/setup.sh', import.meta.url));

const report = (line: string): void => console.error(styleText('dim', `cluster: ${line}`));
const { signal } = interruption(() => report('taking everything away'));

interface UpOptions {
  readonly name: string;
  readonly nodes: number;
  readonly proxy: ProxyMode;
  readonly engine: boolean;
}

async function up({ name, nodes, proxy, engine }: UpOptions): Promise<void> {
  execFileSync('bash', [SETUP, 'cluster'], { stdio: 'inherit' });
  const started = performance.now();
  const cluster = await startCluster({ name, nodes, proxy, report, signal });
  try {
    if (engine) {
      report('starting an engine on each node');
      await startEngines(cluster, { signal });
    }
    // Whoever pressed Ctrl-C a moment ago does not want it.
    signal.throwIfAborted();
    cluster.letStay();
  } catch (error) {
    await cluster.stop();
    throw error;
  }
  console.log(`Cluster ${name} is up after ${((performance.now() - started) / 1000).toFixed(1)} s. Next:\n\n${nextSteps(cluster, engine)}`);
}

/** Commands to begin with. */
function nextSteps(cluster: Cluster, engine: boolean): string {
  const { name, kubectlPath, kubeconfig } = cluster;
  const lines = [`export KUBECONFIG=${kubeconfig}`, `alias kubectl=${kubectlPath}`, 'kubectl get nodes -o wide'];
  const [node] = cluster.nodes;
  if (node)
    lines.push('kubectl create deployment web --image=registry.k8s.io/e2e-test-images/agnhost:2.56 -- /agnhost netexec --http-port=80');
  if (node && engine) {
    lines.push(`ip netns exec ${node.netns} npm run -s sluice -- status`);
    lines.push(`ip netns exec ${node.netns} npm run -s sluice -- flows --verdict deny`);
    lines.push(`tail -f ${node.layout.directory}/log/engine.log`);
  }
  return [...lines, `npm run cluster down -- --name ${name}`].map((line) => `  ${line}`).join('\n');
}

async function down(names: readonly string[]): Promise<void> {
  for (const name of names) {
    await takeAway(name);
    report(`${name} is gone`);
  }
}

function status(): void {
  const names = clusterNames();
  if (!names.length) console.log('no cluster is up; npm run cluster up');
  for (const name of names) console.log(`${name}\t${describe(name)}`);
}

function describe(name: string): string {
  const state = findState(name);
  if (!state || !isWanted(state)) return `left over by a process that is dead; npm run cluster down -- --name ${name}`;
  return `${state.nodes} nodes, ${state.owner ? `of process ${state.owner.pid}` : `KUBECONFIG=${new Cluster(state).kubeconfig}`}`;
}

async function main(): Promise<void> {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: {
      name: { type: 'string', default: 'play' },
      nodes: { type: 'string', default: '2' },
      proxy: { type: 'string', default: 'mixed' },
      'no-engine': { type: 'boolean', default: false },
      all: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  const [command, ...rest] = positionals;
  if (values.help) console.log(USAGE);
  else if (rest.length) throw new Error(USAGE);
  else if (command === 'up') {
    const nodes = Number(values.nodes);
    await up({ name: values.name, nodes, proxy: readProxyMode(values.proxy), engine: nodes > 0 && !values['no-engine'] });
  } else if (command === 'down') await down(values.all ? clusterNames() : [values.name]);
  else if (command === 'status') status();
  else throw new Error(USAGE);
}

try {
  await main();
} catch (error) {
  console.error(messageOf(error));
  process.exitCode = signal.aborted ? 130 : 1;
}

/** `npm run cluster up|down|status`: a cluster to play with. */
import { parseArgs, styleText } from 'node:util';
import { messageOf } from '../../engine/errors.ts';
import { startCluster } from './cluster.ts';
import { PROXY_MODES, type ProxyMode } from './layout.ts';
import { clusterNames, findState, isWanted } from './state.ts';
import { takeAway } from './take-away.ts';

const USAGE = `npm run cluster up     -- [--nodes N] [--name NAME] [--proxy ${PROXY_MODES.join('|')}]
npm run cluster down   -- [--name NAME | --all]
npm run cluster status`;

const report = (line: string): void => console.error(styleText('dim', `cluster: ${line}`));

const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.once(signal, () => {
    report('taking everything away');
    interrupted.abort(new Error(`ended by ${signal}`));
  });

async function up({ name, nodes, proxy }: { name: string; nodes: number; proxy: ProxyMode }): Promise<void> {
  const started = performance.now();
  const cluster = await startCluster({ name, nodes, proxy, report, signal: interrupted.signal });
  cluster.letStay();
  console.log(`Cluster ${name} is up after ${((performance.now() - started) / 1000).toFixed(1)} s. Next:

  export KUBECONFIG=${cluster.kubeconfig}
  export PATH=$PATH:${cluster.kubectlPath.replace(/\/kubectl$/, '')}
  kubectl get nodes -o wide`);
}

async function down(names: readonly string[]): Promise<void> {
  for (const name of names) {
    await takeAway(name);
    report(`${name} is gone`);
  }
}

function status(): void {
  for (const name of clusterNames()) {
    const state = findState(name);
    const how = !state ? 'left over' : !isWanted(state) ? 'left over' : state.owner ? `of process ${state.owner.pid}` : 'up';
    console.log(`${name}\t${how}\t${state?.nodes ?? '?'} nodes`);
  }
}

async function main(): Promise<void> {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: {
      name: { type: 'string', default: 'play' },
      nodes: { type: 'string', default: '2' },
      proxy: { type: 'string', default: 'mixed' },
      all: { type: 'boolean', default: false },
    },
  });
  const proxy = PROXY_MODES.find((known) => known === values.proxy);
  if (!proxy || !/^\d+$/.test(values.nodes) || positionals.length !== 1) throw new Error(USAGE);
  const [command] = positionals;
  if (command === 'up') return up({ name: values.name, nodes: Number(values.nodes), proxy });
  if (command === 'down') return down(values.all ? clusterNames() : [values.name]);
  if (command === 'status') return status();
  throw new Error(USAGE);
}

try {
  await main();
} catch (error) {
  console.error(messageOf(error));
  process.exitCode = interrupted.signal.aborted ? 130 : 1;
}

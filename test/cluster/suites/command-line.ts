/**
 * `npm run test:cluster`: upstream's suites against a cluster with the engine on each node. Ends with `N passed, N failed`, and with exit
 * code 0 only where all passed. Reports, output and, of a run that failed, all logs are below build/cluster-suites.
 */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, styleText } from 'node:util';
import { messageOf } from '../../../engine/errors.ts';
import { VERSION } from '../../../engine/version.ts';
import { type Cluster, startCluster } from '../cluster.ts';
import { startEngines } from '../engines.ts';
import { interruption } from '../interruption.ts';
import { PROXY_MODES, readProxyMode } from '../layout.ts';
import { keepLogs } from '../take-away.ts';
import { runConformance } from './conformance.ts';
import { runEndToEnd } from './end-to-end.ts';
import type { Outcome } from './ginkgo-report.ts';
import { failures, summary } from './progress.ts';
import { hasSctp } from './sctp.ts';

const USAGE = `npm run test:cluster -- [--specs REGEX] [--conformance] [--nodes N] [--proxy ${PROXY_MODES.join('|')}] [--parallel N] [--name NAME] [--no-engine]

  --specs        names of specs (default: Netpol); of tests, with --conformance (default: all)
  --conformance  network-policy-api's suite instead of Kubernetes' own
  --parallel     how many specs run at a time (default: 2)
  --no-engine    nobody enforces: what passes then, passes for nothing`;
const directory = fileURLToPath(new URL('../../../build/cluster-suites', import.meta.url));

const { values } = parseArgs({
  options: {
    specs: { type: 'string' },
    conformance: { type: 'boolean', default: false },
    nodes: { type: 'string', default: '2' },
    proxy: { type: 'string', default: 'mixed' },
    parallel: { type: 'string', default: '2' },
    name: { type: 'string', default: 'suite' },
    'no-engine': { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
const report = (line: string): void => console.log(line);
const { signal } = interruption(() => report(styleText('dim', 'taking everything away')));

async function run(cluster: Cluster): Promise<readonly Outcome[]> {
  const common = { cluster, directory, report, signal };
  if (!values['no-engine']) {
    report('starting an engine on each node');
    await startEngines(cluster, { signal });
  }
  if (values.conformance) {
    const { outcomes, path } = await runConformance({ ...common, version: VERSION, only: values.specs ?? '' });
    report(`the report is ${path}`);
    return outcomes;
  }
  const skip = values.specs === undefined && !hasSctp() ? 'SCTPConnectivity' : undefined;
  if (skip) report(`without the specs of ${skip}: this kernel has no SCTP sockets`);
  return runEndToEnd({ ...common, specs: values.specs ?? 'Netpol', skip, parallel: Number(values.parallel) });
}

async function main(): Promise<number> {
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  const proxy = readProxyMode(values.proxy);
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  const cluster = await startCluster({ name: values.name, nodes: Number(values.nodes), proxy, report, signal });
  let passed = false;
  try {
    const outcomes = await run(cluster);
    passed = outcomes.length > 0 && outcomes.every(({ state }) => state === 'passed');
    for (const failure of failures(outcomes)) report(`\n${failure}`);
    if (!passed) report(`\nall logs are kept in ${join(directory, 'logs')}`);
    report(`\n${summary(outcomes)}`);
  } finally {
    if (!passed) keepLogs(values.name, join(directory, 'logs'));
    await cluster.stop();
  }
  return passed ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(messageOf(error));
  process.exitCode = signal.aborted ? 130 : 1;
}

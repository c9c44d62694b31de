/** Upstream's end-to-end suite (e2e.test) against a cluster, by ginkgo, which runs specs side by side. */
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Cluster } from '../cluster.ts';
import { suitePrograms } from '../programs/programs.ts';
import { type Outcome, outcomesIn } from './ginkgo-report.ts';
import { outcomeLine } from './progress.ts';

/** NetworkPolicy's specs. */
export const DEFAULT_SPECS = 'Netpol';
const TIMEOUT = '3h';

export interface SuiteRun {
  readonly cluster: Cluster;
  /** Where its report and its output are written. */
  readonly directory: string;
  readonly report: (line: string) => void;
  readonly signal?: AbortSignal | undefined;
}

export interface EndToEndRun extends SuiteRun {
  /** Regular expressions (Go's) that names of specs match, and that they do not match. */
  readonly specs: string;
  readonly skip?: string | undefined;
  /** How many specs run at a time. */
  readonly parallel: number;
}

/** Runs the specs. @throws Error where there is no report, or no spec that matches. */
export async function runEndToEnd(run: EndToEndRun): Promise<Outcome[]> {
  const { cluster, directory, specs, skip, parallel, report, signal } = run;
  const programs = await suitePrograms({ report, signal });
  const progress = await listenForProgress(report);
  try {
    const ginkgo = [
      ...[join(programs, 'ginkgo'), `--procs=${parallel}`, `--timeout=${TIMEOUT}`, '--no-color', '--keep-going'],
      ...[`--focus=${specs}`, ...(skip ? [`--skip=${skip}`] : []), `--output-dir=${directory}`, '--json-report=ginkgo.json'],
      ...[
        join(programs, 'e2e.test'),
        '--',
        '--provider=local',
        `--kubeconfig=${cluster.kubeconfig}`,
        `--kubectl-path=${cluster.kubectlPath}`,
      ],
      ...[`--num-nodes=${cluster.nodes.length}`, `--progress-report-url=http://127.0.0.1:${(progress.address() as AddressInfo).port}/`],
    ];
    const log = join(directory, 'e2e.log');
    const suite = cluster.daemon('suite', ginkgo, { log }).start();
    await suite.exitCode(signal);
    const outcomes = outcomesIn(read(join(directory, 'ginkgo.json'), `${suite.ended()}; ${suite.hint(10)}`));
    if (!outcomes.length) throw new Error(`Cannot run specs: none has a name that matches ${specs}`);
    return outcomes;
  } finally {
    progress.close();
  }
}

function read(path: string, otherwise: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new Error(`Cannot read the report of the suite: ${otherwise}`, { cause: error });
  }
}

/** A server that the suite tells of each spec that ended; it is only shown, the report counts. */
async function listenForProgress(report: (line: string) => void): Promise<Server> {
  let count = 0;
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.on('end', () => {
      response.end();
      const [, word, name] = /"msg":"(PASSED|FAILED) (.*?)","total"/.exec(body) ?? [];
      if (name === undefined) return;
      count += 1;
      report(outcomeLine({ name: JSON.parse(`"${name}"`) as string, state: word === 'PASSED' ? 'passed' : 'failed', seconds: 0 }, count));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

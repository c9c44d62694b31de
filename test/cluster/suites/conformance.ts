/** The conformance suite of sigs.k8s.io/network-policy-api against a cluster, with the report that it writes. */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { conformancePrograms, POLICY_CRD } from '../programs/programs.ts';
import type { SuiteRun } from './end-to-end.ts';
import type { Outcome } from './ginkgo-report.ts';
import { outcomeLine } from './progress.ts';

const LOOK_EVERY_MS = 500;
const TIMEOUT = '3h';
const URL = 'https://sluice.dev';

export interface ConformanceRun extends SuiteRun {
  /** The implementation's version, for the report. */
  readonly version: string;
  /** Regular expression (Go's) that names of tests match. The report says of all others that they were skipped. */
  readonly only: string;
}

export interface Conformance {
  readonly outcomes: readonly Outcome[];
  /** Path of the report. */
  readonly path: string;
}

/** Installs the kind that it is about and runs the tests. @throws Error where there is no report. */
export async function runConformance({ cluster, directory, version, only, report, signal }: ConformanceRun): Promise<Conformance> {
  const programs = await conformancePrograms({ report, signal });
  await cluster.kubectl(['apply', '--server-side', '-f', join(programs, POLICY_CRD)]);
  await cluster.kubectl(['wait', '--for=condition=Established', '-f', join(programs, POLICY_CRD)]);
  const path = join(directory, 'conformance.yaml');
  const told = join(directory, 'conformance.jsonl');
  rmSync(path, { force: true });
  writeFileSync(told, '');
  const command = [
    ...[join(programs, 'conformance.test'), '-test.v', `-test.timeout=${TIMEOUT}`, `-only-tests=${only}`, `-outcomes=${told}`],
    ...['-organization=sluice', '-project=sluice', `-version=${version}`, `-url=${URL}`, `-contact=${URL}`, `-additional-info=${URL}`],
    `-report-output=${path}`,
  ];
  const suite = cluster.daemon('conformance', command, {
    log: join(directory, 'conformance.log'),
    env: { KUBECONFIG: cluster.kubeconfig },
  });
  const stop = follow(told, report);
  try {
    await suite.start().exitCode(signal);
  } finally {
    stop();
  }
  if (!existsSync(path)) throw new Error(`Cannot read the report of the suite: ${suite.ended()}; ${suite.hint(10)}`);
  return { outcomes: conformanceOutcomes(readFileSync(told, 'utf8')), path };
}

/** The outcomes in the file that the suite tells them to: one JSON object a line, the last one perhaps not whole yet. */
export function conformanceOutcomes(text: string): Outcome[] {
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Outcome);
}

/** Reports each outcome when it is told. Returns what ends that. */
function follow(path: string, report: (line: string) => void): () => void {
  let count = 0;
  const look = (): void => {
    for (const outcome of conformanceOutcomes(readFileSync(path, 'utf8')).slice(count)) report(outcomeLine(outcome, (count += 1)));
  };
  const timer = setInterval(look, LOOK_EVERY_MS);
  return () => {
    clearInterval(timer);
    look();
  };
}

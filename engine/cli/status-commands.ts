/** `sluice status` and `sluice wait`: what is in force, and when it is. */
import type { Argv, CommandModule } from 'yargs';
import type { z } from 'zod';
import type { status as statusSchema } from '../api/schemas.ts';
import { parseDuration } from '../config.ts';
import { EngineError } from '../errors.ts';
import { formatProblem } from '../policy/problem.ts';
import { ApiClient } from './client.ts';
import { outputOption, paint, table } from './output.ts';

type Status = z.infer<typeof statusSchema>;

const status: CommandModule<object, { api: string; output: string }> = {
  command: 'status',
  describe: 'Show what is in force, and what is not',
  builder: (yargs) =>
    yargs
      .option('output', outputOption)
      .example('$0 status', 'the endpoints, and what is not in force')
      .example('$0 status -o json', 'for programs') as Argv<never>,
  handler: async ({ api, output: format }) => {
    const state = await new ApiClient(api).request<Status>('GET', '/v1/status');
    if (format === 'json') console.log(JSON.stringify(state, null, 2));
    else showStatus(state);
  },
};

function showStatus(state: Status): void {
  console.log(`revision ${state.revision} in force since ${state.appliedAt}, attached by ${state.attachment}\n`);
  const isolation = ({ ingress, egress }: Status['endpoints'][number]['isolated']): string =>
    [ingress && 'ingress', egress && 'egress'].filter(Boolean).join(', ') || 'no';
  console.log(
    table(
      ['ENDPOINT', 'AT', 'ISOLATED'],
      state.endpoints.map((endpoint) => [endpoint.pod, endpoint.interface ?? endpoint.cgroup ?? '', isolation(endpoint.isolated)]),
    ),
  );
  for (const { feed, kind, name, lost, problem } of state.outlets)
    if (lost) console.log(paint('yellow', `\n${lost} ${feed} did not reach ${kind} ${name}: ${problem || 'it reads too slowly'}`));
  for (const problem of state.problems) console.log(paint('yellow', `\nnot in force: ${formatProblem(problem)}`));
}

/** Another try for what may come by itself: an engine that starts, an interface that is being made. */
const RETRY_MS = 200;

const wait: CommandModule<object, { api: string; timeout: string }> = {
  command: 'wait',
  describe: 'Wait until everything that is in the source now is in force in the kernel',
  builder: (yargs) =>
    yargs
      .option('timeout', { type: 'string', default: '30s', describe: 'how long to wait, such as 30s or 2m' })
      .example('$0 wait --timeout 2m && echo enforced', 'after changing a manifest') as Argv<never>,
  handler: async ({ api, timeout }) => {
    const client = new ApiClient(api);
    const limitMs = parseDuration(timeout, '--timeout');
    const deadline = performance.now() + limitMs;
    let reason = 'no answer';
    do {
      try {
        const left = Math.max(1, Math.ceil(deadline - performance.now()));
        const state = await client.request<Status>('POST', '/v1/reconcile', undefined, AbortSignal.timeout(left));
        if (!state.problems.length) {
          console.log(`revision ${state.revision} in force`);
          return;
        }
        reason = state.problems.map(formatProblem).join('\n  ');
        if (state.problems.some((problem) => !problem.pending))
          throw new EngineError('API_REFUSED', `Cannot put everything in force:\n  ${reason}`);
      } catch (error) {
        if (!(error instanceof EngineError) || (error.code !== 'API_UNREACHABLE' && error.code !== 'TIMEOUT')) throw error;
        reason = error.message;
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    } while (performance.now() < deadline);
    throw new EngineError('TIMEOUT', `Cannot put everything in force within ${timeout}: ${reason}`);
  },
};

export const statusCommands = [status, wait] as CommandModule[];

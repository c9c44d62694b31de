/** `sluice status`, `sluice wait` and `sluice flows`: the commands that ask a running engine. */
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import type { Argv, CommandModule } from 'yargs';
import type { z } from 'zod';
import { parseDuration } from '../config.ts';
import { EngineError } from '../errors.ts';
import type { FlowView } from '../flow/flow-log.ts';
import type { status as statusSchema } from '../http/schemas.ts';
import { formatProblem } from '../policy/snapshot.ts';
import { ApiClient } from './client.ts';
import { flowLine, paint, table } from './output.ts';

type Status = z.infer<typeof statusSchema>;

const output = {
  alias: 'o',
  type: 'string',
  choices: ['text', 'json'] as const,
  default: 'text' as const,
  describe: 'how to show it',
} as const;

const status: CommandModule<object, { api: string; output: string }> = {
  command: 'status',
  describe: 'Show what is in force, and what is not',
  builder: (yargs) => yargs.option('output', output).example('$0 status -o json', 'for programs') as Argv<never>,
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
  for (const problem of state.problems) console.log(paint('yellow', `\nnot in force: ${formatProblem(problem)}`));
}

/** Another try for what may come by itself: an engine that starts, an interface that is being made. */
const RETRY_MS = 200;

const wait: CommandModule<object, { api: string; timeout: string }> = {
  command: 'wait',
  describe: 'Wait until everything that is in the source now is in force in the kernel',
  builder: (yargs) =>
    yargs
      .option('timeout', { type: 'string', default: '30s', describe: 'how long to wait' })
      .example('$0 wait --timeout 30s && echo enforced', 'after changing a manifest') as Argv<never>,
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

const flows: CommandModule<object, { api: string; output: string; follow: boolean; last: number }> = {
  command: 'flows',
  describe: 'Show flows that a plugin decided or the kernel denied, with the reason',
  builder: (yargs) =>
    yargs
      .option('output', output)
      .option('follow', { alias: 'f', type: 'boolean', default: false, describe: 'go on with each new flow' })
      .option('last', { type: 'number', default: 100, describe: 'how many of the latest to show first' })
      .example('$0 flows --follow', 'watch decisions as they fall')
      .example('$0 flows -o json | jq .reason', 'one JSON object a line') as Argv<never>,
  handler: async ({ api, output: format, follow, last }) => {
    const response = await new ApiClient(api).open('GET', `/v1/flows?last=${last}&follow=${follow}`);
    if (!response.body) return;
    process.once('SIGINT', () => process.exit(0));
    for await (const line of createInterface({ input: Readable.fromWeb(response.body as never) })) {
      if (!line) continue;
      if (format === 'json') console.log(line);
      else showFlow(JSON.parse(line) as FlowView | { lost: number });
    }
  },
};

function showFlow(flow: FlowView | { lost: number }): void {
  console.log('lost' in flow ? paint('yellow', `${flow.lost} flows are missing here: this client reads too slowly`) : flowLine(flow));
}

export const observeCommands = [status, wait, flows] as CommandModule[];

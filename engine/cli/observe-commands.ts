/** `sluice status`, `wait`, `explain`, `dns`, `flows` and `events`: the commands that ask a running engine. */
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { finished } from 'node:stream/promises';
import type { Argv, CommandModule } from 'yargs';
import type { z } from 'zod';
import type { explanation as explanationSchema, knownName as knownNameSchema, status as statusSchema } from '../api/schemas.ts';
import { parseDuration } from '../config.ts';
import { EngineError } from '../errors.ts';
import type { FlowView } from '../observe/flow-log.ts';
import { formatProblem } from '../policy/problem.ts';
import type { PolicyEvent } from '../reconcile/reconciler.ts';
import { ApiClient } from './client.ts';
import { flowLine, outputOption, paint, table } from './output.ts';

type Status = z.infer<typeof statusSchema>;
type Explanation = z.infer<typeof explanationSchema>;

const status: CommandModule<object, { api: string; output: string }> = {
  command: 'status',
  describe: 'Show what is in force, and what is not',
  builder: (yargs) => yargs.option('output', outputOption).example('$0 status -o json', 'for programs') as Argv<never>,
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

const REQUEST_OPTIONS = ['method', 'host', 'path', 'header', 'cookie'] as const;

interface ExplainOptions extends Readonly<Partial<Record<(typeof REQUEST_OPTIONS)[number], string | string[]>>> {
  readonly api: string;
  readonly output: string;
  readonly from: string;
  readonly to: string;
  readonly port: string;
  readonly verify: boolean;
}

const explain: CommandModule<object, ExplainOptions> = {
  command: 'explain',
  describe: 'Say which tier, policy and rule decide a flow, and why',
  builder: (yargs) =>
    yargs
      .option('from', { type: 'string', demandOption: true, describe: 'NAMESPACE/POD or an address' })
      .option('to', { type: 'string', demandOption: true, describe: 'NAMESPACE/POD, an address or a domain name' })
      .option('port', { type: 'string', demandOption: true, describe: 'such as 80/tcp, 53/udp or icmp' })
      .option('verify', {
        type: 'boolean',
        default: false,
        describe: 'ask the kernel’s maps and programs too; exit code 1 where they disagree',
      })
      .option('host', { type: 'string', describe: 'of an HTTP request on that flow: what becomes of it is explained, too' })
      .option('path', { type: 'string', describe: 'of the request, with its query; / where it is not said' })
      .option('method', { type: 'string', describe: 'of the request; GET where it is not said' })
      .option('header', { type: 'string', array: true, nargs: 1, describe: 'of the request, as "name: value"; may be repeated' })
      .option('cookie', { type: 'string', array: true, nargs: 1, describe: 'of the request, as name=value; may be repeated' })
      .option('output', outputOption)
      .example('$0 explain --from shop/web --to shop/db --port 5432/tcp', 'both ends of a connection between pods')
      .example('$0 explain --from shop/web --to api.example.com --port 443/tcp', 'by rules about domain names')
      .example('$0 explain --from 192.0.2.7 --to shop/web --port 443/tcp --verify', 'from outside, compared with the kernel')
      .example(
        '$0 explain --from shop/web --to 10.96.0.10 --port 80/tcp --host shop.example --cookie canary=v2',
        'where a request goes, by which plugin',
      ) as Argv<never>,
  handler: async ({ api, output: format, from, to, port, verify, ...options }) => {
    const query = new URLSearchParams({ from, to, port, verify: String(verify) });
    for (const name of REQUEST_OPTIONS) for (const value of [options[name] ?? []].flat()) query.append(name, value);
    const flows = await new ApiClient(api).request<Explanation[]>('GET', `/v1/explain?${query}`);
    if (format === 'json') console.log(JSON.stringify(flows, null, 2));
    else for (const flow of flows) showExplanation(flow);
    if (flows.some((flow) => flow.ends.some((end) => end.kernel?.agrees === false)))
      throw new EngineError('KERNEL_DISAGREES', 'Cannot confirm the explanation: the kernel decides otherwise; see above');
  },
};

function showExplanation(flow: Explanation): void {
  const colors = { allow: 'green', deny: 'red', ask: 'yellow' } as const;
  const port = flow.protocol === 'icmp' ? 'icmp' : `${flow.port}/${flow.protocol}`;
  console.log(`${paint(colors[flow.verdict], flow.verdict)}  ${flow.source} → ${flow.destination} ${port}`);
  if (!flow.ends.length) console.log('  neither side is a pod: no policy is about it');
  for (const end of flow.ends) {
    const tier = end.tier === 'none' ? '' : paint('dim', ` (${end.tier} tier)`);
    console.log(`  ${end.direction.padEnd(7)} of ${end.pod}: ${paint(colors[end.verdict], end.verdict)}: ${end.reason}${tier}`);
    if (!end.enforced) console.log(paint('dim', '    not enforced on this node: this is what its own node should do'));
    if (end.kernel)
      console.log(`    ${end.kernel.agrees ? 'the kernel agrees' : paint('red', 'the kernel disagrees')}: ${end.kernel.says}`);
  }
  if (flow.request) console.log(requestLine(flow.request));
  else if (flow.request === null) console.log('  requests on this flow are not decided one by one here');
}

/** What becomes of the request that was asked about. */
function requestLine(request: NonNullable<Explanation['request']>): string {
  const { method, url, allowed, status, route, backends, cookie, version, reason } = request;
  const verdict = allowed ? paint('green', 'allow') : paint('red', `deny with ${status}`);
  const told = [
    reason,
    route && `route ${route}`,
    version && `decided by ${version}`,
    cookie && `sets the cookie ${cookie}`,
    allowed && (backends.length ? `to ${backends.join(' or ')}` : paint('red', 'but there is no backend that is ready and allowed')),
  ];
  return `  ${method} ${url}: ${verdict}: ${told.filter(Boolean).join(', ')}`;
}

type KnownName = z.infer<typeof knownNameSchema>;

const dns: CommandModule<object, { api: string; output: string; from: string | undefined }> = {
  command: 'dns',
  describe: 'Show which addresses are open by domain names: for whom, until when, by which name and rules',
  builder: (yargs) =>
    yargs
      .option('from', { type: 'string', describe: 'only what this pod knows: NAMESPACE/POD' })
      .option('output', outputOption)
      .example('$0 dns --from shop/web', 'what a pod has resolved')
      .example('$0 dns -o json | jq -r .[].address', 'for programs') as Argv<never>,
  handler: async ({ api, output: format, from }) => {
    const all = await new ApiClient(api).request<KnownName[]>('GET', '/v1/names');
    const names = all.filter(({ endpoint }) => from === undefined || endpoint === from);
    if (format === 'json') console.log(JSON.stringify(names, null, 2));
    else if (!names.length) console.log('no address is known by a name that policy is about');
    else console.log(table(['ENDPOINT', 'NAME', 'ADDRESS', 'FOR', 'PATTERN', 'RULES'], names.flatMap(nameRows)));
  },
};

function nameRows({ endpoint, name, address, patterns }: KnownName): string[][] {
  return patterns.map(({ pattern, expiresInS, rules }) => [
    endpoint,
    name || '?',
    address,
    expiresInS ? `${expiresInS} s` : 'its connections',
    pattern,
    rules.join(', '),
  ]);
}

/** A command that shows the lines of a stream, and goes on with it when asked to. */
function streamCommand<T extends object>(stream: {
  readonly name: string;
  readonly describe: string;
  readonly examples: readonly (readonly [string, string])[];
  readonly line: (item: T) => string;
}): CommandModule<object, { api: string; output: string; follow: boolean; last: number }> {
  const { name } = stream;
  return {
    command: name,
    describe: stream.describe,
    builder: (yargs) => {
      const built = yargs
        .option('output', outputOption)
        .option('follow', { alias: 'f', type: 'boolean', default: false, describe: 'go on with each new one' })
        .option('last', { type: 'number', default: 100, describe: 'how many of the latest to show first' });
      for (const [example, why] of stream.examples) built.example(example, why);
      return built as Argv<never>;
    },
    handler: async ({ api, output: format, follow, last }) => {
      const response = await new ApiClient(api).open('GET', `/v1/${name}?last=${last}&follow=${follow}`);
      process.once('SIGINT', () => process.exit(0));
      for await (const text of createInterface({ input: response })) {
        if (!text) continue;
        const item = JSON.parse(text) as T | { lost: number };
        if (format === 'json') console.log(text);
        else
          console.log(
            'lost' in item ? paint('yellow', `${item.lost} ${name} are missing here: this client reads too slowly`) : stream.line(item),
          );
      }
    },
  };
}

const showFlows = streamCommand<FlowView>({
  name: 'flows',
  describe: 'Show flows that a plugin decided or the kernel denied, with the reason',
  examples: [
    ['$0 flows --follow', 'watch decisions as they fall'],
    ['$0 flows -o json | jq .reason', 'one JSON object a line'],
    ['$0 flows --record flows.ndjson --for 1m', 'for sluice plugin test --flows flows.ndjson'],
  ],
  line: flowLine,
});

interface FlowsFlags {
  api: string;
  output: string;
  follow: boolean;
  last: number;
  record: string | undefined;
  for: string | undefined;
}

const flows: CommandModule<object, FlowsFlags> = {
  ...showFlows,
  builder: (yargs) =>
    (showFlows.builder as (argv: Argv) => Argv)(yargs)
      .option('record', { type: 'string', describe: 'write what plugins decide to a file, for sluice plugin test and bench, until Ctrl-C' })
      .option('for', { type: 'string', implies: 'record', describe: 'how long to record, such as 30s' }) as Argv<never>,
  handler: async (flags) => {
    if (flags.record === undefined) await showFlows.handler(flags as never);
    else await recordFlows(flags.api, flags.record, flags.for === undefined ? undefined : parseDuration(flags.for, '--for'));
  },
};

/** Appends the flows that plugins decide from now on, one JSON object a line. */
async function recordFlows(api: string, file: string, limitMs: number | undefined): Promise<void> {
  const out = createWriteStream(file, { flags: 'a' });
  await once(out, 'open').catch((error: NodeJS.ErrnoException) => {
    throw new EngineError('CONFIG_INVALID', `Cannot write ${file}: ${error.code}`, error);
  });
  const response = await new ApiClient(api).open('GET', '/v1/flows?last=0&follow=true');
  const lines = createInterface({ input: response });
  const end = (): void => {
    lines.close();
    response.destroy();
  };
  process.once('SIGINT', end);
  const timer = limitMs === undefined ? undefined : setTimeout(end, limitMs);
  let count = 0;
  for await (const text of lines) {
    const item = JSON.parse(text) as FlowView | { lost: number };
    if ('lost' in item) console.error(`${item.lost} flows are missing: this machine writes too slowly`);
    else if (item.hook) {
      if (!out.write(`${text}\n`)) await once(out, 'drain');
      count += 1;
    }
  }
  clearTimeout(timer);
  out.end();
  await finished(out);
  console.log(`${file}: ${count} flows`);
}

const EVENT_COLORS = { applied: 'dim', problem: 'yellow', resolved: 'green' } as const;

const events = streamCommand<PolicyEvent>({
  name: 'events',
  describe: 'Show what came in force, what could not, and what was mended',
  examples: [['$0 events --follow', 'watch while you change manifests']],
  line: ({ time, type, message }) => `${paint('dim', time)} ${paint(EVENT_COLORS[type], type.padEnd(8))} ${message}`,
});

export const observeCommands = [status, wait, explain, dns, flows, events] as CommandModule[];

/** `sluice explain`: which tier, policy and rule decide a flow, and what becomes of a request on it. */
import type { Argv, CommandModule } from 'yargs';
import type { z } from 'zod';
import type { explanation as explanationSchema } from '../api/schemas.ts';
import { EngineError } from '../errors.ts';
import { ApiClient } from './client.ts';
import { outputOption, paint } from './output.ts';

type Explanation = z.infer<typeof explanationSchema>;

const REQUEST_OPTIONS = ['method', 'host', 'path', 'header', 'cookie'] as const;

interface ExplainOptions extends Readonly<Partial<Record<(typeof REQUEST_OPTIONS)[number], string | string[]>>> {
  readonly api: string;
  readonly output: string;
  readonly from: string;
  readonly to: string;
  readonly port: string;
  readonly verify: boolean;
}

export const explainCommand: CommandModule<object, ExplainOptions> = {
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

/** The line of the request that was asked about. */
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

/** `sluice flows`: which flows were decided, how and why; filtered, followed, recorded for the tests of plugins. */
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { finished } from 'node:stream/promises';
import type { Argv, CommandModule, Options } from 'yargs';
import { parseDuration } from '../config.ts';
import { EngineError } from '../errors.ts';
import type { FlowView } from '../observe/flow-fields.ts';
import { FILTER_NAMES, FLOW_FILTERS, type FlowQuery, parseFlowQuery } from '../observe/flow-filter.ts';
import { FLOWS_MAX } from '../observe/flow-log.ts';
import { ApiClient } from './client.ts';
import { flowLine, flowTable } from './flow-line.ts';
import { isLost, readFeed } from './read-feed.ts';
import { feedOptions, lastOption, showFeed } from './show-feed.ts';

interface FlowsFlags extends FlowQuery {
  api: string;
  output: 'text' | 'table' | 'json' | 'jsonl';
  follow: boolean;
  last: number | undefined;
  record: string | undefined;
  for: string | undefined;
}

const filterOptions: Record<string, Options> = Object.fromEntries(
  FILTER_NAMES.map((name): [string, Options] => [
    name,
    { type: 'string', array: true, nargs: 1, group: 'Filters (of one any value, of several each):', describe: FLOW_FILTERS[name].describe },
  ]),
);

export const flowsCommand: CommandModule<object, FlowsFlags> = {
  command: 'flows',
  describe: 'Show flows that a plugin decided, the kernel denied, or a failure policy let pass, with the reason',
  builder: (yargs) =>
    yargs
      .options({ ...feedOptions, output: { ...feedOptions.output, choices: ['text', 'table', 'json', 'jsonl'] as const } })
      .option('last', { ...lastOption, describe: 'how many of the latest to show first; 100, or with --since all of them' })
      .options(filterOptions)
      .option('record', { type: 'string', describe: 'write what plugins decide to a file, for sluice plugin test and bench' })
      .option('for', { type: 'string', implies: 'record', describe: 'how long to record, such as 30s; until Ctrl-C without it' })
      .example('$0 flows --follow', 'watch decisions as they fall')
      .example('$0 flows --verdict deny --pod shop/web --since 5m', 'what a pod was denied')
      .example('$0 flows --reason spoofed --reason malformed -f', 'what should not be there')
      .example('$0 flows --to api.example.com --port 443 -o table', 'by name or address and port')
      .example('$0 flows -o json | jq .reason', 'one JSON object a line')
      .example('$0 flows --record flows.ndjson --for 1m', 'for sluice plugin test --flows flows.ndjson') as Argv<never>,
  handler: async (flags) => {
    const query = flowQuery(flags);
    const client = new ApiClient(flags.api);
    if (flags.record !== undefined)
      await recordFlows(client, query, flags.record, flags.for === undefined ? undefined : parseDuration(flags.for, '--for'));
    else if (flags.output === 'table') await showTable(client, query, flags.follow);
    else await showFeed(client, { name: 'flows', query, line: flags.output === 'text' ? flowLine : undefined });
  },
};

/** The query of the API; what it would refuse is refused here, without an engine. */
function flowQuery(flags: FlowsFlags): URLSearchParams {
  parseFlowQuery(flags);
  const query = new URLSearchParams({ follow: String(flags.follow) });
  for (const name of FILTER_NAMES) for (const value of flags[name] ?? []) query.append(name, value);
  const last = flags.last ?? (flags.since ? FLOWS_MAX : undefined);
  if (last !== undefined) query.set('last', String(last));
  return query;
}

/** @throws EngineError `CONFIG_INVALID` with --follow: a column's width is known when all rows are */
async function showTable(client: ApiClient, query: URLSearchParams, follow: boolean): Promise<void> {
  if (follow) throw new EngineError('CONFIG_INVALID', 'Cannot follow flows in a table: use -o text or -o json with --follow');
  const flows: FlowView[] = [];
  for await (const { item } of readFeed<FlowView>(client, 'flows', query)) if (!isLost(item)) flows.push(item);
  console.log(flows.length ? flowTable(flows) : 'no flows');
}

/** Appends the flows that plugins decide from now on, one JSON object a line. */
async function recordFlows(client: ApiClient, query: URLSearchParams, file: string, limitMs: number | undefined): Promise<void> {
  const out = createWriteStream(file, { flags: 'a' });
  await once(out, 'open').catch((error: NodeJS.ErrnoException) => {
    throw new EngineError('CONFIG_INVALID', `Cannot write ${file}: ${error.code}`, error);
  });
  query.set('last', '0');
  query.set('follow', 'true');
  const ended = new AbortController();
  process.once('SIGINT', () => ended.abort());
  const timer = limitMs === undefined ? undefined : setTimeout(() => ended.abort(), limitMs);
  let count = 0;
  for await (const { text, item } of readFeed<FlowView>(client, 'flows', query, { signal: ended.signal })) {
    if (isLost(item)) console.error(`${item.lost} flows are missing: this machine writes too slowly`);
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

/** `sluice events`: what came in force, what could not, and what was mended. */
import type { Argv, CommandModule } from 'yargs';
import type { PolicyEvent } from '../reconcile/reconciler.ts';
import { ApiClient } from './client.ts';
import { paint } from './output.ts';
import { feedOptions, lastOption, showFeed } from './show-feed.ts';

const COLORS = { applied: 'dim', problem: 'yellow', resolved: 'green' } as const;

export const eventsCommand: CommandModule<object, { api: string; output: string; follow: boolean; last: number | undefined }> = {
  command: 'events',
  describe: 'Show what came in force, what could not, and what was mended',
  builder: (yargs) =>
    yargs.options(feedOptions).option('last', lastOption).example('$0 events --follow', 'watch while you change manifests') as Argv<never>,
  handler: async ({ api, output, follow, last }) => {
    const query = new URLSearchParams({ follow: String(follow), ...(last !== undefined && { last: String(last) }) });
    const line = ({ time, type, message }: PolicyEvent): string =>
      `${paint('dim', time)} ${paint(COLORS[type], type.padEnd(8))} ${message}`;
    await showFeed(new ApiClient(api), { name: 'events', query, line: output === 'text' ? line : undefined });
  },
};

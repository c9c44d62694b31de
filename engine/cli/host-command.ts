/** `sluice host`: the host firewall, whose changes want a confirmation. */
import type { Argv, CommandModule } from 'yargs';
import type { z } from 'zod';
import type { hostFirewall as schema } from '../api/schemas.ts';
import { ApiClient } from './client.ts';
import { outputOption, paint } from './output.ts';

type Status = z.infer<typeof schema>;
interface Flags {
  api: string;
  output: string;
}

function show(status: Status, output: string): void {
  if (output === 'json') {
    console.log(JSON.stringify(status, null, 2));
    return;
  }
  const words = {
    off: 'off: start the engine with --host-firewall CGROUP',
    confirmed: `confirmed, for ${status.cgroup}`,
    pending: paint('yellow', `in force for ${status.cgroup} until ${status.confirmBy}: sluice host confirm makes it last`),
    lapsed: paint(
      'yellow',
      `the change was not confirmed: what was before is in force for ${status.cgroup}; sluice host retry puts the change in force again`,
    ),
  };
  console.log(words[status.state]);
  for (const policy of status.policies) console.log(`  HostPolicy ${policy}`);
}

function command(
  name: string,
  describe: string,
  [method, path]: readonly ['GET' | 'POST', string],
  example: string,
): CommandModule<object, Flags> {
  return {
    command: name,
    describe,
    builder: (yargs) => yargs.option('output', outputOption).example(`$0 host ${name}`, example) as Argv<never>,
    handler: async ({ api, output }) => show(await new ApiClient(api).request<Status>(method, path), output),
  };
}

export const hostCommand: CommandModule = {
  command: 'host',
  describe: 'The host firewall: status, and confirming a change before it goes back',
  builder: (yargs) =>
    yargs
      .command([
        command(
          'status',
          'Show whether a change waits for its confirmation',
          ['GET', '/v1/host-firewall'],
          'until when it can be confirmed',
        ),
        command('confirm', 'Make the pending change last', ['POST', '/v1/host-firewall/confirm'], 'once you know that you still get in'),
        command(
          'retry',
          'Put a change that lapsed in force once more',
          ['POST', '/v1/host-firewall/retry'],
          'then sluice host confirm, in time',
        ),
      ] as CommandModule[])
      .demandCommand(1, 'Say what to do: status, confirm or retry.'),
  handler: () => {},
};

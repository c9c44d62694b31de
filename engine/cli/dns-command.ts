/** `sluice dns`: which addresses are open by domain names. */
import type { Argv, CommandModule } from 'yargs';
import type { z } from 'zod';
import type { knownName as knownNameSchema } from '../api/schemas.ts';
import { ApiClient } from './client.ts';
import { outputOption, table } from './output.ts';

type KnownName = z.infer<typeof knownNameSchema>;

export const dnsCommand: CommandModule<object, { api: string; output: string; from: string | undefined }> = {
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

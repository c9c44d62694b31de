/** `sluice plugin`: the author's loop. */
import { readFileSync } from 'node:fs';
import type { Argv, CommandModule } from 'yargs';
import type { z } from 'zod';
import { buildPlugin } from '../author/build-plugin.ts';
import { newPlugin } from '../author/new-plugin.ts';
import { EngineError } from '../errors.ts';
import type { plugin as pluginSchema } from '../http/schemas.ts';
import { ApiClient } from './client.ts';
import { paint, table } from './output.ts';

type Plugin = z.infer<typeof pluginSchema>;

const create: CommandModule<object, { directory: string }> = {
  command: 'new <directory>',
  describe: 'Make a folder with a plugin to start from',
  builder: (yargs) =>
    yargs.positional('directory', { type: 'string', demandOption: true }).example('$0 plugin new my-policy', '') as Argv<never>,
  handler: ({ directory }) => {
    for (const file of newPlugin(directory)) console.log(`wrote ${file}`);
    console.log(`\nnext: sluice plugin build ${directory}`);
  },
};

const build: CommandModule<object, { directory: string; out: string | undefined }> = {
  command: 'build <directory>',
  describe: 'Compile a plugin to a WebAssembly module',
  builder: (yargs) =>
    yargs
      .positional('directory', { type: 'string', demandOption: true, describe: 'has index.ts' })
      .option('out', { type: 'string', describe: 'the module to write; DIRECTORY/build/NAME.wasm by default' })
      .example('$0 plugin build plugins/connection-rate', '') as Argv<never>,
  handler: async ({ directory, out }) => {
    const built = await buildPlugin(directory, out);
    console.log(`${built.path} (${built.bytes} bytes)`);
  },
};

const push: CommandModule<object, { api: string; name: string; module: string; output: string }> = {
  command: 'push <name> <module>',
  describe: 'Replace the module of a running plugin',
  builder: (yargs) =>
    yargs
      .positional('name', { type: 'string', demandOption: true, describe: 'of the PolicyPlugin' })
      .positional('module', { type: 'string', demandOption: true, describe: 'a .wasm file' })
      .example('$0 plugin push my-policy my-policy/build/my-policy.wasm', '') as Argv<never>,
  handler: async ({ api, name, module }) => {
    let bytes: Buffer;
    try {
      bytes = readFileSync(module);
    } catch (error) {
      throw new EngineError('PLUGIN_INVALID', `Cannot read ${module}: ${(error as NodeJS.ErrnoException).code}`, error);
    }
    const plugin = await new ApiClient(api).request<Plugin>('PUT', `/v1/plugins/${encodeURIComponent(name)}`, bytes);
    console.log(`${plugin.name} epoch ${plugin.epoch} in force, sha256 ${plugin.sha256.slice(0, 16)}…`);
  },
};

const list: CommandModule<object, { api: string; output: string }> = {
  command: 'list',
  describe: 'Show the plugins, which version is in force and how it does',
  builder: (yargs) => yargs.option('output', { alias: 'o', type: 'string', choices: ['text', 'json'], default: 'text' }) as Argv<never>,
  handler: async ({ api, output }) => {
    const plugins = await new ApiClient(api).request<Plugin[]>('GET', '/v1/plugins');
    if (output === 'json') {
      console.log(JSON.stringify(plugins, null, 2));
      return;
    }
    const rows = plugins.map((p) => [
      p.name,
      p.state === 'on' ? paint('green', 'on') : paint('red', 'off'),
      String(p.epoch),
      p.sha256.slice(0, 12),
      p.origin,
      String(p.evaluations),
      String(p.denied),
      String(p.traps),
      String(p.timeouts),
    ]);
    console.log(table(['PLUGIN', 'STATE', 'EPOCH', 'SHA256', 'ORIGIN', 'EVALUATIONS', 'DENIED', 'TRAPS', 'TIMEOUTS'], rows));
    for (const plugin of plugins) if (plugin.problem) console.log(paint('yellow', `\n${plugin.name}: ${plugin.problem}`));
  },
};

export const pluginCommand: CommandModule = {
  command: 'plugin',
  describe: 'Write, build and push plugins',
  builder: (yargs) =>
    yargs
      .command([create, build, push, list] as CommandModule[])
      .demandCommand(1, 'Say what to do with plugins: one of the commands above.'),
  handler: () => {},
};

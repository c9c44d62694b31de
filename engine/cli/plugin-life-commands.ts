/** `sluice plugin push`, `watch`, `list`, `show`, `promote`, `rollback` and `rm`: the life of versions in a running engine. */
import { basename, resolve } from 'node:path';
import type { Argv, CommandModule } from 'yargs';
import { EngineError } from '../errors.ts';
import { ApiClient } from './client.ts';
import { outputOption, paint, table } from './output.ts';
import { moduleFile, readModuleFile } from './plugin-author-commands.ts';
import { type Plugin, type Pushed, pluginPath, showPushed } from './pushed-plugin.ts';

const nameOption = { type: 'string', demandOption: true, describe: 'of the PolicyPlugin' } as const;

interface PushFlags {
  api: string;
  name: string;
  module: string;
  mode: 'enforce' | 'shadow' | 'canary';
  weight: number;
  output: string;
}

const push: CommandModule<object, PushFlags> = {
  command: 'push <name> <module>',
  describe: 'Give a running plugin another module',
  builder: (yargs) =>
    yargs
      .positional('name', nameOption)
      .positional('module', { type: 'string', demandOption: true, describe: 'a .wasm file, or a plugin’s folder that is built' })
      .option('mode', {
        choices: ['enforce', 'shadow', 'canary'] as const,
        default: 'enforce' as const,
        describe: 'enforce: at once; shadow: beside the live one, only compared; canary: for a share of the flows',
      })
      .option('weight', { type: 'number', default: 10, describe: 'how many of 100 flows it decides, 1 to 99, with --mode canary' })
      .option('output', outputOption)
      .example('$0 plugin push my-policy my-policy', 'my-policy/build/my-policy.wasm is in force when this returns')
      .example('$0 plugin push my-policy my-policy --mode shadow', 'see first what would change') as Argv<never>,
  handler: async ({ api, name, module, mode, weight, output }) => {
    const bytes = readModuleFile(moduleFile(module));
    const query = new URLSearchParams({ mode, ...(mode === 'canary' && { weight: String(weight) }) });
    const pushed = await new ApiClient(api).request<Pushed>('PUT', pluginPath(name, `?${query}`), bytes);
    if (output === 'json') console.log(JSON.stringify(pushed, null, 2));
    else showPushed(pushed, mode);
  },
};

const watch: CommandModule<object, { api: string; directory: string; name: string | undefined }> = {
  command: 'watch <directory>',
  describe: 'Build, test and push as a shadow at each save; show what would change; promote with a key',
  builder: (yargs) =>
    yargs
      .positional('directory', { type: 'string', demandOption: true, describe: 'the plugin’s folder' })
      .option('name', { type: 'string', describe: 'of the PolicyPlugin; the folder’s name by default' })
      .example('$0 plugin watch my-policy', 'p promotes, r rolls back, q ends') as Argv<never>,
  handler: async ({ api, directory, name }) => {
    const { watchPlugin } = await import('./plugin-watch.ts');
    await watchPlugin(new ApiClient(api), directory, name ?? basename(resolve(directory)));
  },
};

const list: CommandModule<object, { api: string; output: string }> = {
  command: 'list',
  describe: 'Show the plugins, which version is in force and how it does',
  builder: (yargs) => yargs.option('output', outputOption).example('$0 plugin list', 'all of them, a line each') as Argv<never>,
  handler: async ({ api, output }) => {
    const plugins = await new ApiClient(api).request<Plugin[]>('GET', '/v1/plugins');
    if (output === 'json') {
      console.log(JSON.stringify(plugins, null, 2));
      return;
    }
    const rows = plugins.map((p) => [
      p.name,
      p.state === 'on' ? paint('green', p.mode === 'shadow' ? 'on, shadow' : 'on') : paint('red', 'off'),
      p.version && `${p.version} (${p.sha256.slice(0, 12)})`,
      [p.candidate && `${p.candidate.mode} ${p.candidate.version}`, p.rollout && rolloutText(p.rollout)].filter(Boolean).join(', '),
      String(p.flows),
      String(p.cached),
      String(p.denied),
      String(p.traps),
    ]);
    console.log(table(['PLUGIN', 'STATE', 'VERSION', 'BESIDE IT', 'FLOWS', 'CACHED', 'DENIED', 'TRAPS'], rows));
    for (const plugin of plugins) if (plugin.problem) console.log(paint('yellow', `\n${plugin.name}: ${plugin.problem}`));
  },
};

const show: CommandModule<object, { api: string; name: string; output: string }> = {
  command: 'show <name>',
  describe: 'Show one plugin: its versions, what a shadow would change, its history',
  builder: (yargs) =>
    yargs
      .positional('name', nameOption)
      .option('output', outputOption)
      .example('$0 plugin show my-policy', 'after a push as shadow: what it would change') as Argv<never>,
  handler: async ({ api, name, output }) => {
    const plugin = await new ApiClient(api).request<Plugin>('GET', pluginPath(name));
    if (output === 'json') console.log(JSON.stringify(plugin, null, 2));
    else showPlugin(plugin);
  },
};

function showPlugin(plugin: Plugin): void {
  console.log(`${plugin.name} ${plugin.version} (${plugin.sha256.slice(0, 12)}) is ${plugin.state}, epoch ${plugin.epoch}`);
  if (plugin.problem) console.log(paint('yellow', `  ${plugin.problem}`));
  console.log(
    `  ${plugin.flows} flows: ${plugin.allowed} allowed, ${plugin.denied} denied; ${plugin.cached} packets answered by the kernel`,
  );
  for (const [reason, count] of Object.entries(plugin.reasons)) console.log(`    ${count} × ${reason}`);
  if (plugin.traps) console.log(paint('red', `  ${plugin.traps} traps, the last: ${plugin.lastTrap}`));
  if (plugin.rollout) showRollout(plugin.rollout);
  if (plugin.candidate) showCandidate(plugin.candidate);
  console.log(
    `\n${table(
      ['WHEN', 'WHAT', 'VERSION'],
      plugin.history.map((h) => [h.time, h.what, `${h.version} (${h.sha256.slice(0, 12)})`]),
    )}`,
  );
}

type Rollout = NonNullable<Plugin['rollout']>;

/** `canary 3f2a… on 10% of the nodes, this one too` */
function rolloutText({ digest, here, mode, percent, nodeNames }: Rollout): string {
  const where = [percent && `${percent}% of the nodes`, nodeNames.length && nodeNames.join(', ')].filter(Boolean).join(' and ');
  const own = { enforced: 'this one too', shadow: 'this one too', elsewhere: 'not this one', failed: 'and failed' }[here];
  return `${mode === 'shadow' ? 'shadow' : 'canary'} ${digest.slice(7, 19)} on ${where || 'no node'}, ${own}`;
}

function showRollout(rollout: Rollout): void {
  console.log(`  ${rolloutText(rollout)}`);
  if (rollout.problem) console.log(paint('red', `    ${rollout.problem}`));
}

function showCandidate(candidate: NonNullable<Plugin['candidate']>): void {
  console.log(
    `  ${candidate.mode} ${candidate.version} (${candidate.sha256.slice(0, 12)}): ${candidate.evaluations} evaluations, ${candidate.skipped} skipped, ${candidate.traps} traps`,
  );
  for (const [change, count] of Object.entries(candidate.changed)) console.log(paint('yellow', `    ${count} × ${change}`));
}

/** A command that changes a plugin by a request without a body. */
function changeCommand(
  command: string,
  describe: string,
  request: readonly [method: 'POST' | 'DELETE', rest: string],
  done: (plugin: Plugin) => string,
): CommandModule<object, { api: string; name: string }> {
  return {
    command: `${command} <name>`,
    describe,
    builder: (yargs) =>
      yargs.positional('name', nameOption).example(`$0 plugin ${command} my-policy`, 'my-policy is the PolicyPlugin’s name') as Argv<never>,
    handler: async ({ api, name }) => {
      if (!name) throw new EngineError('CONFIG_INVALID', 'Cannot change a plugin without a name');
      const plugin = await new ApiClient(api).request<Plugin>(request[0], pluginPath(name, request[1]));
      console.log(done(plugin));
    },
  };
}

const inForce = (plugin: Plugin): string =>
  `${plugin.name} ${plugin.version} (${plugin.sha256.slice(0, 12)}) is in force, epoch ${plugin.epoch}`;

export const lifeCommands = [
  push,
  watch,
  list,
  show,
  changeCommand('promote', 'Put the version that runs as shadow or canary in force', ['POST', '/promote'], inForce),
  changeCommand(
    'rollback',
    'Take a shadow or canary away; without one, put the version before in force again',
    ['POST', '/rollback'],
    inForce,
  ),
  changeCommand('rm', 'Forget what was pushed: the declared file is in force again, or nothing', ['DELETE', ''], (plugin) =>
    plugin.state === 'on'
      ? inForce(plugin)
      : `${plugin.name} has no module any more: its flows get the failure policy (${plugin.failurePolicy})`,
  ),
] as CommandModule[];

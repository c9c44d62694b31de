/** `sluice lab`: pods as network namespaces on this machine. */
import { spawn } from 'node:child_process';
import type { Argv, CommandModule } from 'yargs';
import { parseDuration } from '../config.ts';
import { EngineError } from '../errors.ts';
import { getLabPod, HTTP_ECHO_IMAGE, inPod, labDown, labUp, listLabs } from '../lab/lab.ts';
import { outputOption } from './output.ts';

const name = { type: 'string', default: 'lab', describe: 'of the lab: several can be up' } as const;

const up: CommandModule<object, { name: string; manifests: string[]; readyTimeout: string; output: string }> = {
  command: 'up <manifests..>',
  describe: 'Make a network namespace for each Pod in these files or directories',
  builder: (yargs) =>
    yargs
      .positional('manifests', { type: 'string', array: true, demandOption: true, describe: 'files or directories' })
      .option('name', name)
      .option('ready-timeout', { type: 'string', default: '10s', describe: 'how long the pods may take until they answer' })
      .option('output', outputOption)
      .example('$0 lab up deploy/demo/cluster.yaml', 'then sluice run with the source that it names')
      .epilogue(
        `A container of image ${HTTP_ECHO_IMAGE} answers HTTP on its ports; one with a command runs that command of this machine.`,
      ) as Argv<never>,
  handler: async ({ name: lab, manifests, readyTimeout, output }) => {
    const made = await labUp(lab, manifests, {
      readyMs: parseDuration(readyTimeout, '--ready-timeout'),
      progress: (text) => output === 'text' && console.log(text),
    });
    if (output === 'json') console.log(JSON.stringify(made, null, 2));
    else console.log(`\nnext: sluice run --source dir:${made.source}`);
  },
};

const exec: CommandModule<object, { name: string; pod: string; '--'?: string[] }> = {
  command: 'exec <pod>',
  describe: 'Run a command of this machine in a pod’s network: lab exec POD -- COMMAND',
  builder: (yargs) =>
    yargs
      .positional('pod', { type: 'string', demandOption: true, describe: 'NAMESPACE/NAME, or NAME' })
      .option('name', name)
      .example('$0 lab exec frontend -- curl -s http://10.88.0.2', 'what the pod frontend can reach') as Argv<never>,
  handler: async ({ name: lab, pod, '--': command }) => {
    if (!command?.length)
      throw new EngineError(
        'CONFIG_INVALID',
        'Cannot run nothing: write the command after --, as in lab exec frontend -- curl -s http://10.88.0.2',
      );
    const [program, args] = inPod(getLabPod(lab, pod), command.map(String));
    const child = spawn(program, args, { stdio: 'inherit' });
    // The terminal sends Ctrl-C to the child as well: its end is ours.
    process.on('SIGINT', () => {});
    process.exitCode = await new Promise<number>((resolve, reject) => {
      child.on('error', (error) => reject(new EngineError('LAB', `Cannot run ${program}: ${error.message}`, error)));
      child.on('exit', (code, signal) => resolve(code ?? (signal === 'SIGINT' ? 130 : 1)));
    });
  },
};

const down: CommandModule<object, { name: string; all: boolean }> = {
  command: 'down',
  describe: 'Remove a lab, and everything that a crash left of it',
  builder: (yargs) =>
    yargs
      .option('name', name)
      .option('all', { type: 'boolean', default: false, describe: 'every lab, whatever --name says' })
      .example('$0 lab down --all', 'leave nothing behind') as Argv<never>,
  handler: ({ name: lab, all }) => {
    const labs = all ? listLabs() : [lab];
    for (const each of labs) console.log(`lab ${each}: removed ${labDown(each).length} pods`);
    if (!labs.length) console.log('no lab is up');
  },
};

export const labCommand: CommandModule = {
  command: 'lab',
  describe: 'Pods as network namespaces on this machine',
  builder: (yargs) =>
    yargs.command([up, exec, down] as CommandModule[]).demandCommand(1, 'Say what to do with the lab: one of the commands above.'),
  handler: () => {},
};

/**
 * `sluice plugin new`, `build`, `test`, `bench`, `keygen` and `sign`: what needs no engine.
 *
 * The code that they run is loaded when they run: an engine has no use for it, and would keep it in memory.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { existsSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import type { Argv, CommandModule } from 'yargs';
import { EngineError, messageOf } from '../errors.ts';
import type { Compiler } from '../plugin-tools/build-plugin.ts';
import type { CaseResult, CaseRunner } from '../plugin-tools/case-runner.ts';
import type { PluginCases } from '../plugin-tools/cases.ts';
import { modulePath, shownPath } from '../plugin-tools/paths.ts';
import { outputOption, paint, table } from './output.ts';

const directoryOption = { type: 'string', demandOption: true, describe: 'the plugin’s folder' } as const;

const create: CommandModule<object, { directory: string }> = {
  command: 'new <directory>',
  describe: 'Make a folder with a plugin to start from',
  builder: (yargs) =>
    yargs
      .positional('directory', { type: 'string', demandOption: true, describe: 'to be made; its name is the plugin’s' })
      .example('$0 plugin new my-policy', 'a policy, its cases, and what to say in manifests') as Argv<never>,
  handler: async ({ directory }) => {
    const { newPlugin } = await import('../plugin-tools/new-plugin.ts');
    for (const file of newPlugin(directory)) console.log(`wrote ${file}`);
    console.log(`\nnext: sluice plugin test ${directory}`);
  },
};

const build: CommandModule<object, { directories: string[]; out: string | undefined }> = {
  command: 'build <directories..>',
  describe: 'Compile plugins to WebAssembly modules',
  builder: (yargs) =>
    yargs
      .positional('directories', {
        type: 'string',
        array: true,
        demandOption: true,
        describe: 'each has index.ts, or plugin.wat and manifest.json',
      })
      .option('out', { type: 'string', describe: 'the module to write; DIRECTORY/build/NAME.wasm by default' })
      .example('$0 plugin build my-policy', 'writes my-policy/build/my-policy.wasm') as Argv<never>,
  handler: async ({ directories, out }) => {
    if (out !== undefined && directories.length > 1)
      throw new EngineError('CONFIG_INVALID', 'Cannot use --out with several plugins: build them one by one');
    const { Compiler } = await import('../plugin-tools/build-plugin.ts');
    const compiler = new Compiler();
    try {
      for (const directory of directories) await buildAndTell(directory, out, compiler);
    } finally {
      compiler.close();
    }
  },
};

async function buildAndTell(directory: string, out: string | undefined, compiler: Compiler): Promise<void> {
  const { buildPlugin } = await import('../plugin-tools/build-plugin.ts');
  const started = performance.now();
  const built = await buildPlugin(directory, out, compiler);
  if (built.messages) console.error(built.messages);
  console.log(`${shownPath(built.path)} (${built.bytes} bytes, ${Math.round(performance.now() - started)} ms)`);
}

interface TestFlags {
  directory: string;
  flows: string[];
  output: string;
}

const flowsOption = {
  type: 'string',
  array: true,
  nargs: 1,
  default: [],
  describe:
    'a file with flows that sluice flows --record wrote, to be decided as they were; may be repeated; those in DIRECTORY/flows are taken anyway',
} as const;

const test: CommandModule<object, TestFlags> = {
  command: 'test <directory>',
  describe: 'Build a plugin and put its cases and recorded flows to it',
  builder: (yargs) =>
    yargs
      .positional('directory', directoryOption)
      .option('flows', flowsOption)
      .option('output', outputOption)
      .example('$0 plugin test my-policy', 'my-policy/cases.yaml says what is expected')
      .example('$0 plugin test my-policy --flows yesterday.ndjson', 'would it have decided as the version before?') as Argv<never>,
  handler: async ({ directory, flows, output }) => {
    const { runner, cases } = await load(directory, flows);
    const results = cases.cases.map((one) => runner.run(one));
    if (output === 'json') console.log(JSON.stringify(results, null, 2));
    else showResults(results);
    const failed = results.filter(({ differences }) => differences.length).length;
    if (failed) throw new EngineError('PLUGIN_TEST', `Cannot pass ${directory}: ${failed} of ${results.length} cases differ`);
  },
};

/** The plugin as it is now, built if its source is newer than its module, and what it is to be asked. */
async function load(directory: string, flows: readonly string[]): Promise<{ runner: CaseRunner; cases: PluginCases }> {
  const [{ buildPlugin }, { CaseRunner }, { readCases }] = await Promise.all([
    import('../plugin-tools/build-plugin.ts'),
    import('../plugin-tools/case-runner.ts'),
    import('../plugin-tools/cases.ts'),
  ]);
  const cases = readCases(directory, flows);
  if (!cases.cases.length)
    throw new EngineError('PLUGIN_TEST', `Cannot test ${directory}: it has no cases; write some into ${directory}/cases.yaml`);
  await buildPlugin(directory);
  return { runner: await CaseRunner.create(readFileSync(modulePath(directory)), cases), cases };
}

/** As a test runner shows them: one line each, and what differs below it. */
export function showResults(results: readonly CaseResult[]): void {
  for (const { name, file, line, differences, answer, logged } of results) {
    const good = !differences.length;
    const said = paint('dim', `${answer.verdict}, ${answer.fuel} fuel`);
    console.log(`${good ? paint('green', '✓') : paint('red', '✗')} ${name} ${said}`);
    if (!good) console.log(paint('dim', `    ${file}:${line}`));
    for (const { what, expected, actual } of differences) {
      console.log(`    ${what}`);
      console.log(paint('green', `      - ${expected}`));
      console.log(paint('red', `      + ${actual}`));
    }
    if (!good) for (const text of logged) console.log(paint('dim', `    log: ${text}`));
  }
  const failed = results.filter(({ differences }) => differences.length).length;
  const total = `${results.length - failed} of ${results.length} cases as expected`;
  console.log(`\n${failed ? paint('red', total) : paint('green', total)}`);
}

const bench: CommandModule<object, TestFlags & { evaluations: number }> = {
  command: 'bench <directory>',
  describe: 'Measure what an evaluation takes, case by case',
  builder: (yargs) =>
    yargs
      .positional('directory', directoryOption)
      .option('flows', flowsOption)
      .option('evaluations', { type: 'number', default: 200_000, describe: 'how many of each case' })
      .option('output', outputOption)
      .example('$0 plugin bench my-policy', 'nanoseconds, fuel and memory of each case') as Argv<never>,
  handler: async ({ directory, flows, evaluations, output }) => {
    if (!(evaluations >= 1)) throw new EngineError('CONFIG_INVALID', 'Cannot use --evaluations: must be at least 1');
    const { runner, cases } = await load(directory, flows);
    const { benchPlugin } = await import('../plugin-tools/plugin-bench.ts');
    const results = benchPlugin(runner, cases, evaluations);
    if (output === 'json') {
      console.log(JSON.stringify(results, null, 2));
      return;
    }
    const rows = results.map(({ name, p50Ns, p99Ns, fuel, memoryBytes: [before, after] }) => [
      name,
      p50Ns.toFixed(0),
      p99Ns.toFixed(0),
      String(fuel),
      `${after / 1024}${after === before ? '' : paint('red', ` (+${(after - before) / 1024})`)}`,
    ]);
    console.log(table(['CASE', 'NS P50', 'NS P99', 'FUEL', 'MEMORY KIB'], rows));
  },
};

const keygen: CommandModule<object, { file: string }> = {
  command: 'keygen <file>',
  describe: 'Make a pair of Ed25519 keys: FILE signs, FILE.pub is what engines trust',
  builder: (yargs) =>
    yargs
      .positional('file', { type: 'string', demandOption: true, describe: 'to be written, PEM; refused where it is there already' })
      .example('$0 plugin keygen release.pem', 'writes release.pem and release.pem.pub') as Argv<never>,
  handler: async ({ file }) => {
    const { keyId } = await import('../plugins/signature.ts');
    if (existsSync(file))
      throw new EngineError('CONFIG_INVALID', `Cannot write ${file}: it exists already, and a lost key cannot be made again`);
    const { privateKey, publicKey } = generateKeyPairSync('ed25519');
    writeFileSync(file, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600, flag: 'wx' });
    writeFileSync(`${file}.pub`, publicKey.export({ type: 'spki', format: 'pem' }));
    console.log(`wrote ${file} (keep it secret) and ${file}.pub; key ${keyId(publicKey)}`);
    console.log(`\nnext: name ${file}.pub in trustedKeys of the engine’s --config`);
  },
};

const sign: CommandModule<object, { module: string; key: string }> = {
  command: 'sign <module>',
  describe: 'Sign a module, in place of a signature that it has',
  builder: (yargs) =>
    yargs
      .positional('module', { type: 'string', demandOption: true, describe: 'a .wasm file, or a plugin’s folder that is built' })
      .option('key', { type: 'string', demandOption: true, describe: 'a private Ed25519 key, PEM: keygen or openssl genpkey makes one' })
      .example('$0 plugin sign my-policy --key release.pem', 'my-policy/build/my-policy.wasm is signed then') as Argv<never>,
  handler: async ({ module, key }) => {
    const { keyId, signModule } = await import('../plugins/signature.ts');
    const path = moduleFile(module);
    const privateKey = readPrivateKey(key);
    let signed: Uint8Array;
    try {
      signed = signModule(readModuleFile(path), privateKey);
    } catch (error) {
      throw new EngineError('PLUGIN_INVALID', `Cannot sign ${path}: ${messageOf(error)}`, error);
    }
    writeFileSync(`${path}.new`, signed);
    renameSync(`${path}.new`, path);
    console.log(`${path} is signed by key ${keyId(createPublicKey(privateKey))}`);
  },
};

function readPrivateKey(path: string): KeyObject {
  let key: KeyObject;
  try {
    key = createPrivateKey(readFileSync(path));
  } catch (error) {
    throw new EngineError('CONFIG_INVALID', `Cannot read private key ${path}: ${messageOf(error)}`, error);
  }
  if (key.asymmetricKeyType !== 'ed25519')
    throw new EngineError('CONFIG_INVALID', `Cannot sign with ${path}: it is ${key.asymmetricKeyType}, must be Ed25519`);
  return key;
}

/** The module that a path means: itself, or what was built in the folder. */
export function moduleFile(path: string): string {
  return existsSync(path) && statSync(path).isDirectory() ? modulePath(path) : path;
}

/** @throws EngineError `PLUGIN_INVALID` */
export function readModuleFile(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (error) {
    const hint = path.endsWith('.wasm') ? '; sluice plugin build makes it' : '';
    throw new EngineError('PLUGIN_INVALID', `Cannot read ${path}: ${(error as NodeJS.ErrnoException).code}${hint}`, error);
  }
}

export const authorCommands = [create, build, test, bench, keygen, sign] as CommandModule[];

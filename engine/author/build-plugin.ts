/**
 * Builds a plugin: AssemblyScript in, one Wasm module out.
 *
 * The compiler runs in a process of its own, which is ended when it takes too long: some sources make it loop for ever.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { EngineError } from '../errors.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const require = createRequire(import.meta.url);
const COMPILE_MS = 60_000;
/** The most that a PolicyPlugin grants by default. */
const MEMORY_PAGES = 64;

export interface BuiltPlugin {
  readonly path: string;
  readonly bytes: number;
}

/**
 * Builds the plugin whose source is `directory`/index.ts.
 *
 * @throws EngineError `PLUGIN_BUILD` with the compiler's messages.
 */
export async function buildPlugin(directory: string, output?: string): Promise<BuiltPlugin> {
  const source = resolve(directory, 'index.ts');
  if (!existsSync(source))
    throw new EngineError('PLUGIN_BUILD', `Cannot build ${directory}: it has no index.ts; sluice plugin new makes one`);
  const path = resolve(output ?? join(directory, 'build', `${basename(resolve(directory))}.wasm`));
  const work = join(dirname(path), `.${basename(path)}.build`);
  mkdirSync(work, { recursive: true });
  try {
    const entry = join(work, 'entry.ts');
    writeFileSync(entry, `export * from "@sluice/plugin-sdk/exports";\nimport "${relative(work, source.replace(/\.ts$/, ''))}";\n`);
    await compile(entry, path);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return { path, bytes: readFileSync(path).length };
}

async function compile(entry: string, output: string): Promise<void> {
  const compiler = join(dirname(require.resolve('assemblyscript/package.json')), 'bin', 'asc.js');
  // Paths in messages are then as the author would write them.
  const here = (path: string): string => relative(process.cwd(), path);
  const options = [
    ...['-O2', '--exportStart', '_initialize', '--maximumMemory', String(MEMORY_PAGES), '--noColors'],
    ...['--runtime', here(join(root, 'plugins/sdk/runtime')), '--path', join(root, 'node_modules'), '--outFile', here(output)],
  ];
  const child = spawn(process.execPath, [compiler, here(entry), ...options], { stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  child.stdout.on('data', (chunk) => (text += chunk));
  child.stderr.on('data', (chunk) => (text += chunk));
  const timer = setTimeout(() => child.kill('SIGKILL'), COMPILE_MS);
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  clearTimeout(timer);
  if (code === null)
    throw new EngineError('PLUGIN_BUILD', `Cannot build ${output}: the compiler took longer than ${COMPILE_MS / 1000} s and was ended`);
  if (code !== 0) throw new EngineError('PLUGIN_BUILD', `Cannot build ${output}:\n${text.trim()}`);
}

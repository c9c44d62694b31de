/**
 * Builds a plugin: AssemblyScript, or WebAssembly text with a manifest beside it, becomes one module that says what it reads.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { EngineError, messageOf } from '../errors.ts';
import { MANIFEST_SECTION } from '../plugin-runtime/abi.ts';
import { readManifest } from '../plugin-runtime/manifest-schema.ts';
import { withCustomSection } from '../plugins/wasm/module.ts';
import type { CompileOrder, CompileResult } from './compiler-process.ts';
import { modulePath, shownPath } from './paths.ts';
import { withLines } from './source-lines.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const COMPILE_MS = 60_000;
/** The most that a PolicyPlugin grants by default. */
const MEMORY_PAGES = 64;

export interface BuiltPlugin {
  readonly path: string;
  readonly bytes: number;
  /** The compiler's warnings; empty when there are none. */
  readonly messages: string;
}

/** The source to build is at one of these below the plugin's folder. */
const SOURCES = ['index.ts', 'plugin.wat'] as const;

/**
 * Builds the plugin in a folder that has index.ts, or plugin.wat and manifest.json.
 *
 * `compiler` is kept for the next build; by default one is started for this one.
 *
 * @throws EngineError `PLUGIN_BUILD` with the compiler's messages.
 */
export async function buildPlugin(directory: string, output?: string, compiler?: Compiler): Promise<BuiltPlugin> {
  const path = resolve(output ?? modulePath(directory));
  const [script, text] = SOURCES.map((name) => resolve(directory, name)) as [string, string];
  let built: { module: Uint8Array; messages: string };
  if (existsSync(script)) {
    const own = compiler ?? new Compiler();
    try {
      built = await own.compile(script);
    } finally {
      if (!compiler) own.close();
    }
  } else if (existsSync(text)) built = { module: await assemble(text), messages: '' };
  else
    throw new EngineError(
      'PLUGIN_BUILD',
      `Cannot build ${directory}: it has neither ${SOURCES.join(' nor ')}; sluice plugin new makes one`,
    );
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.new`, built.module);
  renameSync(`${path}.new`, path);
  return { path, bytes: built.module.length, messages: built.messages };
}

/** The AssemblyScript compiler in a process of its own, which is ended when it takes too long. */
export class Compiler {
  #process: ChildProcess | undefined;

  async compile(source: string): Promise<{ module: Uint8Array; messages: string }> {
    const order: CompileOrder = {
      source,
      packages: join(root, 'node_modules'),
      runtime: join(root, 'plugins/sdk/runtime'),
      memoryPages: MEMORY_PAGES,
    };
    const { module, sourceMap, messages } = await this.#ask(order);
    // Paths as they are from here, so that a terminal can open them.
    const shown = messages
      .replaceAll('AS102: User-defined: ', '')
      .replace(/(?<= in )(?!~lib)(?=[^\s(]+\.ts\(\d)/g, `${shownPath(dirname(source))}/`)
      .trim();
    if (!module) throw new EngineError('PLUGIN_BUILD', `Cannot build ${shownPath(source)}:\n${shown}`);
    return { module: withLines(Buffer.from(module), sourceMap ?? ''), messages: shown };
  }

  close(): void {
    this.#process?.kill('SIGKILL');
    this.#process = undefined;
  }

  #ask(order: CompileOrder): Promise<CompileResult> {
    const child = (this.#process ??= fork(new URL('./compiler-process.ts', import.meta.url), {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      serialization: 'advanced',
    }));
    return new Promise((done, fail) => {
      let crash = '';
      const note = (chunk: Buffer): void => void (crash += chunk);
      const finish = (act: () => void): void => {
        clearTimeout(timer);
        child.stderr?.off('data', note);
        child.off('exit', exited);
        child.off('message', answered);
        act();
      };
      const exited = (): void => {
        this.#process = undefined;
        finish(() => fail(new EngineError('PLUGIN_BUILD', `Cannot build ${order.source}: the compiler ended:\n${crash.trim()}`)));
      };
      const answered = (result: CompileResult): void => finish(() => done(result));
      const timer = setTimeout(() => {
        this.close();
        finish(() =>
          fail(new EngineError('PLUGIN_BUILD', `Cannot build ${order.source}: the compiler took longer than ${COMPILE_MS / 1000} s`)),
        );
      }, COMPILE_MS);
      child.stderr?.on('data', note);
      child.once('exit', exited);
      child.once('message', answered as (message: unknown) => void);
      child.send(order);
    });
  }
}

/** WebAssembly text, with the manifest that stands beside it. */
async function assemble(path: string): Promise<Uint8Array> {
  const manifest = join(dirname(path), 'manifest.json');
  // A hundred megabytes that only this needs.
  const { default: binaryen } = await import('binaryen');
  try {
    const module = binaryen.parseText(readFileSync(path, 'utf8'));
    if (!module.validate()) throw new Error('it is not valid');
    const content = readFileSync(manifest);
    readManifest(content);
    return withCustomSection(module.emitBinary(), MANIFEST_SECTION, content);
  } catch (error) {
    throw new EngineError('PLUGIN_BUILD', `Cannot build ${shownPath(path)}: ${messageOf(error)}`, error);
  }
}

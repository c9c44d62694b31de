/** Plugins for tests: written as WebAssembly text, or built from their folders once. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import binaryen from 'binaryen';
import { MANIFEST_SECTION } from '../../engine/plugin-runtime/abi.ts';
import type { PluginInstance } from '../../engine/plugin-runtime/instance.ts';
import { Question } from '../../engine/plugin-runtime/question.ts';
import { createInstance, type Lender } from '../../engine/plugin-runtime/version-parts.ts';
import { buildPlugin, Compiler } from '../../engine/plugin-tools/build-plugin.ts';
import { type AuditedModule, auditModule, type Grants } from '../../engine/plugins/audit.ts';
import { withCustomSection } from '../../engine/plugins/wasm/module.ts';
import type { PluginSet } from '../../engine/policy/objects.ts';

export const FUEL = 1_000_000;

export const GRANTS: Grants = {
  memoryPages: 64,
  fuel: FUEL,
  capabilities: ['counters', 'sets', 'clock'],
  sets: ['allowed', 'blocked'],
  trustedKeys: [],
};

export const MANIFEST = { abi: 1, name: 'test', version: '1.0.0', hooks: ['connect'] };

/** A module from text. */
export function assemble(text: string): Uint8Array {
  const module = binaryen.parseText(text);
  module.setFeatures(binaryen.Features.All);
  try {
    return module.emitBinary();
  } finally {
    module.dispose();
  }
}

export function withManifest(module: Uint8Array, manifest: object = {}): Uint8Array {
  return withCustomSection(module, MANIFEST_SECTION, Buffer.from(JSON.stringify({ ...MANIFEST, ...manifest })));
}

export interface PluginText {
  /** Instructions that leave the verdict word; `$hook` is the parameter. */
  readonly evaluate?: string;
  /** More of the module: imports first. */
  readonly imports?: string;
  readonly more?: string;
  readonly memory?: string;
}

/** The text of a module with the whole ABI. The context is at 1024, the result at 0. */
export function pluginText({ evaluate = '(i32.const 1)', imports = '', more = '', memory = '1 4' }: PluginText = {}): string {
  return `(module ${imports}
    (memory (export "memory") ${memory})
    (func (export "sluice_abi_v1"))
    (func (export "sluice_ctx") (result i32) (i32.const 1024))
    (func (export "sluice_ctx_cap") (result i32) (i32.const 8192))
    (func (export "sluice_res") (result i32) (i32.const 0))
    (func (export "sluice_eval") (param $hook i32) (result i32) (local $i i32) (local $n i32) ${evaluate})
    ${more})`;
}

/** The bytes of such a module. */
export function plugin(text: PluginText = {}, manifest: object = {}): Uint8Array {
  return withManifest(assemble(pluginText(text)), manifest);
}

export interface StartOptions {
  readonly config?: string;
  readonly trusted?: boolean;
  readonly sets?: readonly PluginSet[];
  readonly grants?: Partial<Grants>;
  readonly lender?: Partial<Lender>;
}

/** Audits a module as an engine would, and makes an instance of it. */
export async function start(bytes: Uint8Array, options: StartOptions = {}): Promise<PluginInstance & { audited: AuditedModule }> {
  const { config = '', trusted = true, sets = [], grants, lender } = options;
  const all = { ...GRANTS, ...grants };
  const audited = await auditModule(bytes, all);
  const lent: Lender = { map: (_path, size) => new Int32Array(size / 4), seed: () => 7, now: () => 0, log: () => {}, ...lender };
  const { module, manifest } = audited;
  return Object.assign(createInstance({ plugin: manifest.name, module, manifest, trusted, config, fuel: all.fuel, sets }, lent), {
    audited,
  });
}

/** A question about a connection from 10.0.0.1 to 10.0.0.2, port 80. */
export function question(fields: Partial<Question> = {}): Question {
  const words = Int32Array.of(0, 0, 0xffff0000 | 0, 0x0100000a, 0, 0, 0xffff0000 | 0, 0x0200000a);
  const base = {
    words,
    sourceIdentity: 300,
    destinationIdentity: 301,
    sourcePort: 40_000,
    destinationPort: 80,
    protocol: 6,
    direction: 1,
    rule: 9,
    timeMs: 1000,
  };
  return Object.assign(new Question(), base, fields);
}

/** Builds plugins from their folders into one that goes again. */
export class BuiltPlugins {
  readonly directory = mkdtempSync(join(tmpdir(), 'sluice-plugins-'));
  readonly #paths = new Map<string, string>();

  async build(folders: readonly string[]): Promise<void> {
    const compiler = new Compiler();
    try {
      for (const folder of folders)
        this.#paths.set(folder, (await buildPlugin(folder, join(this.directory, `${this.#paths.size}.wasm`), compiler)).path);
    } finally {
      compiler.close();
    }
  }

  path(folder: string): string {
    const path = this.#paths.get(folder);
    if (!path) throw new Error(`${folder} was not built`);
    return path;
  }

  bytes(folder: string): Uint8Array {
    return readFileSync(this.path(folder));
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Numbers that are the same in each run: a generator by its seed (mulberry32). */
export function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

/**
 * The versions that plugins have, declared and pushed, kept in the state directory, so that a restart finds them.
 *
 * `plugins/NAME.json` says which versions a plugin has, with a checksum; the one before it stays as `NAME.json.old`.
 * `modules/SHA256.wasm` are the modules, each its own checksum. Every file is replaced whole. `tables/NAME/` are the
 * plugin's counters. Damage is reported, and what was there before it is used.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { messageOf } from '../errors.ts';

const sha = z.string().regex(/^[0-9a-f]{64}$/);
/** Where a module was from: the place that a PolicyPlugin named, or a push. */
export const ORIGINS = ['file', 'inline', 'configMap', 'url', 'oci', 'pushed'] as const;
const origin = z.enum(ORIGINS);
const stored = z.strictObject({ sha256: sha, origin });
const historyEntry = z.strictObject({
  time: z.string(),
  what: z.string(),
  version: z.string(),
  sha256: z.string(),
});

const stateSchema = z.strictObject({
  live: stored.nullable(),
  previous: stored.nullable(),
  candidate: z
    .strictObject({ sha256: sha, mode: z.enum(['shadow', 'canary']), weight: z.int().min(0).max(100), origin: origin.default('pushed') })
    .nullable(),
  /** SHA-256 of the declared module, of a file or from elsewhere, when this was written; empty when there was none. When it changes, that is the newer word. */
  fileSha256: z.string(),
  history: z.array(historyEntry),
});

export type StoredPlugin = z.infer<typeof stateSchema>;
export type HistoryEntry = z.infer<typeof historyEntry>;
export type Origin = z.infer<typeof origin>;

export class VersionStore {
  readonly #directory: string;

  constructor(stateDirectory: string) {
    this.#directory = stateDirectory;
  }

  /** Where a plugin's tables are. */
  tablesDirectory(name: string): string {
    return join(this.#directory, 'tables', name);
  }

  /** The state that was last written about a plugin, or before that; `problem` says what is damaged. */
  load(name: string): { state: StoredPlugin | undefined; problem: string } {
    const problems: string[] = [];
    for (const path of [this.#statePath(name), `${this.#statePath(name)}.old`]) {
      if (!existsSync(path)) continue;
      try {
        return { state: readChecked(path), problem: problems.join('; ') };
      } catch (error) {
        problems.push(`${path} is damaged (${messageOf(error)}); the state before it is used`);
      }
    }
    return { state: undefined, problem: problems.join('; ') };
  }

  /** A module's bytes. Throws when there is none of that hash, or it is damaged. */
  readModule(sha256: string): Uint8Array {
    const path = this.#modulePath(sha256);
    const bytes = readFileSync(path);
    if (hashOf(bytes) !== sha256) throw new Error(`${path} is damaged: its content has another checksum`);
    return bytes;
  }

  /** Keeps a plugin's state and the modules that it names; modules that nobody names any more go. */
  save(name: string, state: StoredPlugin, modules: Iterable<Uint8Array>): void {
    this.#makeDirectories();
    for (const bytes of modules) {
      const path = this.#modulePath(hashOf(bytes));
      if (!existsSync(path) || hashOf(readFileSync(path)) !== hashOf(bytes)) replaceFile(path, bytes);
    }
    const path = this.#statePath(name);
    if (existsSync(path)) replaceFile(`${path}.old`, readFileSync(path));
    replaceFile(path, JSON.stringify({ sha256: hashOf(Buffer.from(JSON.stringify(state))), state }));
    this.#sweep();
  }

  /** Forgets the versions of a plugin. Its tables stay: what was counted is not what was pushed. */
  remove(name: string): void {
    this.#makeDirectories();
    for (const path of [this.#statePath(name), `${this.#statePath(name)}.old`]) rmSync(path, { force: true });
    this.#sweep();
  }

  #makeDirectories(): void {
    for (const directory of ['plugins', 'modules']) mkdirSync(join(this.#directory, directory), { recursive: true, mode: 0o700 });
  }

  #sweep(): void {
    const directory = join(this.#directory, 'plugins');
    const named = new Set<string>();
    for (const file of readdirSync(directory))
      for (const [hash] of readFileSync(join(directory, file), 'utf8').matchAll(/[0-9a-f]{64}/g)) named.add(hash);
    for (const file of readdirSync(join(this.#directory, 'modules')))
      if (!named.has(file.replace(/\.wasm$/, ''))) rmSync(join(this.#directory, 'modules', file), { force: true });
  }

  #statePath(name: string): string {
    return join(this.#directory, 'plugins', `${name}.json`);
  }

  #modulePath(sha256: string): string {
    return join(this.#directory, 'modules', `${sha256}.wasm`);
  }
}

export function hashOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function readChecked(path: string): StoredPlugin {
  const { sha256, state } = JSON.parse(readFileSync(path, 'utf8')) as { sha256: string; state: unknown };
  if (hashOf(Buffer.from(JSON.stringify(state))) !== sha256) throw new Error('its checksum does not match');
  return stateSchema.parse(state);
}

/** A crash leaves the file as it was, or as it is to be. */
export function replaceFile(path: string, content: string | Uint8Array): void {
  writeFileSync(`${path}.new`, content, { mode: 0o600, flush: true });
  renameSync(`${path}.new`, path);
}

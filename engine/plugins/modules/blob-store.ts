/**
 * Everything that was fetched, each file its own checksum: `fetched/SHA256` in the state directory, so that a restart without a network has it.
 *
 * Blobs that nobody names any more stay for a while, for who goes back to a version; of them the ones that were not used for longest leave first.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { hashOf, replaceFile } from '../version-store.ts';

/** Of blobs that nobody names: with the largest modules 64 MiB. */
const UNNAMED_MAX = 16;

export class BlobStore {
  readonly #directory: string;

  constructor(stateDirectory: string) {
    this.#directory = join(stateDirectory, 'fetched');
  }

  /** The bytes with that hash; undefined where there are none, or what is there is damaged. */
  read(sha256: string): Uint8Array | undefined {
    try {
      const bytes = readFileSync(join(this.#directory, sha256));
      return hashOf(bytes) === sha256 ? bytes : undefined;
    } catch {
      return undefined;
    }
  }

  /** Throws where it cannot be written. */
  write(bytes: Uint8Array): void {
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    replaceFile(join(this.#directory, hashOf(bytes)), bytes);
  }

  /** Lets others than the named ones go, as far as they are too many. Throws where the directory cannot be changed. */
  sweep(named: ReadonlySet<string>): void {
    const now = new Date();
    const others: { path: string; usedMs: number }[] = [];
    for (const file of this.#files()) {
      const path = join(this.#directory, file);
      if (named.has(file)) utimesSync(path, now, now);
      else others.push({ path, usedMs: statSync(path).mtimeMs });
    }
    others.sort((a, b) => b.usedMs - a.usedMs);
    for (const { path } of others.slice(UNNAMED_MAX)) rmSync(path, { force: true });
  }

  #files(): string[] {
    try {
      return readdirSync(this.#directory);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw error;
    }
  }
}

/**
 * The folder of built things that clones share: `${SLUICE_CACHE:-${XDG_CACHE_HOME:-~/.cache}}/sluice/cluster`. A thing's directory is named
 * by its inputs, so that another version is built anew and an old one is never taken for it; it is there whole or not at all.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, utimesSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { lock } from './lock.ts';

export function cacheDirectory(env: Readonly<Record<string, string | undefined>> = process.env): string {
  return join(env.SLUICE_CACHE || env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'sluice', 'cluster');
}

export interface Built {
  readonly name: string;
  /** Whatever it is made of: versions, flags, contents of files. */
  readonly inputs: readonly string[];
  /** Writes it into a directory that is there and empty. */
  readonly build: (directory: string) => Promise<void>;
  readonly report: (line: string) => void;
  readonly signal?: AbortSignal | undefined;
}

/** The name of a thing's directory: another one for other inputs, however they are divided. */
export function entryName(name: string, inputs: readonly string[]): string {
  return `${name}-${createHash('sha256').update(JSON.stringify(inputs)).digest('hex').slice(0, 16)}`;
}

/**
 * Returns the directory of a thing, which is built if it is not there. Of several builders, in this and other processes, one builds and the
 * others wait; one that was killed leaves nothing that counts.
 */
export async function cached({ name, inputs, build, report, signal }: Built): Promise<string> {
  const entry = join(cacheDirectory(), entryName(name, inputs));
  if (existsSync(entry)) {
    touch(entry);
    return entry;
  }
  mkdirSync(cacheDirectory(), { recursive: true });
  const unlock = await lock(`${entry}.lock`, () => report(`waiting for ${name}, which another process builds`), signal);
  try {
    if (existsSync(entry)) return entry;
    removeAbandoned(entry);
    const half = `${entry}.${process.pid}.half`;
    mkdirSync(half);
    try {
      await build(half);
      renameSync(half, entry);
    } finally {
      rmSync(half, { recursive: true, force: true });
    }
    return entry;
  } finally {
    unlock();
  }
}

/** For people who clean up: when it was used last. */
function touch(entry: string): void {
  const now = new Date();
  utimesSync(entry, now, now);
}

/** Takes away the halves of builders that were killed: whoever has the lock knows that nobody else builds. */
function removeAbandoned(entry: string): void {
  const name = entry.slice(cacheDirectory().length + 1);
  for (const other of readdirSync(cacheDirectory()))
    if (other.startsWith(`${name}.`) && other.endsWith('.half')) rmSync(join(cacheDirectory(), other), { recursive: true, force: true });
}

/** Which files are manifests. */
import { type Dirent, readdirSync, statSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { messageOf } from '../errors.ts';

/**
 * Whether a path below a directory is that of a manifest. Nothing hidden is one, and nothing in a hidden directory: a mounted ConfigMap
 * has its files once more in those.
 */
export function isManifestFile(directory: string, path: string): boolean {
  const steps = relative(directory, path).split(sep);
  return /\.(ya?ml|json)$/.test(path) && !steps.some((step) => step.startsWith('.'));
}

/** The manifests below a directory, sorted; where it cannot be read, why. */
export function manifestFiles(directory: string): { readonly files: readonly string[]; readonly problem: string } {
  try {
    return { files: filesBelow(directory, new Set()).sort(), problem: '' };
  } catch (error) {
    return { files: [], problem: messageOf(error) };
  }
}

/** Links lead into directories, too: each is entered once, so that none that leads back is followed for ever. */
function filesBelow(directory: string, entered: Set<string>): string[] {
  const { dev, ino } = statSync(directory, { bigint: true });
  if (entered.has(`${dev} ${ino}`)) return [];
  entered.add(`${dev} ${ino}`);
  const entries = readdirSync(directory, { withFileTypes: true }).sort(byKindAndName);
  return entries.flatMap((entry) => {
    if (entry.name.startsWith('.')) return [];
    const path = join(directory, entry.name);
    if (isDirectory(entry, path)) return filesBelow(path, entered);
    return isManifestFile(directory, path) ? [path] : [];
  });
}

/** A directory is found where it lies before it is by a link. */
function byKindAndName(a: Dirent, b: Dirent): number {
  return Number(a.isSymbolicLink()) - Number(b.isSymbolicLink()) || (a.name < b.name ? -1 : 1);
}

function isDirectory(entry: Dirent, path: string): boolean {
  if (!entry.isSymbolicLink()) return entry.isDirectory();
  try {
    return statSync(path).isDirectory();
  } catch {
    // A link that leads nowhere, or to itself, is told where it has the name of a manifest.
    return false;
  }
}

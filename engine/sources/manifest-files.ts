/** Which files are manifests. */
import { readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { messageOf } from '../errors.ts';

export function isManifestFile(path: string): boolean {
  const name = basename(path);
  return /\.(ya?ml|json)$/.test(name) && !name.startsWith('.');
}

/** The manifests below a directory, sorted; where it cannot be read, why. */
export function manifestFiles(directory: string): { readonly files: readonly string[]; readonly problem: string } {
  try {
    const files = readdirSync(directory, { recursive: true, withFileTypes: true })
      .filter((entry) => !entry.isDirectory() && isManifestFile(entry.name))
      .map((entry) => join(entry.parentPath, entry.name))
      .sort();
    return { files, problem: '' };
  } catch (error) {
    return { files: [], problem: messageOf(error) };
  }
}

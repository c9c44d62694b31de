/** Which files are manifests. */
import { readdirSync, realpathSync, statSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { messageOf } from '../errors.ts';

/**
 * Whether a path below a directory is that of a manifest. Nothing hidden is one, and nothing in a hidden directory: a mounted ConfigMap
 * has its files once more in those.
 */
export function isManifestFile(directory: string, path: string): boolean {
  return /\.(ya?ml|json)$/.test(path) && isOpenBelow(directory, path);
}

/** Whether a path is that of a directory, or below it with nothing hidden on the way. */
function isOpenBelow(directory: string, path: string): boolean {
  return !relative(directory, path)
    .split(sep)
    .some((step) => step.startsWith('.'));
}

/**
 * Tells of a link below a directory whether it leads to a directory that is found without it: because it lies there, or because
 * another link led to it. Who follows such links, too, has ever more paths where two of them lead back.
 */
export function repeatedLinks(directory: string): (link: string) => boolean {
  const first = new Map<string, string>();
  return (link) => {
    const target = leadsToDirectory(link) ? truePath(link) : undefined;
    if (target === undefined) return false;
    if (isOpenBelow(truePath(directory) ?? directory, target)) return true;
    const other = first.get(target);
    if (other !== undefined && other !== link && truePath(other) === target) return true;
    first.set(target, link);
    return false;
  };
}

function truePath(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined;
  }
}

/** A directory as a walk found it. */
export interface ManifestFiles {
  /** Sorted. */
  readonly files: readonly string[];
  /** By path, of each directory which one it is, of each other link where it leads: a watch follows what was there when it began. */
  readonly places: ReadonlyMap<string, string>;
  /** Why it cannot be read; empty where it can. */
  readonly problem: string;
}

/** The manifests below a directory. */
export function manifestFiles(directory: string): ManifestFiles {
  try {
    const { files, places } = filesBelow(directory);
    return { files: files.sort(), places, problem: '' };
  } catch (error) {
    return { files: [], places: new Map(), problem: messageOf(error) };
  }
}

/**
 * Links lead into directories, too. Each directory is entered once, so that none that leads back is followed for ever, and where it
 * lies rather than by a link: whoever makes or removes a link there takes no file of others along.
 */
function filesBelow(directory: string): Found {
  const found: Found = { files: [], links: [directory], entered: new Set(), places: new Map() };
  // Also links that are found behind a link.
  for (const link of found.links) enter(link, found);
  return found;
}

interface Found {
  readonly files: string[];
  /** Links to directories, which are entered after everything that lies in the directory itself. */
  readonly links: string[];
  readonly entered: Set<string>;
  readonly places: Map<string, string>;
}

function enter(directory: string, found: Found): void {
  const { dev, ino } = statSync(directory, { bigint: true });
  const place = `${dev} ${ino}`;
  found.places.set(directory, place);
  if (found.entered.has(place)) return;
  found.entered.add(place);
  for (const entry of readdirSync(directory, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))) {
    if (entry.name.startsWith('.')) continue;
    const path = join(directory, entry.name);
    if (entry.isDirectory()) enter(path, found);
    else if (entry.isSymbolicLink() && leadsToDirectory(path)) found.links.push(path);
    else {
      if (entry.isSymbolicLink()) found.places.set(path, truePath(path) ?? '');
      if (isManifestFile(directory, path)) found.files.push(path);
    }
  }
}

function leadsToDirectory(link: string): boolean {
  try {
    return statSync(link).isDirectory();
  } catch {
    // A link that leads nowhere, or to itself, is told where it has the name of a manifest.
    return false;
  }
}

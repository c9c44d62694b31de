/** The lab's view of manifests: pods as people write them, and the same with what a node would fill in. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { EngineError, messageOf } from '../errors.ts';

/** A Kubernetes object as it stands in a file. */
export interface Manifest {
  kind?: string;
  metadata?: { name?: string; namespace?: string; annotations?: Record<string, string>; labels?: Record<string, string> };
  spec?: { containers?: Container[]; hostNetwork?: boolean };
  status?: { podIPs?: { ip: string }[]; phase?: string };
  items?: Manifest[];
}

export interface Container {
  name?: string;
  image?: string;
  command?: string[];
  args?: string[];
  ports?: { containerPort: number }[];
}

/** Every object in these files and in the manifests below these directories. @throws EngineError `LAB` */
export function readManifests(paths: readonly string[]): Manifest[] {
  return paths.flatMap((path) => filesIn(path).flatMap(readFile));
}

function filesIn(path: string): string[] {
  const status = statSync(path, { throwIfNoEntry: false });
  if (!status) throw new EngineError('LAB', `Cannot read ${path}: no such file or directory`);
  if (!status.isDirectory()) return [path];
  return readdirSync(path, { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(ya?ml|json)$/.test(name))
    .map((name) => join(path, name))
    .sort();
}

function readFile(path: string): Manifest[] {
  try {
    return parseAllDocuments(readFileSync(path, 'utf8')).flatMap((document) => {
      if (document.errors[0]) throw document.errors[0];
      const value = document.toJS() as Manifest | null;
      return value ? (value.items ?? [value]) : [];
    });
  } catch (error) {
    throw new EngineError('LAB', `Cannot read ${path}: ${messageOf(error)}`, error);
  }
}

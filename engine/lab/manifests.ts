/** The lab's view of manifests: pods as people write them, and the same with what a node would fill in. */
import { readFileSync, statSync } from 'node:fs';
import { EngineError, messageOf } from '../errors.ts';
import type { Problem } from '../policy/problem.ts';
import { manifestFiles } from '../sources/manifest-files.ts';
import { ManifestText, objectsIn, readDocuments } from '../sources/manifest-text.ts';

/** A Kubernetes object as it stands in a file. */
export interface Manifest {
  kind?: string;
  metadata?: { name?: string; namespace?: string; annotations?: Record<string, string>; labels?: Record<string, string> };
  spec?: { containers?: Container[]; hostNetwork?: boolean };
  status?: { podIPs?: { ip: string }[]; phase?: string };
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

function filesIn(path: string): readonly string[] {
  const status = statSync(path, { throwIfNoEntry: false });
  if (!status) throw new EngineError('LAB', `Cannot read ${path}: no such file or directory`);
  if (!status.isDirectory()) return [path];
  const { files, problem } = manifestFiles(path);
  if (problem) throw new EngineError('LAB', `Cannot read ${path}: ${problem}`);
  return files;
}

function readFile(path: string): Manifest[] {
  const problems: Problem[] = [];
  try {
    const documents = readDocuments(new ManifestText(path, readFileSync(path, 'utf8')), problems) ?? [];
    const objects = objectsIn(documents, path, problems).map(({ raw }) => raw as Manifest);
    if (problems[0]) throw new Error(problems[0].reason);
    return objects;
  } catch (error) {
    throw new EngineError('LAB', `Cannot read ${path}: ${messageOf(error)}`, error);
  }
}

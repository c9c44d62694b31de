/** From the text of a file to objects: YAML or JSON, many documents, Lists. Every problem has its line. */
import { dirname, resolve } from 'node:path';
import type { Problem } from '../policy/problem.ts';
import { type FoundObject, ManifestText, objectsIn, readDocuments } from './manifest-text.ts';
import type { Origin } from './raw-object.ts';
import { type ReadObject, readObject } from './read-object.ts';

export interface Manifest {
  readonly objects: readonly ReadObject[];
  readonly problems: readonly Problem[];
  /** The text is not YAML at all: what it said before should stay in force. */
  readonly unreadable: boolean;
}

/** Reads a manifest. Never throws: what is wrong is in `problems`. */
export function readManifest(file: string, content: string): Manifest {
  const text = new ManifestText(file, content);
  const problems: Problem[] = [];
  const documents = readDocuments(text, problems);
  if (!documents) return { objects: [], problems, unreadable: true };
  const objects: ReadObject[] = [];
  for (const found of objectsIn(documents, file, problems)) {
    const { object, problems: own } = readObject(found.raw, originIn(text, found));
    if (object) objects.push(object);
    problems.push(...own);
  }
  return { objects, problems, unreadable: false };
}

function originIn(text: ManifestText, { document, base }: FoundObject): Origin {
  const { file } = text;
  return {
    locate: (path, object) => {
      const line = text.lineOf(document, [...base, ...path]);
      return { at: 'file', file, ...(line !== undefined && { line }), object };
    },
    resolveFile: (path) => resolve(dirname(file), path),
    mayPlace: true,
  };
}

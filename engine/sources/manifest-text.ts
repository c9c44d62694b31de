/**
 * The text of a manifest: its documents as plain values, and the way from a place in one of them back to a line.
 *
 * A fast parser reads what is well-formed. The one that keeps positions is slow, and is asked only where something is wrong.
 */
import { CORE_SCHEMA, loadAll } from 'js-yaml';
import { type Document, LineCounter, parseAllDocuments } from 'yaml';
import type { Problem } from '../policy/problem.ts';
import { isRecord, type Path } from './raw-object.ts';

/** A file's text, with the way from a place in one of its documents back to a line. */
export class ManifestText {
  readonly file: string;
  readonly text: string;
  readonly #lines = new LineCounter();
  #documents: Document[] | undefined;

  constructor(file: string, text: string) {
    this.file = file;
    this.text = text;
  }

  /** With positions; slow, and needed only where something is wrong. */
  get documents(): Document[] {
    if (!this.#documents) {
      const parsed = parseAllDocuments(this.text, { lineCounter: this.#lines, prettyErrors: false });
      this.#documents = Array.isArray(parsed) ? parsed : [];
    }
    return this.#documents;
  }

  lineAt(offset: number): number {
    return this.#lines.linePos(offset).line;
  }

  /** The line of the deepest part of the path that exists; undefined where the text has none of it. */
  lineOf(document: number, path: Path): number | undefined {
    for (let depth = path.length; depth >= 0; depth--) {
      const node = this.documents[document]?.getIn(path.slice(0, depth), true) as { range?: [number, number, number] } | undefined;
      if (node?.range) return this.lineAt(node.range[0]);
    }
    return undefined;
  }
}

/** The documents of a text; undefined where it is not YAML, and `problems` says why. */
export function readDocuments(text: ManifestText, problems: Problem[]): unknown[] | undefined {
  return readFast(text.text) ?? readExactly(text, problems);
}

/** The documents of a text by a parser that keeps no positions, or undefined where it finds something odd. */
function readFast(text: string): unknown[] | undefined {
  // Aliases may multiply what they stand for: left to the parser that counts them.
  if (text.includes('&') && text.includes('*')) return undefined;
  try {
    return /^\s*[{[]/.test(text) ? [JSON.parse(text)] : loadAll(text, { schema: CORE_SCHEMA });
  } catch {
    return undefined;
  }
}

/** The same by the parser that says where it is wrong. */
function readExactly(text: ManifestText, problems: Problem[]): unknown[] | undefined {
  const { file } = text;
  const broken = text.documents.flatMap((document) => document.errors);
  for (const error of broken)
    problems.push({ place: { at: 'file', file, line: text.lineAt(error.pos[0]) }, reason: `not valid YAML: ${error.message}` });
  if (broken.length) return undefined;
  try {
    return text.documents.map((document) => document.toJS({ maxAliasCount: 100 }) as unknown);
  } catch (error) {
    problems.push({ place: { at: 'file', file }, reason: `not valid YAML: ${(error as Error).message}` });
    return undefined;
  }
}

/** An object of a text as it was written, and the way to it: its document, and where in that. */
export interface FoundObject {
  readonly raw: Record<string, unknown>;
  readonly document: number;
  readonly base: Path;
}

/** The objects in the documents of a text, those in Lists included. What is no object is a problem. */
export function objectsIn(documents: readonly unknown[], file: string, problems: Problem[]): FoundObject[] {
  const within = (value: unknown, document: number, base: Path): FoundObject[] => {
    if (value === null || value === undefined) return [];
    if (!isRecord(value) || Array.isArray(value)) {
      problems.push({ place: { at: 'file', file }, reason: 'not a Kubernetes object: must be a map with apiVersion and kind' });
      return [];
    }
    if (typeof value.kind === 'string' && value.kind.endsWith('List') && Array.isArray(value.items))
      return value.items.flatMap((item, i) => within(item, document, [...base, 'items', i]));
    return [{ raw: value, document, base }];
  };
  return documents.flatMap((value, document) => within(value, document, []));
}

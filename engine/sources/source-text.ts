/**
 * The text of a manifest: its documents as plain values, and the way from a place in one of them back to a line.
 *
 * A fast parser reads what is well-formed. The one that keeps positions is slow, and is asked only where something is wrong.
 */
import { CORE_SCHEMA, loadAll } from 'js-yaml';
import { type Document, LineCounter, parseAllDocuments } from 'yaml';
import type { z } from 'zod';
import type { Problem } from '../policy/snapshot.ts';

const CLUSTER_SCOPED = new Set(['Namespace', 'ClusterNetworkPolicy', 'PolicyPlugin', 'HostPolicy']);

/** Where an object stands; its line is looked for when somebody asks. */
export interface ObjectPlace {
  readonly file: string;
  readonly object: string;
  line(): number;
}

export type Path = readonly (string | number)[];

/** A file's text, with the way from a place in one of its documents back to a line. */
export class SourceText {
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

  /** The line of the deepest part of the path that exists. */
  lineOf(document: number, path: Path): number {
    for (let depth = path.length; depth >= 0; depth--) {
      const node = this.documents[document]?.getIn(path.slice(0, depth), true) as { range?: [number, number, number] } | undefined;
      if (node?.range) return this.lineAt(node.range[0]);
    }
    return 0;
  }
}

/** One object in a document. */
export class Source {
  readonly raw: Record<string, unknown>;
  readonly file: string;
  readonly problems: Problem[] = [];
  readonly #text: SourceText;
  readonly #document: number;
  readonly #base: Path;

  constructor(raw: Record<string, unknown>, text: SourceText, document: number, base: Path) {
    this.raw = raw;
    this.file = text.file;
    this.#text = text;
    this.#document = document;
    this.#base = base;
  }

  get metadata(): Record<string, unknown> {
    return isRecord(this.raw.metadata) ? this.raw.metadata : {};
  }

  /** `NetworkPolicy shop/web` */
  get title(): string {
    const { name, namespace } = this.metadata;
    const clusterScoped = CLUSTER_SCOPED.has(String(this.raw.kind));
    return `${String(this.raw.kind)} ${clusterScoped ? '' : `${String(namespace ?? 'default')}/`}${String(name ?? '?')}`;
  }

  /** The object itself, to be reported later. */
  get place(): ObjectPlace {
    return { file: this.file, line: () => this.#text.lineOf(this.#document, this.#base), object: this.title };
  }

  report(path: Path, reason: string): void {
    const where = path.length
      ? `${path.map((part) => (typeof part === 'number' ? `[${part}]` : `.${part}`)).join('')}: `.replace(/^\./, '')
      : '';
    this.problems.push({
      file: this.file,
      line: this.#text.lineOf(this.#document, [...this.#base, ...path]),
      object: this.title,
      reason: `${where}${reason}`,
    });
  }

  /** The part at the path in the snapshot's form, or undefined when it is not valid; its problems are then reported. */
  parse<T extends z.ZodType>(part: T, path: Path): z.output<T> | undefined {
    const value = path.reduce<unknown>((at, key) => (isRecord(at) ? at[key] : undefined), this.raw);
    const result = part.safeParse(value);
    if (result.success) return result.data;
    for (const issue of result.error.issues.flatMap(flattenUnion)) this.report([...path, ...(issue.path as Path)], issue.message);
    return undefined;
  }
}

/** A union's issues are those of the alternative that came closest: the one that failed deepest, or with fewest. */
function flattenUnion(issue: z.core.$ZodIssue): z.core.$ZodIssue[] {
  if (issue.code !== 'invalid_union' || !issue.errors.length || issue.message !== 'Invalid input') return [issue];
  const depth = (issues: z.core.$ZodIssue[]): number =>
    Math.max(...issues.map((inner) => inner.path.length + (inner.code === 'unrecognized_keys' ? -1 : 0)));
  const closest = [...issue.errors].sort((a, b) => depth(b) - depth(a) || a.length - b.length)[0] ?? [];
  return closest.flatMap((inner) => flattenUnion({ ...inner, path: [...issue.path, ...inner.path] }));
}

/** The documents of a text; undefined where it is not YAML, and `problems` says why. */
export function readDocuments(source: SourceText, problems: Problem[]): unknown[] | undefined {
  return readFast(source.text) ?? readExactly(source, problems);
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
function readExactly(source: SourceText, problems: Problem[]): unknown[] | undefined {
  const broken = source.documents.flatMap((document) => document.errors);
  for (const error of broken)
    problems.push({ file: source.file, line: source.lineAt(error.pos[0]), object: '', reason: `not valid YAML: ${error.message}` });
  if (broken.length) return undefined;
  try {
    return source.documents.map((document) => document.toJS({ maxAliasCount: 100 }) as unknown);
  } catch (error) {
    problems.push({ file: source.file, line: 0, object: '', reason: `not valid YAML: ${(error as Error).message}` });
    return undefined;
  }
}

export function isRecord(value: unknown): value is Record<string | number, unknown> & Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

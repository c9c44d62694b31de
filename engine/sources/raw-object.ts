/** One object as somebody wrote it, whether in a file or through an API: read part by part, with what is wrong about it. */

import type { z } from 'zod';
import { objectName } from '../policy/object-name.ts';
import type { Problem, ProblemPlace } from '../policy/problem.ts';

const CLUSTER_SCOPED = new Set(['Namespace', 'ClusterNetworkPolicy', 'PolicyPlugin', 'HostPolicy']);

export type Path = readonly (string | number)[];

/** Where an object comes from. */
export interface Origin {
  /** Where a part of it stands; the object itself where the path is empty. `title` is the object's. */
  locate(path: Path, title: string): ProblemPlace;
  /** The file that is meant by a path in the object; absent: it can name none. */
  resolveFile?(path: string): string;
  /** Whoever writes objects there may say where on this node a pod is, and whose DNS answers are believed. Absent: he may not. */
  readonly mayPlace?: true;
  /** The node that this is, where an API says which node a pod is on. */
  readonly nodeName?: string;
}

export class RawObject {
  readonly raw: Record<string, unknown>;
  readonly origin: Origin;
  readonly problems: Problem[] = [];

  constructor(raw: Record<string, unknown>, origin: Origin) {
    this.raw = raw;
    this.origin = origin;
  }

  get metadata(): Record<string, unknown> {
    return isRecord(this.raw.metadata) ? this.raw.metadata : {};
  }

  /** `NetworkPolicy shop/web` */
  get title(): string {
    const { name, namespace } = this.metadata;
    const kind = textOf(this.raw.kind) ?? '?';
    const own = CLUSTER_SCOPED.has(kind) ? undefined : (textOf(namespace) ?? 'default');
    return `${kind} ${objectName({ namespace: own, name: textOf(name) ?? '?' })}`;
  }

  report(path: Path, reason: string): void {
    const where = path.length
      ? `${path.map((part) => (typeof part === 'number' ? `[${part}]` : `.${part}`)).join('')}: `.replace(/^\./, '')
      : '';
    this.problems.push({ place: this.origin.locate(path, this.title), reason: `${where}${reason}` });
  }

  /** The part at the path in the form that policy is compiled from; undefined when it is not valid: its problems are then reported. */
  parse<T extends z.ZodType>(part: T, path: Path): z.output<T> | undefined {
    const value = path.reduce<unknown>((at, key) => (isRecord(at) ? at[key] : undefined), this.raw);
    const result = part.safeParse(value);
    if (result.success) return result.data;
    for (const issue of result.error.issues.flatMap(flattenUnion)) this.report([...path, ...(issue.path as Path)], issue.message);
    return undefined;
  }
}

/** A text with a question mark in place of each control character. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, '?');
}

/** A name as far as it is one: a file may have anything there. */
function textOf(value: unknown): string | undefined {
  return typeof value === 'string' || typeof value === 'number' ? printable(`${value}`) : undefined;
}

/** A union's issues are those of the alternative that came closest: the one that failed deepest, or with fewest. */
function flattenUnion(issue: z.core.$ZodIssue): z.core.$ZodIssue[] {
  if (issue.code !== 'invalid_union' || !issue.errors.length || issue.message !== 'Invalid input') return [issue];
  const depth = (issues: z.core.$ZodIssue[]): number =>
    Math.max(...issues.map((inner) => inner.path.length + (inner.code === 'unrecognized_keys' ? -1 : 0)));
  const closest = [...issue.errors].sort((a, b) => depth(b) - depth(a) || a.length - b.length)[0] ?? [];
  return closest.flatMap((inner) => flattenUnion({ ...inner, path: [...issue.path, ...inner.path] }));
}

export function isRecord(value: unknown): value is Record<string | number, unknown> & Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

/** Problems: something in a source is not in force as its author meant it. Why, and where it stands. */
import { objectName } from './object-name.ts';

/** An object of the cluster, by the names that people have for it. */
export interface ObjectName {
  /** `NetworkPolicy` */
  readonly kind: string;
  /** Absent for what belongs to none. */
  readonly namespace?: string;
  readonly name: string;
  /** Of the object, such as `egress[0]`. */
  readonly part?: string;
}

export type ProblemPlace =
  /** Text in a file; without a line the whole file, without an object whatever stands there. */
  | { readonly at: 'file'; readonly file: string; readonly line?: number; readonly object?: string }
  /** An object, wherever it comes from. */
  | { readonly at: 'object'; readonly object: ObjectName }
  /** No object: a part of this engine, such as `host firewall`, or the engine as such where it is empty. */
  | { readonly at: 'engine'; readonly part: string };

export interface Problem {
  readonly place: ProblemPlace;
  readonly reason: string;
  /** It mends itself when what it waits for comes. */
  readonly pending?: boolean | undefined;
}

/** A problem as the API and the command line show it. */
export interface ProblemView {
  readonly file?: string | undefined;
  /** From 1; absent where the whole file is meant. */
  readonly line?: number | undefined;
  /** `NetworkPolicy shop/web`, or empty. */
  readonly object: string;
  readonly reason: string;
  readonly pending?: boolean | undefined;
}

/** A problem with an object as it is known here. */
export function objectProblem(object: ObjectName, reason: string, pending = false): Problem {
  return { place: { at: 'object', object }, reason, ...(pending && { pending }) };
}

/** A problem that no object has. */
export function engineProblem(part: string, reason: string): Problem {
  return { place: { at: 'engine', part }, reason };
}

/** `NetworkPolicy shop/web egress[0]` */
export function formatObjectName({ kind, namespace, name, part }: ObjectName): string {
  return `${kind} ${objectName({ namespace, name })}${part ? ` ${part}` : ''}`;
}

export function viewProblem({ place, reason, pending }: Problem): ProblemView {
  const rest = { reason, ...(pending && { pending }) };
  switch (place.at) {
    case 'file':
      return { file: place.file, ...(place.line !== undefined && { line: place.line }), object: place.object ?? '', ...rest };
    case 'object':
      return { object: formatObjectName(place.object), ...rest };
    case 'engine':
      return { object: place.part, ...rest };
  }
}

/** `web.yaml:12: NetworkPolicy shop/web: reason` */
export function formatProblem({ file, line, object, reason }: ProblemView): string {
  return [file && (line === undefined ? file : `${file}:${line}`), object, reason].filter(Boolean).join(': ');
}

/** Problems that there are now, by who found them, and which are new or gone since somebody asked. */
export class ProblemLedger {
  readonly #found = new Map<string, readonly Problem[]>();
  /** Text → the problem, and how often it was found. */
  readonly #current = new Map<string, { readonly problem: Problem; times: number }>();
  readonly #told = new Map<string, Problem>();
  readonly #touched = new Set<string>();

  get size(): number {
    return this.#current.size;
  }

  get all(): Problem[] {
    return [...this.#current.values()].map(({ problem }) => problem);
  }

  /** Takes over everything that is wrong with a subject, in place of what was. */
  set(subject: string, problems: readonly Problem[]): void {
    const before = this.#found.get(subject);
    if (!before && !problems.length) return;
    // New ones come first: a problem that stays is never gone between.
    for (const problem of problems) this.#count(problem, 1);
    for (const problem of before ?? []) this.#count(problem, -1);
    if (problems.length) this.#found.set(subject, problems);
    else this.#found.delete(subject);
  }

  /** The problems that came and went since this was asked last. */
  takeChanges(): { readonly found: readonly Problem[]; readonly resolved: readonly Problem[] } {
    const found: Problem[] = [];
    const resolved: Problem[] = [];
    for (const text of this.#touched) {
      const told = this.#told.get(text);
      const now = this.#current.get(text)?.problem;
      if (now && !told) {
        found.push(now);
        this.#told.set(text, now);
      } else if (told && !now) {
        resolved.push(told);
        this.#told.delete(text);
      }
    }
    this.#touched.clear();
    return { found, resolved };
  }

  #count(problem: Problem, by: 1 | -1): void {
    const text = formatProblem(viewProblem(problem));
    this.#touched.add(text);
    const known = this.#current.get(text);
    if (!known) this.#current.set(text, { problem, times: 1 });
    else if (!(known.times += by)) this.#current.delete(text);
  }
}

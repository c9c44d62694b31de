/**
 * The nodes' reports, and what they come to for an object: on how many nodes it is in force, and on which it is not.
 *
 * A report has checksums of the versions that its node enforces. One that is equal to ours, or to one that ours was before, says up to
 * which of the changes, as they came here, the node is. A node is never taken back: if it did not change, it stands.
 */
import type { ObjectVersion, ObjectVersions } from '../policy/object-versions.ts';
import { PARTS, parseChecksums, partOf, versionKey } from '../policy/object-versions.ts';
import { FAILING_NODES_MAX, type NodeReport, nodeReport } from './status-schema.ts';

/** Former checksums of a part that are known again. */
const HISTORY_MAX = 32;

interface Node {
  /** Of each part: it has every change up to this one. */
  readonly upTo: Float64Array;
  report: NodeReport;
}

/** An object on all nodes. */
export interface Spread {
  readonly total: number;
  readonly ready: number;
  /** By node's name; the first of them. */
  readonly failing: readonly { readonly node: string; readonly reason: string }[];
  readonly failingTotal: number;
}

interface Known {
  readonly version: ObjectVersion;
  readonly part: number;
  /** The change that brought this version. */
  readonly since: number;
}

export class Reports {
  readonly #versions: ObjectVersions;
  readonly #nodes = new Map<string, Node>();
  readonly #known = new Map<string, Known>();
  /** Object → nodes that name it → why. */
  readonly #failing = new Map<string, Map<string, string>>();
  /** Of each part: a checksum that ours was → the last change that it had. */
  readonly #history = Array.from({ length: PARTS }, () => new Map<number, number>());
  /** Of each part: `upTo` of all nodes, sorted. */
  readonly #sorted = new Map<number, Float64Array>();
  #change = 1;
  #seenRevision = -1;

  constructor(versions: ObjectVersions) {
    this.#versions = versions;
  }

  /** Of the nodes that have reported. */
  get names(): string[] {
    return [...this.#nodes.keys()];
  }

  get objects(): ReadonlyMap<string, Known> {
    return this.#known;
  }

  /** Takes a report; undefined, and whatever is none: the node is gone. */
  set(node: string, written: unknown): void {
    const read = nodeReport.safeParse(written);
    const before = this.#nodes.get(node);
    for (const { key } of failingOf(before?.report)) this.#forgetFailing(key, node);
    this.#sorted.clear();
    if (!read.success) return void this.#nodes.delete(node);
    this.#nodes.set(node, { upTo: before?.upTo ?? new Float64Array(PARTS), report: read.data });
    for (const { key, reason } of failingOf(read.data)) {
      const nodes = this.#failing.get(key);
      if (nodes) nodes.set(node, reason);
      else this.#failing.set(key, new Map([[node, reason]]));
    }
    this.#compare(this.#nodes.get(node) as Node);
  }

  /** Takes over which versions there are now. */
  follow(): void {
    if (this.#versions.revision === this.#seenRevision) return;
    this.#seenRevision = this.#versions.revision;
    this.#change += 1;
    const gone = new Set(this.#known.keys());
    for (const [key, version] of this.#versions) {
      gone.delete(key);
      const before = this.#known.get(key);
      if (before?.version.uid === version.uid && before.version.generation === version.generation) continue;
      this.#known.set(key, { version, part: partOf(key), since: this.#change });
    }
    for (const key of gone) this.#known.delete(key);
    for (const [part, sum] of this.#versions.checksums.entries()) this.#note(part, sum);
    for (const node of this.#nodes.values()) this.#compare(node);
    this.#sorted.clear();
  }

  spread(key: string): Spread {
    const { part, since } = this.#known.get(key) as Known;
    const failing = new Map(this.#failing.get(key));
    for (const [name, { report, upTo }] of this.#nodes)
      if (report.problem !== undefined && (upTo[part] as number) < since && !failing.has(name)) failing.set(name, report.problem);
    const upToDate = countFrom(this.#sortedOf(part), since);
    const failingUpToDate = [...failing.keys()].filter((name) => ((this.#nodes.get(name) as Node).upTo[part] as number) >= since).length;
    const named = [...failing].sort(([a], [b]) => (a < b ? -1 : 1)).slice(0, FAILING_NODES_MAX);
    return {
      total: this.#nodes.size,
      ready: upToDate - failingUpToDate,
      failing: named.map(([node, reason]) => ({ node, reason })),
      failingTotal: failing.size,
    };
  }

  /** Why objects are not in force, and on which nodes: object → reason → nodes. */
  *failures(): Generator<{ readonly key: string; readonly reason: string; readonly nodes: readonly string[] }> {
    for (const [key, nodes] of this.#failing)
      for (const [reason, same] of Map.groupBy(nodes, ([, why]) => why)) yield { key, reason, nodes: same.map(([node]) => node).sort() };
  }

  #forgetFailing(key: string, node: string): void {
    const nodes = this.#failing.get(key);
    nodes?.delete(node);
    if (nodes?.size === 0) this.#failing.delete(key);
  }

  /** Notes a checksum of ours; of one that comes again, the later change counts. */
  #note(part: number, sum: number): void {
    const history = this.#history[part] as Map<number, number>;
    history.delete(sum);
    history.set(sum, this.#change);
    const [oldest] = history.keys();
    if (history.size > HISTORY_MAX && oldest !== undefined) history.delete(oldest);
  }

  #compare({ report, upTo }: Node): void {
    for (const [part, sum] of parseChecksums(report.objects)?.entries() ?? []) {
      const change = this.#history[part]?.get(sum);
      if (change !== undefined) upTo[part] = Math.max(upTo[part] as number, change);
    }
  }

  #sortedOf(part: number): Float64Array {
    let sorted = this.#sorted.get(part);
    if (!sorted) {
      sorted = Float64Array.from(this.#nodes.values(), ({ upTo }) => upTo[part] as number).sort();
      this.#sorted.set(part, sorted);
    }
    return sorted;
  }
}

function failingOf(report: NodeReport | undefined): { readonly key: string; readonly reason: string }[] {
  return (report?.failing ?? []).map((object) => ({ key: versionKey(object), reason: object.reason }));
}

/** How many of sorted numbers are that large. */
function countFrom(sorted: Float64Array, least: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] as number) < least) low = middle + 1;
    else high = middle;
  }
  return sorted.length - low;
}

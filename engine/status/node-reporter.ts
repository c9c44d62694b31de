/**
 * The report of this node: written when it changes, at most once in an interval that grows with the cluster, so that the nodes of a
 * cluster together write at a bounded rate; and now and then without a change, in case somebody took it away.
 */
import { messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import { formatChecksums, versionKey } from '../policy/object-versions.ts';
import type { Problem } from '../policy/problem.ts';
import { type AnyObject, type ObjectApi, OWN_API, REPORTS } from './object-api.ts';
import { FAILING_OBJECTS_MAX, type NodeReport, REASON_MAX } from './status-schema.ts';

/** All nodes together report at most 200 times a second. */
const REPORT_MS = { least: 2000, most: 60_000, perNode: 5 } as const;
const ANEW_MS = 30 * 60_000;

/** Everything that is in force on this node, at one moment. */
export interface InForce {
  readonly checksums: Uint32Array;
  /** Of objects that could be read. */
  readonly problems: readonly Problem[];
  /** Why what came last could not be put in force. */
  readonly failure?: string | undefined;
}

export interface NodeReporterParts {
  readonly api: Pick<ObjectApi, 'apply' | 'get'>;
  readonly nodeName: string;
  readonly engineVersion: string;
  /** undefined: what is known was not put in force yet. */
  readonly inForce: () => InForce | undefined;
  /** Nodes of the cluster. */
  readonly nodes: () => number;
  readonly log: Logger;
}

export class NodeReporter {
  readonly #parts: NodeReporterParts;
  #timer: NodeJS.Timeout | undefined;
  #written: { readonly text: string; readonly atMs: number } | undefined;
  #owner: AnyObject | undefined;
  #failed = false;

  constructor(parts: NodeReporterParts) {
    this.#parts = parts;
  }

  start(): void {
    // Nodes that hear of a change at the same moment do not all write at the same moment.
    this.#timer = setTimeout(() => void this.#again(), Math.random() * this.#intervalMs);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Writes the report, where it says something else than before. @throws Error */
  async report(): Promise<void> {
    const inForce = this.#parts.inForce();
    if (!inForce) return;
    const content = reportOf(inForce, this.#parts.engineVersion);
    const text = JSON.stringify(content);
    if (this.#written?.text === text && performance.now() - this.#written.atMs < ANEW_MS) return;
    const { api, nodeName } = this.#parts;
    this.#owner ??= await ownerOf(api, nodeName);
    await api.apply(`/apis/${OWN_API}/${REPORTS.plural}/${nodeName}`, {
      apiVersion: OWN_API,
      kind: 'NodeReport',
      // When the node goes, so does its report.
      metadata: { name: nodeName, ...(this.#owner && { ownerReferences: [this.#owner] }) },
      report: { ...content, reportedAt: new Date().toISOString() },
    });
    this.#written = { text, atMs: performance.now() };
  }

  get #intervalMs(): number {
    return Math.min(REPORT_MS.most, Math.max(REPORT_MS.least, this.#parts.nodes() * REPORT_MS.perNode));
  }

  async #again(): Promise<void> {
    try {
      await this.report();
      this.#failed = false;
    } catch (error) {
      if (!this.#failed) this.#parts.log.warn({ reason: messageOf(error) }, 'the report of this node could not be written');
      this.#failed = true;
    }
    if (this.#timer) this.#timer = setTimeout(() => void this.#again(), this.#intervalMs);
  }
}

async function ownerOf(api: Pick<ObjectApi, 'get'>, name: string): Promise<AnyObject | undefined> {
  const node = (await api.get(`/api/v1/nodes/${name}`)) as { metadata?: { uid?: unknown } } | undefined;
  const uid = node?.metadata?.uid;
  return typeof uid === 'string' ? { apiVersion: 'v1', kind: 'Node', name, uid } : undefined;
}

/** The report, but for when it was written. */
export function reportOf({ checksums, problems, failure }: InForce, engine: string): Omit<NodeReport, 'reportedAt'> {
  const byObject = reasonsByObject(problems);
  const failing = [...byObject.values()]
    .slice(0, FAILING_OBJECTS_MAX)
    .map(({ reasons, ...object }) => ({ ...object, reason: cut(reasons) }));
  const more = byObject.size - failing.length;
  return {
    engine,
    objects: formatChecksums(checksums),
    ...(failure !== undefined && { problem: cut([failure]) }),
    ...(failing.length && { failing }),
    ...(more && { more }),
  };
}

interface ObjectReasons {
  readonly kind: string;
  readonly namespace?: string;
  readonly name: string;
  readonly reasons: string[];
}

/** Of problems that objects have, the sentences by object, in the order of their names: equal problems, equal reports. */
export function reasonsByObject(problems: readonly Problem[]): Map<string, ObjectReasons> {
  const found = new Map<string, ObjectReasons>();
  for (const { place, reason } of problems) {
    if (place.at !== 'object') continue;
    const { kind, namespace, part } = place.object;
    // The name of a HostPolicy is followed by that of its text.
    const name = place.object.name.replace(/@.*$/, '');
    const key = versionKey({ kind, namespace, name });
    const sentence = part ? `${part}: ${reason}` : reason;
    const known = found.get(key);
    if (known) known.reasons.push(sentence);
    else found.set(key, { kind, ...(namespace !== undefined && { namespace }), name, reasons: [sentence] });
  }
  return new Map([...found].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Sentences as one text that is not too long. */
export function cut(sentences: readonly string[], most: number = REASON_MAX): string {
  const text = [...new Set(sentences)].sort().join('; ');
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

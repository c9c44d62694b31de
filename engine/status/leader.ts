/**
 * Writes the statuses of objects, and events about them, for all nodes: by what the nodes report, and by what this engine reads itself.
 *
 * A status is written when it says something else than before, of one object at most once in a round (ROUND_MS). Where only numbers of
 * nodes changed, that waits: a node more would else be a write of each object, and each write is told to every node.
 */
import { isDeepStrictEqual } from 'node:util';
import { messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import { type ObjectVersion, type ObjectVersions, versionKey } from '../policy/object-versions.ts';
import type { Problem } from '../policy/problem.ts';
import { isNews, statusOf } from './conditions.ts';
import { EventWriter, type Trouble } from './event-writer.ts';
import { reasonsByObject } from './node-reporter.ts';
import { type AnyObject, hasStatus, kindOf, type ObjectApi, statusPath } from './object-api.ts';
import type { Reports } from './reports.ts';
import { type ObjectStatus, objectStatus } from './status-schema.ts';

export const ROUND_MS = 5000;
/** Writes in a round: 20 a second of news, and two a second of numbers. */
const NEWS_MAX = 100;
const NUMBERS_MAX = 10;
/** Numbers of one object. */
const NUMBERS_MS = 60_000;
/** One that was refused does not keep the others waiting. */
const PUT_OFF_MS = 30_000;

export interface LeaderParts {
  readonly api: Pick<ObjectApi, 'apply' | 'create' | 'merge' | 'list'>;
  readonly versions: ObjectVersions;
  readonly reports: Reports;
  /** Of objects as this engine reads them. */
  readonly readProblems: () => readonly Problem[];
  readonly identity: string;
  /** Monotonic. */
  readonly nowMs: () => number;
  readonly log: Logger;
}

interface Written {
  readonly uid: string;
  readonly status: ObjectStatus;
  readonly atMs: number;
}

interface Due {
  readonly key: string;
  readonly version: ObjectVersion;
  readonly status: ObjectStatus;
}

export class Leader {
  readonly #parts: LeaderParts;
  readonly #events: EventWriter;
  readonly #written = new Map<string, Written>();
  /** Objects whose status could not be written → until when they wait. */
  readonly #putOff = new Map<string, number>();
  /** Kinds whose statuses were read, as they were when this engine began to lead. */
  readonly #read = new Set<string>();
  #failed = false;

  constructor(parts: LeaderParts) {
    this.#parts = parts;
    this.#events = new EventWriter(parts.api, parts.identity, parts.nowMs);
  }

  /** Writes what is due. Never throws: what failed is due again. */
  async round(): Promise<void> {
    try {
      await this.#writeRound();
      this.#failed = false;
    } catch (error) {
      if (!this.#failed) this.#parts.log.warn({ reason: messageOf(error) }, 'statuses could not be written');
      this.#failed = true;
    }
  }

  async #writeRound(): Promise<void> {
    const { reports, versions } = this.#parts;
    reports.follow();
    const wrong = reasonsByObject(this.#parts.readProblems());
    await this.#readStatuses();
    const { news, numbers } = this.#due(new Map([...wrong].map(([key, { reasons }]) => [key, reasons])));
    for (const due of [...news.slice(0, NEWS_MAX), ...numbers.slice(0, NUMBERS_MAX)]) await this.#write(due);
    for (const known of [this.#written, this.#putOff]) for (const key of known.keys()) if (!versions.get(key)) known.delete(key);
    await this.#events.tell(this.#troubles(wrong));
  }

  #due(wrong: ReadonlyMap<string, readonly string[]>): { news: Due[]; numbers: Due[] } {
    const { reports, nowMs } = this.#parts;
    const now = new Date().toISOString();
    const news: Due[] = [];
    const numbers: Due[] = [];
    for (const [key, { version }] of reports.objects) {
      if (!hasStatus(version) || nowMs() < (this.#putOff.get(key) ?? 0)) continue;
      const written = this.#written.get(key);
      const before = written?.uid === version.uid ? written.status : undefined;
      const facts = { generation: version.generation ?? 0, wrong: wrong.get(key) ?? [], spread: reports.spread(key) };
      const status = ofKind(version.kind, statusOf(facts, before, now));
      if (isNews(status, before)) news.push({ key, version, status });
      else if (nowMs() - (written?.atMs ?? 0) > NUMBERS_MS && !isDeepStrictEqual(status, before)) numbers.push({ key, version, status });
    }
    return { news, numbers };
  }

  async #write({ key, version, status }: Due): Promise<void> {
    const { apiVersion, kind, namespace, name, uid } = version;
    const metadata = { ...(namespace && { namespace }), name, uid };
    this.#putOff.set(key, this.#parts.nowMs() + PUT_OFF_MS);
    await this.#parts.api.apply(statusPath(version), { apiVersion, kind, metadata, status });
    this.#putOff.delete(key);
    this.#written.set(key, { uid, status, atMs: this.#parts.nowMs() });
  }

  /** Reads the statuses that another leader wrote: what they say already is not written again. */
  async #readStatuses(): Promise<void> {
    for (const { version } of this.#parts.reports.objects.values()) {
      const text = `${version.kind} of ${version.apiVersion}`;
      if (!hasStatus(version) || this.#read.has(text)) continue;
      await this.#parts.api.list(kindOf(version), (object) => this.#noteStatus(version.kind, object));
      this.#read.add(text);
    }
  }

  #noteStatus(kind: string, { metadata, status }: AnyObject): void {
    const { namespace, name, uid } = (metadata ?? {}) as { namespace?: string; name?: string; uid?: string };
    const known = objectStatus.safeParse(ofKind(kind, (status ?? {}) as ObjectStatus));
    if (!known.success || !known.data.conditions?.length || !name || !uid) return;
    this.#written.set(versionKey({ kind, namespace, name }), { uid, status: known.data, atMs: this.#parts.nowMs() });
  }

  *#troubles(wrong: ReturnType<typeof reasonsByObject>): Generator<Trouble> {
    const { versions, reports } = this.#parts;
    for (const [key, { reasons }] of wrong) {
      const object = versions.get(key);
      if (object) for (const why of new Set(reasons)) yield { object, reason: 'NotAccepted', why };
    }
    for (const { key, reason: why, nodes } of reports.failures()) {
      const object = versions.get(key);
      if (object) yield { object, reason: 'NotProgrammed', why, nodes };
    }
  }
}

/** As much of a status as a kind has: that of the network-policy-api has conditions only, and others' beside ours. */
function ofKind(kind: string, status: ObjectStatus): ObjectStatus {
  if (kind !== 'ClusterNetworkPolicy') return status;
  return { conditions: status.conditions?.filter?.(({ type }) => type === 'Accepted' || type === 'Programmed') };
}

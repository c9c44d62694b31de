/**
 * Kubernetes Events for problems that only the engines know: one for an object and a reason, wherever and however often it is found. Its
 * name follows from both, so that another leader goes on with it. Rate-limited: whatever is not written now still holds, and is later.
 */
import { createHash } from 'node:crypto';
import type { ObjectVersion } from '../policy/object-versions.ts';
import { collectionPath, EVENTS, microTime, type ObjectApi, objectPath } from './object-api.ts';

/** Events in one go of the leader. */
const BATCH = 5;
/** An event of a problem that lasts is told again: the API server forgets one after an hour. */
const AGAIN_MS = 30 * 60_000;
const NOTE_MAX = 1024;
const NAME_MAX = 200;

export interface Trouble {
  readonly object: ObjectVersion;
  readonly reason: 'NotAccepted' | 'NotProgrammed';
  /** Equal for all nodes that have it. */
  readonly why: string;
  /** Where, where it is about nodes. */
  readonly nodes?: readonly string[];
}

interface Told {
  readonly name: string;
  readonly namespace: string;
  atMs: number;
  times: number;
}

export class EventWriter {
  readonly #api: Pick<ObjectApi, 'create' | 'merge'>;
  readonly #instance: string;
  readonly #nowMs: () => number;
  readonly #told = new Map<string, Told>();

  /** `instance`: which engine writes them. */
  constructor(api: Pick<ObjectApi, 'create' | 'merge'>, instance: string, nowMs: () => number) {
    this.#api = api;
    this.#instance = instance.slice(0, 128);
    this.#nowMs = nowMs;
  }

  /** Writes events of all troubles that there are now, as far as there is room. @throws Error */
  async tell(troubles: Iterable<Trouble>): Promise<void> {
    const holding = new Set<string>();
    let room = BATCH;
    for (const trouble of troubles) {
      const id = idOf(trouble);
      holding.add(id);
      const told = this.#told.get(id);
      if (room <= 0 || (told && this.#nowMs() - told.atMs < AGAIN_MS)) continue;
      room -= 1;
      if (told && (await this.#again(told))) continue;
      await this.#create(id, trouble);
    }
    for (const id of this.#told.keys()) if (!holding.has(id)) this.#told.delete(id);
  }

  async #create(id: string, { object, reason, why, nodes }: Trouble): Promise<void> {
    // Of what is in no namespace, events are in this one.
    const namespace = object.namespace ?? 'default';
    const name = `${object.name.slice(0, NAME_MAX)}.${id}`;
    const where = nodes && `On ${nodes.length} ${nodes.length === 1 ? 'node' : 'nodes'} (${listed(nodes)}): `;
    await this.#api.create(collectionPath(EVENTS, namespace), {
      apiVersion: EVENTS.apiVersion,
      kind: 'Event',
      metadata: { name, namespace },
      eventTime: microTime(),
      reportingController: 'sluice.dev/engine',
      reportingInstance: this.#instance,
      action: 'Enforce',
      type: 'Warning',
      reason,
      note: `${where ?? ''}${why}`.slice(0, NOTE_MAX),
      regarding: {
        apiVersion: object.apiVersion,
        kind: object.kind,
        ...(object.namespace && { namespace: object.namespace }),
        name: object.name,
        uid: object.uid,
      },
    });
    // One that exists already is another leader's: the next time it goes on from here.
    this.#told.set(id, { name, namespace, atMs: this.#nowMs(), times: 1 });
  }

  /** Returns whether the event was still there. */
  async #again(told: Told): Promise<boolean> {
    const series = { count: told.times + 1, lastObservedTime: microTime() };
    const path = objectPath(EVENTS, told);
    if ((await this.#api.merge(path, { series })) !== 'done') return false;
    Object.assign(told, { atMs: this.#nowMs(), times: series.count });
    return true;
  }
}

function idOf({ object, reason, why }: Trouble): string {
  return createHash('sha256')
    .update(JSON.stringify([object.uid, reason, why]))
    .digest('hex')
    .slice(0, 16);
}

const LISTED = 5;
function listed(nodes: readonly string[]): string {
  const more = nodes.length - LISTED;
  return more > 0 ? `${nodes.slice(0, LISTED).join(', ')} and ${more} more` : nodes.join(', ');
}

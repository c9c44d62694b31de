/**
 * Where the pods of this node are that an API names: the node's veths and the container runtime's records, read when something may have
 * changed, and whose each veth is by that (assign-places.ts).
 *
 * Without such a pod nothing is read. A reading that fails changes nothing: what was found before stays in force.
 */
import { isDeepStrictEqual } from 'node:util';
import { messageOf } from '../errors.ts';
import type { VethReading } from '../kernel/veths.ts';
import type { Logger } from '../log.ts';
import { objectName } from '../policy/object-name.ts';
import type { Pod } from '../policy/objects.ts';
import { assignPlaces, type Found, type Surroundings } from './assign-places.ts';
import type { SandboxRecords } from './sandbox-records.ts';

export interface PodPlacesParts {
  /** The veths of this node, and which of them lead to the namespaces of these files. */
  readonly readVeths: (files: readonly string[]) => Promise<VethReading>;
  readonly records: Pick<SandboxRecords, 'read' | 'follow' | 'close'>;
  readonly log: Logger;
}

/** However much happens, readings begin so long after each other. */
const APART_MS = 50;
/** A pod that was not found is looked for again after this, then after twice as long, and so on. */
const AGAIN_MS = 100;
const AGAIN_MAX_MS = 5000;
/** Nothing says when an address or a namespace changes. */
const REST_MS = 30_000;

const NOT_SEEN: Found = { sites: [] };

export class PodPlaces {
  /** Called when a pod is elsewhere than when update() was called last. */
  onChange: () => void = () => {};
  readonly #parts: PodPlacesParts;
  /** All of them by name, and where they are. */
  #found = new Map<string, { readonly pod: Pod; readonly found: Found }>();
  readonly #pods = new Set<Pod>();
  /** Those that are elsewhere since update() was called last. */
  readonly #moved = new Set<Pod>();
  /** Pods that no reading has been made for. */
  readonly #unseen = new Set<Pod>();
  #seen: Surroundings | undefined;
  #timer: NodeJS.Timeout | undefined;
  #dueMs = Number.POSITIVE_INFINITY;
  #beganMs = Number.NEGATIVE_INFINITY;
  #againMs = AGAIN_MS;
  #reading: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;
  #closed = false;

  constructor(parts: PodPlacesParts) {
    this.#parts = parts;
    parts.records.follow(() => this.lookSoon());
  }

  /** Takes over pods that came or went, as `isThere` says; returns those that are elsewhere than when this was called last. */
  update(changed: Iterable<Pod>, isThere: (pod: Pod) => boolean): Pod[] {
    let news = false;
    for (const pod of changed) {
      if (this.#pods.has(pod) === (isLookedFor(pod) && isThere(pod))) continue;
      news = true;
      if (!this.#pods.delete(pod)) this.#add(pod);
    }
    if (news) {
      this.#assign();
      if (this.#lost) this.#againMs = AGAIN_MS;
      this.#lookWithin(this.#lost ? 0 : REST_MS);
    }
    const moved = [...this.#moved].filter((pod) => this.#pods.has(pod));
    this.#moved.clear();
    return moved;
  }

  find(pod: Pod): Found {
    const known = this.#found.get(objectName(pod));
    return known?.pod === pod ? known.found : NOT_SEEN;
  }

  /** Looks for these pods, too, before they are told; resolves when the node was read since the call. @throws EngineError `KERNEL_CALL` */
  async look(pods: Iterable<Pod>): Promise<void> {
    for (const pod of pods) if (isLookedFor(pod) && !this.#pods.has(pod)) this.#unseen.add(pod);
    if (this.#pods.size || this.#unseen.size) await this.#read();
  }

  /** Has the node read again: something is not where it was. */
  lookSoon(): void {
    if (this.#pods.size) this.#lookWithin(0);
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#parts.records.close();
    await this.#reading;
  }

  /** Whether a pod should be somewhere and is not. */
  get #lost(): boolean {
    return [...this.#found.values()].some(({ pod, found }) => pod.addresses.length > 0 && !found.sites.length);
  }

  #add(pod: Pod): void {
    this.#pods.add(pod);
    const before = this.#found.get(objectName(pod))?.pod;
    if (!isDeepStrictEqual(before?.addresses, pod.addresses)) this.#unseen.add(pod);
  }

  #assign(): void {
    const before = this.#found;
    const assigned = this.#seen ? assignPlaces(this.#pods, this.#seen, before) : new Map<Pod, Found>();
    this.#found = new Map(
      [...this.#pods].map((pod) => {
        const found = assigned.get(pod) ?? NOT_SEEN;
        // Nobody has looked for it yet: that is no news.
        return [objectName(pod), { pod, found: this.#unseen.has(pod) && !found.sites.length ? NOT_SEEN : found }];
      }),
    );
    for (const [name, now] of this.#found) if (!isDeepStrictEqual(before.get(name)?.found, now.found)) this.#moved.add(now.pod);
  }

  #lookWithin(delayMs: number): void {
    const nowMs = performance.now();
    const dueMs = Math.max(nowMs + delayMs, this.#beganMs + APART_MS);
    if (this.#closed || dueMs >= this.#dueMs) return;
    clearTimeout(this.#timer);
    this.#dueMs = dueMs;
    this.#timer = setTimeout(() => {
      this.#dueMs = Number.POSITIVE_INFINITY;
      if (this.#pods.size)
        this.#read().catch((error: unknown) =>
          this.#parts.log.warn({ reason: messageOf(error) }, 'node not read: places stay as they were'),
        );
    }, dueMs - nowMs);
  }

  /** A reading that begins after the call: one that is under way may have missed what this is about. */
  #read(): Promise<void> {
    this.#next ??= this.#reading.then(() => {
      this.#next = undefined;
      return this.#readNow();
    });
    this.#reading = this.#next.catch(() => {});
    return this.#next;
  }

  async #readNow(): Promise<void> {
    if (this.#closed) return;
    this.#beganMs = performance.now();
    const sought = [...this.#unseen];
    try {
      const records = this.#parts.records.read();
      const { veths, networks } = await this.#parts.readVeths(records.flatMap(({ network }) => network ?? []));
      this.#seen = { veths, networks, records };
      for (const pod of sought) this.#unseen.delete(pod);
      this.#assign();
      if (this.#moved.size) this.onChange();
    } finally {
      this.#lookWithin(this.#lost ? this.#againMs : REST_MS);
      if (this.#lost) this.#againMs = Math.min(this.#againMs * 2, AGAIN_MAX_MS);
    }
  }
}

/** Whether nothing names the place of a pod that runs here. */
export function isLookedFor({ local, cgroup, interface: name }: Pod): boolean {
  return local === true && cgroup === undefined && name === undefined;
}

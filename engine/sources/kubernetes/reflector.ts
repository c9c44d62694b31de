/**
 * Follows one kind: lists it, watches what happens after that, and begins anew where the server has lost the thread. Whatever fails, what
 * was told holds: only a complete list, or an event, takes an object away.
 *
 *     list ─▶ watch ─▶ the server ended it: watch on from the last version
 *      ▲        │
 *      │        ├─ broken, silent, refused ─▶ wait ─▶ watch on from the last version
 *      └────────┴─ the version is none any more (410) ─▶ wait ─▶ list
 *
 * Events are known by their version: one that is not newer than what was told is no news. So other lists and watches of the same kind may
 * be read beside, which is how catching up is done (catch-up.ts).
 */

import type { SlotChange } from '../source.ts';
import type { ApiClient } from './api-client.ts';
import { ApiFailure } from './api-failure.ts';
import { BackOff } from './back-off.ts';
import type { ApiEvent, Page } from './encodings.ts';
import type { KnownObjects } from './known-objects.ts';
import { inOtherVersion, type Resource, resourceName } from './resources.ts';
import { pause, spread, type Timing } from './timing.ts';

/** As client-go has it. */
export const PAGE_LIMIT = 500;
/** A list that goes on and on ends here. */
const OBJECTS_MAX = 2_000_000;
/** A watch that lived so many first waits is one. */
const SETTLED = 4;

export type Phase = 'listing' | 'watching' | 'waiting' | 'absent';

/** Why a kind is not followed, and since when, in milliseconds since 1970. */
export interface Trouble {
  readonly sinceMs: number;
  readonly reason: string;
}

export interface ReflectorParts {
  readonly resource: Resource;
  readonly api: Pick<ApiClient, 'list' | 'watch' | 'isServed'>;
  readonly known: KnownObjects;
  readonly timing: Timing;
  tell(changes: readonly SlotChange[]): void;
  /** It is another way than before. */
  changed(): void;
}

export class Reflector {
  readonly counts = { lists: 0, watches: 0, events: 0, errors: 0 };
  readonly #parts: ReflectorParts;
  readonly #backOff: BackOff;
  readonly #closing = new AbortController();
  /** In the version that is followed. */
  #resource: Resource;
  #phase: Phase = 'listing';
  /** Counts lists that began. */
  #round = 0;
  /** Up to which everything was told; undefined: list first. */
  #version: number | undefined;
  #told = false;
  /** Its CRD was not there when that was asked last. */
  #isAbsent = false;
  #trouble: Trouble | undefined;
  /** When the server was last heard: a list, a message of a watch. Milliseconds of performance.now(). */
  #heardMs = performance.now();
  /** When the thread was lost, in milliseconds since 1970. */
  #lostMs: number | undefined;
  /** Ends the wait, or the watch, that is under way. */
  #turn = new AbortController();
  #limit = PAGE_LIMIT;
  readonly #waiters = new Set<() => void>();
  #done: Promise<void> = Promise.resolve();

  constructor(parts: ReflectorParts) {
    this.#resource = parts.resource;
    this.#parts = parts;
    this.#backOff = new BackOff(parts.timing);
  }

  get resource(): Resource {
    return this.#resource;
  }

  get phase(): Phase {
    return this.#phase;
  }

  /** Whether everything that there was has been told once. */
  get told(): boolean {
    return this.#told;
  }

  get trouble(): Trouble | undefined {
    return this.#trouble;
  }

  get version(): number | undefined {
    return this.#version;
  }

  get round(): number {
    return this.#round;
  }

  get objects(): number {
    return this.#parts.known.size;
  }

  /** How long ago the server said anything about this kind. */
  get ageMs(): number {
    return performance.now() - this.#heardMs;
  }

  start(): void {
    this.#done = this.#run();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#turn.abort();
    await this.#done;
  }

  /** Ends a wait: somebody wants to know. */
  hurry(): void {
    if (this.#phase === 'waiting' || this.#phase === 'absent') this.#turn.abort();
  }

  /** Lists anew, whatever is under way. */
  listAnew(): void {
    this.#version = undefined;
    this.#turn.abort();
  }

  /** Resolves at the next phase, or when the signal is given. */
  async nextPhase(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        this.#waiters.delete(done);
        signal.removeEventListener('abort', done);
        resolve();
      };
      this.#waiters.add(done);
      signal.addEventListener('abort', done, { once: true });
    });
  }

  /** Takes an event of a watch; one that was told before is none. */
  takeEvent({ type, resourceVersion, object }: ApiEvent): void {
    this.#heard();
    if (this.#version === undefined || resourceVersion <= this.#version) return;
    if (type !== 'BOOKMARK') {
      this.counts.events += 1;
      const { known, tell } = this.#parts;
      tell([type === 'DELETED' ? known.drop(object) : known.take(object)]);
    }
    this.#version = resourceVersion;
  }

  /** Takes a list of one page that has everything, newer than what was told. */
  takeWhole(page: Page): void {
    this.#heard();
    const { known, tell } = this.#parts;
    known.begin();
    tell([...page.items.map((item) => known.take(item)), ...known.finish()]);
    this.#version = page.resourceVersion;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      this.#turn = new AbortController();
      try {
        if (this.#version === undefined) await this.#list();
        else await this.#watch(this.#version);
      } catch (error) {
        if (signal.aborted) return;
        const failure = error instanceof ApiFailure ? error : new ApiFailure('nonsense', `nonsense: ${String(error)}`);
        // Ended by listAnew(), not by the server.
        if (!this.#turn.signal.aborted) await this.#recover(failure);
      }
    }
  }

  async #list(): Promise<void> {
    this.#enter('listing');
    this.#round += 1;
    this.counts.lists += 1;
    const { known, tell, resource } = this.#parts;
    known.begin();
    let token = '';
    let objects = 0;
    let version: number | undefined;
    do {
      const page = await this.#page(token);
      version ??= page.resourceVersion;
      objects += page.items.length;
      if (page.continue === token && token) throw new ApiFailure('nonsense', 'nonsense: a list that goes on where it was');
      if (objects > OBJECTS_MAX) throw new ApiFailure('nonsense', `nonsense: more than ${OBJECTS_MAX} ${resourceName(resource)}`);
      tell(page.items.map((item) => known.take(item)));
      this.#heard();
      token = page.continue;
    } while (token);
    tell(known.finish());
    this.#isAbsent = false;
    this.#version = version;
    this.#limit = PAGE_LIMIT;
    this.#well();
    this.#told = true;
    this.#parts.changed();
  }

  /** Objects that are very large are asked for a few at a time. */
  async #page(token: string): Promise<Page> {
    for (;;)
      try {
        return await this.#parts.api.list(this.resource, { limit: this.#limit, continue: token }, this.#closing.signal);
      } catch (error) {
        if (!(error instanceof ApiFailure) || error.kind !== 'too-large' || this.#limit === 1) throw error;
        this.#limit = Math.max(1, Math.floor(this.#limit / 10));
      }
  }

  async #watch(version: number): Promise<void> {
    const { api, timing } = this.#parts;
    this.counts.watches += 1;
    const signal = AbortSignal.any([this.#closing.signal, this.#turn.signal]);
    const startedMs = performance.now();
    const settledMs = timing.backOffMs[0] * SETTLED;
    let events = 0;
    let settled: NodeJS.Timeout | undefined;
    const opened = (): void => {
      this.#enter('watching');
      settled = setTimeout(() => this.#well(), settledMs);
    };
    const event = (each: ApiEvent): void => {
      events += 1;
      if (events === 1) this.#well();
      this.takeEvent(each);
    };
    try {
      await api.watch(this.resource, { resourceVersion: version, lastMs: spread(timing.watchMs) }, { opened, event }, signal);
    } finally {
      clearTimeout(settled);
    }
    if (!events && performance.now() - startedMs < settledMs) throw new ApiFailure('nonsense', 'a watch that ends at once');
  }

  async #recover(failure: ApiFailure): Promise<void> {
    if (failure.kind === 'absent' && this.resource.encoding === 'json' && (await this.#isGone())) return await this.#stayAway();
    const verb = this.#version === undefined ? 'list' : 'watch';
    this.counts.errors += 1;
    this.#lostMs ??= Date.now();
    if (failure.kind === 'expired') this.#version = undefined;
    // A watch that broke is no trouble if the next one is there at once.
    const harmless = this.#told && this.#backOff.failures === 0 && (failure.kind === 'unreachable' || failure.kind === 'expired');
    const waitMs = this.#backOff.next(failure.retryAfterMs);
    if (!harmless) this.#setTrouble({ sinceMs: this.#lostMs, reason: `cannot ${verb} ${resourceName(this.resource)}: ${failure.message}` });
    this.#enter('waiting');
    await pause(waitMs, this.#turn.signal);
  }

  /**
   * Whether the CRD is not there. Where it was not there before nothing of it was told, and nothing depends on the answer. Where the
   * server has dropped the version, and has the other, that is followed from now on; its objects are still there.
   */
  async #isGone(): Promise<boolean> {
    const { api } = this.#parts;
    const other = inOtherVersion(this.#resource);
    if (this.#isAbsent && !other) return true;
    try {
      if (await api.isServed(this.#resource, this.#closing.signal)) return false;
      if (!other || !(await api.isServed(other, this.#closing.signal))) return true;
    } catch {
      return this.#isAbsent;
    }
    this.#resource = other;
    this.#version = undefined;
    return false;
  }

  /** A CRD that is not there has no objects: whoever deleted it has deleted them. */
  async #stayAway(): Promise<void> {
    const { known, tell, timing, changed } = this.#parts;
    this.#version = undefined;
    known.begin();
    tell(known.finish());
    this.#heard();
    this.#well();
    this.#told = true;
    this.#isAbsent = true;
    this.#enter('absent');
    changed();
    await pause(spread(timing.absentMs), this.#turn.signal);
  }

  #enter(phase: Phase): void {
    this.#phase = phase;
    for (const waiter of [...this.#waiters]) waiter();
  }

  #heard(): void {
    this.#heardMs = performance.now();
  }

  #well(): void {
    this.#backOff.reset();
    this.#lostMs = undefined;
    this.#setTrouble(undefined);
  }

  #setTrouble(trouble: Trouble | undefined): void {
    if (trouble?.reason === this.#trouble?.reason && trouble?.sinceMs === this.#trouble?.sinceMs) return;
    this.#trouble = trouble;
    this.#parts.changed();
  }
}

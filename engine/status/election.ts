/**
 * Which engine writes the statuses: the holder of a Lease (coordination.k8s.io/v1). Two at once, for a moment, are no harm: they write
 * the same. Clocks of nodes are never compared: a Lease is over when it has not changed for its time, as seen from here.
 *
 * All engines look at one object. Those of low rank do it often, the others the more rarely the higher theirs is, so that the
 * requests of a cluster grow with the logarithm of its nodes; somebody comes to lead also when all of low rank are gone.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import { type AnyObject, collectionPath, LEASES, microTime, type ObjectApi, objectPath } from './object-api.ts';

export const LEASE_NAME = 'sluice-status';
/** One that is gone is followed by another one after these, and a look. */
const LEASE_SECONDS = 10;
const LOOK_MS = 3000;
const LOOK_MS_MAX = 10 * 60_000;
const GIVE_UP_MS = 1000;
/** Ranks that look as often as the leader renews. */
const OFTEN = 8;

export interface ElectionParts {
  readonly api: Pick<ObjectApi, 'get' | 'create' | 'merge'>;
  /** Of the engines, where the Lease is. */
  readonly namespace: string;
  readonly identity: string;
  /** Of this node among all; equal everywhere, different for each. */
  readonly rank: () => number;
  /** Monotonic. */
  readonly nowMs: () => number;
  readonly log: Logger;
}

interface Lease {
  readonly version: string;
  readonly holder: string;
  readonly seconds: number;
  readonly transitions: number;
}

export class Election {
  readonly #parts: ElectionParts;
  readonly #path: string;
  #timer: NodeJS.Timeout | undefined;
  /** Until then it is ours, whatever the API server does. */
  #heldUntilMs = 0;
  /** The Lease as it was seen, and since when it is like that. */
  #seen: { readonly version: string; readonly atMs: number } | undefined;
  #failed = false;

  constructor(parts: ElectionParts) {
    this.#parts = parts;
    this.#path = objectPath(LEASES, { namespace: parts.namespace, name: LEASE_NAME });
  }

  get isLeading(): boolean {
    return this.#parts.nowMs() < this.#heldUntilMs;
  }

  start(): void {
    this.#timer = setTimeout(() => void this.#again(), Math.random() * LOOK_MS);
  }

  /** Gives the Lease up, so that another one leads at once. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const wasLeading = this.isLeading;
    this.#heldUntilMs = 0;
    if (!wasLeading) return;
    // An API server that does not answer keeps nobody from stopping: the Lease is over by itself.
    await Promise.race([this.#giveUp().catch(() => undefined), pause(GIVE_UP_MS)]);
  }

  /** Looks at the Lease, and renews or takes it where that is due. @throws Error */
  async look(): Promise<void> {
    const { identity, nowMs } = this.#parts;
    const startedMs = nowMs();
    const lease = await this.#read();
    if (!lease) {
      const spec = {
        holderIdentity: identity,
        leaseDurationSeconds: LEASE_SECONDS,
        leaseTransitions: 0,
        ...times('acquireTime', 'renewTime'),
      };
      const made = await this.#parts.api.create(collectionPath(LEASES, this.#parts.namespace), {
        ...LEASE,
        metadata: { name: LEASE_NAME },
        spec,
      });
      if (made === 'done') this.#hold(startedMs);
      return;
    }
    if (lease.holder === identity) {
      if (await this.#write(lease, times('renewTime'))) this.#hold(startedMs);
      return;
    }
    this.#heldUntilMs = 0;
    if (lease.version !== this.#seen?.version) this.#seen = { version: lease.version, atMs: startedMs };
    const isOver = lease.holder === '' || startedMs - this.#seen.atMs > lease.seconds * 1000;
    if (!isOver) return;
    const taken = { holderIdentity: identity, leaseDurationSeconds: LEASE_SECONDS, leaseTransitions: lease.transitions + 1 };
    if (await this.#write(lease, { ...taken, ...times('acquireTime', 'renewTime') })) this.#hold(startedMs);
  }

  async #giveUp(): Promise<void> {
    const lease = await this.#read();
    if (lease?.holder === this.#parts.identity) await this.#write(lease, { holderIdentity: '' });
  }

  async #again(): Promise<void> {
    try {
      await this.look();
      this.#failed = false;
    } catch (error) {
      if (!this.#failed) this.#parts.log.warn({ reason: messageOf(error) }, 'the Lease of who writes statuses cannot be looked at');
      this.#failed = true;
    }
    if (this.#timer) this.#timer = setTimeout(() => void this.#again(), this.#pauseMs);
  }

  get #pauseMs(): number {
    const times = this.isLeading ? 1 : Math.max(1, Math.floor(this.#parts.rank() / OFTEN));
    return Math.min(LOOK_MS_MAX, LOOK_MS * times) * (0.9 + Math.random() / 5);
  }

  #hold(startedMs: number): void {
    if (!this.isLeading) this.#parts.log.info('this engine writes the statuses');
    this.#heldUntilMs = startedMs + LEASE_SECONDS * 1000;
    this.#seen = undefined;
  }

  async #read(): Promise<Lease | undefined> {
    const lease = (await this.#parts.api.get(this.#path)) as
      | { metadata?: { resourceVersion?: string }; spec?: Record<string, unknown> }
      | undefined;
    if (!lease) return undefined;
    const { holderIdentity, leaseDurationSeconds, leaseTransitions } = lease.spec ?? {};
    return {
      version: String(lease.metadata?.resourceVersion ?? ''),
      holder: typeof holderIdentity === 'string' ? holderIdentity : '',
      seconds: typeof leaseDurationSeconds === 'number' ? leaseDurationSeconds : LEASE_SECONDS,
      transitions: typeof leaseTransitions === 'number' ? leaseTransitions : 0,
    };
  }

  /** Returns false where somebody else was faster. */
  async #write({ version }: Lease, spec: AnyObject): Promise<boolean> {
    return (await this.#parts.api.merge(this.#path, { metadata: { resourceVersion: version }, spec })) === 'done';
  }
}

const LEASE = { apiVersion: LEASES.apiVersion, kind: 'Lease' };

/** The present time, in fields. */
function times(...fields: readonly string[]): Record<string, string> {
  const now = microTime();
  return Object.fromEntries(fields.map((field) => [field, now]));
}

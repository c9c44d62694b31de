/**
 * All sources as one, in changes of the cluster's objects. Of several objects with one name the first counts:
 * that of the earlier source, then of the lesser slot. Of policies, others that say something else close what they select: who knows
 * which one was meant.
 *
 * Objects that say the same as before are the same objects: what was only written anew is no change.
 */

import { isDeepStrictEqual } from 'node:util';
import { objectName } from '../policy/object-name.ts';
import { ASK_NOBODY, type ClusterObject, type ObjectChange } from '../policy/objects.ts';
import { engineProblem, ProblemLedger } from '../policy/problem.ts';
import { DENY_EVERYONE, type ReadObject } from './read-object.ts';
import type { Entry, SlotChange, Source, SourceState } from './source.ts';

/** An object, and what it stands behind: source and slot. */
interface Bearer {
  readonly rank: string;
  readonly object: ReadObject;
}

export interface SourceStatus {
  readonly name: string;
  readonly state: SourceState;
}

export class ClusterFeed {
  /** Problems in the sources, and with them. */
  readonly problems = new ProblemLedger();
  readonly #sources: readonly Source[];
  readonly #states = new Map<Source, SourceState>();
  /** Rank → what was told last. */
  readonly #entries = new Map<string, Entry>();
  /** Kind and key → who bears that name, the first one first. */
  readonly #bearers = new Map<string, readonly Bearer[]>();
  /** The objects of a name as they were given out: one, and what stands for others of its name. */
  readonly #given = new Map<string, readonly ObjectChange[]>();
  readonly #touched = new Set<string>();
  #notify: () => void = () => {};

  /** The order of sources is their precedence. */
  constructor(sources: readonly Source[]) {
    this.#sources = sources;
  }

  get status(): readonly SourceStatus[] {
    return this.#sources.map((source) => ({ name: source.name, state: this.#states.get(source) ?? { is: 'starting' } }));
  }

  /** Starts every source; resolves when each has told what there was. @throws EngineError */
  async start(): Promise<void> {
    await Promise.all(
      this.#sources.map((source, i) =>
        source.start({
          tell: (changes) => this.#tell(i, changes),
          tellAll: (entries) => this.#tellAll(i, entries),
          setState: (state) => this.#setState(source, state),
        }),
      ),
    );
  }

  /** Whether everything that was told has been taken. */
  get isTaken(): boolean {
    return this.#touched.size === 0;
  }

  /** Calls back whenever there is something to take, or a source is another way than before. */
  onChange(notify: () => void): void {
    this.#notify = notify;
    if (this.#touched.size) notify();
  }

  /** Resolves when everything that is in the sources at the time of the call can be taken. */
  async catchUp(): Promise<void> {
    await Promise.all(this.#sources.map((source) => source.catchUp()));
  }

  /** The changes since this was called last. */
  take(): ObjectChange[] {
    const changes = [...this.#touched].flatMap((name) => this.#give(name));
    this.#touched.clear();
    return changes;
  }

  async close(): Promise<void> {
    this.#notify = () => {};
    for (const source of this.#sources) await source.close();
  }

  #tell(source: number, changes: readonly SlotChange[]): void {
    for (const { slot, entry } of changes) this.#setEntry(rankOf(source, slot), entry);
    if (changes.length) this.#notify();
  }

  #tellAll(source: number, entries: ReadonlyMap<string, Entry>): void {
    const own = rankOf(source, '');
    const gone = [...this.#entries.keys()].filter((rank) => rank.startsWith(own) && !entries.has(rank.slice(own.length)));
    this.#tell(source, [
      ...gone.map((rank) => ({ slot: rank.slice(own.length) })),
      ...[...entries].map(([slot, entry]) => ({ slot, entry })),
    ]);
  }

  #setState(source: Source, state: SourceState): void {
    const before = this.#states.get(source);
    // Behind for the same reason since longer ago.
    if (before?.is === state.is && (before.is !== 'behind' || state.is !== 'behind' || before.reason === state.reason)) return;
    this.#states.set(source, state);
    const problem = state.is === 'behind' && engineProblem(source.name, `${state.reason}: what was known before stays in force`);
    this.problems.set(`source ${source.name}`, problem ? [problem] : []);
    this.#notify();
  }

  #setEntry(rank: string, entry: Entry | undefined): void {
    const before = this.#entries.get(rank)?.object;
    const after = entry?.object;
    if (entry) this.#entries.set(rank, entry);
    else this.#entries.delete(rank);
    this.problems.set(`slot ${rank}`, entry?.problems ?? []);
    if (before) this.#setBearer(nameOf(before), rank, undefined);
    if (after) this.#setBearer(nameOf(after), rank, after);
  }

  #setBearer(name: string, rank: string, object: ReadObject | undefined): void {
    this.#touched.add(name);
    const others = (this.#bearers.get(name) ?? []).filter((bearer) => bearer.rank !== rank);
    const bearers = object ? [...others, { rank, object }] : others;
    if (bearers.length) this.#bearers.set(name, bearers.length > 1 ? bearers.sort((a, b) => (a.rank < b.rank ? -1 : 1)) : bearers);
    else this.#bearers.delete(name);
  }

  /** The changes that make of what was given for a name what is to be given now. */
  #give(name: string): ObjectChange[] {
    const before = this.#given.get(name) ?? [];
    const [first, ...others] = this.#bearers.get(name) ?? [];
    this.problems.set(
      `name ${name}`,
      others.map(({ object }) => ({ place: object.place(), reason: `defined already in ${this.#whereIs(first as Bearer)}` })),
    );
    const own = first ? [{ kind: first.object.kind, key: objectName(first.object.value), value: first.object.value } as ObjectChange] : [];
    const otherwise = others.filter(({ object }) => !isDeepStrictEqual(object.value, first?.object.value));
    const places = new Map<string, number>();
    const closed = otherwise.flatMap((bearer) => {
      const where = this.#whereIs(bearer);
      const nth = (places.get(where) ?? 0) + 1;
      places.set(where, nth);
      // Rules are known by the names of their policies: of several in one place each needs its own.
      return closedInstead(bearer, nth > 1 ? `${where}, ${nth}` : where) ?? [];
    });
    const now = [...own, ...closed].map((change) => keepEqual(change, before));
    if (now.length) this.#given.set(name, now);
    else this.#given.delete(name);
    const gone = before.filter(({ key }) => !now.some((each) => each.key === key));
    return [
      ...gone.map((change) => ({ ...change, value: undefined }) as ObjectChange),
      ...now.filter((change) => !before.includes(change)),
    ];
  }

  /** `web.yaml:12`, or the source. */
  #whereIs({ rank, object }: Bearer): string {
    const place = object.place();
    if (place.at !== 'file') return this.#sources[Number.parseInt(rank, 10)]?.name ?? '';
    return place.line === undefined ? place.file : `${place.file}:${place.line}`;
  }
}

function rankOf(source: number, slot: string): string {
  return `${String(source).padStart(3, '0')} ${slot}`;
}

function nameOf({ kind, value }: ClusterObject): string {
  return `${kind} ${objectName(value)}`;
}

/** The change that was given before, where it says the same. */
function keepEqual(change: ObjectChange, before: readonly ObjectChange[]): ObjectChange {
  const known = before.find(({ key }) => key === change.key);
  return known && isDeepStrictEqual(known.value, change.value) ? known : change;
}

/** The rules of a policy that closes what it selects, in a direction that it is about. */
const CLOSED_RULES = {
  NetworkPolicy: [],
  ClusterNetworkPolicy: [DENY_EVERYONE],
  PluginPolicy: [ASK_NOBODY],
} as const;

/**
 * The stand-in for an object whose name another one has that says something else: of a policy one that closes what it selects, of a HTTPRoute one
 * that refuses every request; else none. Its key is that of its rank, which no name is: names have no control characters.
 */
function closedInstead({ rank, object }: Bearer, where: string): ObjectChange | undefined {
  const { kind, value } = object;
  const standIn = { key: `\0${rank}`, kind, value: { ...value, name: `${value.name} (${where})` } };
  if (kind === 'HTTPRoute') return { ...standIn, value: { ...standIn.value, rules: [], closed: true } } as ObjectChange;
  if (kind !== 'NetworkPolicy' && kind !== 'ClusterNetworkPolicy' && kind !== 'PluginPolicy') return undefined;
  const rules = Object.fromEntries(Object.keys(value.rules).map((direction) => [direction, CLOSED_RULES[kind]]));
  return { ...standIn, value: { ...standIn.value, rules, ...(kind === 'PluginPolicy' && { overrides: false }) } } as ObjectChange;
}

/**
 * The life of a version among the others of its plugin: every change of which versions there are is one of these moves.
 *
 * A version that is refused, before or in its trial, moves nothing. The trial is in threads/flow-workers.ts.
 */
import type { CandidateMode, VersionsOf } from '../plugin-runtime/plugin-setup.ts';
import type { Transitions } from '../transitions.ts';

export type VersionPlace = 'trial' | 'live' | 'candidate' | 'previous' | 'gone';

/**
 * From the version's own view; a test has the moves below do so to it.
 *
 *     trial -> live            enforce
 *     trial -> candidate       run beside
 *     trial -> gone            refuse
 *     candidate -> live        promote
 *     candidate -> gone        withdraw, enforce another, run another beside, roll back
 *     live -> previous         enforce another, promote another
 *     live -> gone             roll back
 *     previous -> live         roll back
 *     previous -> gone         enforce another, promote another
 */
export const VERSION: Transitions<VersionPlace, VersionMove> = {
  trial: { enforce: 'live', 'run beside': 'candidate', refuse: 'gone' },
  candidate: { promote: 'live', withdraw: 'gone', 'enforce another': 'gone', 'run another beside': 'gone', 'roll back': 'gone' },
  live: { 'enforce another': 'previous', 'promote another': 'previous', 'roll back': 'gone' },
  previous: { 'enforce another': 'gone', 'promote another': 'gone', 'roll back': 'live' },
  gone: {},
};

type VersionMove =
  | 'enforce'
  | 'run beside'
  | 'refuse'
  | 'promote'
  | 'withdraw'
  | 'enforce another'
  | 'run another beside'
  | 'promote another'
  | 'roll back';

type Hashed = { readonly hash: string };

/** A version in force at once. The same version once more is no step that could be taken back. */
export function enforce<V extends Hashed>(before: VersionsOf<V> | undefined, version: V): VersionsOf<V> {
  const previous = before?.live.hash === version.hash ? before.previous : before?.live;
  return { live: version, previous, candidate: undefined };
}

/** A version beside the live one, in the place of any other there. */
export function runBeside<V>(before: VersionsOf<V>, version: V, mode: CandidateMode, weight: number): VersionsOf<V> {
  return { ...before, candidate: { version, mode, weight } };
}

/** The candidate in force; undefined where there is none. */
export function promote<V>({ live, candidate }: VersionsOf<V>): VersionsOf<V> | undefined {
  return candidate && { live: candidate.version, previous: live, candidate: undefined };
}

/** No candidate any more. */
export function withdraw<V>(before: VersionsOf<V>): VersionsOf<V> {
  return { ...before, candidate: undefined };
}

/**
 * The version before in force again, and no candidate; undefined where there is none. What is rolled back does not become the one to roll
 * back to: twice is an error, not a step forward.
 */
export function rollBack<V>({ previous }: VersionsOf<V>): VersionsOf<V> | undefined {
  return previous && { live: previous, previous: undefined, candidate: undefined };
}

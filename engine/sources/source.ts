/**
 * A source of the cluster's objects: a directory, an API server. It tells what changes, object by object, and how it is;
 * what an object means beside others of its name is decided by who listens.
 */
import type { Problem } from '../policy/problem.ts';
import type { ReadObject } from './read-object.ts';

/** How a source is. Whatever it is, what it told before holds until it tells otherwise. */
export type SourceState =
  /** Not everything that was there at the start has been told. */
  | { readonly is: 'starting' }
  | { readonly is: 'following' }
  /** It cannot see what changes; since when, in milliseconds since 1970. */
  | { readonly is: 'behind'; readonly sinceMs: number; readonly reason: string };

/** The content of one of a source's slots: an object, problems, or both. */
export interface Entry {
  readonly object?: ReadObject;
  readonly problems: readonly Problem[];
}

/**
 * A change. A slot is what the source calls the place of an object: a file and the position in it, or kind, namespace and
 * name. It has one entry at most. Of objects with one name that in the first slot counts, compared as text.
 */
export interface SlotChange {
  readonly slot: string;
  /** Absent: there is nothing any more. */
  readonly entry?: Entry;
}

/** Who follows a source. */
export interface SourceListener {
  tell(changes: readonly SlotChange[]): void;
  /** Everything that there is: what it does not list is gone. For a source that cannot say what changed meanwhile. */
  tellAll(entries: ReadonlyMap<string, Entry>): void;
  setState(state: SourceState): void;
}

/** How the objects of one kind are followed, where a source follows each kind by itself. */
export interface FollowedKind {
  /** `pods`, `networkpolicies.networking.k8s.io` */
  readonly kind: string;
  /** `absent`: the cluster does not have the kind; its CRD is looked for. */
  readonly state: SourceState['is'] | 'absent';
  /** How long ago the source last said anything about it, be it that there is no news. */
  readonly ageMs: number;
  readonly objects: number;
  /** How often something was begun, told, or failed. */
  readonly lists: number;
  readonly watches: number;
  readonly events: number;
  readonly errors: number;
}

export interface Source {
  /** As people name it: `dir:/etc/sluice`, `kubernetes:10.96.0.1:443`. */
  readonly name: string;
  /** Absent: it follows all of its objects alike. */
  readonly kinds?: readonly FollowedKind[];
  /**
   * Begins to tell. Resolves when everything that there was has been told, and the state is another one than `starting`.
   *
   * @throws EngineError when it can never be followed.
   */
  start(listener: SourceListener): Promise<void>;
  /**
   * Resolves when everything that is in the source at the time of the call has been told.
   *
   * @throws EngineError `TIMEOUT` when it cannot be asked.
   */
  catchUp(): Promise<void>;
  close(): Promise<void>;
}

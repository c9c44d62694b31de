/** Everything that is in force on this node, as its report tells it. */
import type { ObjectVersions } from '../policy/object-versions.ts';
import { PARTS } from '../policy/object-versions.ts';
import type { Problem } from '../policy/problem.ts';
import type { InForce } from './node-reporter.ts';

export interface InForceParts {
  readonly versions: ObjectVersions;
  /** Whether everything that was told has been put in force, as far as it could. */
  readonly isTaken: () => boolean;
  /** Of objects that cannot be read as they are written: every engine finds these, and only the leader tells them. */
  readonly readProblems: () => readonly Problem[];
  /** All that there are, those among them. */
  readonly problems: () => readonly Problem[];
}

/** Returns what asks for it. A state that could not be put in force is not the one that is reported: that is the one before. */
export function inForceOf({ versions, isTaken, readProblems, problems }: InForceParts): () => InForce | undefined {
  let checksums: Uint32Array = new Uint32Array(PARTS);
  return () => {
    if (!isTaken()) return undefined;
    const read = new Set(readProblems());
    const own = problems().filter((problem) => !read.has(problem));
    // Of no part of the engine, but of all of it.
    const failure = own.find(({ place }) => place.at === 'engine' && place.part === '')?.reason;
    if (failure === undefined) checksums = versions.checksums;
    return { checksums, problems: own, ...(failure !== undefined && { failure }) };
  };
}

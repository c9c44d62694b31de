/** A declared plugin with the versions that it has. */
import { createHash } from 'node:crypto';
import type { Declaration, Version } from './version.ts';
import type { HistoryEntry } from './version-store.ts';

/** A version that runs beside the live one; see flow/messages.ts. */
export interface CandidateOf<V> {
  readonly version: V;
  readonly mode: 'shadow' | 'canary';
  readonly weight: number;
}

export interface VersionsOf<V> {
  readonly live: V;
  readonly previous: V | undefined;
  readonly candidate: CandidateOf<V> | undefined;
}

/** A plugin as workers run it. */
export interface Setup extends VersionsOf<{ readonly serial: number; readonly parts: unknown }> {
  readonly id: number;
  readonly name: string;
  readonly nameHash: bigint;
  readonly moduleHash: bigint;
  readonly epoch: number;
  readonly evaluateMs: number;
  readonly failureAllow: boolean;
  readonly enforced: boolean;
}

/** What flows came to, failure policies included. */
export interface FlowCounts {
  flows: number;
  allowed: number;
  denied: number;
}

export interface ManagedPlugin {
  readonly id: number;
  declaration: Declaration;
  epoch: number;
  versions: VersionsOf<Version> | undefined;
  problem: string;
  /** The problem stays until other versions are in force: nothing mends it by itself. */
  lasting: boolean;
  /** Hashes of versions that were refused, or rolled back by themselves: not tried again until something changes. */
  readonly refused: Set<string>;
  /** SHA-256 of the declared file that was looked at last. */
  fileSha256: string;
  history: HistoryEntry[];
  on: boolean;
  timeouts: number;
  trapLoggedMs: number;
  readonly flows: FlowCounts;
  /** Flows that a shadow would have decided otherwise, the latest. */
  readonly samples: unknown[];
}

export function createPlugin(id: number, declaration: Declaration, epoch: number): ManagedPlugin {
  return {
    id,
    declaration,
    epoch,
    versions: undefined,
    problem: '',
    lasting: false,
    refused: new Set(),
    fileSha256: '',
    history: [],
    on: false,
    timeouts: 0,
    trapLoggedMs: Number.NEGATIVE_INFINITY,
    flows: { flows: 0, allowed: 0, denied: 0 },
    samples: [],
  };
}

export function allVersions(versions: VersionsOf<Version> | undefined): Version[] {
  return [versions?.live, versions?.previous, versions?.candidate?.version].filter((version) => version !== undefined);
}

/** Whether flows pass that the plugin cannot answer for. */
export function passesFailures({ failurePolicy, mode }: Declaration): boolean {
  return failurePolicy === 'Allow' || mode === 'Shadow';
}

/** Of everything that verdicts of these versions may depend on: equal hash, same epoch. */
export function verdictHash({ failurePolicy, mode }: Declaration, { live, candidate }: VersionsOf<Version>): bigint {
  const share = candidate?.mode === 'canary' ? `${candidate.version.hash} ${candidate.weight}` : '';
  return hash64(`${live.hash} ${share} ${mode} ${failurePolicy}`);
}

/** What workers are told to run. */
export function setupOf({ id, declaration }: ManagedPlugin, versions: VersionsOf<Version>, epoch: number): Setup {
  const { live, previous, candidate } = versions;
  // What else there is of a version stays here: it is large, and nobody's business there.
  const posted = ({ serial, parts }: Version): { serial: number; parts: unknown } => ({ serial, parts });
  return {
    id,
    name: declaration.name,
    nameHash: hash64(declaration.name),
    moduleHash: verdictHash(declaration, versions),
    epoch,
    evaluateMs: declaration.evaluateMs,
    failureAllow: declaration.failurePolicy === 'Allow',
    enforced: declaration.mode === 'Enforce',
    live: posted(live),
    previous: previous && posted(previous),
    candidate: candidate && { ...candidate, version: posted(candidate.version) },
  };
}

export function hash64(text: string): bigint {
  return createHash('sha256').update(text).digest().readBigUInt64LE(0);
}

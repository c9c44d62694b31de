/** A declared plugin with the versions that it has. */
import { createHash } from 'node:crypto';
import type { FlowCounts } from '../plugin-runtime/counts.ts';
import type { PluginSetup, PluginVersion, VersionsOf } from '../plugin-runtime/plugin-setup.ts';
import type { FoundModule } from './modules/declared-modules.ts';
import type { NodeModules } from './rollout.ts';
import type { Declaration, Version } from './version.ts';
import type { HistoryEntry } from './version-store.ts';

export interface ManagedPlugin {
  readonly id: number;
  declaration: Declaration;
  epoch: number;
  versions: VersionsOf<Version> | undefined;
  problem: string;
  /** The problem stays until other versions are in force: nothing mends it by itself. */
  lasting: boolean;
  /** It was not looked for yet among what was there before a restart. */
  fresh: boolean;
  /** The modules that this node is to run of it. */
  here: NodeModules;
  /** SHA-256 of the canary that runs here, live or beside the live one; empty where none does. */
  canarySha256: string;
  /** Digests of canaries that failed here, and why. */
  readonly failedCanaries: Map<string, string>;
  /** Hashes of versions that were refused, or rolled back by themselves: not tried again until something changes. */
  readonly refused: Set<string>;
  /** SHA-256 of the declared module that was looked at last. */
  declaredSha256: string;
  /** Why the declared module is not here, or may be another one. */
  missing: FoundModule['problem'];
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
    fresh: true,
    here: { module: undefined },
    canarySha256: '',
    failedCanaries: new Map(),
    refused: new Set(),
    declaredSha256: '',
    missing: undefined,
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

/** How a declaration has the flows of its plugin treated. */
export function treatment({ failurePolicy, mode }: Declaration): Pick<PluginSetup, 'failureAllow' | 'enforced'> {
  return { failureAllow: failurePolicy === 'Allow', enforced: mode === 'Enforce' };
}

/** Of everything that verdicts of these versions may depend on: equal hash, same epoch. */
export function verdictHash({ failurePolicy, mode }: Declaration, { live, candidate }: VersionsOf<Version>): bigint {
  const share = candidate?.mode === 'canary' ? `${candidate.version.hash} ${candidate.weight}` : '';
  return hash64(`${live.hash} ${share} ${mode} ${failurePolicy}`);
}

/** The same versions as threads are told to run them. */
export function setupOf({ id, declaration }: ManagedPlugin, versions: VersionsOf<Version>, epoch: number): PluginSetup {
  const { live, previous, candidate } = versions;
  // The rest of a version stays here: it is large, and nobody's business there.
  const posted = ({ serial, parts }: Version): PluginVersion => ({ serial, parts });
  return {
    id,
    name: declaration.name,
    nameHash: hash64(declaration.name),
    moduleHash: verdictHash(declaration, versions),
    epoch,
    evaluateMs: declaration.evaluateMs,
    ...treatment(declaration),
    live: posted(live),
    previous: previous && posted(previous),
    candidate: candidate && { ...candidate, version: posted(candidate.version) },
  };
}

export function hash64(text: string): bigint {
  return createHash('sha256').update(text).digest().readBigUInt64LE(0);
}

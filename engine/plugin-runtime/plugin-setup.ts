/** A plugin as threads are told to run it: its versions, and how it is treated. */
import type { VersionParts } from './version-parts.ts';

/** How a version runs beside the live one. `shadow`: evaluated and compared. `canary`: decides its share of the flows. */
export type CandidateMode = 'shadow' | 'canary';

/** A version that is tried beside the live one. */
export interface CandidateOf<V> {
  readonly version: V;
  readonly mode: CandidateMode;
  /** Of 100 flows; only of a canary. */
  readonly weight: number;
}

export interface VersionsOf<V> {
  readonly live: V;
  /** Asked where the live one traps. */
  readonly previous: V | undefined;
  readonly candidate: CandidateOf<V> | undefined;
}

export interface PluginVersion {
  /** Counts versions of all plugins in this process. */
  readonly serial: number;
  readonly parts: VersionParts;
}

export interface PluginSetup extends VersionsOf<PluginVersion> {
  readonly id: number;
  readonly name: string;
  /** First 8 bytes of the SHA-256 of its name. */
  readonly nameHash: bigint;
  /** The same of everything that its verdicts may depend on. */
  readonly moduleHash: bigint;
  readonly epoch: number;
  readonly evaluateMs: number;
  readonly failureAllow: boolean;
  /** Whether its verdicts count; else it is evaluated, and every flow passes. */
  readonly enforced: boolean;
}

/** Whether flows pass that the plugin cannot answer for. */
export function passesFailures({ failureAllow, enforced }: Pick<PluginSetup, 'failureAllow' | 'enforced'>): boolean {
  return failureAllow || !enforced;
}

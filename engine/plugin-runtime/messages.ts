/** What crosses between the main thread and a flow worker. */
import type { Ask, Context } from '../abi.gen.ts';
import type { ServerNames } from '../policy/snapshot.ts';

/** One version of a plugin. What is not named here is opaque to this room: the worker makes an instance of it. */
export interface PluginVersion {
  /** Counts versions of all plugins in this process. */
  readonly serial: number;
  /** What the worker's factory of instances needs: module, manifest, configuration, tables, sets. */
  readonly parts: unknown;
}

/** A version that is tried beside the live one. */
export interface Candidate {
  readonly version: PluginVersion;
  /** `shadow`: evaluated and compared. `canary`: decides its share of the flows. */
  readonly mode: 'shadow' | 'canary';
  /** Of 100 flows; only of a canary. */
  readonly weight: number;
}

/** A plugin, as a worker runs it. */
export interface PluginSetup {
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
  readonly live: PluginVersion;
  /** Asked where the live one traps. */
  readonly previous: PluginVersion | undefined;
  readonly candidate: Candidate | undefined;
}

export interface IdentityEntry {
  readonly id: number;
  readonly namespace: string;
  /** One `key=value` a line. */
  readonly labels: string;
}

export type ToWorker =
  | {
      readonly type: 'cluster';
      readonly identities: readonly IdentityEntry[];
      readonly identitiesGone: readonly number[];
      /** Name of the pod with an address; empty: nobody's any more. */
      readonly pods: readonly (readonly [addressKey: string, name: string])[];
      /** Every list of server names, by rule; absent: as before. */
      readonly serverNames?: ReadonlyMap<number, ServerNames> | undefined;
    }
  | { readonly type: 'plugin'; readonly seq: number; readonly setup: PluginSetup }
  | { readonly type: 'remove'; readonly seq: number; readonly id: number }
  | { readonly type: 'switch-off'; readonly id: number }
  | { readonly type: 'resume'; readonly id: number }
  /** Serve the ring from now on. */
  | { readonly type: 'activate' }
  | { readonly type: 'stop' };

/** Of struct ask what is about the packet, not about the flow. */
type PacketField =
  | 'length'
  | 'gsoSize'
  | 'networkOffset'
  | 'transportOffset'
  | 'vlanTci'
  | 'vlanProtocol'
  | 'flags'
  | 'readTo'
  | 'responseCode';

/** An evaluated flow, to be shown: every field of struct ask that is about the flow, and what came of it. */
export interface AskedFlow extends Readonly<Omit<Ask, PacketField>> {
  readonly established: boolean;
  readonly context: Context;
  /** What its contents name: the server that a TLS client wants, what a DNS answer is about. Empty where there is none. */
  readonly contentName: string;
  readonly allowed: boolean;
  /** The plugin let it pass and wants it shown. */
  readonly audited: boolean;
  /** Nobody could decide: the failure policy did. */
  readonly failed: boolean;
  readonly reason: string;
  readonly scope: number;
  readonly ttlMs: number;
  /** From hold to verdict. */
  readonly heldUs: number;
}

/** What a version did. Arrays are by enum plugin_action, by number of the manifest's reason, and by bucket. */
export interface VersionCounts {
  evaluations: number;
  traps: number;
  nonsense: number;
  /** Flows that a shadow was not asked about, for want of time. */
  skipped: number;
  readonly actions: number[];
  readonly reasons: number[];
  readonly fuel: HistogramCounts;
  /** Nanoseconds. */
  readonly latency: HistogramCounts;
}

export interface HistogramCounts {
  sum: number;
  /** One for each bound, and one for what is beyond the last. */
  readonly buckets: number[];
}

/** Upper bounds of the buckets. */
export const FUEL_BOUNDS: readonly number[] = [300, 1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000];
export const LATENCY_BOUNDS_NS: readonly number[] = [500, 1000, 2000, 5000, 10_000, 50_000, 250_000, 1_000_000, 5_000_000];

/** What a plugin's flows came to. */
export interface PluginCounts {
  flows: number;
  allowed: number;
  denied: number;
  /** By enum Failure. */
  failures: number[];
}

/** Flows about which the shadow said something else than the live version. */
export interface ShadowDifference {
  readonly plugin: number;
  readonly serial: number;
  /** Names of actions. */
  readonly live: string;
  readonly shadow: string;
  readonly reason: string;
  readonly flow: AskedFlow;
}

export type FromWorker =
  | { readonly type: 'ready' }
  | { readonly type: 'ack'; readonly seq: number; readonly error?: string }
  /** This standby serves now: the worker before it overran its budget in this plugin, and is to be ended. */
  | { readonly type: 'took-over'; readonly plugin: number }
  /** `offsets`: where in the metered module, innermost first. */
  | { readonly type: 'trap'; readonly serial: number; readonly message: string; readonly offsets: readonly number[] }
  | { readonly type: 'log'; readonly plugin: string; readonly text: string }
  | { readonly type: 'error'; readonly message: string }
  | {
      readonly type: 'report';
      readonly flows: readonly AskedFlow[];
      /** Flows that this report leaves out. */
      readonly omitted: number;
      readonly counts: ReadonlyMap<number, PluginCounts>;
      /** By serial. */
      readonly versions: ReadonlyMap<number, VersionCounts>;
      readonly differences: readonly ShadowDifference[];
      /** By serial of the shadow: how many of its evaluations differed, by `live → shadow`. */
      readonly changed: ReadonlyMap<number, ReadonlyMap<string, number>>;
      readonly releaseFailures: number;
    };

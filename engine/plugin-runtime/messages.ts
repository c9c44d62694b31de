/** The messages between the main thread and a flow worker; of both, the threads of the proxy have some. */
import type { Ask, Context, PluginState } from '../abi.gen.ts';
import type { ServerNames } from '../policy/objects.ts';
import type { PluginCounts, VersionCounts } from './counts.ts';
import type { PluginSetup } from './plugin-setup.ts';

export interface IdentityEntry {
  readonly id: number;
  readonly namespace: string;
  /** One `key=value` a line. */
  readonly labels: string;
}

/** A pod, by an address that it has. */
export interface PodEntry {
  readonly name: string;
  /** Empty where no source says. */
  readonly serviceAccount: string;
}

/** Who is behind identities and addresses, as far as it has changed. */
export interface ClusterChange {
  readonly identities: readonly IdentityEntry[];
  readonly identitiesGone: readonly number[];
  /** The pod with an address; undefined: nobody's any more. */
  readonly pods: readonly (readonly [addressKey: string, pod: PodEntry | undefined])[];
  /** `namespace/name` of the Service with a cluster address; empty: no Service's any more. */
  readonly services: readonly (readonly [addressKey: string, name: string])[];
  /** Every list of server names, by rule; absent: as before. */
  readonly serverNames?: ReadonlyMap<number, ServerNames> | undefined;
}

/** The number of what a thread is told when it starts: its answer is not waited for. */
export const NOBODY_WAITS = 0;

export type ToWorker =
  | ({ readonly type: 'cluster' } & ClusterChange)
  | { readonly type: 'plugin'; readonly seq: number; readonly setup: PluginSetup }
  | { readonly type: 'remove'; readonly seq: number; readonly id: number }
  /** An id without a version that runs: its state in the kernel. */
  | { readonly type: 'declare'; readonly id: number; readonly state: PluginState }
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
  /** The name in its contents: the server that a TLS client wants, the domain that a DNS answer is about. Empty where there is none. */
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

/** What crosses between the main thread and a flow worker. */

/** A version of a plugin, as a worker runs it. */
export interface PluginVersion {
  readonly id: number;
  readonly name: string;
  /** First 8 bytes of the SHA-256 of its name. */
  readonly nameHash: bigint;
  /** The same of module and configuration. */
  readonly moduleHash: bigint;
  readonly module: WebAssembly.Module;
  readonly config: string;
  readonly evaluateMs: number;
  readonly failureAllow: boolean;
  readonly epoch: number;
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
    }
  | { readonly type: 'plugin'; readonly seq: number; readonly version: PluginVersion }
  | { readonly type: 'remove'; readonly seq: number; readonly id: number }
  | { readonly type: 'switch-off'; readonly id: number }
  | { readonly type: 'resume'; readonly id: number }
  /** Serve the ring from now on. */
  | { readonly type: 'activate' }
  | { readonly type: 'stop' };

/** An evaluated flow, to be shown. */
export interface AskedFlow {
  readonly timeNs: bigint;
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly sourceIdentity: number;
  readonly destinationIdentity: number;
  readonly endpoint: number;
  readonly rule: number;
  readonly plugin: number;
  readonly protocol: number;
  readonly direction: number;
  readonly allowed: boolean;
  readonly reason: string;
  readonly scope: number;
  readonly ttlMs: number;
  /** From hold to verdict. */
  readonly heldUs: number;
}

export interface PluginCounts {
  evaluations: number;
  allowed: number;
  denied: number;
  /** By enum Failure. */
  failures: number[];
}

export type FromWorker =
  | { readonly type: 'ready' }
  | { readonly type: 'ack'; readonly seq: number; readonly error?: string }
  /** This standby serves now: the worker before it overran its budget in this plugin, and is to be ended. */
  | { readonly type: 'took-over'; readonly plugin: number }
  | { readonly type: 'trap'; readonly id: number; readonly message: string }
  | { readonly type: 'error'; readonly message: string }
  | {
      readonly type: 'report';
      readonly flows: readonly AskedFlow[];
      /** Flows that this report leaves out. */
      readonly omitted: number;
      readonly counts: ReadonlyMap<number, PluginCounts>;
      readonly releaseFailures: number;
    };

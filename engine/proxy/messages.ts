/** Messages between the main thread and the proxy's threads. */

import type { SocketEnds } from '../native.gen.ts';
import type { RequestRecord } from '../observe/flow-origins.ts';
import type { ToWorker as FlowMessage, FromWorker as FlowReport } from '../plugin-runtime/messages.ts';
import type { Requests } from '../policy/objects.ts';

/** A rule about requests, as the proxy goes by it. */
export interface ProxyRule {
  readonly id: number;
  /** `PluginPolicy shop/canary egress[0]` */
  readonly name: string;
  readonly requests: Requests;
  /** Ids of the plugins that its rules name, as far as they are declared. */
  readonly plugins: ReadonlyMap<string, number>;
}

export interface ProxyBackend {
  /** 16 bytes. */
  readonly address: Uint8Array;
  readonly port: number;
}

export interface ProxySet {
  readonly id: number;
  /** `namespace/name:port` */
  readonly name: string;
  readonly backends: readonly ProxyBackend[];
}

export interface ProxyProcess {
  readonly id: number;
  readonly identity: number;
  readonly ipv4: Uint8Array;
  readonly ipv6: Uint8Array;
}

/** A request as it is decided: of either version of HTTP. */
export interface Request {
  readonly method: string;
  readonly host: string;
  readonly path: string;
  readonly query: string;
  /** Names in lower case, and values in turn. */
  readonly headers: readonly string[];
}

/** The fate of a request that nobody has sent. */
export interface ExplainedRequest {
  readonly allowed: boolean;
  /** Of the answer, where it is denied; 0 where it is not. */
  readonly status: number;
  /** The plugin's name for where it goes; empty where it does not say. */
  readonly route: string;
  /** Who may take it: `namespace/name:port 10.0.0.1:80`. */
  readonly backends: string[];
  /** That is set with the answer; empty where none is. */
  readonly cookie: string;
  /** That decided: `canary 1.2.0`; empty where no plugin did. */
  readonly version: string;
  readonly reason: string;
}

/** Everything that the proxy goes by, as of one revision of policy. */
export interface ProxyPolicy {
  readonly rules: ReadonlyMap<number, ProxyRule>;
  /** By name. */
  readonly sets: ReadonlyMap<string, ProxySet>;
  /** Address and port of a Service, struct translation as a latin1 string → name of its set. */
  readonly frontends: ReadonlyMap<string, string>;
  /** Address key → endpoint of this node and its identity. */
  readonly endpoints: ReadonlyMap<string, { readonly id: number; readonly identity: number }>;
  /** Endpoints that are processes of this node, by id; addresses of 16 bytes, zeros where there is none. */
  readonly processes: ReadonlyMap<number, ProxyProcess>;
}

export type ToProxy =
  | { readonly type: 'policy'; readonly policy: ProxyPolicy }
  | Extract<FlowMessage, { type: 'cluster' | 'plugin' | 'remove' | 'switch-off' }>
  /** A client that speaks this thread's version of HTTP: its socket, its first bytes, who it is. */
  | { readonly type: 'connection'; readonly fd: number; readonly first: Uint8Array; readonly ends: SocketEnds }
  | { readonly type: 'explain'; readonly seq: number; readonly ends: SocketEnds; readonly request: Request }
  | { readonly type: 'ping' }
  | { readonly type: 'stop' };

/** How long requests that are under way may take when the engine stops. */
export const DRAIN_MS = 10_000;

/** Upper bounds of the buckets of answers' times, in seconds. */
export const DURATION_BOUNDS: readonly number[] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10];

/** Requests that went one way through the proxy since the last report. */
export interface Traffic {
  readonly rule: number;
  /** As the plugin names it, or the rule; empty for the destination itself. */
  readonly route: string;
  /** `namespace/name:port 10.0.0.1:80`; empty where no backend was asked. */
  readonly backend: string;
  /** `name 1.2.0` of the plugin's version that decided; empty where none did. */
  readonly version: string;
  /** By class of the status: 1xx to 5xx. */
  readonly classes: number[];
  /** One for each bound, and one for what is beyond the last. */
  readonly durations: number[];
  durationSum: number;
  bytesIn: number;
  bytesOut: number;
}

/** One request, for people to read. */
export interface AccessRecord extends RequestRecord {
  readonly protocol: 'HTTP/1.0' | 'HTTP/1.1' | 'HTTP/2';
}

export interface ProxyCounts {
  /** Connections of clients that are open. */
  clients: number;
  /** Connections that were refused: too many, of nobody known, or no longer tagged. */
  refusedClients: number;
  /** Connections to backends that are open. */
  backends: number;
  /** Requests that were sent a second time. */
  retries: number;
  /** Messages that are no HTTP, or that two readers could read differently. */
  malformed: number;
  timeouts: number;
  /** Verdicts that the kernel was given. */
  verdicts: number;
  /** Requests for which the proxy had the plugin's verdict. */
  cached: number;
}

export type FromProxy =
  /** `handle`: by which its wait is ended; 0: it does not wait. */
  | { readonly type: 'ready'; readonly handle: number }
  | { readonly type: 'hand-over'; readonly fd: number; readonly first: Uint8Array; readonly ends: SocketEnds }
  | { readonly type: 'pong' }
  /** Undefined: policy does not have requests of these ends decided. */
  | { readonly type: 'explained'; readonly seq: number; readonly request: ExplainedRequest | undefined }
  | { readonly type: 'failed'; readonly reason: string }
  | Extract<FlowReport, { type: 'ack' | 'trap' | 'log' | 'error' }>
  /** It overran its time; switchedOff: it is not asked any more. */
  | { readonly type: 'timeout'; readonly plugin: number; readonly switchedOff: boolean }
  | {
      readonly type: 'requests';
      readonly traffic: readonly Traffic[];
      readonly records: readonly AccessRecord[];
      /** Requests of which there is no record. */
      readonly omitted: number;
      readonly counts: ProxyCounts;
      /** Of the plugins, where they did something. */
      readonly report: Omit<Extract<FlowReport, { type: 'report' }>, 'type'> | undefined;
    };

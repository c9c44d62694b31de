/** The origins of flows: records of the kernel, flows that plugins were asked about, requests; and the names behind their numbers. */
import { z } from 'zod';
import type { FlowRecord, Reason } from '../abi.gen.ts';
import type { AskedFlow } from '../plugin-runtime/messages.ts';

/** A request and its answer, as the proxy tells of it and as people see it. */
export const httpView = z.object({
  protocol: z.string(),
  method: z.string(),
  host: z.string(),
  path: z.string(),
  status: z.int(),
  route: z.string().describe('what the plugin calls where it went'),
  backend: z.string().describe('"namespace/name:port address:port"; empty where no backend was asked'),
  version: z.string().describe('of the plugin that decided: "canary 1.0.0"'),
  durationUs: z.int(),
});
export type HttpView = z.infer<typeof httpView>;

type RequestEnds = 'source' | 'destination' | 'sourcePort' | 'destinationPort' | 'sourceIdentity' | 'destinationIdentity';

/** A request as the proxy tells of it. */
export interface RequestRecord extends Readonly<HttpView>, Pick<AskedFlow, RequestEnds | 'rule' | 'plugin'> {
  /** Unix time in milliseconds. */
  readonly timeMs: number;
  readonly allowed: boolean;
  /** Why it was let through or not. How it was answered is another matter: that says its status, and reason where something went wrong. */
  readonly cause: Reason;
  readonly audited: boolean;
  readonly reason: string;
}

/** By where a flow is told of; each field of a flow says what it is in each of them. */
export interface Origins {
  /** Decided by the kernel alone. An address that is all zero is none: the packet had none that could be read. */
  readonly kernel: FlowRecord;
  /** A plugin was asked about it. */
  readonly asked: AskedFlow;
  readonly request: RequestRecord;
}

/** Names for what flows carry as numbers. */
export interface Names {
  address(bytes: Uint8Array): string;
  pod(bytes: Uint8Array): string;
  /** The pod of an endpoint on this node, by its id. */
  endpoint(id: number): string;
  /** A domain name by its hash. */
  domain(hash: bigint): string;
  rule(id: number): string;
  plugin(id: number): string;
  /** `key=value` each. */
  labels(identity: number): string[];
}

/** Flows as the kernel, a plugin's thread and the proxy tell of them, and the names of a small cluster. */
import { askCodec, Context, Direction, type FlowRecord, flowRecordCodec, Reason, Scope, Verdict } from '../../engine/abi.gen.ts';
import { type FlowView, readFlow } from '../../engine/observe/flow-fields.ts';
import type { Names, RequestRecord } from '../../engine/observe/flow-origins.ts';
import type { AskedFlow } from '../../engine/plugin-runtime/messages.ts';
import { formatAddress, parseAddress } from '../../engine/policy/address.ts';

export const address = (text: string): Uint8Array => parseAddress(text) as Uint8Array;
export const NO_ADDRESS = new Uint8Array(16);

const PODS: Readonly<Record<string, string>> = { '10.0.0.1': 'shop/web', '10.0.0.2': 'shop/db', '10.0.1.9': 'other/web' };

export const names: Names = {
  address: formatAddress,
  pod: (bytes) => PODS[formatAddress(bytes)] ?? '',
  endpoint: (id) => ({ 7: 'shop/web', 8: 'shop/db' })[id] ?? '',
  domain: (hash) => (hash ? 'api.example.com' : ''),
  rule: (id) => (id ? `NetworkPolicy shop/rule-${id}` : ''),
  plugin: (id) => (id ? `plugin-${id}` : ''),
  labels: (identity) => (identity ? [`identity=${identity}`] : []),
};

const ENDS = {
  source: address('10.0.0.1'),
  destination: address('10.0.0.2'),
  sourcePort: 40_000,
  destinationPort: 5432,
  sourceIdentity: 3,
  destinationIdentity: 4,
};

/** A record that is all zero, with every field that the kernel's struct has. */
const zero = <T>(codec: { readonly size: number; read(source: Buffer, at: number): T }): T => codec.read(Buffer.alloc(codec.size), 0);

export function flowRecord(different: Partial<FlowRecord> = {}): FlowRecord {
  return {
    ...zero(flowRecordCodec),
    ...ENDS,
    timeNs: process.hrtime.bigint(),
    endpoint: 7,
    protocol: 6,
    direction: Direction.EGRESS,
    verdict: Verdict.DENY,
    reason: Reason.DROP_POLICY,
    ...different,
  };
}

export function askedFlow(different: Partial<AskedFlow> = {}): AskedFlow {
  return {
    ...zero(askCodec),
    ...ENDS,
    timeNs: process.hrtime.bigint(),
    endpoint: 7,
    rule: 2,
    plugin: 1,
    protocol: 6,
    direction: Direction.EGRESS,
    established: false,
    context: Context.CONNECT,
    contentName: '',
    allowed: true,
    audited: false,
    failed: false,
    reason: '',
    scope: Scope.ADDRESS,
    ttlMs: 1000,
    heldUs: 50,
    ...different,
  };
}

export function requestRecord(different: Partial<RequestRecord> = {}): RequestRecord {
  return {
    ...ENDS,
    destinationPort: 80,
    timeMs: Date.UTC(2026, 10, 28, 12),
    rule: 5,
    plugin: 1,
    allowed: true,
    cause: Reason.PASS_VERDICT,
    audited: false,
    reason: '',
    protocol: 'HTTP/1.1',
    method: 'GET',
    host: 'shop.example',
    path: '/cart',
    status: 200,
    route: 'canary',
    backend: 'shop/checkout-v2:80 10.0.0.2:80',
    version: 'canary 1.0.0',
    durationUs: 900,
    ...different,
  };
}

export const denied = (different: Partial<FlowRecord> = {}): FlowView => readFlow('kernel', flowRecord(different), names);
export const decided = (different: Partial<AskedFlow> = {}): FlowView => readFlow('asked', askedFlow(different), names);
export const requested = (different: Partial<RequestRecord> = {}): FlowView => readFlow('request', requestRecord(different), names);

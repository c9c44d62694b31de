/** The programs of the compiled object and where they belong, and what an engine has of its own beside them. */
import { createHash } from 'node:crypto';
import { Direction } from '../abi.gen.ts';

export const INTERFACE_PROGRAMS = [
  { name: 'from_pod', direction: Direction.EGRESS },
  { name: 'to_pod', direction: Direction.INGRESS },
] as const;
/** The programs that read what packets carry, where they are reached from: map, index, program. */
export const STAGES = [
  ['pod_dns', Direction.EGRESS, 'dns_from_pod'],
  ['pod_dns', Direction.INGRESS, 'dns_to_pod'],
  ['sent_dns', 0, 'dns_from_process'],
  ['received_dns', 0, 'dns_to_process'],
  ['pod_hello', Direction.EGRESS, 'hello_from_pod'],
  ['pod_hello', Direction.INGRESS, 'hello_to_pod'],
  ['pod_requests', 0, 'requests_routed'],
  ['pod_requests', 1, 'requests_opened'],
  ['pod_requests', 2, 'requests_fallback'],
  ['pod_requests', 3, 'requests_refused'],
  ['pod_requests', 4, 'requests_returned'],
  ['pod_requests', 5, 'requests_delivered'],
  ['sent_requests', 0, 'requests_sent'],
  ['pod_translation', Direction.EGRESS, 'translated_from_pod'],
  ['pod_translation', Direction.INGRESS, 'translated_to_pod'],
] as const;
/** Packets first: what the other programs let through is judged there once more. */
export const CGROUP_PROGRAMS = [
  'from_process',
  'to_process',
  'connect4',
  'connect6',
  'sendmsg4',
  'sendmsg6',
  'getpeername4',
  'getpeername6',
] as const;

/** The engine's own interfaces; one of each for each bpffs directory. */
export interface OwnInterfaces {
  /** The veth through which held packets go back to where they were held. */
  readonly release: string;
  readonly releasePeer: string;
  /** The node's side of the proxy's. */
  readonly proxy: string;
}

export function ownInterfaces(pinDirectory: string): OwnInterfaces {
  const hash = createHash('sha256').update(pinDirectory).digest('hex').slice(0, 8);
  return { release: `slr-${hash}`, releasePeer: `slp-${hash}`, proxy: `slx-${hash}` };
}

/** The programs of the compiled object and where they belong, and what an engine has of its own beside them. */
import { createHash } from 'node:crypto';
import { Direction } from '../abi.gen.ts';

export const INTERFACE_PROGRAMS = [
  { name: 'from_pod', direction: Direction.EGRESS },
  { name: 'to_pod', direction: Direction.INGRESS },
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

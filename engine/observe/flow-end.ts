/** One end of a flow: an address and port, and who is behind them as far as that is known. */
import { z } from 'zod';
import { Direction, Reason } from '../abi.gen.ts';
import type { Names, Origins } from './flow-origins.ts';

export const flowEnd = z.object({
  address: z.string().describe('empty where the packet had none that could be read'),
  port: z.int().describe('0 where there is none'),
  pod: z.string().describe('"namespace/name"; empty for what is no pod of this cluster'),
  identity: z.int(),
  labels: z.array(z.string()).describe('"key=value"; of what a plugin decided'),
});
export type FlowEnd = z.infer<typeof flowEnd>;

type Side = 'source' | 'destination';

/** An end of what a plugin decided: with the labels by which it may have decided. */
export function decidedEnd(side: Side, flow: Origins['asked'] | Origins['request'], names: Names): FlowEnd {
  const identity = flow[`${side}Identity`];
  return { ...addressed(flow[side], names), port: flow[`${side}Port`], identity, labels: names.labels(identity) };
}

/** An end of what the kernel decided alone. */
export function kernelEnd(side: Side, record: Origins['kernel'], names: Names): FlowEnd {
  const end = { ...addressed(record[side], names), port: record[`${side}Port`], identity: record[`${side}Identity`], labels: [] };
  const isEndpoint = (record.direction === Direction.EGRESS) === (side === 'source');
  // A pod that sends from the address of another one is not that one; of a packet that cannot be read, only the endpoint is known.
  const known = isEndpoint && (record.reason === Reason.DROP_SPOOFED || !end.address);
  return known ? { ...end, pod: names.endpoint(record.endpoint) } : end;
}

function addressed(bytes: Uint8Array, names: Names): { address: string; pod: string } {
  return bytes.some((byte) => byte) ? { address: names.address(bytes), pod: names.pod(bytes) } : { address: '', pod: '' };
}

/**
 * Tracked connections: how many there are, and whose. Programs count an endpoint's share up and never down; here it is
 * counted anew.
 */
import { connectionShareCodec } from '../abi.gen.ts';
import type { Datapath } from './datapath.ts';
import { check, kernelNowNs, native } from './native.ts';

/** Bytes of struct sluice_connection_count: endpoint, live, expired. */
const COUNT_BYTES = 12;

export interface ConnectionCounts {
  /** Entries in use, and those that only wait for their place to be taken. */
  readonly live: number;
  readonly expired: number;
  readonly maxEntries: number;
}

/** Counts, and lets every endpoint have its share of what is free. Takes some milliseconds for a full map. */
export function countConnections(datapath: Datapath): ConnectionCounts {
  const { shares } = datapath.maps;
  const buffer = Buffer.alloc(shares.maxEntries * COUNT_BYTES);
  const result = native.sluice_connections__count(datapath.maps.connections.fd, Number(kernelNowNs()), buffer, shares.maxEntries);
  const endpoints = check(result, 'count connections');
  const entries = new Map<string, Buffer>();
  let live = 0;
  let expired = 0;
  for (let i = 0; i < endpoints; i++) {
    const connections = buffer.readUInt32LE(i * COUNT_BYTES + 4);
    live += connections;
    expired += buffer.readUInt32LE(i * COUNT_BYTES + 8);
    const key = buffer.toString('latin1', i * COUNT_BYTES, i * COUNT_BYTES + 4);
    const share = Buffer.alloc(connectionShareCodec.size);
    connectionShareCodec.write(share, 0, { connections });
    entries.set(key, share);
  }
  shares.delete([...shares.dump().keys()].filter((key) => !entries.has(key)));
  shares.update(entries);
  return { live, expired, maxEntries: datapath.maps.connections.maxEntries };
}

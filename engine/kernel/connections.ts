/**
 * Tracked connections: how many there are, and whose. Programs count an endpoint's share up and never down; here it is
 * counted anew.
 */
import { connectionShareCodec } from '../abi.gen.ts';
import { connectionCountCodec } from '../native.gen.ts';
import type { Datapath } from './datapath.ts';
import { check, kernelNowNs, native } from './native.ts';

export interface ConnectionCounts {
  /** Entries in use, and those that only wait for their place to be taken. */
  readonly live: number;
  readonly expired: number;
  readonly maxEntries: number;
}

/** Counts, and lets every endpoint have its share of what is free. Takes some milliseconds for a full map. */
export function countConnections(datapath: Datapath): ConnectionCounts {
  const { shares } = datapath.maps;
  const buffer = Buffer.alloc(shares.maxEntries * connectionCountCodec.size);
  const result = native.sluice_connections__count(datapath.maps.connections.fd, Number(kernelNowNs()), buffer, shares.maxEntries);
  const endpoints = check(result, 'count connections');
  const entries = new Map<string, Buffer>();
  let live = 0;
  let expired = 0;
  for (let i = 0; i < endpoints; i++) {
    const at = i * connectionCountCodec.size;
    const count = connectionCountCodec.read(buffer, at);
    const connections = count.live;
    live += connections;
    expired += count.expired;
    const endpointAt = at + connectionCountCodec.offsets.endpoint;
    const key = buffer.toString('latin1', endpointAt, endpointAt + 4);
    const share = Buffer.alloc(connectionShareCodec.size);
    connectionShareCodec.write(share, 0, { connections });
    entries.set(key, share);
  }
  shares.delete([...shares.dump().keys()].filter((key) => !entries.has(key)));
  shares.update(entries);
  return { live, expired, maxEntries: datapath.maps.connections.maxEntries };
}

/** The addresses of this network namespace: what the node sends to its pods from them always passes. */
import { networkInterfaces } from 'node:os';
import { EngineError, messageOf } from '../errors.ts';
import { parseAddress } from '../policy/address.ts';

/** Asking takes longer the more pods the node has, and nothing says when an address comes or goes. */
const FRESH_MS = 1000;

/** @throws EngineError `KERNEL_CALL` */
export function nodeAddresses(): Uint8Array[] {
  try {
    return Object.values(networkInterfaces()).flatMap((entries) => (entries ?? []).flatMap((entry) => parseAddress(entry.address) ?? []));
  } catch (error) {
    throw new EngineError('KERNEL_CALL', `Cannot list this node's addresses: ${messageOf(error)}`, error);
  }
}

/** The same, at most a second old. */
export function recentNodeAddresses(nowMs: () => number = () => performance.now()): () => readonly Uint8Array[] {
  let known: readonly Uint8Array[] = [];
  let readMs = Number.NEGATIVE_INFINITY;
  return () => {
    if (nowMs() - readMs < FRESH_MS) return known;
    readMs = nowMs();
    known = nodeAddresses();
    return known;
  };
}

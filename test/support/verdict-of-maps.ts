/** What the kernel would decide from compiled map entries: the same lookups as bpf/policy.h, on the same bytes. */
import {
  type Direction,
  Identity,
  networkKeyCodec,
  policyEntryCodec,
  policyKeyCodec,
  portKeyCodec,
  type Rule,
  ruleCodec,
} from '../../engine/abi.gen.ts';
import { maskAddress } from '../../engine/policy/address.ts';
import type { Compiled } from '../../engine/policy/compile.ts';
import { ALLOWED, DENIED } from '../../engine/policy/port-table.ts';

const key = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');

function identityOf(compiled: Compiled, address: Uint8Array): number {
  const peer = compiled.peers.get(key(address));
  if (peer) return peer.readUInt32LE(0);
  for (let bits = 128; bits >= 0; bits--) {
    const network = Buffer.alloc(networkKeyCodec.size);
    networkKeyCodec.write(network, 0, { prefixBits: bits, address: maskAddress(address, bits) });
    const found = compiled.networks.get(key(network));
    if (found) return found.readUInt32LE(0);
  }
  return Identity.WORLD;
}

/** The rule for one direction of an endpoint, a peer and a port. */
export function ruleOfMaps(compiled: Compiled, pod: string, direction: Direction, peer: Uint8Array, protocol: number, port: number): Rule {
  const endpoint = compiled.endpoints.find((candidate) => `${candidate.pod.namespace}/${candidate.pod.name}` === pod);
  const ruleSet = endpoint?.ruleSets[direction].id ?? 0;
  if (!ruleSet) return ALLOWED;
  const identity = identityOf(compiled, peer);
  if (identity === Identity.NODE) return ALLOWED;
  const policyKey = (id: number): string => {
    const bytes = Buffer.alloc(policyKeyCodec.size);
    policyKeyCodec.write(bytes, 0, { ruleSet, identity: id });
    return key(bytes);
  };
  const entry = compiled.policies.get(policyKey(identity)) ?? compiled.policies.get(policyKey(Identity.ANY));
  if (!entry) return DENIED;
  const { portTable, prefixes, other } = policyEntryCodec.read(entry, 0);
  if (![6, 17, 132].includes(protocol)) return other;
  for (let bits = 16; bits >= 0; bits--) {
    if (!(prefixes & (1 << bits))) continue;
    const bytes = Buffer.alloc(portKeyCodec.size);
    portKeyCodec.write(bytes, 0, { portTable, port: (port >> (16 - bits)) << (16 - bits), protocol, prefixBits: bits });
    const rule = compiled.ports.get(key(bytes));
    if (rule) return ruleCodec.read(rule, 0);
  }
  return other;
}

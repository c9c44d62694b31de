/** The kernel's decision, from the entries that it is given: the same lookups as bpf/policy.h, on the same bytes. */
import { Action, Identity, networkKeyCodec, policyEntryCodec, type Rule, ruleCodec } from '../abi.gen.ts';
import { ADDRESS_BITS, addressKey, maskAddress } from './address.ts';
import { namedKey } from './named-rules.ts';
import { portKey } from './port-table.ts';
import { policyKey } from './rule-set.ts';

/** A map of the kernel, or what it should hold. Keys are latin1 strings of their bytes. */
export interface Lookup {
  find(key: string): Buffer | undefined;
}

export interface PolicyLookups {
  readonly peers: Lookup;
  readonly networks: Lookup;
  readonly policies: Lookup;
  readonly ports: Lookup;
}

/** The same with rules about names: the map named_rule_sets. */
export interface NamedLookups extends PolicyLookups {
  readonly named: { readonly ruleSets: Lookup };
}

/** The identity of an address. Of networks the longest around it, as a trie finds it. */
export function findIdentity({ peers, networks }: PolicyLookups, address: Uint8Array): number {
  const peer = peers.find(addressKey(address));
  if (peer) return peer.readUInt32LE(0);
  for (let bits = ADDRESS_BITS; bits >= 0; bits--) {
    const key = Buffer.alloc(networkKeyCodec.size);
    networkKeyCodec.write(key, 0, { prefixBits: bits, address: maskAddress(address, bits) });
    const found = networks.find(key.toString('latin1'));
    if (found) return found.readUInt32LE(0);
  }
  return Identity.WORLD;
}

/** The rule of a rule set for a peer and a port; undefined when the rule set has no entry: closed. */
export function findRule(lookups: PolicyLookups, ruleSet: number, identity: number, protocol: number, port: number): Rule | undefined {
  const entry = lookups.policies.find(policyKey(ruleSet, identity)) ?? lookups.policies.find(policyKey(ruleSet, Identity.ANY));
  if (!entry) return undefined;
  const { portTable, prefixes, other, near } = policyEntryCodec.read(entry, 0);
  const range = near.find((candidate) => protocol && candidate.protocol === protocol && candidate.first <= port && port <= candidate.last);
  if (range) return range.rule;
  for (let bits = 16; bits >= 0; bits--) {
    if (!(prefixes & (1 << bits))) continue;
    const rule = lookups.ports.find(portKey(portTable, protocol, (port >> (16 - bits)) << (16 - bits), bits));
    if (rule) return ruleCodec.read(rule, 0);
  }
  return other;
}

/**
 * The rule for an address that is known under these patterns: what the rules for one of them say, where that is more than what
 * the others say. Undefined when the rule set has no entry: closed.
 */
export function findNamedRule(
  lookups: NamedLookups,
  ruleSet: number,
  patterns: readonly number[],
  peer: { readonly identity: number; readonly protocol: number; readonly port: number },
): Rule | undefined {
  const { identity, protocol, port } = peer;
  let found = findRule(lookups, ruleSet, identity, protocol, port);
  for (const pattern of patterns) {
    const named = lookups.named.ruleSets.find(namedKey(ruleSet, pattern));
    const rule = named && findRule(lookups, named.readUInt32LE(0), identity, protocol, port);
    if (rule && rule.action > (found?.action ?? Action.DENY)) found = rule;
  }
  return found;
}

/** From a snapshot to map entries: who everybody is, what each rule set says about them, which endpoint uses which. */
import { Direction, type Endpoint, endpointCodec, Identity, networkKeyCodec, policyKeyCodec } from '../abi.gen.ts';
import { Identities, type IdentityInfo } from '../identity/identities.ts';
import { addressKey, isIpv4, type Network, NetworkIndex, networkOf, parseNetwork } from './address.ts';
import { PeerIndex } from './peer-index.ts';
import type { PortTable } from './port-table.ts';
import { portTables, type RuleOrigin, type RuleSet, RuleSets } from './rule-set.ts';
import type { Pod, Snapshot } from './snapshot.ts';
import { StableIds } from './stable-id.ts';

export interface CompiledEndpoint {
  readonly pod: Pod;
  readonly interface: string;
  readonly identity: number;
  readonly ruleSets: Readonly<Record<Direction, RuleSet>>;
  /** The map value. */
  readonly value: Buffer;
}

export interface Compiled {
  readonly endpoints: readonly CompiledEndpoint[];
  /** Map entries, keys as latin1 strings of their bytes. */
  readonly peers: Map<string, Buffer>;
  readonly networks: Map<string, Buffer>;
  readonly policies: Map<string, Buffer>;
  readonly ports: Map<string, Buffer>;
  readonly identities: ReadonlyMap<number, IdentityInfo>;
  readonly origins: ReadonlyMap<number, RuleOrigin>;
  /** Rules that tag a flow which another rule tags for another plugin already: rule id → the one that is asked instead. */
  readonly conflicts: ReadonlyMap<number, number>;
  /** By rule set id, then peer identity: what policies and ports were written from. */
  readonly tables: ReadonlyMap<number, ReadonlyMap<number, PortTable>>;
  /** Address key → the pod that has it. */
  readonly podsByAddress: ReadonlyMap<string, Pod>;
}

const EMPTY_ADDRESS = new Uint8Array(16);

/**
 * Compiles a snapshot. Plugins that `pluginIds` does not know answer nothing: what asks them is denied.
 */
export function compile(snapshot: Snapshot, pluginIds: ReadonlyMap<string, number>, nodeAddresses: readonly Uint8Array[]): Compiled {
  const ids = new StableIds();
  const identities = new Identities(new NetworkIndex(networksIn(snapshot)), ids);
  const live = snapshot.pods.filter((pod) => !pod.ended && !pod.hostNetwork);

  const podsByAddress = new Map<string, Pod>();
  const peers = new Map<string, Buffer>();
  for (const pod of live)
    for (const address of pod.addresses) {
      podsByAddress.set(addressKey(address), pod);
      peers.set(addressKey(address), u32(identities.ofPod(pod, address).id));
    }
  for (const address of nodeAddresses) peers.set(addressKey(address), u32(Identity.NODE));
  const networks = compileNetworks(identities);
  const attached = live.filter((pod) => pod.interface !== undefined);
  for (const pod of attached) identities.ofPod(pod, pod.addresses[0]);

  const ruleSets = new RuleSets(snapshot, pluginIds, ids);
  const peerIndex = new PeerIndex(identities.all(), snapshot.namespaces);
  const policies = new Map<string, Buffer>();
  const ports = new Map<string, Buffer>();
  const tables = new Map<number, Map<number, PortTable>>();
  const conflicts = new Map<number, number>();
  const use = (ruleSet: RuleSet): RuleSet => {
    if (!ruleSet.id || tables.has(ruleSet.id)) return ruleSet;
    const written = portTables(ruleSet, peerIndex, (asked, notAsked) => conflicts.set(notAsked, asked));
    tables.set(ruleSet.id, written);
    for (const [identity, table] of written) policies.set(policyKey(ruleSet.id, identity), table.write(ports, ids));
    return ruleSet;
  };
  const endpoints = attached.map((pod): CompiledEndpoint => {
    const identity = identities.ofPod(pod, pod.addresses[0]).id;
    const sets = [use(ruleSets.of(pod, Direction.INGRESS)), use(ruleSets.of(pod, Direction.EGRESS))] as const;
    return { pod, interface: pod.interface as string, identity, ruleSets: sets, value: endpointValue(pod, identity, sets) };
  });
  const known = new Map([...identities.all()].map((identity) => [identity.id, identity]));
  return { endpoints, peers, networks, policies, ports, identities: known, origins: ruleSets.origins, conflicts, tables, podsByAddress };
}

function* networksIn(snapshot: Snapshot): Iterable<Network> {
  for (const policy of [...snapshot.policies, ...snapshot.pluginPolicies])
    for (const rules of Object.values(policy.rules))
      for (const rule of rules)
        for (const peer of rule.peers ?? [])
          if (peer.kind === 'network') {
            yield peer.network;
            yield* peer.except;
          }
}

function compileNetworks(identities: Identities): Map<string, Buffer> {
  const entries = new Map<string, Buffer>();
  const add = (network: Network): void => {
    const key = Buffer.alloc(networkKeyCodec.size);
    networkKeyCodec.write(key, 0, { prefixBits: network.bits, address: network.address });
    entries.set(key.toString('latin1'), u32(identities.ofNetwork(network).id));
  };
  for (const network of identities.index.networks.values()) add(network);
  // IPv4 addresses lie inside ::/0 in the trie, and must not be found there.
  if (identities.index.coversMapped) add(networkOf((parseNetwork('0.0.0.0/0') as Network).address, 96));
  return entries;
}

function endpointValue(pod: Pod, identity: number, sets: readonly [RuleSet, RuleSet]): Buffer {
  const endpoint: Endpoint = {
    ipv4: pod.addresses.find(isIpv4) ?? EMPTY_ADDRESS,
    ipv6: pod.addresses.find((address) => !isIpv4(address)) ?? EMPTY_ADDRESS,
    identity,
    ruleSets: sets.map((set) => set.id),
  };
  const value = Buffer.alloc(endpointCodec.size);
  endpointCodec.write(value, 0, endpoint);
  return value;
}

function policyKey(ruleSet: number, identity: number): string {
  const key = Buffer.alloc(policyKeyCodec.size);
  policyKeyCodec.write(key, 0, { ruleSet, identity });
  return key.toString('latin1');
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

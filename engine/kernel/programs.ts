/**
 * What the compiled object holds: maps with the sizes that the generated codecs have, programs and where they belong, and what an
 * engine has of its own beside them.
 */
import { createHash } from 'node:crypto';
import {
  Abi,
  backendKeyCodec,
  backendSetCodec,
  connectionCodec,
  connectionKeyCodec,
  connectionShareCodec,
  Direction,
  dnsNameCodec,
  endpointCodec,
  engineStateCodec,
  knownAddressCodec,
  knownKeyCodec,
  localEndpointCodec,
  namedKeyCodec,
  namePatternCodec,
  nameShareCodec,
  networkKeyCodec,
  pluginStateCodec,
  policyEntryCodec,
  policyKeyCodec,
  policyStateCodec,
  portKeyCodec,
  queryCodec,
  queryKeyCodec,
  ruleCodec,
  translationCodec,
  verdictEntryCodec,
  verdictKeyCodec,
} from '../abi.gen.ts';

/** Map → sizes of key and value, as the generated codecs have them; entries as bpf/maps.h has them unless they are sized. */
export const MAPS = {
  endpoints: [4, endpointCodec.size, 4096],
  cgroup_ids: [8, 8, 0],
  policy_states: [4, policyStateCodec.size, 1],
  peers: [16, 4, 262_144],
  networks: [networkKeyCodec.size, 4, 262_144],
  policies: [policyKeyCodec.size, policyEntryCodec.size, 524_288],
  ports: [portKeyCodec.size, ruleCodec.size, 262_144],
  name_patterns: [8, namePatternCodec.size, 65_536],
  named_rule_sets: [namedKeyCodec.size, 4, 262_144],
  resolvers: [16, 4, 1024],
  backends: [backendKeyCodec.size, translationCodec.size, 131_072],
  backend_sets: [4, backendSetCodec.size, 16_384],
  service_backends: [translationCodec.size, 4, 16_384],
  rule_backends: [4, 4, 16_384],
  local_endpoints: [16, localEndpointCodec.size, 8192],
  known_addresses: [knownKeyCodec.size, knownAddressCodec.size, 131_072],
  queries: [queryKeyCodec.size, queryCodec.size, 65_536],
  name_shares: [4, nameShareCodec.size, 4096],
  dns_names: [8, dnsNameCodec.size, 16_384],
  plugins: [4, pluginStateCodec.size, Abi.PLUGINS_MAX],
  verdicts: [verdictKeyCodec.size, verdictEntryCodec.size, 65_536],
  connections: [connectionKeyCodec.size, connectionCodec.size, 131_072],
  shares: [4, connectionShareCodec.size, 4096],
  engine_states: [4, engineStateCodec.size, 1],
} as const;
export type MapName = keyof typeof MAPS;

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

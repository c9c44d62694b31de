// Generated from bpf/abi.h and bpf/plugin-abi.h by `npm run generate`; do not edit.
//
// Layouts that cross a boundary. Addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d; ports and other numbers are in host
// order here whatever they are in memory; *Ns is the kernel's monotonic clock.

/** enum abi */
export const Abi = {
  VERSION: 9,
  PLUGINS_MAX: 256,
  ROUTES: 253,
  PIECES: 254,
  SERVER_NAMES: 255,
  PORT_PREFIX_BITS: 16,
  ASK_PACKET_MAX: 65536,
  PORTS_NEAR: 2,
  NAME_BYTES: 256,
  ADDRESS_PATTERNS: 4,
} as const;
export type Abi = (typeof Abi)[keyof typeof Abi];

/** enum direction */
export const Direction = {
  INGRESS: 0,
  EGRESS: 1,
} as const;
export type Direction = (typeof Direction)[keyof typeof Direction];

/** enum identity */
export const Identity = {
  ANY: 0,
  WORLD: 1,
} as const;
export type Identity = (typeof Identity)[keyof typeof Identity];

/** enum rule_set */
export const RuleSet = {
  NONE: 0,
  CLOSED: 1,
} as const;
export type RuleSet = (typeof RuleSet)[keyof typeof RuleSet];

/** enum endpoint_id */
export const EndpointId = {
  CGROUP: 1073741824,
} as const;
export type EndpointId = (typeof EndpointId)[keyof typeof EndpointId];

/** enum endpoint_flag */
export const EndpointFlag = {
  NAMES: 1,
  SERVICES: 2,
} as const;
export type EndpointFlag = (typeof EndpointFlag)[keyof typeof EndpointFlag];

/** enum policy_flag */
export const PolicyFlag = {
  REFUSE_OUTSIDE: 1,
} as const;
export type PolicyFlag = (typeof PolicyFlag)[keyof typeof PolicyFlag];

/** enum action */
export const Action = {
  DENY: 0,
  ALLOW: 1,
  ASK: 2,
} as const;
export type Action = (typeof Action)[keyof typeof Action];

/** enum context */
export const Context = {
  CONNECT: 0,
  DNS: 1,
  TLS: 2,
  HTTP: 3,
} as const;
export type Context = (typeof Context)[keyof typeof Context];

/** enum verdict */
export const Verdict = {
  NEXT: 0,
  ALLOW: 1,
  DENY: 2,
  ROUTE: 3,
} as const;
export type Verdict = (typeof Verdict)[keyof typeof Verdict];

/** enum scope */
export const Scope = {
  NONE: 0,
  FLOW: 1,
  ADDRESS: 2,
  IDENTITY: 4,
} as const;
export type Scope = (typeof Scope)[keyof typeof Scope];

/** enum reason */
export const Reason = {
  PASS_NOT_IP: 0,
  PASS_NEIGHBOR: 1,
  PASS_NOT_ISOLATED: 2,
  PASS_ESTABLISHED: 3,
  PASS_REPLY: 4,
  PASS_NODE: 5,
  PASS_POLICY: 6,
  PASS_VERDICT: 7,
  PASS_FAILURE_POLICY: 8,
  PASS_FRAGMENT: 9,
  PASS_MALFORMED: 10,
  PASS_RELATED: 11,
  PASS_SELF: 12,
  PASS_LOOPBACK: 13,
  PASS_NAME_QUERY: 14,
  PASS_NAME_ANSWER: 15,
  HELD: 16,
  PASS_PROXY: 17,
  PASS_ROUTED: 18,
  PASS_FORWARDED: 19,
  DROP_POLICY: 32,
  DROP_VERDICT: 33,
  DROP_FAILURE_POLICY: 34,
  DROP_MALFORMED: 35,
  DROP_FRAGMENT: 36,
  DROP_SPOOFED: 37,
  DROP_NO_ENDPOINT: 38,
  DROP_NAME: 39,
  DROP_QUIC: 40,
  DROP_EARLY_DATA: 41,
  DROP_UNREADABLE: 42,
  DROP_NOT_PROXIED: 43,
  DROP_NO_BACKEND: 44,
  DROP_NOT_TRANSLATED: 45,
  DROP_PORT_TAKEN: 46,
  FAIL_ENGINE_ABSENT: 48,
  FAIL_ENGINE_STALE: 49,
  FAIL_RING_FULL: 50,
  FAIL_PLUGIN_OFF: 51,
  FAIL_CONNTRACK_FULL: 52,
  FAIL_RECORD_LOST: 53,
  FAIL_HOLD: 54,
  FAIL_CONNECTION_SHARE: 55,
  FAIL_CANNOT_HOLD: 56,
  FAIL_OPENING_LOST: 57,
  FAIL_PROXY_ABSENT: 58,
  FAIL_BUSY: 59,
  FAIL_STAGE: 60,
  FAIL_RECORD_SHARE: 61,
  DNS_QUERY: 64,
  DNS_LEARNED: 65,
  DNS_ADDRESS: 66,
  DNS_OUTSIDE: 67,
  DNS_NEGATIVE: 68,
  DNS_TRUNCATED: 69,
  DNS_UNSOLICITED: 70,
  DNS_MISMATCH: 71,
  DNS_UNTRUSTED: 72,
  DNS_HEADER: 73,
  DNS_SHORT: 74,
  DNS_LARGE: 75,
  DNS_SEGMENTED: 76,
  DNS_LABEL: 77,
  DNS_NAME_LONG: 78,
  DNS_POINTER: 79,
  DNS_DATA: 80,
  DNS_RECORDS: 81,
  DNS_COLLISION: 82,
  DNS_BUSY: 83,
  DNS_QUERY_SHARE: 84,
  DNS_ADDRESS_SHARE: 85,
  DNS_FULL: 86,
  DNS_PATTERNS: 87,
  DNS_ENCRYPTED: 88,
  MAX: 96,
} as const;
export type Reason = (typeof Reason)[keyof typeof Reason];

/** enum connection_flag */
export const ConnectionFlag = {
  REPLIED: 1,
  CLOSING: 2,
  PICKED_UP: 4,
  UNREAD: 8,
  DECIDED: 16,
  READ: 32,
  BEGUN: 64,
} as const;
export type ConnectionFlag = (typeof ConnectionFlag)[keyof typeof ConnectionFlag];

/** enum flow_path */
export const FlowPath = {
  PROXIED: 1,
  TRANSLATED: 2,
  SERVICE: 4,
  BACKEND: 8,
  ONLY: 16,
} as const;
export type FlowPath = (typeof FlowPath)[keyof typeof FlowPath];

/** enum backend_set_id */
export const BackendSetId = {
  SERVICE: 1,
} as const;
export type BackendSetId = (typeof BackendSetId)[keyof typeof BackendSetId];

/** enum backend_index */
export const BackendIndex = {
  IPV6: 1073741824,
} as const;
export type BackendIndex = (typeof BackendIndex)[keyof typeof BackendIndex];

/** enum service_port */
export const ServicePort = {
  NODE: 0,
} as const;
export type ServicePort = (typeof ServicePort)[keyof typeof ServicePort];

/** enum proxy_listener */
export const ProxyListener = {
  PODS: 0,
  IPV4: 1,
  IPV6: 2,
  MAX: 3,
} as const;
export type ProxyListener = (typeof ProxyListener)[keyof typeof ProxyListener];

/** enum mark */
export const Mark = {
  DECIDED: 0,
  PASSED: 1,
  FORWARDED: 2,
  PROXIED: 3,
  REFUSAL: 4,
  MAX: 5,
} as const;
export type Mark = (typeof Mark)[keyof typeof Mark];

/** enum plugin_status */
export const PluginStatus = {
  OFF: 0,
  ON: 1,
} as const;
export type PluginStatus = (typeof PluginStatus)[keyof typeof PluginStatus];

/** enum ask_flag */
export const AskFlag = {
  ESTABLISHED: 1,
  VLAN: 2,
  AGAIN: 16,
  REFUSED: 32,
  PROXIED: 64,
  DECIDED: 4,
  PASSED: 8,
} as const;
export type AskFlag = (typeof AskFlag)[keyof typeof AskFlag];

/** enum parsed */
export const Parsed = {
  NOTHING: 0,
  FLOW: 1,
  NOT_IP: 2,
  NEIGHBOR: 3,
  LATER_FRAGMENT: 4,
  MALFORMED: 5,
} as const;
export type Parsed = (typeof Parsed)[keyof typeof Parsed];

/** enum explanation */
export const Explanation = {
  REASON: 0,
  RULE_SET: 1,
  PEER_IDENTITY: 2,
  RULE: 3,
  ACTION: 4,
  MAX: 5,
} as const;
export type Explanation = (typeof Explanation)[keyof typeof Explanation];

/** enum plugin_field */
export const PluginField = {
  SOURCE_IDENTITY: 1,
  SOURCE_NAMESPACE: 2,
  SOURCE_LABELS: 4,
  SOURCE_SERVICE_ACCOUNT: 8,
  SOURCE_POD: 16,
  SOURCE_ADDRESS: 32,
  SOURCE_PORT: 64,
  DESTINATION_IDENTITY: 128,
  DESTINATION_NAMESPACE: 256,
  DESTINATION_LABELS: 512,
  DESTINATION_SERVICE: 1024,
  DESTINATION_POD: 2048,
  DESTINATION_ADDRESS: 4096,
  DESTINATION_PORT: 8192,
  PROTOCOL: 16384,
  DIRECTION: 32768,
  ESTABLISHED: 65536,
  TIME: 131072,
  FLOW: 262144,
  TAG: 524288,
  METHOD: 1048576,
  HOST: 2097152,
  PATH: 4194304,
  QUERY: 8388608,
  SERVER_NAME: 16777216,
  DNS_NAME: 33554432,
  HEADER: 67108864,
  COOKIE: 134217728,
  HOST_STATE: 268435456,
  APPLICATION_PROTOCOLS: 536870912,
  DNS_ANSWER: 1073741824,
} as const;
export type PluginField = (typeof PluginField)[keyof typeof PluginField];

/** enum plugin_action */
export const PluginAction = {
  NEXT: 0,
  ALLOW: 1,
  DENY: 2,
  ROUTE: 3,
  AUDIT: 4,
  MAX: 5,
} as const;
export type PluginAction = (typeof PluginAction)[keyof typeof PluginAction];

/** enum plugin_slot */
export const PluginSlot = {
  METHOD: 0,
  HOST: 1,
  PATH: 2,
  QUERY: 3,
  SERVER_NAME: 4,
  DNS_NAME: 5,
  SOURCE_NAMESPACE: 6,
  SOURCE_POD: 7,
  SOURCE_LABELS: 8,
  DESTINATION_NAMESPACE: 9,
  DESTINATION_POD: 10,
  DESTINATION_LABELS: 11,
  DESTINATION_SERVICE: 12,
  SOURCE_SERVICE_ACCOUNT: 13,
  APPLICATION_PROTOCOLS: 14,
  DNS_ADDRESSES: 15,
  MAX: 16,
} as const;
export type PluginSlot = (typeof PluginSlot)[keyof typeof PluginSlot];

/** enum plugin_context_flag */
export const PluginContextFlag = {
  ESTABLISHED: 1,
  ENCRYPTED_HELLO: 2,
} as const;
export type PluginContextFlag = (typeof PluginContextFlag)[keyof typeof PluginContextFlag];

/** enum verdict_word */
export const VerdictWord = {
  SCOPE_SHIFT: 4,
  TTL_SHIFT: 8,
  TTL_EXPONENT_SHIFT: 16,
  REASON_SHIFT: 20,
  TTL_UNIT_MS: 10,
} as const;
export type VerdictWord = (typeof VerdictWord)[keyof typeof VerdictWord];

/** struct endpoint, 72 bytes. */
export interface Endpoint {
  confirmByNs: bigint;
  ipv4: Uint8Array;
  ipv6: Uint8Array;
  identity: number;
  flags: number;
  ruleSets: readonly number[];
  confirmed: readonly number[];
  dnsPlugin: number;
  dnsRule: number;
}

export const endpointCodec = {
  size: 72,
  offsets: { confirmByNs: 0, ipv4: 8, ipv6: 24, identity: 40, flags: 44, ruleSets: 48, confirmed: 56, dnsPlugin: 64, dnsRule: 68 },
  write(target: Buffer, at: number, value: Endpoint): void {
    target.fill(0, at, at + 72);
    target.writeBigUInt64LE(value.confirmByNs, at + 0);
    target.set(value.ipv4.subarray(0, 16), at + 8);
    target.set(value.ipv6.subarray(0, 16), at + 24);
    target.writeUInt32LE(value.identity, at + 40);
    target.writeUInt32LE(value.flags, at + 44);
    target.writeUInt32LE(value.ruleSets[0] ?? 0, at + 48);
    target.writeUInt32LE(value.ruleSets[1] ?? 0, at + 52);
    target.writeUInt32LE(value.confirmed[0] ?? 0, at + 56);
    target.writeUInt32LE(value.confirmed[1] ?? 0, at + 60);
    target.writeUInt32LE(value.dnsPlugin, at + 64);
    target.writeUInt32LE(value.dnsRule, at + 68);
  },
  read(source: Buffer, at: number): Endpoint {
    if (source.length < at + 72) throw new RangeError('struct endpoint is cut short');
    return {
      confirmByNs: source.readBigUInt64LE(at + 0),
      ipv4: Uint8Array.prototype.slice.call(source, at + 8, at + 24),
      ipv6: Uint8Array.prototype.slice.call(source, at + 24, at + 40),
      identity: source.readUInt32LE(at + 40),
      flags: source.readUInt32LE(at + 44),
      ruleSets: [source.readUInt32LE(at + 48), source.readUInt32LE(at + 52)],
      confirmed: [source.readUInt32LE(at + 56), source.readUInt32LE(at + 60)],
      dnsPlugin: source.readUInt32LE(at + 64),
      dnsRule: source.readUInt32LE(at + 68),
    };
  },
} as const;

/** struct policy_state, 48 bytes. */
export interface PolicyState {
  revision: number;
  hashSeed: number;
  connectionsShare: number;
  openingS: number;
  establishedS: number;
  closingS: number;
  unansweredS: number;
  answeredS: number;
  addressesShare: number;
  nameMinimumS: number;
  refusal: number;
  flags: number;
}

export const policyStateCodec = {
  size: 48,
  offsets: { revision: 0, hashSeed: 4, connectionsShare: 8, openingS: 12, establishedS: 16, closingS: 20, unansweredS: 24, answeredS: 28, addressesShare: 32, nameMinimumS: 36, refusal: 40, flags: 42 },
  write(target: Buffer, at: number, value: PolicyState): void {
    target.fill(0, at, at + 48);
    target.writeUInt32LE(value.revision, at + 0);
    target.writeUInt32LE(value.hashSeed, at + 4);
    target.writeUInt32LE(value.connectionsShare, at + 8);
    target.writeUInt32LE(value.openingS, at + 12);
    target.writeUInt32LE(value.establishedS, at + 16);
    target.writeUInt32LE(value.closingS, at + 20);
    target.writeUInt32LE(value.unansweredS, at + 24);
    target.writeUInt32LE(value.answeredS, at + 28);
    target.writeUInt32LE(value.addressesShare, at + 32);
    target.writeUInt32LE(value.nameMinimumS, at + 36);
    target.writeUInt16LE(value.refusal, at + 40);
    target.writeUInt16LE(value.flags, at + 42);
  },
  read(source: Buffer, at: number): PolicyState {
    if (source.length < at + 48) throw new RangeError('struct policy_state is cut short');
    return {
      revision: source.readUInt32LE(at + 0),
      hashSeed: source.readUInt32LE(at + 4),
      connectionsShare: source.readUInt32LE(at + 8),
      openingS: source.readUInt32LE(at + 12),
      establishedS: source.readUInt32LE(at + 16),
      closingS: source.readUInt32LE(at + 20),
      unansweredS: source.readUInt32LE(at + 24),
      answeredS: source.readUInt32LE(at + 28),
      addressesShare: source.readUInt32LE(at + 32),
      nameMinimumS: source.readUInt32LE(at + 36),
      refusal: source.readUInt16LE(at + 40),
      flags: source.readUInt16LE(at + 42),
    };
  },
} as const;

/** struct connection_share, 8 bytes. */
export interface ConnectionShare {
  connections: number;
}

export const connectionShareCodec = {
  size: 8,
  offsets: { connections: 0 },
  write(target: Buffer, at: number, value: ConnectionShare): void {
    target.fill(0, at, at + 8);
    target.writeUInt32LE(value.connections, at + 0);
  },
  read(source: Buffer, at: number): ConnectionShare {
    if (source.length < at + 8) throw new RangeError('struct connection_share is cut short');
    return {
      connections: source.readUInt32LE(at + 0),
    };
  },
} as const;

/** struct known_key, 20 bytes. */
export interface KnownKey {
  address: Uint8Array;
  endpoint: number;
}

export const knownKeyCodec = {
  size: 20,
  offsets: { address: 0, endpoint: 16 },
  write(target: Buffer, at: number, value: KnownKey): void {
    target.fill(0, at, at + 20);
    target.set(value.address.subarray(0, 16), at + 0);
    target.writeUInt32LE(value.endpoint, at + 16);
  },
  read(source: Buffer, at: number): KnownKey {
    if (source.length < at + 20) throw new RangeError('struct known_key is cut short');
    return {
      address: Uint8Array.prototype.slice.call(source, at + 0, at + 16),
      endpoint: source.readUInt32LE(at + 16),
    };
  },
} as const;

/** struct known_pattern, 8 bytes. */
export interface KnownPattern {
  expiresS: number;
  pattern: number;
}

export const knownPatternCodec = {
  size: 8,
  offsets: { expiresS: 0, pattern: 4 },
  write(target: Buffer, at: number, value: KnownPattern): void {
    target.fill(0, at, at + 8);
    target.writeUInt32LE(value.expiresS, at + 0);
    target.writeUInt32LE(value.pattern, at + 4);
  },
  read(source: Buffer, at: number): KnownPattern {
    if (source.length < at + 8) throw new RangeError('struct known_pattern is cut short');
    return {
      expiresS: source.readUInt32LE(at + 0),
      pattern: source.readUInt32LE(at + 4),
    };
  },
} as const;

/** struct known_address, 40 bytes. */
export interface KnownAddress {
  name: bigint;
  patterns: readonly KnownPattern[];
}

export const knownAddressCodec = {
  size: 40,
  offsets: { name: 0, patterns: 8 },
  write(target: Buffer, at: number, value: KnownAddress): void {
    target.fill(0, at, at + 40);
    target.writeBigUInt64LE(value.name, at + 0);
    value.patterns.forEach((each, i) => void knownPatternCodec.write(target, at + 8 + i * 8, each));
  },
  read(source: Buffer, at: number): KnownAddress {
    if (source.length < at + 40) throw new RangeError('struct known_address is cut short');
    return {
      name: source.readBigUInt64LE(at + 0),
      patterns: Array.from({ length: 4 }, (_, i) => knownPatternCodec.read(source, at + 8 + i * 8)),
    };
  },
} as const;

/** struct dns_name, 256 bytes. */
export interface DnsName {
  wire: Uint8Array;
}

export const dnsNameCodec = {
  size: 256,
  offsets: { wire: 0 },
  write(target: Buffer, at: number, value: DnsName): void {
    target.fill(0, at, at + 256);
    target.set(value.wire.subarray(0, 256), at + 0);
  },
  read(source: Buffer, at: number): DnsName {
    if (source.length < at + 256) throw new RangeError('struct dns_name is cut short');
    return {
      wire: Uint8Array.prototype.slice.call(source, at + 0, at + 256),
    };
  },
} as const;

/** struct name_pattern, 268 bytes. */
export interface NamePattern {
  exact: number;
  wildcard: number;
  length: number;
  name: Uint8Array;
}

export const namePatternCodec = {
  size: 268,
  offsets: { exact: 0, wildcard: 4, length: 8, name: 12 },
  write(target: Buffer, at: number, value: NamePattern): void {
    target.fill(0, at, at + 268);
    target.writeUInt32LE(value.exact, at + 0);
    target.writeUInt32LE(value.wildcard, at + 4);
    target.writeUInt32LE(value.length, at + 8);
    target.set(value.name.subarray(0, 256), at + 12);
  },
  read(source: Buffer, at: number): NamePattern {
    if (source.length < at + 268) throw new RangeError('struct name_pattern is cut short');
    return {
      exact: source.readUInt32LE(at + 0),
      wildcard: source.readUInt32LE(at + 4),
      length: source.readUInt32LE(at + 8),
      name: Uint8Array.prototype.slice.call(source, at + 12, at + 268),
    };
  },
} as const;

/** struct named_key, 8 bytes. */
export interface NamedKey {
  ruleSet: number;
  pattern: number;
}

export const namedKeyCodec = {
  size: 8,
  offsets: { ruleSet: 0, pattern: 4 },
  write(target: Buffer, at: number, value: NamedKey): void {
    target.fill(0, at, at + 8);
    target.writeUInt32LE(value.ruleSet, at + 0);
    target.writeUInt32LE(value.pattern, at + 4);
  },
  read(source: Buffer, at: number): NamedKey {
    if (source.length < at + 8) throw new RangeError('struct named_key is cut short');
    return {
      ruleSet: source.readUInt32LE(at + 0),
      pattern: source.readUInt32LE(at + 4),
    };
  },
} as const;

/** struct query_key, 28 bytes. */
export interface QueryKey {
  resolver: Uint8Array;
  endpoint: number;
  port: number;
  id: number;
  protocol: number;
}

export const queryKeyCodec = {
  size: 28,
  offsets: { resolver: 0, endpoint: 16, port: 20, id: 22, protocol: 24 },
  write(target: Buffer, at: number, value: QueryKey): void {
    target.fill(0, at, at + 28);
    target.set(value.resolver.subarray(0, 16), at + 0);
    target.writeUInt32LE(value.endpoint, at + 16);
    target.writeUInt16BE(value.port, at + 20);
    target.writeUInt16BE(value.id, at + 22);
    target.writeUInt8(value.protocol, at + 24);
  },
  read(source: Buffer, at: number): QueryKey {
    if (source.length < at + 28) throw new RangeError('struct query_key is cut short');
    return {
      resolver: Uint8Array.prototype.slice.call(source, at + 0, at + 16),
      endpoint: source.readUInt32LE(at + 16),
      port: source.readUInt16BE(at + 20),
      id: source.readUInt16BE(at + 22),
      protocol: source.readUInt8(at + 24),
    };
  },
} as const;

/** struct query, 24 bytes. */
export interface Query {
  name: bigint;
  expiresNs: bigint;
  waiting: number;
}

export const queryCodec = {
  size: 24,
  offsets: { name: 0, expiresNs: 8, waiting: 16 },
  write(target: Buffer, at: number, value: Query): void {
    target.fill(0, at, at + 24);
    target.writeBigUInt64LE(value.name, at + 0);
    target.writeBigUInt64LE(value.expiresNs, at + 8);
    target.writeUInt32LE(value.waiting, at + 16);
  },
  read(source: Buffer, at: number): Query {
    if (source.length < at + 24) throw new RangeError('struct query is cut short');
    return {
      name: source.readBigUInt64LE(at + 0),
      expiresNs: source.readBigUInt64LE(at + 8),
      waiting: source.readUInt32LE(at + 16),
    };
  },
} as const;

/** struct name_share, 16 bytes. */
export interface NameShare {
  windowNs: bigint;
  queries: number;
  addresses: number;
}

export const nameShareCodec = {
  size: 16,
  offsets: { windowNs: 0, queries: 8, addresses: 12 },
  write(target: Buffer, at: number, value: NameShare): void {
    target.fill(0, at, at + 16);
    target.writeBigUInt64LE(value.windowNs, at + 0);
    target.writeUInt32LE(value.queries, at + 8);
    target.writeUInt32LE(value.addresses, at + 12);
  },
  read(source: Buffer, at: number): NameShare {
    if (source.length < at + 16) throw new RangeError('struct name_share is cut short');
    return {
      windowNs: source.readBigUInt64LE(at + 0),
      queries: source.readUInt32LE(at + 8),
      addresses: source.readUInt32LE(at + 12),
    };
  },
} as const;

/** struct network_key, 20 bytes. */
export interface NetworkKey {
  prefixBits: number;
  address: Uint8Array;
}

export const networkKeyCodec = {
  size: 20,
  offsets: { prefixBits: 0, address: 4 },
  write(target: Buffer, at: number, value: NetworkKey): void {
    target.fill(0, at, at + 20);
    target.writeUInt32LE(value.prefixBits, at + 0);
    target.set(value.address.subarray(0, 16), at + 4);
  },
  read(source: Buffer, at: number): NetworkKey {
    if (source.length < at + 20) throw new RangeError('struct network_key is cut short');
    return {
      prefixBits: source.readUInt32LE(at + 0),
      address: Uint8Array.prototype.slice.call(source, at + 4, at + 20),
    };
  },
} as const;

/** struct policy_key, 8 bytes. */
export interface PolicyKey {
  ruleSet: number;
  identity: number;
}

export const policyKeyCodec = {
  size: 8,
  offsets: { ruleSet: 0, identity: 4 },
  write(target: Buffer, at: number, value: PolicyKey): void {
    target.fill(0, at, at + 8);
    target.writeUInt32LE(value.ruleSet, at + 0);
    target.writeUInt32LE(value.identity, at + 4);
  },
  read(source: Buffer, at: number): PolicyKey {
    if (source.length < at + 8) throw new RangeError('struct policy_key is cut short');
    return {
      ruleSet: source.readUInt32LE(at + 0),
      identity: source.readUInt32LE(at + 4),
    };
  },
} as const;

/** struct rule, 12 bytes. */
export interface Rule {
  id: number;
  plugin: number;
  action: number;
  context: number;
}

export const ruleCodec = {
  size: 12,
  offsets: { id: 0, plugin: 4, action: 8, context: 9 },
  write(target: Buffer, at: number, value: Rule): void {
    target.fill(0, at, at + 12);
    target.writeUInt32LE(value.id, at + 0);
    target.writeUInt32LE(value.plugin, at + 4);
    target.writeUInt8(value.action, at + 8);
    target.writeUInt8(value.context, at + 9);
  },
  read(source: Buffer, at: number): Rule {
    if (source.length < at + 12) throw new RangeError('struct rule is cut short');
    return {
      id: source.readUInt32LE(at + 0),
      plugin: source.readUInt32LE(at + 4),
      action: source.readUInt8(at + 8),
      context: source.readUInt8(at + 9),
    };
  },
} as const;

/** struct port_rule, 20 bytes. */
export interface PortRule {
  rule: Rule;
  first: number;
  last: number;
  protocol: number;
}

export const portRuleCodec = {
  size: 20,
  offsets: { rule: 0, first: 12, last: 14, protocol: 16 },
  write(target: Buffer, at: number, value: PortRule): void {
    target.fill(0, at, at + 20);
    ruleCodec.write(target, at + 0, value.rule);
    target.writeUInt16LE(value.first, at + 12);
    target.writeUInt16LE(value.last, at + 14);
    target.writeUInt8(value.protocol, at + 16);
  },
  read(source: Buffer, at: number): PortRule {
    if (source.length < at + 20) throw new RangeError('struct port_rule is cut short');
    return {
      rule: ruleCodec.read(source, at + 0),
      first: source.readUInt16LE(at + 12),
      last: source.readUInt16LE(at + 14),
      protocol: source.readUInt8(at + 16),
    };
  },
} as const;

/** struct policy_entry, 60 bytes. */
export interface PolicyEntry {
  portTable: number;
  prefixes: number;
  other: Rule;
  near: readonly PortRule[];
}

export const policyEntryCodec = {
  size: 60,
  offsets: { portTable: 0, prefixes: 4, other: 8, near: 20 },
  write(target: Buffer, at: number, value: PolicyEntry): void {
    target.fill(0, at, at + 60);
    target.writeUInt32LE(value.portTable, at + 0);
    target.writeUInt32LE(value.prefixes, at + 4);
    ruleCodec.write(target, at + 8, value.other);
    value.near.forEach((each, i) => void portRuleCodec.write(target, at + 20 + i * 20, each));
  },
  read(source: Buffer, at: number): PolicyEntry {
    if (source.length < at + 60) throw new RangeError('struct policy_entry is cut short');
    return {
      portTable: source.readUInt32LE(at + 0),
      prefixes: source.readUInt32LE(at + 4),
      other: ruleCodec.read(source, at + 8),
      near: Array.from({ length: 2 }, (_, i) => portRuleCodec.read(source, at + 20 + i * 20)),
    };
  },
} as const;

/** struct port_key, 8 bytes. */
export interface PortKey {
  portTable: number;
  port: number;
  protocol: number;
  prefixBits: number;
}

export const portKeyCodec = {
  size: 8,
  offsets: { portTable: 0, port: 4, protocol: 6, prefixBits: 7 },
  write(target: Buffer, at: number, value: PortKey): void {
    target.fill(0, at, at + 8);
    target.writeUInt32LE(value.portTable, at + 0);
    target.writeUInt16LE(value.port, at + 4);
    target.writeUInt8(value.protocol, at + 6);
    target.writeUInt8(value.prefixBits, at + 7);
  },
  read(source: Buffer, at: number): PortKey {
    if (source.length < at + 8) throw new RangeError('struct port_key is cut short');
    return {
      portTable: source.readUInt32LE(at + 0),
      port: source.readUInt16LE(at + 4),
      protocol: source.readUInt8(at + 6),
      prefixBits: source.readUInt8(at + 7),
    };
  },
} as const;

/** struct connection_key, 28 bytes. */
export interface ConnectionKey {
  remote: Uint8Array;
  endpoint: number;
  remotePort: number;
  localPort: number;
  protocol: number;
}

export const connectionKeyCodec = {
  size: 28,
  offsets: { remote: 0, endpoint: 16, remotePort: 20, localPort: 22, protocol: 24 },
  write(target: Buffer, at: number, value: ConnectionKey): void {
    target.fill(0, at, at + 28);
    target.set(value.remote.subarray(0, 16), at + 0);
    target.writeUInt32LE(value.endpoint, at + 16);
    target.writeUInt16BE(value.remotePort, at + 20);
    target.writeUInt16BE(value.localPort, at + 22);
    target.writeUInt8(value.protocol, at + 24);
  },
  read(source: Buffer, at: number): ConnectionKey {
    if (source.length < at + 28) throw new RangeError('struct connection_key is cut short');
    return {
      remote: Uint8Array.prototype.slice.call(source, at + 0, at + 16),
      endpoint: source.readUInt32LE(at + 16),
      remotePort: source.readUInt16BE(at + 20),
      localPort: source.readUInt16BE(at + 22),
      protocol: source.readUInt8(at + 24),
    };
  },
} as const;

/** struct connection, 72 bytes. */
export interface Connection {
  expiresNs: bigint;
  local: Uint8Array;
  revision: number;
  epoch: number;
  plugin: number;
  peerIdentity: number;
  direction: number;
  flags: number;
  context: number;
  path: number;
  readTo: number;
  service: number;
  other: Translation;
}

export const connectionCodec = {
  size: 72,
  offsets: { expiresNs: 0, local: 8, revision: 24, epoch: 28, plugin: 32, peerIdentity: 36, direction: 40, flags: 41, context: 42, path: 43, readTo: 44, service: 48, other: 52 },
  write(target: Buffer, at: number, value: Connection): void {
    target.fill(0, at, at + 72);
    target.writeBigUInt64LE(value.expiresNs, at + 0);
    target.set(value.local.subarray(0, 16), at + 8);
    target.writeUInt32LE(value.revision, at + 24);
    target.writeUInt32LE(value.epoch, at + 28);
    target.writeUInt32LE(value.plugin, at + 32);
    target.writeUInt32LE(value.peerIdentity, at + 36);
    target.writeUInt8(value.direction, at + 40);
    target.writeUInt8(value.flags, at + 41);
    target.writeUInt8(value.context, at + 42);
    target.writeUInt8(value.path, at + 43);
    target.writeUInt32LE(value.readTo, at + 44);
    target.writeUInt32LE(value.service, at + 48);
    translationCodec.write(target, at + 52, value.other);
  },
  read(source: Buffer, at: number): Connection {
    if (source.length < at + 72) throw new RangeError('struct connection is cut short');
    return {
      expiresNs: source.readBigUInt64LE(at + 0),
      local: Uint8Array.prototype.slice.call(source, at + 8, at + 24),
      revision: source.readUInt32LE(at + 24),
      epoch: source.readUInt32LE(at + 28),
      plugin: source.readUInt32LE(at + 32),
      peerIdentity: source.readUInt32LE(at + 36),
      direction: source.readUInt8(at + 40),
      flags: source.readUInt8(at + 41),
      context: source.readUInt8(at + 42),
      path: source.readUInt8(at + 43),
      readTo: source.readUInt32LE(at + 44),
      service: source.readUInt32LE(at + 48),
      other: translationCodec.read(source, at + 52),
    };
  },
} as const;

/** struct translation, 20 bytes. */
export interface Translation {
  address: Uint8Array;
  port: number;
}

export const translationCodec = {
  size: 20,
  offsets: { address: 0, port: 16 },
  write(target: Buffer, at: number, value: Translation): void {
    target.fill(0, at, at + 20);
    target.set(value.address.subarray(0, 16), at + 0);
    target.writeUInt16BE(value.port, at + 16);
  },
  read(source: Buffer, at: number): Translation {
    if (source.length < at + 20) throw new RangeError('struct translation is cut short');
    return {
      address: Uint8Array.prototype.slice.call(source, at + 0, at + 16),
      port: source.readUInt16BE(at + 16),
    };
  },
} as const;

/** struct local_endpoint, 8 bytes. */
export interface LocalEndpoint {
  id: number;
  peered: number;
}

export const localEndpointCodec = {
  size: 8,
  offsets: { id: 0, peered: 4 },
  write(target: Buffer, at: number, value: LocalEndpoint): void {
    target.fill(0, at, at + 8);
    target.writeUInt32LE(value.id, at + 0);
    target.writeUInt32LE(value.peered, at + 4);
  },
  read(source: Buffer, at: number): LocalEndpoint {
    if (source.length < at + 8) throw new RangeError('struct local_endpoint is cut short');
    return {
      id: source.readUInt32LE(at + 0),
      peered: source.readUInt32LE(at + 4),
    };
  },
} as const;

/** struct backend_set, 8 bytes. */
export interface BackendSet {
  ipv4: number;
  ipv6: number;
}

export const backendSetCodec = {
  size: 8,
  offsets: { ipv4: 0, ipv6: 4 },
  write(target: Buffer, at: number, value: BackendSet): void {
    target.fill(0, at, at + 8);
    target.writeUInt32LE(value.ipv4, at + 0);
    target.writeUInt32LE(value.ipv6, at + 4);
  },
  read(source: Buffer, at: number): BackendSet {
    if (source.length < at + 8) throw new RangeError('struct backend_set is cut short');
    return {
      ipv4: source.readUInt32LE(at + 0),
      ipv6: source.readUInt32LE(at + 4),
    };
  },
} as const;

/** struct backend_key, 8 bytes. */
export interface BackendKey {
  set: number;
  index: number;
}

export const backendKeyCodec = {
  size: 8,
  offsets: { set: 0, index: 4 },
  write(target: Buffer, at: number, value: BackendKey): void {
    target.fill(0, at, at + 8);
    target.writeUInt32LE(value.set, at + 0);
    target.writeUInt32LE(value.index, at + 4);
  },
  read(source: Buffer, at: number): BackendKey {
    if (source.length < at + 8) throw new RangeError('struct backend_key is cut short');
    return {
      set: source.readUInt32LE(at + 0),
      index: source.readUInt32LE(at + 4),
    };
  },
} as const;

/** struct service_key, 20 bytes. */
export interface ServiceKey {
  address: Uint8Array;
  port: number;
  protocol: number;
}

export const serviceKeyCodec = {
  size: 20,
  offsets: { address: 0, port: 16, protocol: 18 },
  write(target: Buffer, at: number, value: ServiceKey): void {
    target.fill(0, at, at + 20);
    target.set(value.address.subarray(0, 16), at + 0);
    target.writeUInt16BE(value.port, at + 16);
    target.writeUInt8(value.protocol, at + 18);
  },
  read(source: Buffer, at: number): ServiceKey {
    if (source.length < at + 20) throw new RangeError('struct service_key is cut short');
    return {
      address: Uint8Array.prototype.slice.call(source, at + 0, at + 16),
      port: source.readUInt16BE(at + 16),
      protocol: source.readUInt8(at + 18),
    };
  },
} as const;

/** struct service, 8 bytes. */
export interface Service {
  set: number;
  affinityS: number;
}

export const serviceCodec = {
  size: 8,
  offsets: { set: 0, affinityS: 4 },
  write(target: Buffer, at: number, value: Service): void {
    target.fill(0, at, at + 8);
    target.writeUInt32LE(value.set, at + 0);
    target.writeUInt32LE(value.affinityS, at + 4);
  },
  read(source: Buffer, at: number): Service {
    if (source.length < at + 8) throw new RangeError('struct service is cut short');
    return {
      set: source.readUInt32LE(at + 0),
      affinityS: source.readUInt32LE(at + 4),
    };
  },
} as const;

/** struct affinity_key, 12 bytes. */
export interface AffinityKey {
  set: number;
  endpoint: number;
  ipv6: number;
}

export const affinityKeyCodec = {
  size: 12,
  offsets: { set: 0, endpoint: 4, ipv6: 8 },
  write(target: Buffer, at: number, value: AffinityKey): void {
    target.fill(0, at, at + 12);
    target.writeUInt32LE(value.set, at + 0);
    target.writeUInt32LE(value.endpoint, at + 4);
    target.writeUInt8(value.ipv6, at + 8);
  },
  read(source: Buffer, at: number): AffinityKey {
    if (source.length < at + 12) throw new RangeError('struct affinity_key is cut short');
    return {
      set: source.readUInt32LE(at + 0),
      endpoint: source.readUInt32LE(at + 4),
      ipv6: source.readUInt8(at + 8),
    };
  },
} as const;

/** struct affinity, 32 bytes. */
export interface Affinity {
  expiresNs: bigint;
  backend: Translation;
}

export const affinityCodec = {
  size: 32,
  offsets: { expiresNs: 0, backend: 8 },
  write(target: Buffer, at: number, value: Affinity): void {
    target.fill(0, at, at + 32);
    target.writeBigUInt64LE(value.expiresNs, at + 0);
    translationCodec.write(target, at + 8, value.backend);
  },
  read(source: Buffer, at: number): Affinity {
    if (source.length < at + 32) throw new RangeError('struct affinity is cut short');
    return {
      expiresNs: source.readBigUInt64LE(at + 0),
      backend: translationCodec.read(source, at + 8),
    };
  },
} as const;

/** struct fragment_key, 44 bytes. */
export interface FragmentKey {
  source: Uint8Array;
  destination: Uint8Array;
  id: number;
  endpoint: number;
  protocol: number;
  direction: number;
}

export const fragmentKeyCodec = {
  size: 44,
  offsets: { source: 0, destination: 16, id: 32, endpoint: 36, protocol: 40, direction: 41 },
  write(target: Buffer, at: number, value: FragmentKey): void {
    target.fill(0, at, at + 44);
    target.set(value.source.subarray(0, 16), at + 0);
    target.set(value.destination.subarray(0, 16), at + 16);
    target.writeUInt32LE(value.id, at + 32);
    target.writeUInt32LE(value.endpoint, at + 36);
    target.writeUInt8(value.protocol, at + 40);
    target.writeUInt8(value.direction, at + 41);
  },
  read(source: Buffer, at: number): FragmentKey {
    if (source.length < at + 44) throw new RangeError('struct fragment_key is cut short');
    return {
      source: Uint8Array.prototype.slice.call(source, at + 0, at + 16),
      destination: Uint8Array.prototype.slice.call(source, at + 16, at + 32),
      id: source.readUInt32LE(at + 32),
      endpoint: source.readUInt32LE(at + 36),
      protocol: source.readUInt8(at + 40),
      direction: source.readUInt8(at + 41),
    };
  },
} as const;

/** struct fragment, 24 bytes. */
export interface Fragment {
  untilNs: bigint;
  other: Uint8Array;
}

export const fragmentCodec = {
  size: 24,
  offsets: { untilNs: 0, other: 8 },
  write(target: Buffer, at: number, value: Fragment): void {
    target.fill(0, at, at + 24);
    target.writeBigUInt64LE(value.untilNs, at + 0);
    target.set(value.other.subarray(0, 16), at + 8);
  },
  read(source: Buffer, at: number): Fragment {
    if (source.length < at + 24) throw new RangeError('struct fragment is cut short');
    return {
      untilNs: source.readBigUInt64LE(at + 0),
      other: Uint8Array.prototype.slice.call(source, at + 8, at + 24),
    };
  },
} as const;

/** struct plugin_state, 24 bytes. */
export interface PluginState {
  name: bigint;
  module: bigint;
  epoch: number;
  failure: number;
  status: number;
  scopes: number;
}

export const pluginStateCodec = {
  size: 24,
  offsets: { name: 0, module: 8, epoch: 16, failure: 20, status: 21, scopes: 22 },
  write(target: Buffer, at: number, value: PluginState): void {
    target.fill(0, at, at + 24);
    target.writeBigUInt64LE(value.name, at + 0);
    target.writeBigUInt64LE(value.module, at + 8);
    target.writeUInt32LE(value.epoch, at + 16);
    target.writeUInt8(value.failure, at + 20);
    target.writeUInt8(value.status, at + 21);
    target.writeUInt8(value.scopes, at + 22);
  },
  read(source: Buffer, at: number): PluginState {
    if (source.length < at + 24) throw new RangeError('struct plugin_state is cut short');
    return {
      name: source.readBigUInt64LE(at + 0),
      module: source.readBigUInt64LE(at + 8),
      epoch: source.readUInt32LE(at + 16),
      failure: source.readUInt8(at + 20),
      status: source.readUInt8(at + 21),
      scopes: source.readUInt8(at + 22),
    };
  },
} as const;

/** struct verdict_key, 52 bytes. */
export interface VerdictKey {
  source: Uint8Array;
  destination: Uint8Array;
  sourceIdentity: number;
  destinationIdentity: number;
  plugin: number;
  sourcePort: number;
  destinationPort: number;
  protocol: number;
  scope: number;
  direction: number;
  context: number;
}

export const verdictKeyCodec = {
  size: 52,
  offsets: { source: 0, destination: 16, sourceIdentity: 32, destinationIdentity: 36, plugin: 40, sourcePort: 44, destinationPort: 46, protocol: 48, scope: 49, direction: 50, context: 51 },
  write(target: Buffer, at: number, value: VerdictKey): void {
    target.fill(0, at, at + 52);
    target.set(value.source.subarray(0, 16), at + 0);
    target.set(value.destination.subarray(0, 16), at + 16);
    target.writeUInt32LE(value.sourceIdentity, at + 32);
    target.writeUInt32LE(value.destinationIdentity, at + 36);
    target.writeUInt32LE(value.plugin, at + 40);
    target.writeUInt16BE(value.sourcePort, at + 44);
    target.writeUInt16BE(value.destinationPort, at + 46);
    target.writeUInt8(value.protocol, at + 48);
    target.writeUInt8(value.scope, at + 49);
    target.writeUInt8(value.direction, at + 50);
    target.writeUInt8(value.context, at + 51);
  },
  read(source: Buffer, at: number): VerdictKey {
    if (source.length < at + 52) throw new RangeError('struct verdict_key is cut short');
    return {
      source: Uint8Array.prototype.slice.call(source, at + 0, at + 16),
      destination: Uint8Array.prototype.slice.call(source, at + 16, at + 32),
      sourceIdentity: source.readUInt32LE(at + 32),
      destinationIdentity: source.readUInt32LE(at + 36),
      plugin: source.readUInt32LE(at + 40),
      sourcePort: source.readUInt16BE(at + 44),
      destinationPort: source.readUInt16BE(at + 46),
      protocol: source.readUInt8(at + 48),
      scope: source.readUInt8(at + 49),
      direction: source.readUInt8(at + 50),
      context: source.readUInt8(at + 51),
    };
  },
} as const;

/** struct verdict_entry, 24 bytes. */
export interface VerdictEntry {
  expiresNs: bigint;
  epoch: number;
  backendSet: number;
  verdict: number;
  once: number;
}

export const verdictEntryCodec = {
  size: 24,
  offsets: { expiresNs: 0, epoch: 8, backendSet: 12, verdict: 16, once: 17 },
  write(target: Buffer, at: number, value: VerdictEntry): void {
    target.fill(0, at, at + 24);
    target.writeBigUInt64LE(value.expiresNs, at + 0);
    target.writeUInt32LE(value.epoch, at + 8);
    target.writeUInt32LE(value.backendSet, at + 12);
    target.writeUInt8(value.verdict, at + 16);
    target.writeUInt8(value.once, at + 17);
  },
  read(source: Buffer, at: number): VerdictEntry {
    if (source.length < at + 24) throw new RangeError('struct verdict_entry is cut short');
    return {
      expiresNs: source.readBigUInt64LE(at + 0),
      epoch: source.readUInt32LE(at + 8),
      backendSet: source.readUInt32LE(at + 12),
      verdict: source.readUInt8(at + 16),
      once: source.readUInt8(at + 17),
    };
  },
} as const;

/** struct ask, 104 bytes. */
export interface Ask {
  timeNs: bigint;
  name: bigint;
  source: Uint8Array;
  destination: Uint8Array;
  sourceIdentity: number;
  destinationIdentity: number;
  endpoint: number;
  rule: number;
  plugin: number;
  length: number;
  gsoSize: number;
  sourcePort: number;
  destinationPort: number;
  networkOffset: number;
  transportOffset: number;
  vlanTci: number;
  vlanProtocol: number;
  protocol: number;
  direction: number;
  context: number;
  flags: number;
  readTo: number;
  service: number;
  responseCode: number;
}

export const askCodec = {
  size: 104,
  offsets: { timeNs: 0, name: 8, source: 16, destination: 32, sourceIdentity: 48, destinationIdentity: 52, endpoint: 56, rule: 60, plugin: 64, length: 68, gsoSize: 72, sourcePort: 76, destinationPort: 78, networkOffset: 80, transportOffset: 82, vlanTci: 84, vlanProtocol: 86, protocol: 88, direction: 89, context: 90, flags: 91, readTo: 92, service: 96, responseCode: 100 },
  write(target: Buffer, at: number, value: Ask): void {
    target.fill(0, at, at + 104);
    target.writeBigUInt64LE(value.timeNs, at + 0);
    target.writeBigUInt64LE(value.name, at + 8);
    target.set(value.source.subarray(0, 16), at + 16);
    target.set(value.destination.subarray(0, 16), at + 32);
    target.writeUInt32LE(value.sourceIdentity, at + 48);
    target.writeUInt32LE(value.destinationIdentity, at + 52);
    target.writeUInt32LE(value.endpoint, at + 56);
    target.writeUInt32LE(value.rule, at + 60);
    target.writeUInt32LE(value.plugin, at + 64);
    target.writeUInt32LE(value.length, at + 68);
    target.writeUInt32LE(value.gsoSize, at + 72);
    target.writeUInt16BE(value.sourcePort, at + 76);
    target.writeUInt16BE(value.destinationPort, at + 78);
    target.writeUInt16LE(value.networkOffset, at + 80);
    target.writeUInt16LE(value.transportOffset, at + 82);
    target.writeUInt16LE(value.vlanTci, at + 84);
    target.writeUInt16BE(value.vlanProtocol, at + 86);
    target.writeUInt8(value.protocol, at + 88);
    target.writeUInt8(value.direction, at + 89);
    target.writeUInt8(value.context, at + 90);
    target.writeUInt8(value.flags, at + 91);
    target.writeUInt32LE(value.readTo, at + 92);
    target.writeUInt32LE(value.service, at + 96);
    target.writeUInt8(value.responseCode, at + 100);
  },
  read(source: Buffer, at: number): Ask {
    if (source.length < at + 104) throw new RangeError('struct ask is cut short');
    return {
      timeNs: source.readBigUInt64LE(at + 0),
      name: source.readBigUInt64LE(at + 8),
      source: Uint8Array.prototype.slice.call(source, at + 16, at + 32),
      destination: Uint8Array.prototype.slice.call(source, at + 32, at + 48),
      sourceIdentity: source.readUInt32LE(at + 48),
      destinationIdentity: source.readUInt32LE(at + 52),
      endpoint: source.readUInt32LE(at + 56),
      rule: source.readUInt32LE(at + 60),
      plugin: source.readUInt32LE(at + 64),
      length: source.readUInt32LE(at + 68),
      gsoSize: source.readUInt32LE(at + 72),
      sourcePort: source.readUInt16BE(at + 76),
      destinationPort: source.readUInt16BE(at + 78),
      networkOffset: source.readUInt16LE(at + 80),
      transportOffset: source.readUInt16LE(at + 82),
      vlanTci: source.readUInt16LE(at + 84),
      vlanProtocol: source.readUInt16BE(at + 86),
      protocol: source.readUInt8(at + 88),
      direction: source.readUInt8(at + 89),
      context: source.readUInt8(at + 90),
      flags: source.readUInt8(at + 91),
      readTo: source.readUInt32LE(at + 92),
      service: source.readUInt32LE(at + 96),
      responseCode: source.readUInt8(at + 100),
    };
  },
} as const;

/** struct flow_record, 88 bytes. */
export interface FlowRecord {
  timeNs: bigint;
  name: bigint;
  source: Uint8Array;
  destination: Uint8Array;
  sourceIdentity: number;
  destinationIdentity: number;
  endpoint: number;
  rule: number;
  plugin: number;
  service: number;
  sourcePort: number;
  destinationPort: number;
  protocol: number;
  direction: number;
  verdict: number;
  reason: number;
  parsed: number;
}

export const flowRecordCodec = {
  size: 88,
  offsets: { timeNs: 0, name: 8, source: 16, destination: 32, sourceIdentity: 48, destinationIdentity: 52, endpoint: 56, rule: 60, plugin: 64, service: 68, sourcePort: 72, destinationPort: 74, protocol: 76, direction: 77, verdict: 78, reason: 79, parsed: 80 },
  write(target: Buffer, at: number, value: FlowRecord): void {
    target.fill(0, at, at + 88);
    target.writeBigUInt64LE(value.timeNs, at + 0);
    target.writeBigUInt64LE(value.name, at + 8);
    target.set(value.source.subarray(0, 16), at + 16);
    target.set(value.destination.subarray(0, 16), at + 32);
    target.writeUInt32LE(value.sourceIdentity, at + 48);
    target.writeUInt32LE(value.destinationIdentity, at + 52);
    target.writeUInt32LE(value.endpoint, at + 56);
    target.writeUInt32LE(value.rule, at + 60);
    target.writeUInt32LE(value.plugin, at + 64);
    target.writeUInt32LE(value.service, at + 68);
    target.writeUInt16BE(value.sourcePort, at + 72);
    target.writeUInt16BE(value.destinationPort, at + 74);
    target.writeUInt8(value.protocol, at + 76);
    target.writeUInt8(value.direction, at + 77);
    target.writeUInt8(value.verdict, at + 78);
    target.writeUInt8(value.reason, at + 79);
    target.writeUInt8(value.parsed, at + 80);
  },
  read(source: Buffer, at: number): FlowRecord {
    if (source.length < at + 88) throw new RangeError('struct flow_record is cut short');
    return {
      timeNs: source.readBigUInt64LE(at + 0),
      name: source.readBigUInt64LE(at + 8),
      source: Uint8Array.prototype.slice.call(source, at + 16, at + 32),
      destination: Uint8Array.prototype.slice.call(source, at + 32, at + 48),
      sourceIdentity: source.readUInt32LE(at + 48),
      destinationIdentity: source.readUInt32LE(at + 52),
      endpoint: source.readUInt32LE(at + 56),
      rule: source.readUInt32LE(at + 60),
      plugin: source.readUInt32LE(at + 64),
      service: source.readUInt32LE(at + 68),
      sourcePort: source.readUInt16BE(at + 72),
      destinationPort: source.readUInt16BE(at + 74),
      protocol: source.readUInt8(at + 76),
      direction: source.readUInt8(at + 77),
      verdict: source.readUInt8(at + 78),
      reason: source.readUInt8(at + 79),
      parsed: source.readUInt8(at + 80),
    };
  },
} as const;

/** struct engine_state, 48 bytes. */
export interface EngineState {
  heartbeatNs: bigint;
  staleNs: bigint;
  abiVersion: number;
  token: number;
  sink: number;
  proxy: number;
  proxyHeartbeatNs: bigint;
  network: bigint;
}

export const engineStateCodec = {
  size: 48,
  offsets: { heartbeatNs: 0, staleNs: 8, abiVersion: 16, token: 20, sink: 24, proxy: 28, proxyHeartbeatNs: 32, network: 40 },
  write(target: Buffer, at: number, value: EngineState): void {
    target.fill(0, at, at + 48);
    target.writeBigUInt64LE(value.heartbeatNs, at + 0);
    target.writeBigUInt64LE(value.staleNs, at + 8);
    target.writeUInt32LE(value.abiVersion, at + 16);
    target.writeUInt32LE(value.token, at + 20);
    target.writeUInt32LE(value.sink, at + 24);
    target.writeUInt32LE(value.proxy, at + 28);
    target.writeBigUInt64LE(value.proxyHeartbeatNs, at + 32);
    target.writeBigUInt64LE(value.network, at + 40);
  },
  read(source: Buffer, at: number): EngineState {
    if (source.length < at + 48) throw new RangeError('struct engine_state is cut short');
    return {
      heartbeatNs: source.readBigUInt64LE(at + 0),
      staleNs: source.readBigUInt64LE(at + 8),
      abiVersion: source.readUInt32LE(at + 16),
      token: source.readUInt32LE(at + 20),
      sink: source.readUInt32LE(at + 24),
      proxy: source.readUInt32LE(at + 28),
      proxyHeartbeatNs: source.readBigUInt64LE(at + 32),
      network: source.readBigUInt64LE(at + 40),
    };
  },
} as const;

/** struct counter, 16 bytes. */
export interface Counter {
  packets: bigint;
  bytes: bigint;
}

export const counterCodec = {
  size: 16,
  offsets: { packets: 0, bytes: 8 },
  write(target: Buffer, at: number, value: Counter): void {
    target.fill(0, at, at + 16);
    target.writeBigUInt64LE(value.packets, at + 0);
    target.writeBigUInt64LE(value.bytes, at + 8);
  },
  read(source: Buffer, at: number): Counter {
    if (source.length < at + 16) throw new RangeError('struct counter is cut short');
    return {
      packets: source.readBigUInt64LE(at + 0),
      bytes: source.readBigUInt64LE(at + 8),
    };
  },
} as const;

/** struct stage_switches, 4 bytes. */
export interface StageSwitches {
  names: number;
}

export const stageSwitchesCodec = {
  size: 4,
  offsets: { names: 0 },
  write(target: Buffer, at: number, value: StageSwitches): void {
    target.fill(0, at, at + 4);
    target.writeUInt32LE(value.names, at + 0);
  },
  read(source: Buffer, at: number): StageSwitches {
    if (source.length < at + 4) throw new RangeError('struct stage_switches is cut short');
    return {
      names: source.readUInt32LE(at + 0),
    };
  },
} as const;

/** struct plugin_context, 152 bytes. */
export interface PluginContext {
  source: Uint8Array;
  destination: Uint8Array;
  timeMs: bigint;
  flow: bigint;
  sourceIdentity: number;
  destinationIdentity: number;
  tag: number;
  fields: number;
  sourcePort: number;
  destinationPort: number;
  hook: number;
  protocol: number;
  direction: number;
  flags: number;
  slots: readonly number[];
  headers: number;
  cookies: number;
  dnsTtlS: number;
  dnsType: number;
}

export const pluginContextCodec = {
  size: 152,
  offsets: { source: 0, destination: 16, timeMs: 32, flow: 40, sourceIdentity: 48, destinationIdentity: 52, tag: 56, fields: 60, sourcePort: 64, destinationPort: 66, hook: 68, protocol: 69, direction: 70, flags: 71, slots: 72, headers: 136, cookies: 140, dnsTtlS: 144, dnsType: 148 },
  write(target: Buffer, at: number, value: PluginContext): void {
    target.fill(0, at, at + 152);
    target.set(value.source.subarray(0, 16), at + 0);
    target.set(value.destination.subarray(0, 16), at + 16);
    target.writeBigUInt64LE(value.timeMs, at + 32);
    target.writeBigUInt64LE(value.flow, at + 40);
    target.writeUInt32LE(value.sourceIdentity, at + 48);
    target.writeUInt32LE(value.destinationIdentity, at + 52);
    target.writeUInt32LE(value.tag, at + 56);
    target.writeUInt32LE(value.fields, at + 60);
    target.writeUInt16LE(value.sourcePort, at + 64);
    target.writeUInt16LE(value.destinationPort, at + 66);
    target.writeUInt8(value.hook, at + 68);
    target.writeUInt8(value.protocol, at + 69);
    target.writeUInt8(value.direction, at + 70);
    target.writeUInt8(value.flags, at + 71);
    target.writeUInt32LE(value.slots[0] ?? 0, at + 72);
    target.writeUInt32LE(value.slots[1] ?? 0, at + 76);
    target.writeUInt32LE(value.slots[2] ?? 0, at + 80);
    target.writeUInt32LE(value.slots[3] ?? 0, at + 84);
    target.writeUInt32LE(value.slots[4] ?? 0, at + 88);
    target.writeUInt32LE(value.slots[5] ?? 0, at + 92);
    target.writeUInt32LE(value.slots[6] ?? 0, at + 96);
    target.writeUInt32LE(value.slots[7] ?? 0, at + 100);
    target.writeUInt32LE(value.slots[8] ?? 0, at + 104);
    target.writeUInt32LE(value.slots[9] ?? 0, at + 108);
    target.writeUInt32LE(value.slots[10] ?? 0, at + 112);
    target.writeUInt32LE(value.slots[11] ?? 0, at + 116);
    target.writeUInt32LE(value.slots[12] ?? 0, at + 120);
    target.writeUInt32LE(value.slots[13] ?? 0, at + 124);
    target.writeUInt32LE(value.slots[14] ?? 0, at + 128);
    target.writeUInt32LE(value.slots[15] ?? 0, at + 132);
    target.writeUInt32LE(value.headers, at + 136);
    target.writeUInt32LE(value.cookies, at + 140);
    target.writeUInt32LE(value.dnsTtlS, at + 144);
    target.writeUInt16LE(value.dnsType, at + 148);
  },
  read(source: Buffer, at: number): PluginContext {
    if (source.length < at + 152) throw new RangeError('struct plugin_context is cut short');
    return {
      source: Uint8Array.prototype.slice.call(source, at + 0, at + 16),
      destination: Uint8Array.prototype.slice.call(source, at + 16, at + 32),
      timeMs: source.readBigUInt64LE(at + 32),
      flow: source.readBigUInt64LE(at + 40),
      sourceIdentity: source.readUInt32LE(at + 48),
      destinationIdentity: source.readUInt32LE(at + 52),
      tag: source.readUInt32LE(at + 56),
      fields: source.readUInt32LE(at + 60),
      sourcePort: source.readUInt16LE(at + 64),
      destinationPort: source.readUInt16LE(at + 66),
      hook: source.readUInt8(at + 68),
      protocol: source.readUInt8(at + 69),
      direction: source.readUInt8(at + 70),
      flags: source.readUInt8(at + 71),
      slots: [source.readUInt32LE(at + 72), source.readUInt32LE(at + 76), source.readUInt32LE(at + 80), source.readUInt32LE(at + 84), source.readUInt32LE(at + 88), source.readUInt32LE(at + 92), source.readUInt32LE(at + 96), source.readUInt32LE(at + 100), source.readUInt32LE(at + 104), source.readUInt32LE(at + 108), source.readUInt32LE(at + 112), source.readUInt32LE(at + 116), source.readUInt32LE(at + 120), source.readUInt32LE(at + 124), source.readUInt32LE(at + 128), source.readUInt32LE(at + 132)],
      headers: source.readUInt32LE(at + 136),
      cookies: source.readUInt32LE(at + 140),
      dnsTtlS: source.readUInt32LE(at + 144),
      dnsType: source.readUInt16LE(at + 148),
    };
  },
} as const;

/** struct plugin_header, 12 bytes. */
export interface PluginHeader {
  hash: number;
  name: number;
  value: number;
}

export const pluginHeaderCodec = {
  size: 12,
  offsets: { hash: 0, name: 4, value: 8 },
  write(target: Buffer, at: number, value: PluginHeader): void {
    target.fill(0, at, at + 12);
    target.writeUInt32LE(value.hash, at + 0);
    target.writeUInt32LE(value.name, at + 4);
    target.writeUInt32LE(value.value, at + 8);
  },
  read(source: Buffer, at: number): PluginHeader {
    if (source.length < at + 12) throw new RangeError('struct plugin_header is cut short');
    return {
      hash: source.readUInt32LE(at + 0),
      name: source.readUInt32LE(at + 4),
      value: source.readUInt32LE(at + 8),
    };
  },
} as const;

/** struct plugin_result, 16 bytes. */
export interface PluginResult {
  fields: number;
  route: number;
  message: number;
  messageLength: number;
}

export const pluginResultCodec = {
  size: 16,
  offsets: { fields: 0, route: 4, message: 8, messageLength: 12 },
  write(target: Buffer, at: number, value: PluginResult): void {
    target.fill(0, at, at + 16);
    target.writeUInt32LE(value.fields, at + 0);
    target.writeUInt32LE(value.route, at + 4);
    target.writeUInt32LE(value.message, at + 8);
    target.writeUInt32LE(value.messageLength, at + 12);
  },
  read(source: Buffer, at: number): PluginResult {
    if (source.length < at + 16) throw new RangeError('struct plugin_result is cut short');
    return {
      fields: source.readUInt32LE(at + 0),
      route: source.readUInt32LE(at + 4),
      message: source.readUInt32LE(at + 8),
      messageLength: source.readUInt32LE(at + 12),
    };
  },
} as const;

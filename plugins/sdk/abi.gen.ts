// Generated from bpf/abi.h and bpf/plugin-abi.h by `npm run generate`; do not edit.
//
// Views of the records that host and plugin share: `at` is where the record begins in this module's memory.

export const enum DirectionValue {
  INGRESS = 0,
  EGRESS = 1,
}

export const enum IdentityValue {
  ANY = 0,
  WORLD = 1,
}

export const enum ContextValue {
  CONNECT = 0,
  DNS = 1,
  TLS = 2,
  HTTP = 3,
}

export const enum VerdictValue {
  NEXT = 0,
  ALLOW = 1,
  DENY = 2,
  ROUTE = 3,
}

export const enum ScopeValue {
  NONE = 0,
  FLOW = 1,
  ADDRESS = 2,
  IDENTITY = 4,
}

export const enum PluginFieldValue {
  SOURCE_IDENTITY = 1,
  SOURCE_NAMESPACE = 2,
  SOURCE_LABELS = 4,
  SOURCE_SERVICE_ACCOUNT = 8,
  SOURCE_POD = 16,
  SOURCE_ADDRESS = 32,
  SOURCE_PORT = 64,
  DESTINATION_IDENTITY = 128,
  DESTINATION_NAMESPACE = 256,
  DESTINATION_LABELS = 512,
  DESTINATION_SERVICE = 1024,
  DESTINATION_POD = 2048,
  DESTINATION_ADDRESS = 4096,
  DESTINATION_PORT = 8192,
  PROTOCOL = 16384,
  DIRECTION = 32768,
  ESTABLISHED = 65536,
  TIME = 131072,
  FLOW = 262144,
  TAG = 524288,
  METHOD = 1048576,
  HOST = 2097152,
  PATH = 4194304,
  QUERY = 8388608,
  SERVER_NAME = 16777216,
  DNS_NAME = 33554432,
  HEADER = 67108864,
  COOKIE = 134217728,
  HOST_STATE = 268435456,
  APPLICATION_PROTOCOLS = 536870912,
  DNS_ANSWER = 1073741824,
}

export const enum PluginActionValue {
  NEXT = 0,
  ALLOW = 1,
  DENY = 2,
  ROUTE = 3,
  AUDIT = 4,
  MAX = 5,
}

export const enum PluginSlotValue {
  METHOD = 0,
  HOST = 1,
  PATH = 2,
  QUERY = 3,
  SERVER_NAME = 4,
  DNS_NAME = 5,
  SOURCE_NAMESPACE = 6,
  SOURCE_POD = 7,
  SOURCE_LABELS = 8,
  DESTINATION_NAMESPACE = 9,
  DESTINATION_POD = 10,
  DESTINATION_LABELS = 11,
  DESTINATION_SERVICE = 12,
  SOURCE_SERVICE_ACCOUNT = 13,
  APPLICATION_PROTOCOLS = 14,
  DNS_ADDRESSES = 15,
  MAX = 16,
}

export const enum PluginContextFlagValue {
  ESTABLISHED = 1,
  ENCRYPTED_HELLO = 2,
}

export const enum VerdictWordValue {
  SCOPE_SHIFT = 4,
  TTL_SHIFT = 8,
  TTL_EXPONENT_SHIFT = 16,
  REASON_SHIFT = 20,
  TTL_UNIT_MS = 10,
}

export const PLUGIN_CONTEXT_SIZE: i32 = 152;
// @ts-ignore: decorator
@inline export function pluginContextSource(at: usize): usize { return at + 0; }
// @ts-ignore: decorator
@inline export function pluginContextDestination(at: usize): usize { return at + 16; }
// @ts-ignore: decorator
@inline export function pluginContextTimeMs(at: usize): u64 { return load<u64>(at, 32); }
// @ts-ignore: decorator
@inline export function setPluginContextTimeMs(at: usize, value: u64): void { store<u64>(at, value, 32); }
// @ts-ignore: decorator
@inline export function pluginContextFlow(at: usize): u64 { return load<u64>(at, 40); }
// @ts-ignore: decorator
@inline export function setPluginContextFlow(at: usize, value: u64): void { store<u64>(at, value, 40); }
// @ts-ignore: decorator
@inline export function pluginContextSourceIdentity(at: usize): u32 { return load<u32>(at, 48); }
// @ts-ignore: decorator
@inline export function setPluginContextSourceIdentity(at: usize, value: u32): void { store<u32>(at, value, 48); }
// @ts-ignore: decorator
@inline export function pluginContextDestinationIdentity(at: usize): u32 { return load<u32>(at, 52); }
// @ts-ignore: decorator
@inline export function setPluginContextDestinationIdentity(at: usize, value: u32): void { store<u32>(at, value, 52); }
// @ts-ignore: decorator
@inline export function pluginContextTag(at: usize): u32 { return load<u32>(at, 56); }
// @ts-ignore: decorator
@inline export function setPluginContextTag(at: usize, value: u32): void { store<u32>(at, value, 56); }
// @ts-ignore: decorator
@inline export function pluginContextFields(at: usize): u32 { return load<u32>(at, 60); }
// @ts-ignore: decorator
@inline export function setPluginContextFields(at: usize, value: u32): void { store<u32>(at, value, 60); }
// @ts-ignore: decorator
@inline export function pluginContextSourcePort(at: usize): u16 { return load<u16>(at, 64); }
// @ts-ignore: decorator
@inline export function setPluginContextSourcePort(at: usize, value: u16): void { store<u16>(at, value, 64); }
// @ts-ignore: decorator
@inline export function pluginContextDestinationPort(at: usize): u16 { return load<u16>(at, 66); }
// @ts-ignore: decorator
@inline export function setPluginContextDestinationPort(at: usize, value: u16): void { store<u16>(at, value, 66); }
// @ts-ignore: decorator
@inline export function pluginContextHook(at: usize): u8 { return load<u8>(at, 68); }
// @ts-ignore: decorator
@inline export function setPluginContextHook(at: usize, value: u8): void { store<u8>(at, value, 68); }
// @ts-ignore: decorator
@inline export function pluginContextProtocol(at: usize): u8 { return load<u8>(at, 69); }
// @ts-ignore: decorator
@inline export function setPluginContextProtocol(at: usize, value: u8): void { store<u8>(at, value, 69); }
// @ts-ignore: decorator
@inline export function pluginContextDirection(at: usize): u8 { return load<u8>(at, 70); }
// @ts-ignore: decorator
@inline export function setPluginContextDirection(at: usize, value: u8): void { store<u8>(at, value, 70); }
// @ts-ignore: decorator
@inline export function pluginContextFlags(at: usize): u8 { return load<u8>(at, 71); }
// @ts-ignore: decorator
@inline export function setPluginContextFlags(at: usize, value: u8): void { store<u8>(at, value, 71); }
// @ts-ignore: decorator
@inline export function pluginContextSlots(at: usize, index: i32): u32 { return load<u32>(at + (<usize>index << 2), 72); }
// @ts-ignore: decorator
@inline export function pluginContextHeaders(at: usize): u32 { return load<u32>(at, 136); }
// @ts-ignore: decorator
@inline export function setPluginContextHeaders(at: usize, value: u32): void { store<u32>(at, value, 136); }
// @ts-ignore: decorator
@inline export function pluginContextCookies(at: usize): u32 { return load<u32>(at, 140); }
// @ts-ignore: decorator
@inline export function setPluginContextCookies(at: usize, value: u32): void { store<u32>(at, value, 140); }
// @ts-ignore: decorator
@inline export function pluginContextDnsTtlS(at: usize): u32 { return load<u32>(at, 144); }
// @ts-ignore: decorator
@inline export function setPluginContextDnsTtlS(at: usize, value: u32): void { store<u32>(at, value, 144); }
// @ts-ignore: decorator
@inline export function pluginContextDnsType(at: usize): u16 { return load<u16>(at, 148); }
// @ts-ignore: decorator
@inline export function setPluginContextDnsType(at: usize, value: u16): void { store<u16>(at, value, 148); }

export const PLUGIN_HEADER_SIZE: i32 = 12;
// @ts-ignore: decorator
@inline export function pluginHeaderHash(at: usize): u32 { return load<u32>(at, 0); }
// @ts-ignore: decorator
@inline export function setPluginHeaderHash(at: usize, value: u32): void { store<u32>(at, value, 0); }
// @ts-ignore: decorator
@inline export function pluginHeaderName(at: usize): u32 { return load<u32>(at, 4); }
// @ts-ignore: decorator
@inline export function setPluginHeaderName(at: usize, value: u32): void { store<u32>(at, value, 4); }
// @ts-ignore: decorator
@inline export function pluginHeaderValue(at: usize): u32 { return load<u32>(at, 8); }
// @ts-ignore: decorator
@inline export function setPluginHeaderValue(at: usize, value: u32): void { store<u32>(at, value, 8); }

export const PLUGIN_RESULT_SIZE: i32 = 16;
// @ts-ignore: decorator
@inline export function pluginResultFields(at: usize): u32 { return load<u32>(at, 0); }
// @ts-ignore: decorator
@inline export function setPluginResultFields(at: usize, value: u32): void { store<u32>(at, value, 0); }
// @ts-ignore: decorator
@inline export function pluginResultRoute(at: usize): u32 { return load<u32>(at, 4); }
// @ts-ignore: decorator
@inline export function setPluginResultRoute(at: usize, value: u32): void { store<u32>(at, value, 4); }
// @ts-ignore: decorator
@inline export function pluginResultMessage(at: usize): u32 { return load<u32>(at, 8); }
// @ts-ignore: decorator
@inline export function setPluginResultMessage(at: usize, value: u32): void { store<u32>(at, value, 8); }
// @ts-ignore: decorator
@inline export function pluginResultMessageLength(at: usize): u32 { return load<u32>(at, 12); }
// @ts-ignore: decorator
@inline export function setPluginResultMessageLength(at: usize, value: u32): void { store<u32>(at, value, 12); }

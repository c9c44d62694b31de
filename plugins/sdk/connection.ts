/** A connection as the `connect` hook sees it. Each accessor says which kind of field was read: that bounds the verdict's scope. */
import {
  pluginContextDestination,
  pluginContextDestinationIdentity,
  pluginContextDestinationPort,
  pluginContextDirection,
  pluginContextFlags,
  pluginContextProtocol,
  pluginContextSource,
  pluginContextSourceIdentity,
  pluginContextSourcePort,
  pluginContextTimeMs,
  DirectionValue,
  PluginContextFlagValue,
  PluginFieldValue,
  PluginSlotValue,
} from './abi.gen';
import { CONTEXT, noteRead, slot } from './state';
import { Text, textOf } from './text';

/** One end of the connection. Never an object: the handle is 0 for the source, 1 for the destination. */
@unmanaged
export class Party {
  /** Equal labels in one namespace, equal identity. */
  get identity(): u32 {
    noteRead(PluginFieldValue.IDENTITY);
    return this.isSource ? pluginContextSourceIdentity(CONTEXT) : pluginContextDestinationIdentity(CONTEXT);
  }

  /** Empty for what is no pod. */
  get namespace(): Text {
    noteRead(PluginFieldValue.IDENTITY);
    return textOf(slot(this.isSource ? PluginSlotValue.SOURCE_NAMESPACE : PluginSlotValue.DESTINATION_NAMESPACE));
  }

  /** The value of a label of the pod; empty when it has none of that name. */
  label(name: string): Text {
    noteRead(PluginFieldValue.IDENTITY);
    return textOf(slot(this.isSource ? PluginSlotValue.SOURCE_LABELS : PluginSlotValue.DESTINATION_LABELS)).lineValue(name);
  }

  /** The pod's name; empty for what is no pod. */
  get pod(): Text {
    noteRead(PluginFieldValue.ADDRESS);
    return textOf(slot(this.isSource ? PluginSlotValue.SOURCE_POD : PluginSlotValue.DESTINATION_POD));
  }

  /** Byte `index` of the address, 0 to 15; IPv4 is ::ffff:a.b.c.d. */
  addressByte(index: i32): u8 {
    noteRead(PluginFieldValue.ADDRESS);
    return load<u8>(this.addressStart + <usize>(index & 15));
  }

  /** A hash of the address, as a key for tables. */
  get addressKey(): u64 {
    noteRead(PluginFieldValue.ADDRESS);
    const at = this.addressStart;
    return (load<u64>(at) * 0x9e3779b97f4a7c15) ^ load<u64>(at, 8);
  }

  private get isSource(): bool { return changetype<usize>(this) == 0; }

  private get addressStart(): usize { return this.isSource ? pluginContextSource(CONTEXT) : pluginContextDestination(CONTEXT); }
}

/** Never an object: there is one connection at a time. */
@unmanaged
export class Connection {
  get source(): Party { return changetype<Party>(<usize>0); }

  get destination(): Party { return changetype<Party>(<usize>1); }

  /** Destination port. */
  get port(): i32 {
    noteRead(PluginFieldValue.IDENTITY);
    return <i32>pluginContextDestinationPort(CONTEXT);
  }

  get sourcePort(): i32 {
    noteRead(PluginFieldValue.SOURCE_PORT);
    return <i32>pluginContextSourcePort(CONTEXT);
  }

  /** IP protocol number: 6 for TCP, 17 for UDP. */
  get protocol(): i32 {
    noteRead(PluginFieldValue.IDENTITY);
    return <i32>pluginContextProtocol(CONTEXT);
  }

  /** Whether the tagged pod opened the connection. */
  get isEgress(): bool {
    noteRead(PluginFieldValue.IDENTITY);
    return pluginContextDirection(CONTEXT) == <u8>DirectionValue.EGRESS;
  }

  /** Milliseconds since an arbitrary start, never backwards. */
  get timeMs(): u64 {
    noteRead(PluginFieldValue.MOMENT);
    return pluginContextTimeMs(CONTEXT);
  }

  /** Whether the connection was allowed before and is asked about again, after a swap for example. */
  get isEstablished(): bool {
    noteRead(PluginFieldValue.MOMENT);
    return (pluginContextFlags(CONTEXT) & <u8>PluginContextFlagValue.ESTABLISHED) != 0;
  }
}

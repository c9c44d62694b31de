/**
 * The connection that a question is about, whichever hook asks. Each accessor notes its field: that bounds the verdict's
 * scope. The build declares in the manifest those that the plugin uses, and the host fills in no others.
 */
import {
  pluginContextDestination,
  pluginContextDestinationIdentity,
  pluginContextDestinationPort,
  pluginContextDirection,
  pluginContextFlags,
  pluginContextFlow,
  pluginContextProtocol,
  pluginContextSource,
  pluginContextSourceIdentity,
  pluginContextSourcePort,
  pluginContextTag,
  pluginContextTimeMs,
  DirectionValue,
  PluginContextFlagValue,
  PluginFieldValue,
  PluginSlotValue,
} from './abi.gen';
import { Address } from './address';
import { CONTEXT, noteRead, slot } from './state';
import { Text, textOf } from './text';

/** Told apart by their sizes, so that the compiler makes one set of accessors for each side, and knows which are used. */
type SourceSide = u8;
type DestinationSide = u16;

// @ts-ignore: decorator
@inline function pick<Side, T>(source: T, destination: T): T { return sizeof<Side>() == sizeof<SourceSide>() ? source : destination; }

/** One side of a flow. Never an object. */
@unmanaged
export class Party<Side> {
  /** Equal labels in one namespace, equal identity. */
  get identity(): u32 {
    noteRead(pick<Side, u32>(PluginFieldValue.SOURCE_IDENTITY, PluginFieldValue.DESTINATION_IDENTITY));
    return pick<Side, u32>(pluginContextSourceIdentity(CONTEXT), pluginContextDestinationIdentity(CONTEXT));
  }

  /** Empty for what is no pod. */
  get namespace(): Text {
    noteRead(pick<Side, u32>(PluginFieldValue.SOURCE_NAMESPACE, PluginFieldValue.DESTINATION_NAMESPACE));
    return textOf(slot(pick<Side, i32>(PluginSlotValue.SOURCE_NAMESPACE, PluginSlotValue.DESTINATION_NAMESPACE)));
  }

  /** The value of a label of the pod; empty when it has none of that name. */
  label(name: string): Text {
    noteRead(pick<Side, u32>(PluginFieldValue.SOURCE_LABELS, PluginFieldValue.DESTINATION_LABELS));
    return textOf(slot(pick<Side, i32>(PluginSlotValue.SOURCE_LABELS, PluginSlotValue.DESTINATION_LABELS))).lineValue(name);
  }

  /** The pod's name; empty for what is no pod. */
  get pod(): Text {
    noteRead(pick<Side, u32>(PluginFieldValue.SOURCE_POD, PluginFieldValue.DESTINATION_POD));
    return textOf(slot(pick<Side, i32>(PluginSlotValue.SOURCE_POD, PluginSlotValue.DESTINATION_POD)));
  }

  get address(): Address {
    noteRead(pick<Side, u32>(PluginFieldValue.SOURCE_ADDRESS, PluginFieldValue.DESTINATION_ADDRESS));
    return changetype<Address>(pick<Side, usize>(pluginContextSource(CONTEXT), pluginContextDestination(CONTEXT)));
  }
}

/** The side that opens the connection. */
@unmanaged
export class Source extends Party<SourceSide> {
  /** The name of the ServiceAccount, of its namespace, that the pod runs as; empty for what is no pod, and where its manifest names none. */
  get serviceAccount(): Text {
    noteRead(PluginFieldValue.SOURCE_SERVICE_ACCOUNT);
    return textOf(slot(PluginSlotValue.SOURCE_SERVICE_ACCOUNT));
  }
}

/** The side that is connected to. */
@unmanaged
export class Destination extends Party<DestinationSide> {
  /** `namespace/name` of the Service whose cluster address is connected to; empty for every other address, that of a pod behind it too. */
  get service(): Text {
    noteRead(PluginFieldValue.DESTINATION_SERVICE);
    return textOf(slot(PluginSlotValue.DESTINATION_SERVICE));
  }
}

/** Never an object: there is one flow at a time. */
@unmanaged
export class Flow {
  get source(): Source { return changetype<Source>(<usize>0); }

  get destination(): Destination { return changetype<Destination>(<usize>0); }

  /** Destination port. */
  get port(): i32 {
    noteRead(PluginFieldValue.DESTINATION_PORT);
    return <i32>pluginContextDestinationPort(CONTEXT);
  }

  get sourcePort(): i32 {
    noteRead(PluginFieldValue.SOURCE_PORT);
    return <i32>pluginContextSourcePort(CONTEXT);
  }

  /** IP protocol number: 6 for TCP, 17 for UDP. */
  get protocol(): i32 {
    noteRead(PluginFieldValue.PROTOCOL);
    return <i32>pluginContextProtocol(CONTEXT);
  }

  /** Whether the tagged pod opened the connection. */
  get isEgress(): bool {
    noteRead(PluginFieldValue.DIRECTION);
    return pluginContextDirection(CONTEXT) == <u8>DirectionValue.EGRESS;
  }

  /** Milliseconds since an arbitrary start, never backwards. For the time of day see clock. */
  get timeMs(): u64 {
    noteRead(PluginFieldValue.TIME);
    return pluginContextTimeMs(CONTEXT);
  }

  /** Whether the connection was allowed before and is asked about again, after a swap for example. */
  get isEstablished(): bool {
    noteRead(PluginFieldValue.ESTABLISHED);
    return (pluginContextFlags(CONTEXT) & <u8>PluginContextFlagValue.ESTABLISHED) != 0;
  }

  /** Equal for all packets of the flow. */
  get id(): u64 {
    noteRead(PluginFieldValue.FLOW);
    return pluginContextFlow(CONTEXT);
  }

  /** The rule that asked. */
  get tag(): u32 {
    noteRead(PluginFieldValue.TAG);
    return pluginContextTag(CONTEXT);
  }
}

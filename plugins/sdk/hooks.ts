/** The flow, and what each hook adds to it. Handles, never objects. */
import { PLUGIN_CONTEXT_SIZE, PLUGIN_HEADER_SIZE, pluginContextCookies, pluginContextDnsTtlS, pluginContextDnsType, PluginContextFlagValue, pluginContextFlags, pluginContextHeaders, PluginFieldValue, PluginSlotValue } from './abi.gen';
import { Flow } from './flow';
import { CONTEXT, noteRead, slot } from './state';
import { Text, textAt, textOf } from './text';

/** Hook `connect`: the first packet of a connection. */
@unmanaged
export class Connection extends Flow {
  /** The domain name by which the pod knows the destination, of those that policy has rules about; empty when there is none. */
  get destinationName(): Text {
    noteRead(PluginFieldValue.DNS_NAME);
    return textOf(slot(PluginSlotValue.DNS_NAME));
  }
}

/** Hook `dns`: an answer, before the pod has it. Its source is the resolver, its destination the pod. */
@unmanaged
export class DnsAnswer extends Flow {
  /** The name that was asked for, in lower case, without a dot at the end. */
  get name(): Text {
    noteRead(PluginFieldValue.DNS_NAME);
    return textOf(slot(PluginSlotValue.DNS_NAME));
  }

  /** The record type that was asked for: 1 A, 28 AAAA, 16 TXT, ... */
  get type(): u16 {
    noteRead(PluginFieldValue.DNS_ANSWER);
    return pluginContextDnsType(CONTEXT);
  }

  /** Seconds: the least of the answer's records; 0 when it has none. */
  get ttlSeconds(): u32 {
    noteRead(PluginFieldValue.DNS_ANSWER);
    return pluginContextDnsTtlS(CONTEXT);
  }

  /** The addresses in the answer, one a line. */
  get addresses(): Text {
    noteRead(PluginFieldValue.DNS_ANSWER);
    return textOf(slot(PluginSlotValue.DNS_ADDRESSES));
  }
}

/** Hook `tls`: the first message of a TLS connection. */
@unmanaged
export class TlsHello extends Flow {
  /** The server that the client names (SNI); empty when it names none. */
  get serverName(): Text {
    noteRead(PluginFieldValue.SERVER_NAME);
    return textOf(slot(PluginSlotValue.SERVER_NAME));
  }

  /** The domain name by which the pod knows the destination, of those that policy has rules about; empty when there is none. */
  get destinationName(): Text {
    noteRead(PluginFieldValue.DNS_NAME);
    return textOf(slot(PluginSlotValue.DNS_NAME));
  }

  /** Whether the true server name may be another one, encrypted (ECH). Browsers pretend it on every connection. */
  get isEncrypted(): bool {
    noteRead(PluginFieldValue.SERVER_NAME);
    return (pluginContextFlags(CONTEXT) & <u8>PluginContextFlagValue.ENCRYPTED_HELLO) != 0;
  }

  /** The protocols that the client offers (ALPN), one a line: `h2`, `http/1.1`. */
  get applicationProtocols(): Text {
    noteRead(PluginFieldValue.APPLICATION_PROTOCOLS);
    return textOf(slot(PluginSlotValue.APPLICATION_PROTOCOLS));
  }
}

/** Hook `http`: one request. */
@unmanaged
export class HttpRequest extends Flow {
  get method(): Text {
    noteRead(PluginFieldValue.METHOD);
    return textOf(slot(PluginSlotValue.METHOD));
  }

  /** Without a port. */
  get host(): Text {
    noteRead(PluginFieldValue.HOST);
    return textOf(slot(PluginSlotValue.HOST));
  }

  /** Before the question mark. */
  get path(): Text {
    noteRead(PluginFieldValue.PATH);
    return textOf(slot(PluginSlotValue.PATH));
  }

  /** Behind the question mark. */
  get query(): Text {
    noteRead(PluginFieldValue.QUERY);
    return textOf(slot(PluginSlotValue.QUERY));
  }

  /** The value of a header, its name a literal in lower case; empty when there is none. Several are joined by ", ". */
  header(name: string): Text {
    noteRead(PluginFieldValue.HEADER);
    return findEntry(0, <i32>pluginContextHeaders(CONTEXT), name);
  }

  /** The value of a cookie, its name a literal; empty when there is none. Of several the first. */
  cookie(name: string): Text {
    noteRead(PluginFieldValue.COOKIE);
    const first = <i32>pluginContextHeaders(CONTEXT);
    return findEntry(first, first + <i32>pluginContextCookies(CONTEXT), name);
  }
}

function findEntry(first: i32, end: i32, name: string): Text {
  const wanted = fnv1a(name);
  for (let i = first; i < end; i++) {
    const entry = CONTEXT + PLUGIN_CONTEXT_SIZE + i * PLUGIN_HEADER_SIZE;
    if (load<u32>(entry) == wanted && textOf(load<u32>(entry, 4)).equals(name)) return textOf(load<u32>(entry, 8));
  }
  return textAt(0, 0);
}

function fnv1a(name: string): u32 {
  let hash: u32 = 0x811c9dc5;
  const units = changetype<usize>(name);
  for (let i = 0, length = name.length; i < length; i++) hash = (hash ^ <u32>load<u16>(units + (<usize>i << 1))) * 0x01000193;
  return hash;
}

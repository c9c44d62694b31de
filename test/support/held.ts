/** Held packets, as the kernel hands them over. */
import { AskFlag, askCodec, Context, Direction } from '../../engine/abi.gen.ts';
import { HeldPacket } from '../../engine/held/held-packet.ts';
import { parseAddress } from '../../engine/policy/address.ts';
import { frame, ipv4, ipv6, type Transport } from './packets.ts';

export interface HeldFields {
  readonly from?: string;
  readonly to?: string;
  readonly endpoint?: number;
  readonly direction?: Direction;
  readonly context?: Context;
  /** The kernel's knowledge of the connection. */
  readonly start?: number;
  readonly flags?: number;
  readonly responseCode?: number;
  /** Who is asked about it, and since when it is held. */
  readonly plugin?: number;
  readonly heldNs?: bigint;
}

/** A packet with its question, in memory of its own. */
export function held(transport: Transport, fields: HeldFields = {}): HeldPacket {
  const {
    from = '10.0.0.1',
    to = '192.0.2.1',
    endpoint = 5,
    direction = Direction.EGRESS,
    context = Context.TLS,
    start = 1001,
    flags = 0,
    responseCode = 0,
    plugin = 255,
    heldNs = 0n,
  } = fields;
  const v6 = from.includes(':');
  const bytes = frame(v6 ? ipv6({ from, to }, transport) : ipv4({ from, to }, transport));
  const record = Buffer.alloc(askCodec.size + bytes.length);
  askCodec.write(record, 0, {
    timeNs: heldNs,
    name: 0n,
    source: parseAddress(from) as Uint8Array,
    destination: parseAddress(to) as Uint8Array,
    sourceIdentity: 256,
    destinationIdentity: 1,
    endpoint,
    rule: 1,
    plugin,
    service: 0,
    length: bytes.length,
    gsoSize: 0,
    sourcePort: transport.bytes.readUInt16BE(0),
    destinationPort: transport.bytes.readUInt16BE(2),
    networkOffset: 14,
    transportOffset: 14 + (v6 ? 40 : 20),
    vlanTci: 0,
    vlanProtocol: 0,
    protocol: transport.protocol,
    direction,
    context,
    flags,
    readTo: start,
    responseCode,
  });
  bytes.copy(record, askCodec.size);
  return new HeldPacket(record);
}

export const AGAIN = AskFlag.AGAIN;
export const ESTABLISHED = AskFlag.ESTABLISHED;

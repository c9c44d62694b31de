/** Packets for tests, from fields: `frame(ipv4({ to: '10.0.0.2' }, tcp({ dport: 80, flags: 'S' })))`. */
import { parseAddress } from '../../engine/policy/address.ts';

const TCP_FLAGS: Readonly<Record<string, number>> = { F: 1, S: 2, R: 4, P: 8, A: 16, U: 32 };

export interface Transport {
  readonly protocol: number;
  readonly bytes: Buffer;
}

export interface IpFields {
  readonly from?: string;
  readonly to?: string;
  readonly ttl?: number;
  /** Bytes, in multiples of 8, before this fragment's data. */
  readonly fragmentOffset?: number;
  readonly moreFragments?: boolean;
  readonly fragmentId?: number;
  /** Written in place of the true length. */
  readonly length?: number;
  /** IPv4: header length in words, written in place of the true one. */
  readonly ihl?: number;
  /** IPv4 options, padded by the caller. */
  readonly options?: Buffer;
  /** IPv6: header numbers of extensions to insert, 8 bytes each. */
  readonly extensions?: readonly number[];
}

export function tcp({ sport = 40_000, dport = 80, flags = 'S', doff = 5, payload = 0, seq = 0, ack = 0 } = {}): Transport {
  const bytes = Buffer.alloc(20 + payload);
  bytes.writeUInt16BE(sport, 0);
  bytes.writeUInt16BE(dport, 2);
  bytes.writeUInt32BE(seq >>> 0, 4);
  bytes.writeUInt32BE(ack >>> 0, 8);
  bytes[12] = doff << 4;
  bytes[13] = [...flags].reduce((sum, flag) => sum | (TCP_FLAGS[flag] ?? 0), 0);
  return { protocol: 6, bytes };
}

export function udp({ sport = 40_000, dport = 53, payload = 8 } = {}): Transport {
  const bytes = Buffer.alloc(8 + payload);
  bytes.writeUInt16BE(sport, 0);
  bytes.writeUInt16BE(dport, 2);
  bytes.writeUInt16BE(bytes.length, 4);
  return { protocol: 17, bytes };
}

export function sctp({ sport = 40_000, dport = 9 } = {}): Transport {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt16BE(sport, 0);
  bytes.writeUInt16BE(dport, 2);
  return { protocol: 132, bytes };
}

/** An error about a packet: its first bytes follow, from the IP header on. */
export function icmpError({
  about,
  type = 3,
  code = 4,
  v6 = false,
}: {
  about: Buffer;
  type?: number;
  code?: number;
  v6?: boolean;
}): Transport {
  const header = Buffer.alloc(8);
  header[0] = type;
  header[1] = code;
  return { protocol: v6 ? 58 : 1, bytes: Buffer.concat([header, about]) };
}

export function icmp({ type = 8, code = 0, id = 7, v6 = false } = {}): Transport {
  const bytes = Buffer.alloc(8);
  bytes[0] = type;
  bytes[1] = code;
  bytes.writeUInt16BE(id, 4);
  return { protocol: v6 ? 58 : 1, bytes };
}

export function raw(protocol: number, bytes: Buffer): Transport {
  return { protocol, bytes };
}

export function ipv4(fields: IpFields, transport: Transport): { type: number; bytes: Buffer } {
  const options = fields.options ?? Buffer.alloc(0);
  const header = Buffer.alloc(20);
  const length = 20 + options.length + transport.bytes.length;
  header[0] = 0x40 | (fields.ihl ?? 5 + options.length / 4);
  header.writeUInt16BE(fields.length ?? length, 2);
  header.writeUInt16BE(fields.fragmentId ?? 1, 4);
  header.writeUInt16BE(((fields.fragmentOffset ?? 0) >> 3) | (fields.moreFragments ? 0x2000 : 0), 6);
  header[8] = fields.ttl ?? 64;
  header[9] = transport.protocol;
  header.set((parseAddress(fields.from ?? '10.0.0.1') as Uint8Array).subarray(12), 12);
  header.set((parseAddress(fields.to ?? '10.0.0.2') as Uint8Array).subarray(12), 16);
  return { type: 0x0800, bytes: Buffer.concat([header, options, transport.bytes]) };
}

export function ipv6(fields: IpFields, transport: Transport): { type: number; bytes: Buffer } {
  const extensions = [...(fields.extensions ?? [])];
  const fragmented = fields.fragmentOffset !== undefined || fields.moreFragments;
  if (fragmented) extensions.push(44);
  const next = [...extensions.slice(1), transport.protocol];
  const inserted = extensions.map((number, i) => {
    const extension = Buffer.alloc(8);
    extension[0] = next[i] as number;
    if (number === 44) {
      extension.writeUInt16BE((fields.fragmentOffset ?? 0) | (fields.moreFragments ? 1 : 0), 2);
      extension.writeUInt32BE(fields.fragmentId ?? 1, 4);
    }
    return extension;
  });
  const payload = Buffer.concat([...inserted, transport.bytes]);
  const header = Buffer.alloc(40);
  header[0] = 0x60;
  header.writeUInt16BE(fields.length ?? payload.length, 4);
  header[6] = extensions[0] ?? transport.protocol;
  header[7] = fields.ttl ?? 64;
  header.set(parseAddress(fields.from ?? 'fd00::1') as Uint8Array, 8);
  header.set(parseAddress(fields.to ?? 'fd00::2') as Uint8Array, 24);
  return { type: 0x86dd, bytes: Buffer.concat([header, payload]) };
}

/** An Ethernet frame, with VLAN tags outermost first. */
export function frame(inner: { type: number; bytes: Buffer }, tags: readonly number[] = []): Buffer {
  const types = [...tags.map(() => 0x8100), inner.type];
  const header = Buffer.alloc(12);
  header.write('020000000001020000000002', 'hex');
  const typed = types.flatMap((type, i) => {
    const word = Buffer.alloc(i === 0 ? 2 : 4);
    if (i > 0) word.writeUInt16BE(tags[i - 1] as number, 0);
    word.writeUInt16BE(type, word.length - 2);
    return [word];
  });
  return Buffer.concat([header, ...typed, inner.bytes]);
}

/** DNS messages for tests, as bytes; names are written as they are given, or as pointers. */
import { parseAddress } from '../../engine/policy/address.ts';
import type { Transport } from './packets.ts';

const TYPES = { A: 1, NS: 2, CNAME: 5, TXT: 16, AAAA: 28, DNAME: 39, OPT: 41, RRSIG: 46 } as const;
export type RecordType = keyof typeof TYPES;

/** A name: its text, raw bytes, or the offset that a pointer leads to. */
export type Name = string | Buffer | { readonly at: number };

export interface DnsRecord {
  readonly name: Name;
  readonly type?: RecordType;
  readonly ttl?: number;
  /** An address, the name of a CNAME, or bytes. */
  readonly data: string | Buffer | { readonly at: number };
  /** Written in place of the true length of the data. */
  readonly length?: number;
  readonly class?: number;
}

export interface DnsMessage {
  readonly id?: number;
  readonly name: Name;
  readonly type?: RecordType;
  readonly flags?: number;
  readonly questions?: number;
  readonly answers?: readonly DnsRecord[];
  readonly authorities?: readonly DnsRecord[];
  readonly additionals?: readonly DnsRecord[];
  /** Written in place of the true number of answers. */
  readonly count?: number;
}

/** Where the question's name is in every message. */
export const QUESTION: Name = { at: 12 };
export const RESPONSE = 0x8180;
export const QUERY = 0x0100;

export function encodeName(name: Name): Buffer {
  if (Buffer.isBuffer(name)) return name;
  if (typeof name === 'object') return Buffer.from([0xc0 | (name.at >> 8), name.at & 255]);
  const labels = name.split('.').filter(Boolean);
  return Buffer.concat([...labels.map((label) => Buffer.from(String.fromCharCode(label.length) + label, 'latin1')), Buffer.alloc(1)]);
}

function encodeRecord({ name, type = 'A', ttl = 300, data, length, class: kind = 1 }: DnsRecord): Buffer {
  const bytes = encodeData(type, data);
  const head = Buffer.alloc(10);
  head.writeUInt16BE(TYPES[type], 0);
  head.writeUInt16BE(kind, 2);
  head.writeUInt32BE(ttl >>> 0, 4);
  head.writeUInt16BE(length ?? bytes.length, 8);
  return Buffer.concat([encodeName(name), head, bytes]);
}

function encodeData(type: RecordType, data: DnsRecord['data']): Buffer {
  if (Buffer.isBuffer(data)) return data;
  if (typeof data === 'object' || type === 'CNAME' || type === 'DNAME' || type === 'NS') return encodeName(data);
  const address = parseAddress(data) as Uint8Array;
  return Buffer.from(type === 'A' ? address.subarray(12) : address);
}

export function encodeMessage(message: DnsMessage): Buffer {
  const { id = 7, name, type = 'A', flags = QUERY, questions = 1, answers = [], authorities = [], additionals = [], count } = message;
  const header = Buffer.alloc(12);
  [id, flags, questions, count ?? answers.length, authorities.length, additionals.length].forEach((word, i) => {
    header.writeUInt16BE(word, i * 2);
  });
  const tail = Buffer.alloc(4);
  tail.writeUInt16BE(TYPES[type], 0);
  tail.writeUInt16BE(1, 2);
  return Buffer.concat([header, encodeName(name), tail, ...[...answers, ...authorities, ...additionals].map(encodeRecord)]);
}

/** A datagram with these bytes. */
export function datagram(bytes: Buffer, { sport = 40_000, dport = 53 } = {}): Transport {
  const header = Buffer.alloc(8);
  header.writeUInt16BE(sport, 0);
  header.writeUInt16BE(dport, 2);
  header.writeUInt16BE(8 + bytes.length, 4);
  return { protocol: 17, bytes: Buffer.concat([header, bytes]) };
}

/** A segment of TCP with a message and its length in front. */
export function segment(bytes: Buffer, { sport = 40_000, dport = 53, length = bytes.length } = {}): Transport {
  const header = Buffer.alloc(22);
  header.writeUInt16BE(sport, 0);
  header.writeUInt16BE(dport, 2);
  header[12] = 0x50;
  header[13] = 0x18;
  header.writeUInt16BE(length, 20);
  return { protocol: 6, bytes: Buffer.concat([header, bytes]) };
}

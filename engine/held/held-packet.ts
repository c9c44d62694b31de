/**
 * A held packet, as the kernel hands it over: struct ask, then the bytes from the link header on. Offsets were checked by the
 * kernel's parser when it was held.
 */
import { AskFlag, askCodec, Direction } from '../abi.gen.ts';

const ASK = askCodec.offsets;
const FRAME = askCodec.size;
const ETHERNET_ADDRESSES = 12;
const IPV4_HEADER = 20;
const IPV6_HEADER = 40;
const TCP_HEADER = 20;
const UDP_HEADER = 8;
/** IPv6 header number, and what of it says that there are other fragments. */
const FRAGMENT = 44;
const TCP = 6;
const HOP_LIMIT = 64;
const FIN = 0x01;
const RST = 0x04;
const PSH = 0x08;
const ACK = 0x10;
/** Of no meaning: what is made is the last that its side says. */
const WINDOW = 0xffff;
const EMPTY = Buffer.alloc(0);

export class HeldPacket {
  /** struct ask and frame; somebody else's memory unless it was copied. */
  readonly record: Buffer;
  readonly #network: number;
  readonly #transport: number;
  readonly #isOwn: boolean;
  #data: Buffer | undefined;

  constructor(record: Buffer, isOwn = false) {
    this.record = record;
    this.#isOwn = isOwn;
    this.#network = FRAME + record.readUInt16LE(ASK.networkOffset);
    this.#transport = FRAME + record.readUInt16LE(ASK.transportOffset);
  }

  copy(): HeldPacket {
    return new HeldPacket(Buffer.from(this.record), true);
  }

  /** The same in memory of its own. */
  own(): HeldPacket {
    return this.#isOwn ? this : this.copy();
  }

  /** Equal for all packets of one side of a connection, as one endpoint sees it. */
  get key(): string {
    const text = (from: number, to: number): string => this.record.toString('latin1', from, to);
    const { source, endpoint, sourcePort, direction } = ASK;
    return text(source, source + 32) + text(endpoint, endpoint + 4) + text(sourcePort, sourcePort + 4) + text(direction, direction + 1);
  }

  get isTcp(): boolean {
    return this.record[ASK.protocol] === TCP;
  }

  /** Whether it is on its way to the endpoint. */
  get isIngress(): boolean {
    return this.record[ASK.direction] === Direction.INGRESS;
  }

  get endpoint(): number {
    return this.record.readUInt32LE(ASK.endpoint);
  }

  /** TCP: of its first byte of data. */
  get sequence(): number {
    return this.record.readUInt32BE(this.#transport + 4);
  }

  /** Where the connection's first word is, or 0 when the kernel does not know. */
  get start(): number {
    return this.record.readUInt32LE(ASK.readTo);
  }

  get isEstablished(): boolean {
    return (this.record.readUInt8(ASK.flags) & AskFlag.ESTABLISHED) !== 0;
  }

  /** Whether its connection was let through before. */
  get isAgain(): boolean {
    return (this.record.readUInt8(ASK.flags) & AskFlag.AGAIN) !== 0;
  }

  /** Of a DNS query that is refused: the response code that says so. */
  get refusal(): number | undefined {
    return this.record.readUInt8(ASK.flags) & AskFlag.REFUSED ? this.record.readUInt8(ASK.responseCode) : undefined;
  }

  /** The bytes that TCP or UDP carries, as part of the record. */
  get data(): Buffer {
    this.#data ??= this.#findData();
    return this.#data;
  }

  #findData(): Buffer {
    const header = this.isTcp ? (this.record.readUInt8(this.#transport + 12) >> 4) * 4 : UDP_HEADER;
    return this.record.subarray(this.#transport + header, Math.max(this.#transport + header, this.#end));
  }

  /** Payload bytes of each segment of a GSO packet, else its own. */
  get segmentBytes(): number {
    return this.record.readUInt32LE(ASK.gsoSize) || this.data.length;
  }

  /** A packet like this one with other data, cut into segments of so many bytes where it is sent. TCP. */
  saying(data: Buffer, sequence: number, segmentBytes: number): HeldPacket {
    const header = this.#transport + (this.record.readUInt8(this.#transport + 12) >> 4) * 4;
    const record = Buffer.concat([this.record.subarray(0, header), data]);
    record.writeUInt32LE(record.length - FRAME, ASK.length);
    record.writeUInt32LE(data.length > segmentBytes ? segmentBytes : 0, ASK.gsoSize);
    record.writeUInt32BE(sequence >>> 0, this.#transport + 4);
    const packet = new HeldPacket(record, true);
    packet.#writeLength(record.length);
    return packet;
  }

  /** Makes a first fragment a whole datagram. */
  defragment(): void {
    if (this.#isIpv4) this.record.writeUInt16BE(0, this.#network + 6);
    else if (this.record.readUInt8(this.#network + 6) === FRAGMENT) this.record.writeUInt16BE(0, this.#network + IPV6_HEADER + 2);
  }

  /** Says what was decided: the kernel is told by the packet itself. */
  setFlag(flag: AskFlag): void {
    this.record.writeUInt8(this.record.readUInt8(ASK.flags) | flag, ASK.flags);
  }

  /** Makes its data shorter: of UDP. */
  shorten(length: number): void {
    const { record } = this;
    const end = this.#transport + UDP_HEADER + length;
    record.writeUInt16BE(UDP_HEADER + length, this.#transport + 4);
    record.writeUInt32LE(end - FRAME, ASK.length);
    record.writeUInt32LE(0, ASK.gsoSize);
    this.#writeLength(end);
    this.#data = undefined;
  }

  /** Tells the IP header where the packet ends. */
  #writeLength(end: number): void {
    const { record } = this;
    if (this.#isIpv4) {
      record.writeUInt16BE(end - this.#network, this.#network + 2);
      writeHeaderChecksum(record, this.#network, this.#transport);
    } else record.writeUInt16BE(end - this.#network - IPV6_HEADER, this.#network + 4);
  }

  /** A packet that ends the connection: for the server as if the client gave up at `sequence`, for the client as the server's answer. */
  reset(to: 'client' | 'server', sequence: number): HeldPacket {
    return to === 'client' ? this.#made(EMPTY, RST | ACK, true) : this.#made(EMPTY, RST, false, sequence);
  }

  /** The server's answer to this packet, after which it says nothing more. */
  lastAnswer(data: Buffer): HeldPacket {
    return this.#made(data, FIN | PSH | ACK, true);
  }

  /** A packet of this connection, on the way of this one, or as an answer to it. */
  #made(data: Buffer, flags: number, answers: boolean, sequence = 0): HeldPacket {
    const header = this.#isIpv4 ? IPV4_HEADER : IPV6_HEADER;
    const network = this.#network;
    const transport = network + header;
    const record = Buffer.alloc(transport + TCP_HEADER + data.length);
    this.record.copy(record, 0, 0, network);
    data.copy(record, transport + TCP_HEADER);
    record.writeUInt32LE(record.length - FRAME, ASK.length);
    record.writeUInt32LE(0, ASK.gsoSize);
    record.writeUInt16LE(transport - FRAME, ASK.transportOffset);
    this.#writeIpHeader(record, network, data.length);
    this.record.copy(record, transport, this.#transport, this.#transport + 4);
    record.writeUInt32BE(sequence, transport + 4);
    record.writeUInt8((TCP_HEADER / 4) << 4, transport + 12);
    record.writeUInt8(flags, transport + 13);
    record.writeUInt16BE(WINDOW, transport + 14);
    if (answers) this.#turn(record, network, transport);
    if (this.#isIpv4) writeHeaderChecksum(record, network, transport);
    return new HeldPacket(record, true);
  }

  /** Makes what was made an answer to this packet. */
  #turn(made: Buffer, network: number, transport: number): void {
    swap(made, FRAME, ETHERNET_ADDRESSES / 2);
    swap(made, network + (this.#isIpv4 ? 12 : 8), this.#isIpv4 ? 4 : 16);
    swap(made, transport, 2);
    this.record.copy(made, transport + 4, this.#transport + 8, this.#transport + 12);
    made.writeUInt32BE((this.sequence + this.data.length) >>> 0, transport + 8);
    made.writeUInt8(this.isIngress ? Direction.EGRESS : Direction.INGRESS, ASK.direction);
  }

  #writeIpHeader(made: Buffer, at: number, dataBytes: number): void {
    const { record } = this;
    if (this.#isIpv4) {
      made.writeUInt8(0x45, at);
      made.writeUInt16BE(IPV4_HEADER + TCP_HEADER + dataBytes, at + 2);
      made.writeUInt8(HOP_LIMIT, at + 8);
      made.writeUInt8(TCP, at + 9);
      record.copy(made, at + 12, this.#network + 12, this.#network + 20);
    } else {
      made.writeUInt8(0x60, at);
      made.writeUInt16BE(TCP_HEADER + dataBytes, at + 4);
      made.writeUInt8(TCP, at + 6);
      made.writeUInt8(HOP_LIMIT, at + 7);
      record.copy(made, at + 8, this.#network + 8, this.#network + 40);
    }
  }

  get #isIpv4(): boolean {
    return this.record.readUInt8(this.#network) >> 4 === 4;
  }

  /** Where the IP header says that the packet ends; a GSO packet may be longer than it can say. */
  get #end(): number {
    const length = this.#isIpv4
      ? this.record.readUInt16BE(this.#network + 2)
      : this.record.readUInt16BE(this.#network + 4) && this.record.readUInt16BE(this.#network + 4) + IPV6_HEADER;
    const whole = FRAME + this.record.readUInt32LE(ASK.length);
    return length ? Math.min(this.#network + length, whole) : whole;
  }
}

function swap(bytes: Buffer, at: number, length: number): void {
  const first = Buffer.from(bytes.subarray(at, at + length));
  bytes.copy(bytes, at, at + length, at + 2 * length);
  first.copy(bytes, at + length);
}

/** Of IPv4 (RFC 791, 3.1); the transport's is completed where the packet is sent. */
function writeHeaderChecksum(bytes: Buffer, from: number, to: number): void {
  bytes.writeUInt16BE(0, from + 10);
  let sum = 0;
  for (let at = from; at < to; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  bytes.writeUInt16BE(~sum & 0xffff, from + 10);
}

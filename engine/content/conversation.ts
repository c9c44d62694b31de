/**
 * A conversation: what a client says first, put together from held packets until its hello can be read.
 *
 * A client may send the same place of its stream twice with other bytes, so that the server reads another hello than we did:
 * the first bytes count, and whatever is sent on has them.
 */
import type { Question } from '../question.ts';
import { type ClientHello, HELLO_BYTES_MAX, readClientHello } from './client-hello.ts';
import type { Decision, Outbox, Reading } from './content.ts';
import type { HeldPacket } from './held-packet.ts';

/** With the headers of the records that a hello of the greatest length is spread over. */
const STREAM_BYTES_MAX = HELLO_BYTES_MAX + 2048;
/**
 * A client has ten packets in flight, however small, before it wants to hear that they came (RFC 6928), and one after a loss: of a
 * hello that takes more, what has come passes. Without its end no server can answer it.
 */
const PASS_BYTES = 8 * 1024;
const PASS_PACKETS = 6;
const PACKETS_MAX = 64;
/** Of a conversation without its bytes. */
const OVERHEAD_BYTES = 512;
const EMPTY = Buffer.alloc(0);

/** Part of a stream that has come. */
interface Range {
  readonly from: number;
  readonly to: number;
}

/** What one client says first. */
export class Conversation {
  readonly endpoint: number;
  readonly expiresMs: number;
  readonly #start: number;
  /** The kernel did not see it begin. */
  readonly #established: boolean;
  #stream: Buffer = EMPTY;
  #ranges: Range[] = [];
  #packets: HeldPacket[] = [];
  #hello: ClientHello | undefined;
  #allowed = false;
  /** Bytes from the start that went on while it was incomplete. */
  #passed = 0;
  /** The client says again what it has said: it waits to hear that it came. */
  #repeated = false;

  constructor(packet: HeldPacket, expiresMs: number) {
    this.endpoint = packet.endpoint;
    this.expiresMs = expiresMs;
    this.#established = packet.isEstablished;
    this.#start = this.#established ? packet.sequence : packet.start;
  }

  /** What it takes of memory. */
  get size(): number {
    return OVERHEAD_BYTES + this.#stream.length + this.#packets.reduce((sum, { record }) => sum + record.length, 0);
  }

  get isAllowed(): boolean {
    return this.#allowed;
  }

  /** Whether the packet is of this conversation, and not of a later one with the same ports. */
  isOf(packet: HeldPacket): boolean {
    if (packet.isAgain) return this.#allowed;
    if (packet.isEstablished || this.#established) return !this.#allowed && packet.isEstablished === this.#established;
    return packet.start === this.#start;
  }

  /** Takes a packet in. Its bytes may be another one's after this batch: see wait(). */
  add(packet: HeldPacket): Reading {
    const { data } = packet;
    const from = this.#offset(packet);
    if (from < 0 || from + data.length > STREAM_BYTES_MAX) {
      return { state: 'unreadable', reason: 'not the beginning of a TLS connection' };
    }
    // Of what was let through without its memory, nobody knows what was agreed on.
    if (packet.isAgain && !this.#allowed) return { state: 'unreadable', reason: 'a TLS client hello in another place than before' };
    if (this.#ranges.some((range) => range.from <= from && range.to >= from + data.length)) this.#repeated = true;
    this.#write(from, data);
    if (this.#allowed) return { state: 'decided' };
    if (this.#packets.length >= PACKETS_MAX) return { state: 'unreadable', reason: 'a TLS client hello in too many packets' };
    this.#packets.push(packet);
    // Its hello went by unseen, and who knows what this one is: who decides is told that there is none.
    if (this.#established) return { state: 'read' };
    const reading = readClientHello(this.#stream.subarray(0, this.#complete));
    if (reading === 'more') return { state: 'incomplete' };
    if ('problem' in reading) return { state: 'unreadable', reason: reading.problem };
    this.#hello = reading;
    return { state: 'read' };
  }

  describe(question: Question): void {
    const { serverName = '', applicationProtocols = [], encrypted = false } = this.#hello ?? {};
    question.serverName = serverName;
    question.applicationProtocols = applicationProtocols.join('\n');
    question.encryptedHello = encrypted;
  }

  /** Lets the beginning of a long hello go on, and that of one whose client goes no further without an answer. */
  wait(outbox: Outbox): void {
    this.#passOn(outbox);
    this.#packets = this.#packets.map((packet) => packet.own());
  }

  #passOn(outbox: Outbox): void {
    if (!this.#repeated && this.#complete - this.#passed < PASS_BYTES && this.#packets.length < PASS_PACKETS) return;
    this.#repeated = false;
    const ready = this.#packets.filter((packet) => this.#offset(packet) + packet.data.length <= this.#complete);
    this.#packets = this.#packets.filter((packet) => !ready.includes(packet));
    for (const packet of ready) outbox.send(this.#agreed(packet), 'passed');
    this.#passed = this.#complete;
  }

  settle({ allowed }: Decision, packet: HeldPacket, outbox: Outbox): void {
    if (this.#allowed) {
      outbox.send(this.#agreed(packet), 'decided');
      return;
    }
    if (allowed) {
      this.#allowed = true;
      const inOrder = this.#packets.toSorted((a, b) => this.#offset(a) - this.#offset(b));
      for (const held of inOrder) outbox.send(this.#agreed(held), 'decided');
    } else {
      outbox.send(packet.reset('client', 0), 'plain');
      outbox.send(packet.reset('server', (this.#start + this.#passed) >>> 0), 'plain');
    }
    this.#packets = [];
  }

  #offset(packet: HeldPacket): number {
    return (packet.sequence - this.#start) | 0;
  }

  /** How far the stream is without a gap. */
  get #complete(): number {
    const [first] = this.#ranges;
    return first?.from === 0 ? first.to : 0;
  }

  /** The packet with the bytes that came first in its places. */
  #agreed(packet: HeldPacket): HeldPacket {
    const { data } = packet;
    const at = this.#offset(packet);
    for (const { from, to } of this.#ranges) {
      const first = Math.max(from, at);
      const last = Math.min(to, at + data.length);
      if (first < last) this.#stream.copy(data, first - at, first, last);
    }
    return packet;
  }

  /** Takes bytes in where none have come yet. */
  #write(from: number, data: Buffer): void {
    const to = from + data.length;
    if (to > this.#stream.length) {
      const larger = Buffer.allocUnsafe(this.#stream.length ? Math.min(STREAM_BYTES_MAX, Math.max(to, 2 * this.#stream.length)) : to);
      this.#stream.copy(larger);
      this.#stream = larger;
    }
    let at = from;
    for (const range of this.#ranges) {
      if (range.to <= at) continue;
      if (range.from > at) data.copy(this.#stream, at, at - from, Math.min(range.from, to) - from);
      at = Math.max(at, Math.min(range.to, to));
      if (at >= to) break;
    }
    if (at < to) data.copy(this.#stream, at, at - from);
    this.#ranges = joined([...this.#ranges, { from, to }]);
  }
}

/** Ranges in order, those that touch made one. */
function joined(ranges: readonly Range[]): Range[] {
  const result: Range[] = [];
  for (const range of ranges.toSorted((a, b) => a.from - b.from)) {
    const last = result.at(-1);
    if (last && range.from <= last.to) result[result.length - 1] = { from: last.from, to: Math.max(last.to, range.to) };
    else result.push(range);
  }
  return result;
}

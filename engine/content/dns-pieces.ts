/**
 * DNS messages that the kernel cannot read because they come in pieces. Over TCP they are put together, and sent on as one packet
 * each, which the kernel reads as any other. A datagram that is cut into fragments, or too large, is answered in its resolver's place
 * by its own beginning that says that it is not whole: its client asks again over TCP. And queries over TCP that the kernel refuses are
 * answered here.
 */
import type { Content, Outbox, Reading } from './content.ts';
import { overflow } from './conversations.ts';
import { refuseQuery, truncate } from './dns-answer.ts';
import type { HeldPacket } from './held-packet.ts';
import { type Kept, Shelf } from './shelf.ts';
import { Stream } from './stream.ts';

/** Over TCP a message follows its length (RFC 1035, 4.2.2). */
const LENGTH_PREFIX = 2;
/** As bpf/dns.h has them: what is longer is not read, and passes as it comes. */
const MESSAGE_MAX = 4096;
const HEADER = 12;
const STREAM_BYTES_MAX = LENGTH_PREFIX + 0xffff;
/** Every network takes segments of this (RFC 9293, 3.7.1). */
const SEGMENT_MIN = 536;
const BYTES_MAX = 8 * 1024 * 1024;
const LIFE_MS = 10_000;
const OVERHEAD_BYTES = 512;

export class Pieces {
  readonly #messages = new Shelf<Messages>(BYTES_MAX);

  take(packet: HeldPacket, nowMs: number): Content {
    if (!packet.isTcp) return new Cut(packet);
    if (packet.refusal !== undefined) return new Refused(packet, packet.refusal);
    const { key } = packet;
    this.#messages.expire(nowMs);
    let messages = this.#messages.find(key);
    if (messages?.isOf(packet) === false) {
      this.#messages.remove(key);
      messages = undefined;
    }
    if (!this.#messages.hasRoom(packet.endpoint, packet.record.length)) return overflow(packet);
    messages ??= new Messages(packet, nowMs + LIFE_MS);
    const current = messages;
    current.add(packet);
    this.#messages.put(key, current);
    return {
      reading: current.reading,
      describe: () => {},
      wait: (outbox) => current.wait(packet, outbox),
      settle: (_decision, outbox) => {
        current.send(packet, outbox);
        this.#messages.put(key, current);
      },
    };
  }
}

/** A datagram of which the rest is missing, or too much. */
class Cut implements Content {
  readonly reading: Reading = { state: 'decided' };
  readonly #packet: HeldPacket;

  constructor(packet: HeldPacket) {
    this.#packet = packet;
  }

  describe(): void {}

  wait(): void {}

  settle(_decision: unknown, outbox: Outbox): void {
    const length = truncate(this.#packet.data);
    if (length === undefined) return;
    this.#packet.defragment();
    this.#packet.shorten(length);
    outbox.send(this.#packet, 'decided');
  }
}

/** A query over TCP that is refused: answered in its resolver's place, and with that its connection ends. */
class Refused implements Content {
  readonly reading: Reading = { state: 'decided' };
  readonly #packet: HeldPacket;
  readonly #code: number;

  constructor(packet: HeldPacket, code: number) {
    this.#packet = packet;
    this.#code = code;
  }

  describe(): void {}

  wait(): void {}

  settle(_decision: unknown, outbox: Outbox): void {
    const answer = refuseQuery(this.#packet.data.subarray(LENGTH_PREFIX), this.#code);
    if (!answer) return;
    const length = Buffer.from([answer.length >> 8, answer.length & 0xff]);
    outbox.send(this.#packet.lastAnswer(Buffer.concat([length, answer])), 'decided');
    outbox.send(this.#packet.reset('server', this.#packet.sequence), 'plain');
  }
}

/** What one side of a connection says from the first piece on: messages, each behind its length. */
class Messages implements Kept {
  readonly endpoint: number;
  readonly expiresMs: number;
  #stream: Stream;
  #segmentBytes = SEGMENT_MIN;
  /** Everything that came was sent on, in messages. */
  #finished = false;
  #repeated = false;

  constructor(packet: HeldPacket, expiresMs: number) {
    this.endpoint = packet.endpoint;
    this.expiresMs = expiresMs;
    this.#stream = new Stream(packet.sequence, STREAM_BYTES_MAX);
  }

  get size(): number {
    return OVERHEAD_BYTES + this.#stream.size;
  }

  /** Whether the packet is of these messages, and not of later ones. */
  isOf(packet: HeldPacket): boolean {
    const at = this.#stream.offset(packet);
    const { complete } = this.#stream;
    if (!this.#stream.holds(packet) || (this.#finished && at >= complete)) return false;
    return !this.#isUnreadable || at < this.#firstBytes;
  }

  add(packet: HeldPacket): void {
    this.#repeated = this.#stream.add(packet);
    this.#segmentBytes = Math.max(this.#segmentBytes, packet.segmentBytes);
  }

  get reading(): Reading {
    if (this.#finished || this.#isUnreadable) return { state: 'decided' };
    return { state: this.#stream.complete >= this.#firstBytes ? 'read' : 'incomplete' };
  }

  /** A resolver that says the same again waits to hear that it came. What an endpoint asks passes as a whole, or not at all. */
  wait(packet: HeldPacket, outbox: Outbox): void {
    if (this.#repeated && packet.isIngress) outbox.send(this.#stream.agree(packet), 'passed');
  }

  /** Sends on every message that is complete; the last one once more when a piece of it comes again. */
  send(packet: HeldPacket, outbox: Outbox): void {
    if (this.#isUnreadable) {
      if (packet.isIngress) outbox.send(this.#stream.agree(packet), 'passed');
      return;
    }
    for (;;) {
      const length = this.#firstBytes;
      if (this.#isUnreadable || this.#stream.complete < length) return;
      const message = this.#stream.bytes.subarray(0, length);
      outbox.send(packet.saying(message, this.#stream.start, this.#segmentBytes), 'plain');
      if (this.#stream.complete === length) {
        this.#finished = true;
        return;
      }
      this.#stream = this.#stream.after(length);
    }
  }

  /** Bytes of the first message and of its length; more than there can be until that is known. */
  get #firstBytes(): number {
    const { bytes } = this.#stream;
    return bytes.length < LENGTH_PREFIX ? STREAM_BYTES_MAX + 1 : LENGTH_PREFIX + bytes.readUInt16BE(0);
  }

  /** Whether the kernel would not read it either: it is too long, or no message at all. */
  get #isUnreadable(): boolean {
    const length = this.#firstBytes - LENGTH_PREFIX;
    return this.#stream.complete >= LENGTH_PREFIX && (length > MESSAGE_MAX || length < HEADER);
  }
}

/**
 * DNS messages that the kernel cannot read because they come in pieces. Over TCP they are put together, and sent on as one packet
 * each, which the kernel reads as any other. A datagram that is cut into fragments, or too large, is answered in its resolver's place
 * by its own beginning that says that it is not whole: its client asks again over TCP. And queries over TCP that the kernel refuses are
 * answered here.
 */
import { BoundedStore, type Kept } from './bounded-store.ts';
import { type Content, type Outbox, type Reading, settling } from './content.ts';
import { overflow } from './conversations.ts';
import { LENGTH_PREFIX, refuseQuery, truncate } from './dns-answer.ts';
import type { HeldPacket } from './held-packet.ts';
import { Reassembly } from './reassembly.ts';

/** As bpf/dns.h has them: what is longer is not read, and passes as it comes. */
const MESSAGE_MAX = 4096;
const HEADER = 12;
const STREAM_BYTES_MAX = LENGTH_PREFIX + 0xffff;
/** Every network takes segments of this (RFC 9293, 3.7.1). */
const SEGMENT_MIN = 536;
const BYTES_MAX = 8 * 1024 * 1024;
const LIFE_MS = 10_000;
const OVERHEAD_BYTES = 512;
/** A packet may hold thousands: the others follow when their sender says them again. */
const MESSAGES_AT_ONCE = 64;

export class Pieces {
  readonly #messages = new BoundedStore<Messages>(BYTES_MAX);

  take(packet: HeldPacket, nowMs: number): Content {
    if (!packet.isTcp) return cut(packet);
    if (packet.refusal !== undefined) return refused(packet, packet.refusal);
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
      settle: (_outcome, outbox) => {
        current.send(packet, outbox);
        this.#messages.put(key, current);
      },
    };
  }
}

/** A datagram of which the rest is missing, or too much. */
function cut(packet: HeldPacket): Content {
  return settling({ state: 'decided' }, (_outcome, outbox) => {
    const length = truncate(packet.data);
    if (length === undefined) return;
    packet.defragment();
    packet.shorten(length);
    outbox.send(packet, 'decided');
  });
}

/** A query over TCP that is refused: answered in its resolver's place, and with that its connection ends. */
function refused(packet: HeldPacket, code: number): Content {
  return settling({ state: 'decided' }, (_outcome, outbox) => {
    const answer = refuseQuery(packet.data.subarray(LENGTH_PREFIX), code);
    if (!answer) return;
    const length = Buffer.from([answer.length >> 8, answer.length & 0xff]);
    outbox.send(packet.lastAnswer(Buffer.concat([length, answer])), 'decided');
    outbox.send(packet.reset('server', packet.sequence), 'plain');
  });
}

/** The bytes of one side of a connection from the first piece on: messages, each behind its length. */
class Messages implements Kept {
  readonly endpoint: number;
  readonly expiresMs: number;
  #said: Reassembly;
  #segmentBytes = SEGMENT_MIN;
  /** Everything that came was sent on, in messages. */
  #finished = false;
  #repeated = false;

  constructor(packet: HeldPacket, expiresMs: number) {
    this.endpoint = packet.endpoint;
    this.expiresMs = expiresMs;
    this.#said = new Reassembly(packet.sequence, STREAM_BYTES_MAX);
  }

  get size(): number {
    return OVERHEAD_BYTES + this.#said.size;
  }

  /** Whether the packet is of these messages, and not of later ones. */
  isOf(packet: HeldPacket): boolean {
    const at = this.#said.offset(packet);
    const { complete } = this.#said;
    if (!this.#said.holds(packet) || (this.#finished && at >= complete)) return false;
    return !this.#isUnreadable || at < this.#firstBytes;
  }

  add(packet: HeldPacket): void {
    this.#repeated = this.#said.add(packet);
    this.#segmentBytes = Math.max(this.#segmentBytes, packet.segmentBytes);
  }

  get reading(): Reading {
    if (this.#finished || this.#isUnreadable) return { state: 'decided' };
    return { state: this.#said.complete >= this.#firstBytes ? 'read' : 'incomplete' };
  }

  /** A resolver that says the same again waits to hear that it came. What an endpoint asks passes as a whole, or not at all. */
  wait(packet: HeldPacket, outbox: Outbox): void {
    if (this.#repeated && packet.isIngress) outbox.send(this.#said.agree(packet), 'passed');
  }

  /** Sends on every message that is complete; the last one once more when a piece of it comes again. */
  send(packet: HeldPacket, outbox: Outbox): void {
    if (this.#isUnreadable) {
      if (packet.isIngress) outbox.send(this.#said.agree(packet), 'passed');
      return;
    }
    const { bytes, start } = this.#said;
    let at = 0;
    let last = 0;
    for (let sent = 0; sent < MESSAGES_AT_ONCE && at + LENGTH_PREFIX <= bytes.length; sent++) {
      const length = bytes.readUInt16BE(at);
      const end = at + LENGTH_PREFIX + length;
      if (end > bytes.length || !isReadable(length)) break;
      outbox.send(packet.saying(bytes.subarray(at, end), start + at, this.#segmentBytes), 'plain');
      last = at;
      at = end;
    }
    this.#finished = at > 0 && at === bytes.length;
    // Of what is finished, the last message may be said again.
    this.#said = this.#said.after(this.#finished ? last : at);
  }

  /** Bytes of the first message and of its length; more than there can be until that is known. */
  get #firstBytes(): number {
    const { bytes } = this.#said;
    return bytes.length < LENGTH_PREFIX ? STREAM_BYTES_MAX + 1 : LENGTH_PREFIX + bytes.readUInt16BE(0);
  }

  /** Whether the kernel would not read it either: it is too long, or no message at all. */
  get #isUnreadable(): boolean {
    return this.#said.complete >= LENGTH_PREFIX && !isReadable(this.#firstBytes - LENGTH_PREFIX);
  }
}

function isReadable(messageBytes: number): boolean {
  return messageBytes >= HEADER && messageBytes <= MESSAGE_MAX;
}

/**
 * What clients say first on connections that are decided by it: put together from held packets until their hello can be read,
 * and remembered until the server has it.
 *
 * A client may send the same place of its stream twice with other bytes, so that the server reads another hello than we did:
 * the first bytes count, and whatever is sent on has them. Everything that a client can make us keep is bounded.
 */
import { askCodec } from '../abi.gen.ts';
import type { Question } from '../question.ts';
import { type ClientHello, HELLO_BYTES_MAX, readClientHello } from './client-hello.ts';
import type { Content, Decision, Outbox, Reading } from './content.ts';
import type { HeldPacket } from './held-packet.ts';

/** With the headers of the records that a hello of the greatest length is spread over. */
const STREAM_BYTES_MAX = HELLO_BYTES_MAX + 2048;
/**
 * A client has ten packets in flight, however small, before it wants to hear that they came (RFC 6928): of a hello that takes more
 * than this, what has come passes. Without its end no server can answer it.
 */
const PASS_BYTES = 8 * 1024;
const PASS_PACKETS = 6;
const PACKETS_MAX = 64;
/** Held packets and streams of all conversations, and of one endpoint. */
const BYTES_MAX = 16 * 1024 * 1024;
const ENDPOINT_SHARE = 1 / 4;
const CONVERSATIONS_MAX = 4096;
/** A client that has not said all in this time is forgotten; TCP sends again for longer, and then it is read anew. */
const LIFE_MS = 30_000;

const ASK = askCodec.offsets;

export class Conversations {
  readonly #conversations = new Map<string, Conversation>();
  readonly #bytes = new Map<number, number>();
  #total = 0;

  /** Takes a packet in; what comes of it is a content of its own, for the batch that the packet is in. */
  take(packet: HeldPacket, nowMs: number): Content {
    this.#expire(nowMs);
    const key = keyOf(packet);
    let conversation = this.#conversations.get(key);
    if (conversation?.isOf(packet) === false) {
      this.#forget(key, conversation);
      conversation = undefined;
    }
    if (!conversation) {
      if (this.#conversations.size >= CONVERSATIONS_MAX) return overflow(packet);
      conversation = new Conversation(packet, nowMs + LIFE_MS);
      this.#conversations.set(key, conversation);
    }
    const before = conversation.size;
    const used = this.#bytes.get(packet.endpoint) ?? 0;
    if (this.#total + packet.record.length > BYTES_MAX || used + packet.record.length > BYTES_MAX * ENDPOINT_SHARE) return overflow(packet);
    const content = conversation.add(packet);
    this.#account(packet.endpoint, conversation.size - before);
    return {
      reading: content,
      describe: (question) => conversation.describe(question),
      wait: (outbox) => this.#measured(conversation, () => conversation.wait(outbox)),
      settle: (decision, outbox) => {
        this.#measured(conversation, () => conversation.settle(decision, packet, outbox));
        if (!decision.allowed) this.#forget(key, conversation);
      },
    };
  }

  #measured(conversation: Conversation, act: () => void): void {
    const before = conversation.size;
    act();
    this.#account(conversation.endpoint, conversation.size - before);
  }

  #account(endpoint: number, bytes: number): void {
    this.#total += bytes;
    const now = (this.#bytes.get(endpoint) ?? 0) + bytes;
    if (now) this.#bytes.set(endpoint, now);
    else this.#bytes.delete(endpoint);
  }

  /** They are in the order in which they began. */
  #expire(nowMs: number): void {
    for (const [key, conversation] of this.#conversations) {
      if (conversation.expiresMs > nowMs) return;
      this.#forget(key, conversation);
    }
  }

  #forget(key: string, conversation: Conversation): void {
    if (this.#conversations.get(key) !== conversation) return;
    this.#conversations.delete(key);
    this.#account(conversation.endpoint, -conversation.size);
  }
}

/** A packet that there is no room for: the failure policy is about it alone. */
function overflow(packet: HeldPacket): Content {
  return {
    reading: { state: 'overflow' },
    describe: () => {},
    wait: () => {},
    settle: ({ allowed }, outbox) => {
      if (allowed) outbox.send(packet, 'decided');
    },
  };
}

function keyOf({ record }: HeldPacket): string {
  const text = (from: number, to: number): string => record.toString('latin1', from, to);
  return text(ASK.source, ASK.source + 32) + text(ASK.endpoint, ASK.endpoint + 4) + text(ASK.sourcePort, ASK.sourcePort + 4);
}

/** Part of a stream that has come. */
interface Range {
  readonly from: number;
  readonly to: number;
}

class Conversation {
  readonly endpoint: number;
  readonly expiresMs: number;
  readonly #start: number;
  /** The kernel did not see it begin. */
  readonly #established: boolean;
  #stream = Buffer.alloc(2048);
  #ranges: Range[] = [];
  #packets: HeldPacket[] = [];
  #hello: ClientHello | undefined;
  #allowed = false;
  /** Bytes from the start that went on while it was incomplete. */
  #passed = 0;

  constructor(packet: HeldPacket, expiresMs: number) {
    this.endpoint = packet.endpoint;
    this.expiresMs = expiresMs;
    this.#established = packet.isEstablished;
    this.#start = this.#established ? packet.sequence : packet.start;
  }

  /** What it takes of memory. */
  get size(): number {
    return this.#stream.length + this.#packets.reduce((sum, { record }) => sum + record.length, 0);
  }

  /** Whether the packet is of this conversation, and not of a later one with the same ports. */
  isOf(packet: HeldPacket): boolean {
    if (packet.isAgain) return this.#allowed;
    if (packet.isEstablished || this.#established) return !this.#allowed && packet.isEstablished === this.#established;
    return packet.start === this.#start;
  }

  /** Takes a packet in; what is held of it is a copy. */
  add(packet: HeldPacket): Reading {
    const { data } = packet;
    const from = this.#offset(packet);
    if (from < 0 || from + data.length > STREAM_BYTES_MAX) {
      return { state: 'unreadable', reason: 'not the beginning of a TLS connection' };
    }
    // Of what was let through without its memory, nobody knows what was agreed on.
    if (packet.isAgain && !this.#allowed) return { state: 'unreadable', reason: 'a TLS client hello in another place than before' };
    this.#write(from, data);
    if (this.#allowed) return { state: 'decided' };
    if (this.#packets.length >= PACKETS_MAX) return { state: 'unreadable', reason: 'a TLS client hello in too many packets' };
    this.#packets.push(packet.copy());
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

  /** Lets the beginning of a long hello go on. */
  wait(outbox: Outbox): void {
    if (this.#complete - this.#passed < PASS_BYTES && this.#packets.length < PASS_PACKETS) return;
    const ready = this.#packets.filter((packet) => this.#offset(packet) + packet.data.length <= this.#complete);
    this.#packets = this.#packets.filter((packet) => !ready.includes(packet));
    for (const packet of ready) outbox.send(this.#agreed(packet), 'passed');
    this.#passed = this.#complete;
  }

  settle({ allowed }: Decision, packet: HeldPacket, outbox: Outbox): void {
    if (this.#allowed) {
      outbox.send(this.#agreed(packet.copy()), 'decided');
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
    if (to > this.#stream.length)
      this.#stream = Buffer.concat([this.#stream], Math.min(STREAM_BYTES_MAX, Math.max(to, 2 * this.#stream.length)));
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

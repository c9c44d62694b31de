/** A conversation: the first words of a client, put together from held packets until its hello can be read. */
import type { Question } from '../plugin-runtime/question.ts';
import { type ClientHello, HELLO_BYTES_MAX, readClientHello } from './client-hello.ts';
import type { Outbox, Outcome, Reading } from './content.ts';
import type { HeldPacket } from './held-packet.ts';
import { Reassembly } from './reassembly.ts';

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

/** The first words of one client. */
export class Conversation {
  readonly endpoint: number;
  readonly expiresMs: number;
  /** The kernel did not see it begin. */
  readonly #established: boolean;
  readonly #said: Reassembly;
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
    this.#said = new Reassembly(this.#established ? packet.sequence : packet.start, STREAM_BYTES_MAX);
  }

  /** Bytes of memory that it takes. */
  get size(): number {
    return OVERHEAD_BYTES + this.#said.size + this.#packets.reduce((sum, { record }) => sum + record.length, 0);
  }

  get isAllowed(): boolean {
    return this.#allowed;
  }

  /** Whether the packet is of this conversation, and not of a later one with the same ports. */
  isOf(packet: HeldPacket): boolean {
    if (packet.isAgain) return this.#allowed;
    if (packet.isEstablished || this.#established) return !this.#allowed && packet.isEstablished === this.#established;
    return packet.start === this.#said.start;
  }

  /** Takes a packet in. Its bytes may be another one's after this batch: see wait(). */
  add(packet: HeldPacket): Reading {
    if (!this.#said.holds(packet)) return { state: 'unreadable', reason: 'not the beginning of a TLS connection' };
    // Of what was let through without its memory, nobody knows what was agreed on.
    if (packet.isAgain && !this.#allowed) return { state: 'unreadable', reason: 'a TLS client hello in another place than before' };
    if (this.#said.add(packet)) this.#repeated = true;
    if (this.#allowed) return { state: 'decided' };
    if (this.#packets.length >= PACKETS_MAX) return { state: 'unreadable', reason: 'a TLS client hello in too many packets' };
    this.#packets.push(packet);
    // Its hello went by unseen, and who knows what this one is: who decides is told that there is none.
    if (this.#established) return { state: 'read' };
    const reading = readClientHello(this.#said.bytes);
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
    if (!this.#repeated && this.#said.complete - this.#passed < PASS_BYTES && this.#packets.length < PASS_PACKETS) return;
    this.#repeated = false;
    const ready = this.#packets.filter((packet) => this.#said.offset(packet) + packet.data.length <= this.#said.complete);
    this.#packets = this.#packets.filter((packet) => !ready.includes(packet));
    for (const packet of ready) outbox.send(this.#said.agree(packet), 'passed');
    this.#passed = this.#said.complete;
  }

  settle({ allowed, failed }: Outcome, packet: HeldPacket, outbox: Outbox): void {
    if (this.#allowed) {
      outbox.send(this.#said.agree(packet), 'decided');
      return;
    }
    if (allowed) {
      this.#allowed = true;
      const inOrder = this.#packets.toSorted((a, b) => this.#said.offset(a) - this.#said.offset(b));
      for (const held of inOrder) outbox.send(this.#said.agree(held), 'decided');
    } else if (!failed) {
      outbox.send(packet.reset('client', 0), 'plain');
      outbox.send(packet.reset('server', (this.#said.start + this.#passed) >>> 0), 'plain');
    }
    this.#packets = [];
  }
}

/** A held DNS answer. Allowed, it goes on and the kernel learns from it; denied, it says so in the resolver's place. */
import type { Question } from '../plugin-runtime/question.ts';
import type { Content, Outbox, Outcome, Reading } from './content.ts';
import { capTtl, type DnsAnswer, LENGTH_PREFIX, readAnswer, refuse } from './dns-answer.ts';
import type { HeldPacket } from './held-packet.ts';

/** Response code: nobody could decide it (RFC 1035, 4.1.1). */
const SERVER_FAILURE = 2;

export class HeldAnswer implements Content {
  readonly reading: Reading;
  readonly #packet: HeldPacket;
  readonly #message: Buffer;
  readonly #answer: DnsAnswer | undefined;

  constructor(packet: HeldPacket) {
    this.#packet = packet;
    this.#message = packet.data.subarray(packet.isTcp ? LENGTH_PREFIX : 0);
    this.#answer = readAnswer(this.#message);
    this.reading = this.#answer ? { state: 'read' } : { state: 'unreadable', reason: 'not a DNS answer that can be read' };
  }

  describe(question: Question): void {
    const { name = '', type = 0, ttlS = 0, addresses = [] } = this.#answer ?? {};
    question.dnsName = name;
    question.dnsType = type;
    question.dnsTtlS = ttlS;
    question.dnsAddresses = addresses.join('\n');
  }

  wait(): void {}

  settle({ allowed, ttlMs, responseCode, failed }: Outcome, outbox: Outbox): void {
    if (allowed) {
      if (this.#answer && ttlMs) capTtl(this.#message, this.#answer, Math.floor(ttlMs / 1000));
    } else {
      // A message that nobody can read cannot be answered either: who waits for it times out.
      if (!this.#answer) return;
      const length = refuse(this.#message, this.#answer, failed ? SERVER_FAILURE : responseCode, this.#packet.isTcp);
      if (!this.#packet.isTcp) this.#packet.shorten(length);
    }
    outbox.send(this.#packet, 'decided');
  }
}

/** Held DNS answers: what a plugin sees of them, and what becomes of their bytes. */
import dnsPacket from 'dns-packet';
import { describe, expect, test } from 'vitest';
import { askCodec, Context, Direction, Scope } from '../../../engine/abi.gen.ts';
import type { Outcome } from '../../../engine/held/content.ts';
import { readAnswer } from '../../../engine/held/dns-answer.ts';
import { HeldAnswer } from '../../../engine/held/held-answer.ts';
import type { HeldPacket } from '../../../engine/held/held-packet.ts';
import { Question } from '../../../engine/plugin-runtime/question.ts';
import { type DnsMessage, datagram, encodeMessage, QUESTION, RESPONSE, segment } from '../../support/dns.ts';
import { held } from '../../support/held.ts';

const ANSWER: DnsMessage = {
  name: 'WWW.Example.test',
  type: 'AAAA',
  flags: RESPONSE,
  answers: [
    { name: QUESTION, type: 'CNAME', ttl: 60, data: 'edge.test' },
    { name: 'edge.test', type: 'AAAA', ttl: 300, data: '2001:db8::1' },
    { name: 'edge.test', ttl: 600, data: '192.0.2.1' },
  ],
  additionals: [{ name: '', type: 'OPT', ttl: 0x8000, data: Buffer.alloc(0) }],
};

function answerOf(message: DnsMessage, { over = datagram, v6 = false } = {}): { answer: HeldAnswer; packet: HeldPacket } {
  const fields = v6 ? { from: 'fd00::53', to: 'fd00::1' } : { from: '10.0.0.53', to: '10.0.0.1' };
  const packet = held(over(encodeMessage(message), { sport: 53, dport: 40_000 }), {
    ...fields,
    context: Context.DNS,
    direction: Direction.INGRESS,
  });
  return { answer: new HeldAnswer(packet), packet };
}
function sent(answer: HeldAnswer, outcome: Partial<Outcome> & { allowed: boolean }): HeldPacket[] {
  const packets: HeldPacket[] = [];
  answer.settle({ scope: Scope.NONE, ttlMs: 0, responseCode: 0, failed: false, ...outcome }, { send: (packet) => packets.push(packet) });
  return packets;
}

describe('HeldAnswer', () => {
  test('is described by name, type, addresses and the least TTL', () => {
    const question = new Question();
    answerOf(ANSWER).answer.describe(question);
    expect(question).toMatchObject({ dnsName: 'www.example.test', dnsType: 28, dnsTtlS: 60, dnsAddresses: '2001:db8::1\n192.0.2.1' });
  });

  test.each([
    { carrier: 'UDP', over: datagram, prefix: 0 },
    { carrier: 'TCP', over: segment, prefix: 2 },
  ])('allowed for a time over $carrier, nothing lives longer, and EDNS is left alone', ({ over, prefix }) => {
    const { answer } = answerOf(ANSWER, { over });
    const message = dnsPacket.decode(sent(answer, { allowed: true, ttlMs: 100_500 })[0]?.data.subarray(prefix) as Buffer);
    expect(message.answers?.map((record) => (record as { ttl: number }).ttl)).toEqual([60, 100, 100]);
    expect((message.additionals?.[0] as { flag_do?: boolean } | undefined)?.flag_do).toBe(true);
  });

  test.each([
    { v6: false, responseCode: 0, rcode: 'REFUSED' },
    { v6: false, responseCode: 3, rcode: 'NXDOMAIN' },
    { v6: true, responseCode: 0, rcode: 'REFUSED' },
  ])('denied over UDP, it says $rcode and nothing else; IPv6: $v6', ({ v6, responseCode, rcode }) => {
    const { answer, packet } = answerOf(ANSWER, { v6 });
    const [refusal] = sent(answer, { allowed: false, responseCode }) as [HeldPacket];
    const message = dnsPacket.decode(refusal.data) as dnsPacket.DecodedPacket & { rcode: string };
    expect(message).toMatchObject({
      id: 7,
      type: 'response',
      rcode,
      questions: [{ name: 'WWW.Example.test', type: 'AAAA' }],
      answers: [],
      additionals: [],
    });
    const end = askCodec.size + 14 + (v6 ? 40 : 20) + 8 + refusal.data.length;
    expect(packet.record.readUInt32LE(askCodec.offsets.length)).toBe(end - askCodec.size);
    if (v6) return;
    let sum = 0;
    for (let i = 0; i < 20; i += 2) sum += packet.record.readUInt16BE(askCodec.size + 14 + i);
    expect((sum & 0xffff) + (sum >>> 16)).toBe(0xffff);
  });

  test('where nobody could decide it, it says that', () => {
    const [refusal] = sent(answerOf(ANSWER).answer, { allowed: false, failed: true }) as [HeldPacket];
    expect(dnsPacket.decode(refusal.data)).toMatchObject({ rcode: 'SERVFAIL', answers: [] });
  });

  test('denied over TCP, it keeps its length, so that the stream goes on', () => {
    const { answer, packet } = answerOf(ANSWER, { over: segment });
    const before = packet.data.length;
    const [refusal] = sent(answer, { allowed: false }) as [HeldPacket];
    expect(refusal.data.length).toBe(before);
    expect(refusal.data.readUInt16BE(0)).toBe(before - 2);
    const message = dnsPacket.decode(refusal.data.subarray(2)) as dnsPacket.DecodedPacket & { rcode: string };
    expect(message).toMatchObject({ rcode: 'REFUSED', answers: [], authorities: [] });
    expect(message.additionals).toHaveLength(1);
  });

  test('an answer that cannot be read is not answered in its resolver’s place', () => {
    for (const message of [
      { ...ANSWER, flags: 0x0100 },
      { ...ANSWER, questions: 2 },
      { ...ANSWER, count: 9 },
      { ...ANSWER, name: { at: 12 } },
      { ...ANSWER, answers: [{ name: QUESTION, data: '192.0.2.1', length: 400 }] },
    ]) {
      const { answer } = answerOf(message);
      expect(answer.reading.state).toBe('unreadable');
      expect(sent(answer, { allowed: false })).toEqual([]);
    }
  });

  test('a message damaged in any one byte is read or is not: never an error, and what is read ends within it', () => {
    const bytes = encodeMessage(ANSWER);
    for (let at = 0; at < bytes.length; at++)
      for (const value of [0, 1, 0x3f, 0xc0, 0xff]) {
        const damaged = Buffer.from(bytes);
        damaged[at] = value;
        const answer = readAnswer(damaged);
        if (answer) expect(Math.max(answer.questionEnd, ...answer.ttlAt.map((ttl) => ttl + 4))).toBeLessThanOrEqual(bytes.length);
      }
    for (let length = 0; length < bytes.length; length++) expect(readAnswer(bytes.subarray(0, length))).toBeUndefined();
  });
});

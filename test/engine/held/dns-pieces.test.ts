/** DNS messages in pieces: put together and sent on as one packet each, or answered by their beginning. */
import dnsPacket from 'dns-packet';
import { beforeEach, describe, expect, test } from 'vitest';
import { AskFlag, askCodec, Context, Direction, Scope } from '../../../engine/abi.gen.ts';
import { Pieces } from '../../../engine/held/dns-pieces.ts';
import type { HeldPacket } from '../../../engine/held/held-packet.ts';
import { Reassembly } from '../../../engine/held/reassembly.ts';
import { datagram, encodeMessage, QUESTION, RESPONSE } from '../../support/dns.ts';
import { type HeldFields, held } from '../../support/held.ts';
import { tcp } from '../../support/packets.ts';

const START = 5000;
const QUERY: HeldFields = { from: '10.0.0.1', to: '10.0.0.53', context: Context.DNS, direction: Direction.EGRESS };
const ANSWER: HeldFields = { from: '10.0.0.53', to: '10.0.0.1', context: Context.DNS, direction: Direction.INGRESS };
const withLength = (message: Buffer): Buffer => Buffer.concat([Buffer.from([message.length >> 8, message.length & 255]), message]);

describe('Pieces', () => {
  let pieces: Pieces;
  beforeEach(() => {
    pieces = new Pieces();
  });
  const piece = (at: number, data: Buffer, fields: HeldFields): HeldPacket => {
    const answer = fields.direction === Direction.INGRESS;
    const ports = answer ? { sport: 53, dport: 40_000 } : { sport: 40_000, dport: 53 };
    const segment = tcp({ ...ports, flags: 'PA', seq: START + at, ack: 77, payload: data.length });
    data.copy(segment.bytes, 20);
    return held(segment, fields);
  };
  /** Takes a packet in as the engine does; returns what was sent. */
  const take = (packet: HeldPacket, nowMs = 0): { state: string; sent: { packet: HeldPacket; as: string }[] } => {
    const content = pieces.take(packet, nowMs);
    const sent: { packet: HeldPacket; as: string }[] = [];
    const outbox = { send: (each: HeldPacket, as: string) => sent.push({ packet: each.copy(), as }) };
    if (content.reading.state === 'incomplete') content.wait(outbox);
    else content.settle({ allowed: true, scope: Scope.NONE, ttlMs: 0, responseCode: 0, failed: false }, outbox);
    return { state: content.reading.state, sent };
  };
  const answer = withLength(
    encodeMessage({
      name: 'api.example.com',
      flags: RESPONSE,
      answers: Array.from({ length: 60 }, (_, i) => ({ name: QUESTION, data: `192.0.2.${i}` })),
    }),
  );

  test.each([
    { name: 'in order', order: [0, 1, 2] },
    { name: 'the last ones changed', order: [0, 2, 1] },
  ])('an answer in three packets, $name, becomes one, cut where it leaves', ({ order }) => {
    const cuts = [answer.subarray(0, 700), answer.subarray(700, 1100), answer.subarray(1100)];
    const at = [0, 700, 1100];
    const results = order.map((i) => take(piece(at[i] as number, cuts[i] as Buffer, ANSWER)));
    const sent = results.flatMap((result) => result.sent);
    expect(sent.map(({ as }) => as)).toEqual(['plain']);
    const packet = sent[0]?.packet as HeldPacket;
    expect([packet.sequence, packet.data]).toEqual([START, answer]);
    expect(packet.record.readUInt32LE(askCodec.offsets.gsoSize)).toBe(700);
    expect(packet.record.readUInt32LE(askCodec.offsets.length)).toBe(packet.record.length - askCodec.size);
    expect(packet.record.readUInt16BE(askCodec.size + 16)).toBe(20 + 20 + answer.length);
  });

  test('two queries in one packet become two, and a third one that is cut follows', () => {
    const queries = ['a.test', 'b.test', 'c.test'].map((name) => withLength(encodeMessage({ name })));
    const all = Buffer.concat(queries);
    const cut = all.length - 5;
    expect(take(piece(0, all.subarray(0, cut), QUERY)).sent.map(({ packet }) => packet.data)).toEqual(queries.slice(0, 2));
    const last = take(piece(cut, all.subarray(cut), QUERY)).sent;
    expect(last.map(({ packet }) => [packet.sequence, packet.data])).toEqual([
      [START + all.length - (queries[2] as Buffer).length, queries[2]],
    ]);
  });

  test('what an endpoint asks never passes in pieces, however often it says them', () => {
    const query = withLength(encodeMessage({ name: 'secret.outside.test' }));
    const sent = [];
    for (let round = 0; round < 3; round++)
      for (let at = 0; at < query.length - 4; at += 4)
        sent.push(...take(piece(at, query.subarray(at, at + 4), QUERY), round * 20_000).sent);
    expect(sent).toEqual([]);
    pieces = new Pieces();
    for (let at = 0; at < query.length; at += 4) take(piece(at, query.subarray(at, at + 4), QUERY));
    // Said again after it was put together, it comes as a whole again, with the bytes that were read.
    const again = take(piece(4, Buffer.from('evil'), QUERY)).sent;
    expect(again.map(({ packet, as }) => [as, packet.data])).toEqual([['plain', query]]);
  });

  test('of thousands of queries in one packet so many go on at once, and the others when they are said again', () => {
    const query = withLength(encodeMessage({ name: 'a.test' }));
    const all = Buffer.concat(Array.from({ length: 150 }, () => query));
    const first = take(piece(0, all, { ...QUERY, endpoint: 7 })).sent;
    expect(first.map(({ packet }) => packet.sequence - START)).toEqual(Array.from({ length: 64 }, (_, i) => i * query.length));
    // Its sender has heard of those by the resolver's acknowledgement.
    const rest = take(piece(64 * query.length, all.subarray(64 * query.length), { ...QUERY, endpoint: 7 })).sent;
    expect(rest).toHaveLength(64);
    const last = take(piece(128 * query.length, all.subarray(128 * query.length), { ...QUERY, endpoint: 7 })).sent;
    expect(last).toHaveLength(22);
  });

  test('a sender that leaves thousands of gaps is not followed', () => {
    const stream = new Reassembly(START, 65_536);
    const byte = (at: number): HeldPacket => piece(at, Buffer.from([0]), QUERY);
    for (let i = 0; i < 64; i++) stream.add(byte(2 * i));
    expect(stream.holds(byte(200))).toBe(false);
    for (let i = 0; i < 3000; i++) expect(take(byte(1 + 2 * i)).sent).toEqual([]);
  });

  test('the first bytes count', () => {
    const query = withLength(encodeMessage({ name: 'good.test' }));
    const evil = withLength(encodeMessage({ name: 'evil.test' }));
    take(piece(0, query.subarray(0, 20), QUERY));
    const [sent] = take(piece(0, evil, QUERY)).sent;
    expect(sent?.packet.data).toEqual(Buffer.concat([query.subarray(0, 20), evil.subarray(20)]));
  });

  test('a resolver that waits for an answer gets one: what it says again passes', () => {
    const first = piece(0, answer.subarray(0, 600), ANSWER);
    expect(take(first).sent).toEqual([]);
    expect(take(first).sent.map(({ as }) => as)).toEqual(['passed']);
    const [whole] = take(piece(600, answer.subarray(600), ANSWER)).sent;
    expect(whole?.packet.data).toEqual(answer);
  });

  test('an answer that is longer than the kernel reads passes as it comes; such a query does not', () => {
    const long = withLength(Buffer.alloc(9000, 1));
    for (let at = 0; at < long.length; at += 1448)
      expect(take(piece(at, long.subarray(at, at + 1448), ANSWER)).sent.map(({ as }) => as)).toEqual(['passed']);
    expect(take(piece(0, long.subarray(0, 1448), QUERY)).sent).toEqual([]);
    // Nor does what is no message: the kernel would find nothing in it either, and ask again.
    expect(take(piece(50_000, Buffer.alloc(600), ANSWER)).sent.map(({ as }) => as)).toEqual(['passed']);
    expect(take(piece(50_000, Buffer.alloc(600), QUERY)).sent).toEqual([]);
    // And what comes behind it is read again.
    expect(take(piece(long.length, answer, ANSWER)).sent.map(({ packet }) => packet.data)).toEqual([answer]);
  });

  test.each([{ v6: false }, { v6: true }])(
    'a query that is refused is answered, and its connection ended at both ends; IPv6: $v6',
    ({ v6 }) => {
      const query = withLength(encodeMessage({ name: 'outside.test' }));
      const fields = { ...QUERY, flags: AskFlag.REFUSED, responseCode: 3, ...(v6 && { from: 'fd00::1', to: 'fd00::53' }) };
      const [answered, ended] = take(piece(0, query, fields)).sent;
      expect([answered?.as, ended?.as]).toEqual(['decided', 'plain']);
      const data = answered?.packet.data as Buffer;
      expect(data.readUInt16BE(0)).toBe(data.length - 2);
      expect(dnsPacket.decode(data.subarray(2))).toMatchObject({
        id: 7,
        type: 'response',
        rcode: 'NXDOMAIN',
        questions: [{ name: 'outside.test' }],
        answers: [],
      });
      const transport = askCodec.size + (v6 ? 54 : 34);
      const record = answered?.packet.record as Buffer;
      expect([record.readUInt16BE(transport), record.readUInt32BE(transport + 4), record.readUInt32BE(transport + 8)]).toEqual([
        53,
        77,
        START + query.length,
      ]);
      expect([record[transport + 13], ended?.packet.record[transport + 13]]).toEqual([0x19, 0x04]);
      expect([answered?.packet.isIngress, ended?.packet.isIngress, ended?.packet.sequence]).toEqual([true, false, START]);
    },
  );

  test('what one endpoint makes us keep is bounded, and costs the others nothing', () => {
    const states = new Set<string>();
    for (let i = 0; i < 3000; i++)
      states.add(take(held(tcp({ sport: i, dport: 53, seq: 1, payload: 1000 }), { ...QUERY, endpoint: 5 })).state);
    expect(states).toContain('overflow');
    expect(take(piece(0, answer.subarray(0, 600), { ...ANSWER, endpoint: 6 })).state).toBe('incomplete');
  });

  test.each([{ v6: false }, { v6: true }])('a datagram whose rest is elsewhere says that it is not whole; IPv6: $v6', ({ v6 }) => {
    const message = answer.subarray(2);
    const cut = datagram(message, { sport: 53, dport: 40_000 });
    cut.bytes.writeUInt16BE(cut.bytes.length + 2000, 4);
    const packet = held(cut, { ...ANSWER, ...(v6 && { from: 'fd00::53', to: 'fd00::1' }) });
    if (!v6) packet.record.writeUInt16BE(0x2000, askCodec.size + 20);
    const [sent] = take(packet).sent;
    expect(sent?.as).toBe('decided');
    const decoded = dnsPacket.decode(sent?.packet.data as Buffer);
    expect(decoded).toMatchObject({ type: 'response', flag_tc: true, questions: [{ name: 'api.example.com' }], answers: [] });
    if (!v6) expect(sent?.packet.record.readUInt16BE(askCodec.size + 20)).toBe(0);
    expect(take(held(datagram(Buffer.alloc(30), { sport: 53, dport: 40_000 }), ANSWER)).sent).toEqual([]);
  });
});

/** The first words of clients, in whatever packets: read as a whole, sent on as they were read, bounded. */
import { beforeEach, describe, expect, test } from 'vitest';
import { AskFlag, askCodec, Direction, Scope } from '../../../engine/abi.gen.ts';
import { AskBatch } from '../../../engine/flow/ask-batch.ts';
import type { Content, Outbox } from '../../../engine/held/content.ts';
import { Conversations } from '../../../engine/held/conversations.ts';
import type { HeldPacket } from '../../../engine/held/held-packet.ts';
import { Question } from '../../../engine/plugin-runtime/question.ts';
import { AGAIN, ESTABLISHED, type HeldFields, held } from '../../support/held.ts';
import { tcp } from '../../support/packets.ts';
import { clientHello } from '../../support/tls.ts';

const START = 1001;
const ALLOWED = { allowed: true, scope: Scope.NONE, ttlMs: 0, responseCode: 0, failed: false };
const DENIED = { ...ALLOWED, allowed: false };

/** A packet that says these bytes, from an offset of the stream on. */
function say(offset: number, data: Buffer, fields: HeldFields & { sport?: number } = {}): HeldPacket {
  const segment = tcp({ sport: fields.sport ?? 40_000, dport: 443, flags: 'PA', seq: START + offset, ack: 9001, payload: data.length });
  data.copy(segment.bytes, 20);
  return held(segment, { start: START, ...fields });
}

class Sent implements Outbox {
  readonly packets: { packet: HeldPacket; as: string }[] = [];
  send(packet: HeldPacket, as: string): void {
    this.packets.push({ packet: packet.copy(), as });
  }
  get bytes(): Buffer {
    return Buffer.concat(this.packets.map(({ packet }) => packet.data));
  }
}

describe('Conversations', () => {
  let conversations: Conversations;
  beforeEach(() => {
    conversations = new Conversations();
  });
  const take = (packet: HeldPacket, nowMs = 0): Content => conversations.take(packet, nowMs);
  const settle = (content: Content, decision = ALLOWED): Sent => {
    const sent = new Sent();
    content.settle(decision, sent);
    return sent;
  };
  const serverName = (content: Content): string => {
    const question = new Question();
    content.describe(question);
    return question.serverName;
  };
  const hello = clientHello({ serverName: 'api.example.com', padding: 2000 });

  test('a hello in one packet is read and goes on as it is', () => {
    const content = take(say(0, hello));
    expect(content.reading).toEqual({ state: 'read' });
    expect(serverName(content)).toBe('api.example.com');
    const sent = settle(content);
    expect(sent.packets.map(({ as }) => as)).toEqual(['decided']);
    expect(sent.bytes).toEqual(hello);
  });

  test.each([
    { name: 'in order', order: [0, 1, 2, 3] },
    { name: 'backwards', order: [3, 2, 1, 0] },
    { name: 'mixed, some twice', order: [2, 0, 0, 3, 2, 1] },
  ])('in four packets, $name: read with the last one, sent in their order', ({ order }) => {
    const parts = [hello.subarray(0, 3), hello.subarray(3, 700), hello.subarray(700, 1400), hello.subarray(1400)];
    const at = [0, 3, 700, 1400];
    const contents = order.map((i) => take(say(at[i] as number, parts[i] as Buffer)));
    expect(contents.slice(0, -1).map(({ reading }) => reading.state)).toEqual(order.slice(1).map(() => 'incomplete'));
    const last = contents.at(-1) as Content;
    expect([last.reading.state, serverName(last)]).toEqual(['read', 'api.example.com']);
    const sent = settle(last);
    expect([...new Set(sent.packets.map(({ packet }) => packet.sequence - START))]).toEqual(at);
  });

  test('the first bytes count: whatever is said in their place later, what goes on is what was read', () => {
    const other = Buffer.from(hello).fill(0xaa, 400);
    take(say(500, hello.subarray(500, 700)));
    // The whole of another hello: its middle was said already.
    const content = take(say(0, other));
    expect(content.reading.state).toBe('read');
    const sent = settle(content);
    const stream = Buffer.alloc(hello.length);
    for (const { packet } of sent.packets) packet.data.copy(stream, packet.sequence - START);
    expect(stream).toEqual(Buffer.concat([other.subarray(0, 500), hello.subarray(500, 700), other.subarray(700)]));
    for (const { packet } of sent.packets)
      expect(packet.data).toEqual(stream.subarray(packet.sequence - START, packet.sequence - START + packet.data.length));
    // And what is sent again goes as it was agreed on, whatever it says now.
    const again = take(say(0, Buffer.alloc(hello.length, 0xee), { flags: AGAIN, start: START + hello.length }));
    expect(again.reading).toEqual({ state: 'decided' });
    expect(settle(again).bytes).toEqual(stream);
  });

  test('a hello that was read again by nobody who remembers it is not let through', () => {
    const content = take(say(0, hello, { flags: AGAIN, start: START + hello.length }));
    expect(content.reading.state).toBe('unreadable');
  });

  test('a new connection on the same ports is another conversation', () => {
    settle(take(say(0, hello)));
    const other = clientHello({ serverName: 'evil.example.org' });
    const content = take(say(0, other, { start: START }));
    // The same beginning: what was agreed on stays agreed on.
    expect(settle(content).bytes.subarray(0, other.length)).toEqual(hello.subarray(0, other.length));
    const fresh = take(say(500_000, other, { start: START + 500_000 }));
    expect([fresh.reading.state, serverName(fresh)]).toEqual(['read', 'evil.example.org']);
    const near = take(say(10, other, { start: START + 10 }));
    expect(serverName(near)).toBe('evil.example.org');
  });

  test('another endpoint, address or port is another conversation', () => {
    take(say(0, hello.subarray(0, 100)));
    for (const fields of [{ endpoint: 6 }, { from: '10.0.0.2' }, { to: '192.0.2.2' }, { sport: 40_001 }])
      expect(take(say(100, hello.subarray(100), fields)).reading.state).toBe('incomplete');
    expect(take(say(100, hello.subarray(100))).reading.state).toBe('read');
  });

  test('a hello longer than a client has in flight goes on piece by piece, but for its last one', () => {
    const long = clientHello({ serverName: 'api.example.com', padding: 15_000 });
    const sent = new Sent();
    let last: Content | undefined;
    for (let at = 0; at < long.length; at += 1448) {
      last = take(say(at, long.subarray(at, at + 1448)));
      if (last.reading.state === 'incomplete') last.wait(sent);
    }
    expect(sent.packets.length).toBeGreaterThan(3);
    expect(sent.packets.every(({ as }) => as === 'passed')).toBe(true);
    expect(sent.bytes.length).toBeLessThan(long.length);
    expect(last?.reading.state).toBe('read');
    expect(Buffer.concat([sent.bytes, settle(last as Content).bytes])).toEqual(long);
  });

  test('a hello in many small packets goes on in the same way', () => {
    const sent = new Sent();
    let last: Content | undefined;
    for (let at = 0; at < hello.length; at += 50) {
      last = take(say(at, hello.subarray(at, at + 50)));
      if (last.reading.state === 'incomplete') last.wait(sent);
    }
    const passed = sent.packets.length;
    expect(passed).toBeGreaterThan(30);
    const rest = settle(last as Content);
    expect(rest.packets.length).toBeLessThan(7);
    expect(Buffer.concat([sent.bytes, rest.bytes])).toEqual(hello);
  });

  test('denied, both ends are told: the client by an answer to its packet, the server in the place that it waits for', () => {
    for (const v6 of [false, true]) {
      const fields = v6 ? { from: 'fd00::1', to: '2001:db8::1' } : {};
      const content = take(say(0, hello, fields));
      const [client, server] = settle(content, DENIED).packets.map(({ packet }) => packet.record) as [Buffer, Buffer];
      const transport = askCodec.size + (v6 ? 54 : 34);
      expect([client.readUInt8(askCodec.offsets.direction), server.readUInt8(askCodec.offsets.direction)]).toEqual([
        Direction.INGRESS,
        Direction.EGRESS,
      ]);
      expect([client.readUInt16BE(transport), client.readUInt16BE(transport + 2)]).toEqual([443, 40_000]);
      expect([client.readUInt32BE(transport + 4), client.readUInt32BE(transport + 8)]).toEqual([9001, START + hello.length]);
      expect([client[transport + 13], server[transport + 13]]).toEqual([0x14, 0x04]);
      expect([server.readUInt16BE(transport), server.readUInt32BE(transport + 4)]).toEqual([40_000, START]);
      // Addresses, turned for the client.
      const at = askCodec.size + 14 + (v6 ? 8 : 12);
      const length = v6 ? 16 : 4;
      expect(client.subarray(at, at + length)).toEqual(server.subarray(at + length, at + 2 * length));
      if (!v6) {
        let sum = 0;
        for (let i = 0; i < 20; i += 2) sum += client.readUInt16BE(askCodec.size + 14 + i);
        expect((sum & 0xffff) + (sum >>> 16)).toBe(0xffff);
      }
    }
  });

  test('where nobody could decide it, nobody is told: it is read anew when the client says it again', () => {
    expect(settle(take(say(0, hello)), { ...DENIED, failed: true }).packets).toEqual([]);
    const again = take(say(0, hello));
    expect(again.reading.state).toBe('read');
    expect(settle(again).bytes).toEqual(hello);
  });

  test('what is no hello is told apart at its first bytes, and forgotten when it is denied', () => {
    const content = take(say(0, Buffer.from('GET /')));
    expect(content.reading).toEqual({ state: 'unreadable', reason: 'not TLS' });
    settle(content, DENIED);
    expect(take(say(0, hello)).reading.state).toBe('read');
  });

  test('a connection that nobody saw begin has no hello, whatever it looks like', () => {
    const content = take(say(0, hello, { flags: ESTABLISHED, start: 0 }));
    expect([content.reading.state, serverName(content)]).toEqual(['read', '']);
  });

  test('words before the beginning or far behind it are not of a hello', () => {
    expect(take(say(-1, hello)).reading.state).toBe('unreadable');
    expect(take(say(30_000, hello)).reading.state).toBe('unreadable');
  });

  test('what one endpoint has held is bounded, costs the others nothing, and is forgotten in time', () => {
    const part = clientHello({ serverName: 'a.test', padding: 12_000 }).subarray(0, 4000);
    let taken = 0;
    const states = new Set<string>();
    for (let sport = 1; sport <= 2000; sport++) {
      const { state } = take(say(0, part, { sport })).reading;
      states.add(state);
      if (state === 'incomplete') taken++;
    }
    expect([...states].sort()).toEqual(['incomplete', 'overflow']);
    expect(taken * part.length).toBeLessThan(4.5 * 1024 * 1024);
    expect(take(say(0, hello, { endpoint: 6 })).reading.state).toBe('read');
    const sent = settle(take(say(0, hello, { sport: 3000 })));
    expect(sent.packets.map(({ as }) => as)).toEqual(['decided']);
    expect(take(say(0, hello, { sport: 3001 }), 40_000).reading.state).toBe('read');
  });

  test('ten thousand that were let through cost nobody anything: the oldest are forgotten, each endpoint its own', () => {
    const other = take(say(0, hello, { endpoint: 9 }));
    settle(other);
    const states = new Set<string>();
    for (let sport = 1; sport <= 10_000; sport++) {
      const content = take(say(0, hello, { sport }));
      states.add(content.reading.state);
      settle(content);
    }
    expect([...states]).toEqual(['read']);
    const again = { flags: AGAIN, start: START + hello.length };
    expect(take(say(0, hello, { ...again, sport: 10_000 })).reading.state).toBe('decided');
    expect(take(say(0, hello, { ...again, endpoint: 9 })).reading.state).toBe('decided');
    expect(take(say(0, hello, { ...again, sport: 1 })).reading.state).toBe('unreadable');
  });

  test('a client that says the same again waits for an answer: what it has said goes on', () => {
    const sent = new Sent();
    const first = take(say(0, hello.subarray(0, 1448)));
    first.wait(sent);
    expect(sent.packets).toEqual([]);
    take(say(0, hello.subarray(0, 1448))).wait(sent);
    expect(new Set(sent.packets.map(({ as }) => as))).toEqual(new Set(['passed']));
    expect(sent.bytes.subarray(0, 1448)).toEqual(hello.subarray(0, 1448));
    const last = take(say(1448, hello.subarray(1448)));
    expect(last.reading.state).toBe('read');
    expect(settle(last).bytes).toEqual(hello.subarray(1448));
  });

  test('no more than 64 packets are put together', () => {
    const states = Array.from({ length: 70 }, (_, i) => take(say(i, hello.subarray(i, i + 1))).reading.state);
    expect(states.slice(0, 64).every((state) => state === 'incomplete')).toBe(true);
    expect(states.slice(64).every((state) => state === 'unreadable')).toBe(true);
  });

  test('random packets of a hello, overlapping and in any order, come out as the first bytes that were said', () => {
    let state = 7;
    const below = (limit: number): number => (state = (state * 48_271) % 0x7fffffff) % limit;
    for (let round = 0; round < 300; round++) {
      const stream = clientHello({ serverName: 'api.example.com', padding: 500 });
      const sport = 1000 + round;
      let content: Content | undefined;
      for (let i = 0; i < 40 && content?.reading.state !== 'read'; i++) {
        const at = below(stream.length);
        const end = Math.min(stream.length, at + 1 + below(200));
        content = take(say(at, stream.subarray(at, end), { sport }));
      }
      if (content?.reading.state !== 'read') content = take(say(0, stream, { sport }));
      expect([content.reading.state, serverName(content)]).toEqual(['read', 'api.example.com']);
      for (const { packet } of settle(content).packets) expect(stream.subarray(packet.sequence - START).indexOf(packet.data)).toBe(0);
    }
  });

  test('a question keeps nothing of what the conversation before it said', () => {
    const memory = new SharedArrayBuffer(4096);
    const batch = new AskBatch(memory);
    const { record } = say(0, hello.subarray(0, 100));
    batch.bytes.writeUInt32LE(record.length, 0);
    record.copy(batch.bytes, 8);
    batch.index(1);
    const question = new Question();
    take(say(0, hello)).describe(question);
    Object.assign(question, { dnsName: 'a.test', dnsType: 28, dnsTtlS: 60, dnsAddresses: '192.0.2.1', path: '/x', headers: ['a', 'b'] });
    batch.ask(batch.at(0), question, 0, { identities: new Map(), pods: new Map(), services: new Map(), domain: () => '' });
    const { serverName, applicationProtocols, encryptedHello, dnsName, dnsType, dnsTtlS, dnsAddresses, path, headers } = question;
    expect([serverName, applicationProtocols, encryptedHello, dnsName, dnsType, dnsTtlS, dnsAddresses, path, headers]).toEqual([
      '',
      '',
      false,
      '',
      0,
      0,
      '',
      '',
      [],
    ]);
  });

  test('flags are the engine’s to set', () => {
    const packet = say(0, hello);
    packet.setFlag(AskFlag.DECIDED);
    expect(packet.record.readUInt8(askCodec.offsets.flags)).toBe(AskFlag.DECIDED);
  });
});

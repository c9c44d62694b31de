/** Names in the kernel: what a DNS message teaches, what it must not, and which packets an address passes for its names. */
import dnsPacket from 'dns-packet';
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest';
import { Abi, knownAddressCodec, knownKeyCodec, nameShareCodec, PolicyFlag, Reason } from '../../engine/abi.gen.ts';
import { formatAddress, parseAddress } from '../../engine/policy/address.ts';
import { compiled, snapshotOf } from '../support/compiled.ts';
import {
  type DnsMessage,
  type DnsRecord,
  datagram,
  encodeMessage,
  encodeName,
  type Name,
  QUESTION,
  RESPONSE,
  segment,
} from '../support/dns.ts';
import { frame, type IpFields, ipv4, ipv6, type Transport, tcp, udp } from '../support/packets.ts';

const RESOLVER = '10.0.0.53';
const POD = '10.0.0.1';
const REDIRECT = 7;
const ROUNDS = 1500;
/** The library's reading of names, which its types leave out. */
const { name: wireNames } = dnsPacket as unknown as { name: { decode: { (bytes: Buffer, at: number): string; bytes: number } } };
/** Why the kernel believes nothing of a message that a library reads: it takes no damage, wherever it is. */
const STRICTER: readonly number[] = [
  Reason.DNS_POINTER,
  Reason.DNS_DATA,
  Reason.DNS_LABEL,
  Reason.DNS_SHORT,
  Reason.DNS_NAME_LONG,
  Reason.DNS_UNSOLICITED,
];

const CLUSTER = `
apiVersion: v1
kind: Pod
metadata: { name: pod, namespace: default, labels: { app: pod }, annotations: { sluice.dev/interface: lo } }
spec: {}
status: { podIPs: [{ ip: ${POD} }, { ip: 'fd00::1' }] }
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: { name: forbidden }
spec:
  tier: Admin
  priority: 1
  subject: { namespaces: {} }
  egress:
  - { action: Deny, to: [{ networks: [203.0.113.0/28] }] }
  - action: Accept
    to: [{ domainNames: [api.example.com, '*.example.org', '*.cdn.test', '*.deep.cdn.test'] }]
    protocols: [{ tcp: { destinationPort: { number: 443 } } }, { udp: { destinationPort: { number: 443 } } }]
  - action: Accept
    to: [{ domainNames: ['*.deep.cdn.test'] }]
    protocols: [{ tcp: { destinationPort: { number: 80 } } }]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: closed, namespace: default }
spec: { podSelector: {}, policyTypes: [Ingress, Egress] }
`;

describe.skipIf(inject('missing'))('names in the kernel', async () => {
  const { ProgramRunner, PASS, DROP, IFINDEX } = await import('../support/program-runner.ts');
  const { kernelNowNs } = await import('../../engine/kernel/native.ts');
  let runner: Awaited<ReturnType<typeof ProgramRunner.load>>;
  const trusted = [RESOLVER, 'fd00::53'].map((text) => parseAddress(text) as Uint8Array);
  beforeAll(async () => {
    runner = await ProgramRunner.load();
    const compiler = compiled(snapshotOf(CLUSTER), new Map(), [], trusted);
    runner.load(compiler);
    runner.attach(compiler, 'default/pod');
  });
  afterAll(() => runner?.remove());
  beforeEach(() => {
    runner.forget();
    for (const map of ['known_addresses', 'queries', 'name_shares', 'dns_names'] as const)
      runner.datapath.maps[map].delete(runner.datapath.maps[map].dump().keys());
  });

  const wrap = (fields: IpFields, transport: Transport): Buffer =>
    frame(`${fields.from}${fields.to}`.includes(':') ? ipv6(fields, transport) : ipv4(fields, transport));
  /** The pod's query, and what becomes of it. */
  const ask = (
    message: DnsMessage,
    { to = RESOLVER, from = to.includes(':') ? 'fd00::1' : POD, sport = 40_000, carry = datagram } = {},
  ): { outcome: number; reasons: number[] } =>
    runner.run('from_pod', wrap({ from, to }, carry(encodeMessage(message), { sport, dport: 53 })));
  /** The answer to it. */
  const answer = (
    message: DnsMessage,
    { from = RESOLVER, to = from.includes(':') ? 'fd00::1' : POD, dport = 40_000, carry = datagram } = {},
  ): { outcome: number; reasons: number[] } =>
    runner.run('to_pod', wrap({ from, to }, carry(encodeMessage({ flags: RESPONSE, ...message }), { sport: 53, dport })));
  const a = (address: string, more: Partial<DnsRecord> = {}): DnsRecord => ({
    name: QUESTION,
    type: address.includes(':') ? 'AAAA' : 'A',
    data: address,
    ...more,
  });
  /** Asks, and gives the answer; returns what the answer was counted as. */
  const resolve = (message: DnsMessage): number[] => {
    ask({ ...message, answers: [], authorities: [], additionals: [] });
    return answer(message).reasons;
  };
  const reaches = (to: string, port = 443, protocol: typeof tcp | typeof udp = tcp): boolean => {
    runner.forget();
    return runner.run('from_pod', wrap({ from: to.includes(':') ? 'fd00::1' : POD, to }, protocol({ dport: port }))).outcome === PASS;
  };
  const known = (): { address: string; expiresInS: number }[] =>
    [...runner.datapath.maps.known_addresses.dump()].map(([key, value]) => ({
      address: Buffer.from(key, 'latin1').toString('hex', 12, 16),
      expiresInS: Math.max(
        ...knownAddressCodec.read(value, 0).patterns.map(({ expiresS }) => expiresS - Number(kernelNowNs() / 1_000_000_000n)),
      ),
    }));
  const learned = [Reason.PASS_NAME_ANSWER, Reason.DNS_LEARNED, Reason.DNS_ADDRESS];

  test('an address is closed before its name is resolved, and open when the pod has the answer', () => {
    expect(reaches('192.0.2.1')).toBe(false);
    expect(ask({ name: 'api.example.com' })).toEqual({ outcome: PASS, reasons: [Reason.PASS_NAME_QUERY, Reason.DNS_QUERY] });
    expect(reaches('192.0.2.1')).toBe(false);
    expect(answer({ name: 'api.example.com', answers: [a('192.0.2.1')] })).toEqual({ outcome: PASS, reasons: learned });
    expect([reaches('192.0.2.1'), reaches('192.0.2.1', 443, udp)]).toEqual([true, true]);
    expect([reaches('192.0.2.1', 80), reaches('192.0.2.2')]).toEqual([false, false]);
  });

  test('over IPv6, for addresses of both families', () => {
    ask({ name: 'api.example.com', type: 'AAAA' }, { to: 'fd00::53' });
    expect(answer({ name: 'api.example.com', answers: [a('2001:db8::1'), a('192.0.2.1')] }, { from: 'fd00::53' }).reasons).toEqual(learned);
    expect([reaches('2001:db8::1'), reaches('192.0.2.1'), reaches('2001:db8::2')]).toEqual([true, true, false]);
  });

  test('over TCP, where a message comes in one segment', () => {
    const carry = segment;
    expect(ask({ name: 'api.example.com' }, { carry })).toEqual({ outcome: PASS, reasons: [Reason.PASS_NAME_QUERY, Reason.DNS_QUERY] });
    expect(answer({ name: 'api.example.com', answers: [a('192.0.2.1')] }, { carry }).reasons).toEqual(learned);
    expect(reaches('192.0.2.1')).toBe(true);
    // A connection to the resolver opens; what is no whole query does not pass.
    expect(runner.run('from_pod', wrap({ from: POD, to: RESOLVER }, tcp({ dport: 53 }))).reasons).toEqual([Reason.PASS_NAME_QUERY]);
    const cut = segment(encodeMessage({ name: 'api.example.com' }), { length: 500 });
    expect(runner.run('from_pod', wrap({ from: POD, to: RESOLVER }, cut))).toEqual({
      outcome: DROP,
      reasons: [Reason.DROP_POLICY, Reason.DNS_SEGMENTED],
    });
  });

  test.each([
    { name: 'the name itself', question: 'api.example.com', open: true },
    { name: 'mixed case, as 0x20 clients write it', question: 'aPi.ExAmPlE.cOm', open: true },
    { name: 'a name below an exact one', question: 'v2.api.example.com', open: false },
    { name: 'a name that only ends like it', question: 'xapi.example.com', open: false },
    { name: 'one label in front of a wildcard', question: 'www.example.org', open: true },
    { name: 'three labels in front of a wildcard', question: 'a.b.c.example.org', open: true },
    { name: 'the wildcard’s own name', question: 'example.org', open: false },
    { name: 'a name that ends like a wildcard’s', question: 'badexample.org', open: false },
    { name: 'another top', question: 'www.example.org.evil.test', open: false },
    { name: 'the root', question: '', open: false },
  ])('$name: $open', ({ question, open }) => {
    const asked = ask({ name: question });
    expect(asked.outcome).toBe(open ? PASS : REDIRECT);
    expect(asked.reasons).toEqual([open ? Reason.PASS_NAME_QUERY : Reason.DROP_NAME, Reason.DNS_QUERY]);
    answer({ name: question, answers: [a('192.0.2.1')] });
    expect(reaches('192.0.2.1')).toBe(open);
  });

  test('the closest pattern decides: its ports, and those of wider ones', () => {
    resolve({ name: 'www.cdn.test', answers: [a('192.0.2.1')] });
    resolve({ name: 'www.deep.cdn.test', answers: [a('192.0.2.2')] });
    expect([reaches('192.0.2.1'), reaches('192.0.2.1', 80)]).toEqual([true, false]);
    expect([reaches('192.0.2.2'), reaches('192.0.2.2', 80)]).toEqual([true, true]);
  });

  test('an address with two names passes for either', () => {
    resolve({ name: 'www.cdn.test', answers: [a('192.0.2.1')] });
    expect(reaches('192.0.2.1', 80)).toBe(false);
    resolve({ name: 'www.deep.cdn.test', answers: [a('192.0.2.1')] });
    expect([reaches('192.0.2.1'), reaches('192.0.2.1', 80)]).toEqual([true, true]);
    expect(known()).toHaveLength(1);
  });

  test('a rule that comes first denies the address, whatever its name', () => {
    resolve({ name: 'api.example.com', answers: [a('203.0.113.1'), a('203.0.113.17')] });
    expect([reaches('203.0.113.1'), reaches('203.0.113.17')]).toEqual([false, true]);
  });

  test('follows a chain of names, in any order, compressed or not', () => {
    const chain = ['api.example.com', 'edge.test', 'one.two.edge.test'];
    const records: DnsRecord[] = [
      { name: chain[0] as string, type: 'CNAME', data: chain[1] as string },
      { name: chain[1] as string, type: 'CNAME', data: chain[2] as string },
      { name: (chain[2] as string).toUpperCase(), data: '192.0.2.1' },
    ];
    for (const answers of [records, [...records].reverse()]) {
      runner.datapath.maps.known_addresses.delete(runner.datapath.maps.known_addresses.dump().keys());
      expect(resolve({ name: 'api.example.com', answers })).toContain(Reason.DNS_LEARNED);
      expect(reaches('192.0.2.1')).toBe(true);
    }
    const target = 12 + encodeName('api.example.com').length + 4 + 2 + 10;
    const compressed: DnsRecord[] = [
      { name: QUESTION, type: 'CNAME', data: 'edge.test' },
      { name: { at: target }, data: '192.0.2.3' },
    ];
    resolve({ name: 'api.example.com', answers: compressed });
    expect(reaches('192.0.2.3')).toBe(true);
  });

  test('a chain that ends in a name of the policy opens its addresses, whatever was asked', () => {
    ask({ name: 'www.example.org' });
    answer({
      name: 'www.example.org',
      answers: [
        { name: QUESTION, type: 'CNAME', data: 'x.deep.cdn.test' },
        { name: 'x.deep.cdn.test', data: '192.0.2.1' },
      ],
    });
    expect([reaches('192.0.2.1'), reaches('192.0.2.1', 80)]).toEqual([true, true]);
  });

  test('learns 64 addresses from one message, and nothing from 65', () => {
    const addresses = (count: number): DnsRecord[] => Array.from({ length: count }, (_, i) => a(`192.0.2.${i + 1}`));
    expect(resolve({ name: 'api.example.com', answers: addresses(65) })).toEqual([Reason.PASS_NAME_ANSWER, Reason.DNS_RECORDS]);
    expect(known()).toEqual([]);
    expect(resolve({ name: 'api.example.com', answers: addresses(64) })).toContain(Reason.DNS_LEARNED);
    expect(known()).toHaveLength(64);
  });

  test('an address is known for its TTL, but for half a minute at least and a week at most', () => {
    const ttls = [1, 300, 0x7fffffff, 0xffffffff];
    resolve({ name: 'api.example.com', answers: ttls.map((ttl, i) => a(`192.0.2.${i + 1}`, { ttl })) });
    const sorted = known().sort((x, y) => (x.address < y.address ? -1 : 1));
    sorted.forEach(({ expiresInS }, i) => {
      const want = [30, 300, 604_800, 30][i] as number;
      expect(expiresInS).toBeGreaterThanOrEqual(want);
      expect(expiresInS).toBeLessThanOrEqual(want + 1);
    });
  });

  /** Makes everything that is known end that many seconds from now. */
  function expireIn(seconds: number): void {
    const { known_addresses: map } = runner.datapath.maps;
    const now = Number(kernelNowNs() / 1_000_000_000n);
    for (const [key, value] of map.dump()) {
      const { name, patterns } = knownAddressCodec.read(value, 0);
      const changed = Buffer.alloc(knownAddressCodec.size);
      knownAddressCodec.write(changed, 0, {
        name,
        patterns: patterns.map((each) => (each.pattern ? { ...each, expiresS: Math.max(1, now + seconds) } : each)),
      });
      map.update(new Map([[key, changed]]));
    }
  }

  test('an address closes when its time is over, stays open to the connection that uses it, and opens again', () => {
    resolve({ name: 'api.example.com', answers: [a('192.0.2.1')] });
    const syn = wrap({ from: POD, to: '192.0.2.1' }, tcp({ dport: 443 }));
    const data = wrap({ from: POD, to: '192.0.2.1' }, tcp({ dport: 443, flags: 'A' }));
    runner.run('from_pod', syn);
    expireIn(-1);
    runner.setPolicy({ revision: 2 });
    expect(runner.run('from_pod', data).outcome).toBe(PASS);
    expect(runner.run('from_pod', syn).outcome).toBe(DROP);
    expect(reaches('192.0.2.1')).toBe(false);
    for (const stale of [-1, -100]) {
      expireIn(stale);
      expect(resolve({ name: 'api.example.com', answers: [a('192.0.2.1')] })).toContain(Reason.DNS_LEARNED);
      expect(reaches('192.0.2.1')).toBe(true);
    }
    expect(known()).toHaveLength(1);
  });

  test('what is over is taken away, but not what a connection uses, and makes room for more', async () => {
    const { KnownNames } = await import('../../engine/kernel/known-names.ts');
    const { createLogger } = await import('../../engine/log.ts');
    const names = new KnownNames(runner.datapath, createLogger('silent'));
    const share = (): number => nameShareCodec.read([...runner.datapath.maps.name_shares.dump().values()][0] as Buffer, 0).addresses;
    resolve({ name: 'api.example.com', answers: ['192.0.2.1', '192.0.2.2', '192.0.2.3', '192.0.2.4'].map((address) => a(address)) });
    runner.run('from_pod', wrap({ from: POD, to: '192.0.2.1' }, tcp({ dport: 443 })));
    runner.run('to_pod', wrap({ from: '192.0.2.1', to: POD }, tcp({ sport: 443, dport: 40_000, flags: 'SA' })));
    expect([names.collect(), share()]).toEqual([0, 4]);
    expireIn(-4);
    // Younger than the time in which programs may refresh them.
    expect([names.collect(), names.collect(10)]).toEqual([0, 0]);
    resolve({ name: 'api.example.com', answers: [a('192.0.2.2')] });
    expect([names.collect(2), share(), names.pressure.entries]).toEqual([2, 2, 2]);
    expect(
      known()
        .map(({ address }) => address)
        .sort(),
    ).toEqual(['c0000201', 'c0000202']);
    expect(names.list().map(({ patterns }) => patterns.map(({ expiresInS }) => expiresInS > 0))).toContainEqual([false]);
    runner.forget();
    expect(names.collect(2)).toBe(1);
    // Knows one address: it stays, however long ago it asked. Without any, it leaves.
    const { name_shares: shares, known_addresses } = runner.datapath.maps;
    const idle = (): void =>
      shares.update(
        new Map(
          [...shares.dump()].map(([key, value]) => {
            nameShareCodec.write(value, 0, { ...nameShareCodec.read(value, 0), windowNs: 1n });
            return [key, value];
          }),
        ),
      );
    idle();
    names.collect();
    expect(shares.dump().size).toBe(1);
    const entries = known_addresses.dump();
    known_addresses.delete(entries.keys());
    names.collect();
    expect(shares.dump().size).toBe(0);
    known_addresses.update(entries);
    expect([reaches('192.0.2.2'), reaches('192.0.2.1')]).toEqual([true, false]);
  });

  test('what an endpoint knew goes with it', async () => {
    const { KnownNames } = await import('../../engine/kernel/known-names.ts');
    const { createLogger } = await import('../../engine/log.ts');
    const names = new KnownNames(runner.datapath, createLogger('silent'));
    resolve({ name: 'api.example.com', answers: [a('192.0.2.1')] });
    const entries = runner.datapath.maps.endpoints.dump();
    runner.datapath.maps.endpoints.delete(entries.keys());
    expect(names.collect()).toBe(1);
    runner.datapath.maps.endpoints.update(entries);
    expect([known(), reaches('192.0.2.1')]).toEqual([[], false]);
  });

  describe('teaches nothing', () => {
    const name = 'api.example.com';
    const good: DnsMessage = { name, answers: [a('192.0.2.1')] };
    const loop = Buffer.concat([Buffer.from([1, 97]), encodeName({ at: 33 })]);
    test.each<{ name: string; message: DnsMessage; reason: number }>([
      { name: 'another id', message: { ...good, id: 8 }, reason: Reason.DNS_UNSOLICITED },
      { name: 'another name', message: { ...good, name: 'www.example.org' }, reason: Reason.DNS_MISMATCH },
      { name: 'an error', message: { ...good, flags: RESPONSE | 3 }, reason: Reason.DNS_NEGATIVE },
      { name: 'no address', message: { name }, reason: Reason.DNS_NEGATIVE },
      { name: 'a truncated answer', message: { ...good, flags: RESPONSE | 0x200 }, reason: Reason.DNS_TRUNCATED },
      { name: 'a query in place of an answer', message: { ...good, flags: 0x0100 }, reason: Reason.DNS_HEADER },
      { name: 'another operation', message: { ...good, flags: RESPONSE | 0x2800 }, reason: Reason.DNS_HEADER },
      { name: 'two questions', message: { ...good, questions: 2 }, reason: Reason.DNS_HEADER },
      { name: 'fewer records than it says', message: { ...good, count: 2 }, reason: Reason.DNS_SHORT },
      {
        name: 'an address of five bytes',
        message: { name, answers: [a('', { type: 'A', data: Buffer.alloc(5) })] },
        reason: Reason.DNS_DATA,
      },
      {
        name: 'an AAAA record of four',
        message: { name, answers: [a('', { type: 'AAAA', data: Buffer.alloc(4) })] },
        reason: Reason.DNS_DATA,
      },
      { name: 'data beyond the end', message: { name, answers: [a('192.0.2.1', { length: 400 })] }, reason: Reason.DNS_SHORT },
      {
        name: 'a record of another name',
        message: { name, answers: [a('192.0.2.1', { name: 'www.evil.test' })] },
        reason: Reason.DNS_NEGATIVE,
      },
      { name: 'a record of another class', message: { name, answers: [a('192.0.2.1', { class: 3 })] }, reason: Reason.DNS_NEGATIVE },
      { name: 'an address in the authorities', message: { name, authorities: [a('192.0.2.1')] }, reason: Reason.DNS_NEGATIVE },
      { name: 'an address in the additionals', message: { name, additionals: [a('192.0.2.1')] }, reason: Reason.DNS_NEGATIVE },
      { name: 'a pointer to itself', message: { name, answers: [a('192.0.2.1', { name: { at: 33 } })] }, reason: Reason.DNS_POINTER },
      { name: 'a pointer ahead', message: { name, answers: [a('192.0.2.1', { name: { at: 60 } })] }, reason: Reason.DNS_POINTER },
      { name: 'a pointer into the header', message: { name, answers: [a('192.0.2.1', { name: { at: 4 } })] }, reason: Reason.DNS_POINTER },
      {
        name: 'a name that leads back into itself',
        message: { name, answers: [a('192.0.2.1', { name: loop })] },
        reason: Reason.DNS_POINTER,
      },
      {
        name: 'a label of a reserved type',
        message: { name, answers: [a('192.0.2.1', { name: Buffer.from([0x41, 0x61, 0]) })] },
        reason: Reason.DNS_LABEL,
      },
      {
        name: 'a name of 256 bytes',
        message: {
          name,
          answers: [
            a('192.0.2.1', {
              name: Buffer.concat([...Array(4).fill(encodeName('a'.repeat(62)).subarray(0, 63)), Buffer.from([2, 97, 97, 0])]),
            }),
          ],
        },
        reason: Reason.DNS_NAME_LONG,
      },
      {
        name: 'a name of 128 labels',
        message: { name, answers: [a('192.0.2.1', { name: `${'a.'.repeat(127)}a` })] },
        reason: Reason.DNS_NAME_LONG,
      },
    ])('$name', ({ message, reason }) => {
      ask({ name });
      expect(answer(message).reasons).toContain(reason);
      expect(known()).toEqual([]);
      // A forged answer does not use the query up.
      if (reason === Reason.DNS_UNSOLICITED || reason === Reason.DNS_MISMATCH || reason === Reason.DNS_HEADER)
        expect(answer(good).reasons).toEqual(learned);
    });

    test('a good record before a bad one', () => {
      expect(resolve({ name, answers: [a('192.0.2.1'), a('192.0.2.2', { length: 400 })] })).toContain(Reason.DNS_SHORT);
      expect(known()).toEqual([]);
    });

    test('a resolver that is not trusted, a port that did not ask, a pod that did not', () => {
      ask({ name });
      expect(answer(good, { from: '10.0.0.54' }).reasons).toContain(Reason.DNS_UNTRUSTED);
      expect(answer(good, { dport: 40_001 }).reasons).toEqual([Reason.DROP_POLICY, Reason.DNS_UNSOLICITED]);
      expect(known()).toEqual([]);
    });

    test('an answer that comes for a second time, unless the query was sent twice', () => {
      ask({ name });
      expect(answer(good).reasons).toEqual(learned);
      expect(answer(good).reasons).toContain(Reason.DNS_UNSOLICITED);
      ask({ name });
      ask({ name });
      for (const address of ['192.0.2.2', '192.0.2.3'])
        expect(answer({ name, answers: [a(address)] }).reasons).toContain(Reason.DNS_LEARNED);
      expect(reaches('192.0.2.3')).toBe(true);
    });

    test('a first fragment', () => {
      ask({ name });
      const bytes = datagram(encodeMessage({ ...good, flags: RESPONSE }), { sport: 53, dport: 40_000 });
      bytes.bytes.writeUInt16BE(bytes.bytes.length + 800, 4);
      expect(runner.run('to_pod', frame(ipv4({ from: RESOLVER, to: POD, moreFragments: true }, bytes))).reasons).toContain(
        Reason.DNS_SHORT,
      );
      expect(known()).toEqual([]);
    });
  });

  test('names of the greatest length match: 255 bytes, and 127 labels', () => {
    const longest = `${'a'.repeat(63)}.${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(49)}.example.org`;
    const deepest = `${'a.'.repeat(121)}example.org`;
    expect([encodeName(longest).length, encodeName(deepest).length]).toEqual([255, 255]);
    resolve({ name: longest, answers: [a('192.0.2.1')] });
    resolve({ name: deepest, answers: [a('192.0.2.2')] });
    expect([reaches('192.0.2.1'), reaches('192.0.2.2')]).toEqual([true, true]);
  });

  test('an endpoint has its share of known addresses, and of queries without an answer', () => {
    runner.setPolicy({ addressesShare: 3 });
    const answers = Array.from({ length: 5 }, (_, i) => a(`192.0.2.${i + 1}`));
    expect(resolve({ name: 'api.example.com', answers })).toContain(Reason.DNS_ADDRESS_SHARE);
    expect(known()).toHaveLength(3);
    ask({ name: 'api.example.com', id: 1 });
    const [key, value] = [...runner.datapath.maps.name_shares.dump()][0] as [string, Buffer];
    nameShareCodec.write(value, 0, { ...nameShareCodec.read(value, 0), queries: 4096 });
    runner.datapath.maps.name_shares.update(new Map([[key, value]]));
    expect(ask({ name: 'api.example.com', id: 5000 })).toEqual({ outcome: DROP, reasons: [Reason.DNS_QUERY_SHARE] });
    answer({ name: 'api.example.com', id: 1, answers: [a('192.0.2.1')] });
    expect(ask({ name: 'api.example.com', id: 5000 }).outcome).toBe(PASS);
  });

  test('beyond four patterns an address is not learned for more', () => {
    // Patterns that are known and in use, of which this policy has no rule.
    resolve({ name: 'www.example.org', answers: [a('192.0.2.1')] });
    const [key, value] = [...runner.datapath.maps.known_addresses.dump()][0] as [string, Buffer];
    const entry = knownAddressCodec.read(value, 0);
    const full = Buffer.alloc(knownAddressCodec.size);
    const expiresS = (entry.patterns[0]?.expiresS ?? 0) + 1000;
    knownAddressCodec.write(full, 0, {
      ...entry,
      patterns: Array.from({ length: Abi.ADDRESS_PATTERNS }, (_, i) => ({ pattern: 1000 + i, expiresS })),
    });
    runner.datapath.maps.known_addresses.update(new Map([[key, full]]));
    expect(resolve({ name: 'api.example.com', answers: [a('192.0.2.1')] })).toContain(Reason.DNS_PATTERNS);
    expect(Buffer.from(key, 'latin1').readUInt32LE(knownKeyCodec.offsets.endpoint)).toBe(IFINDEX);
  });

  test('an answer that came through makes no way for other queries from its port, nor for any to a resolver that is trusted no more', () => {
    // Nothing isolates what the pod receives: the answer is no flow that the resolver opened all the same.
    const compiler = compiled(snapshotOf(CLUSTER.replace('[Ingress, Egress]', '[Egress]')), new Map(), [], trusted);
    runner.load(compiler);
    runner.attach(compiler, 'default/pod');
    ask({ name: 'api.example.com' });
    expect(answer({ name: 'api.example.com', answers: [a('192.0.2.1')] }).reasons).toContain(Reason.PASS_NOT_ISOLATED);
    expect(ask({ name: 'elsewhere.test', id: 8 }).outcome).toBe(REDIRECT);
    expect(ask({ name: Buffer.from([0x41, 0]), id: 9 })).toEqual({ outcome: DROP, reasons: [Reason.DROP_POLICY, Reason.DNS_LABEL] });
    const { resolvers } = runner.datapath.maps;
    resolvers.delete(resolvers.dump().keys());
    expect(ask({ name: 'api.example.com', id: 10 })).toEqual({ outcome: DROP, reasons: [Reason.DROP_POLICY] });
  });

  test('refuses what is outside also where another rule allows the resolver, if that is wanted', () => {
    const cluster = `${CLUSTER.replace('egress:\n', 'egress:\n  - { action: Accept, to: [{ networks: [10.0.0.0/8] }] }\n')}`;
    const compiler = compiled(snapshotOf(cluster), new Map(), [], trusted);
    runner.load(compiler);
    runner.attach(compiler, 'default/pod');
    expect(ask({ name: 'elsewhere.test' }).outcome).toBe(PASS);
    runner.setPolicy({ flags: PolicyFlag.REFUSE_OUTSIDE });
    expect(ask({ name: 'elsewhere.test' })).toEqual({ outcome: REDIRECT, reasons: [Reason.DROP_NAME, Reason.DNS_QUERY] });
    expect(ask({ name: 'api.example.com', id: 9 }).outcome).toBe(PASS);
    const unreadable = { name: Buffer.from([0x41, 0]), id: 10 };
    expect(ask(unreadable)).toEqual({ outcome: DROP, reasons: [Reason.DROP_NAME, Reason.DNS_LABEL] });
    runner.setPolicy({});
    expect(ask(unreadable).outcome).toBe(PASS);
  });

  /** The addresses at the end of the chain that begins with the question; names are read by a library. @throws where damaged */
  function reference(bytes: Buffer, question: string): string[] {
    const records: { owner: string; type: number; kind: number; at: number; length: number }[] = [];
    let at = 12 + encodeName(question).length + 4;
    for (let i = bytes.readUInt16BE(6); i > 0; i--) {
      const owner = wireNames.decode(bytes, at).toLowerCase();
      at += wireNames.decode.bytes;
      const [type, kind, length] = [bytes.readUInt16BE(at), bytes.readUInt16BE(at + 2), bytes.readUInt16BE(at + 8)];
      records.push({ owner, type, kind, at: at + 10, length });
      at += 10 + length;
      if (at > bytes.length) throw new RangeError('cut short');
    }
    const chain = new Set([question]);
    const inChain = (type: number) => records.filter((record) => record.type === type && record.kind === 1 && chain.has(record.owner));
    for (let before = 0; before < chain.size; ) {
      before = chain.size;
      for (const record of inChain(5)) chain.add(wireNames.decode(bytes, record.at).toLowerCase());
    }
    const addresses = [
      ...inChain(1).map((record) => ({ ...record, want: 4 })),
      ...inChain(28).map((record) => ({ ...record, want: 16 })),
    ].map(({ at: from, length, want }) => {
      if (length !== want) throw new RangeError('no address');
      const mapped =
        want === 4
          ? Buffer.concat([Buffer.alloc(10), Buffer.from([255, 255]), bytes.subarray(from, from + 4)])
          : bytes.subarray(from, from + 16);
      return formatAddress(mapped);
    });
    return [...new Set(addresses)].sort();
  }

  test('reads random answers, whole and damaged, as a DNS library does', () => {
    let state = 20_261_125;
    const below = (limit: number): number => (state = (state * 48_271) % 0x7fffffff) % limit;
    const pick = <T>(items: readonly T[]): T => items[below(items.length)] as T;
    const names = ['api.example.com', 'edge.test', 'API.example.com', 'www.cdn.test', 'x.example.org', 'nobody.test'];
    const first = 12 + encodeName('api.example.com').length + 4;
    const outcomes = { learned: 0, nothing: 0, refused: 0 };
    for (let round = 0; round < ROUNDS; round++) {
      const answers = Array.from({ length: below(6) }, (): DnsRecord => {
        const name = pick<Name>([QUESTION, QUESTION, pick(names), { at: first + 12 }, { at: below(120) }]);
        const type = pick(['A', 'A', 'AAAA', 'CNAME', 'TXT'] as const);
        if (type === 'CNAME') return { name, type, data: pick<string | { at: number }>([pick(names), pick(names), { at: 12 }]) };
        if (type === 'TXT') return { name, type, data: Buffer.from([1, 97]) };
        return { name, type, data: type === 'A' ? `192.0.2.${below(250)}` : `2001:db8::${below(99)}`, class: below(20) ? 1 : 3 };
      });
      const bytes = encodeMessage({ name: 'api.example.com', flags: RESPONSE, answers });
      for (let damage = below(2) ? below(4) : 0; damage > 0; damage--) bytes[first + below(Math.max(1, bytes.length - first))] = below(256);
      const sent = below(10) ? bytes : bytes.subarray(0, below(bytes.length + 1));
      runner.datapath.maps.known_addresses.delete(runner.datapath.maps.known_addresses.dump().keys());
      ask({ name: 'api.example.com', id: 7 });
      const { reasons } = runner.run('to_pod', wrap({ from: RESOLVER, to: POD }, datagram(sent, { sport: 53, dport: 40_000 })));
      const got = [...runner.datapath.maps.known_addresses.dump().keys()]
        .map((key) => formatAddress(Buffer.from(key, 'latin1').subarray(0, 16)))
        .sort();
      let want: string[] | undefined;
      try {
        if (!(sent.readUInt16BE(2) & 0x020f)) want = reference(Buffer.from(sent), 'api.example.com');
      } catch {
        want = undefined;
      }
      const where = `round ${round}: ${sent.toString('hex')} ${reasons.join()}`;
      if (want === undefined) expect(got, where).toEqual([]);
      else if (got.length) expect(got, where).toEqual(want);
      outcomes[got.length ? 'learned' : want === undefined ? 'refused' : 'nothing'] += 1;
      // An answer that the library takes and the kernel does not is refused for a reason of its own.
      if (want?.length && !got.length)
        expect(
          STRICTER.some((reason) => reasons.includes(reason)),
          where,
        ).toBe(true);
    }
    expect(outcomes.learned).toBeGreaterThan(ROUNDS / 10);
    expect(outcomes.refused).toBeGreaterThan(ROUNDS / 50);
  });
});

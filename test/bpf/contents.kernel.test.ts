/** Packets that are decided by what they say: what passes unread, what is asked about, and what the engine's decision changes. */
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest';
import { ConnectionFlag, connectionCodec, Mark, Reason, Verdict } from '../../engine/abi.gen.ts';
import { parseAddress } from '../../engine/policy/address.ts';
import { compiled, snapshotOf } from '../support/compiled.ts';
import { type DnsMessage, datagram, encodeMessage, QUESTION, RESPONSE, segment } from '../support/dns.ts';
import { frame, ipv4, type Transport, tcp, udp } from '../support/packets.ts';

const POD = '10.0.0.1';
const SERVER = '192.0.2.1';
const RESOLVER = '10.0.0.53';
const PLUGIN = 7;

const POD_MANIFEST = `
apiVersion: v1
kind: Pod
metadata: { name: pod, namespace: default, labels: { app: pod }, annotations: { sluice.dev/interface: lo } }
spec: {}
status: { podIPs: [{ ip: ${POD} }] }
---
`;
const tagged = (rule: string, direction = 'egress'): string => `${POD_MANIFEST}
apiVersion: sluice.dev/v1alpha1
kind: PluginPolicy
metadata: { name: tag }
spec: { ${direction}: [{ ${rule} }] }
`;
const NAMES = `---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: { name: names }
spec:
  tier: Admin
  priority: 1
  subject: { namespaces: {} }
  egress:
  - { action: Accept, to: [{ domainNames: [api.example.com] }], protocols: [{ tcp: { destinationPort: { number: 80 } } }] }
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: closed, namespace: default }
spec: { podSelector: {}, policyTypes: [Egress] }
`;

/** Whether flags of a connection are a state that bpf/abi.h draws. */
function isDrawn(flags: number): boolean {
  const has = (flag: ConnectionFlag): boolean => (flags & flag) !== 0;
  const { UNREAD, READ, BEGUN, DECIDED, PICKED_UP } = ConnectionFlag;
  if (has(READ)) return !has(UNREAD) && !has(BEGUN) && !has(DECIDED);
  if (!has(UNREAD)) return !has(BEGUN) && !has(DECIDED);
  return !has(DECIDED) || has(BEGUN) || has(PICKED_UP);
}

describe.skipIf(inject('missing'))('what packets say', async () => {
  const { ProgramRunner, PASS, DROP, REDIRECT, IFINDEX } = await import('../support/program-runner.ts');
  let runner: Awaited<ReturnType<typeof ProgramRunner.load>>;
  beforeAll(async () => {
    runner = await ProgramRunner.load();
  });
  afterAll(() => runner?.remove());
  const load = (manifest: string): void => {
    const trusted = [parseAddress(RESOLVER) as Uint8Array];
    const compiler = compiled(snapshotOf(manifest), new Map([['reader', PLUGIN]]), [], trusted);
    runner.load(compiler);
    runner.attach(compiler, 'default/pod');
  };
  const out = (transport: Transport, mark = 0): { outcome: number; reasons: number[] } =>
    runner.run('from_pod', frame(ipv4({ from: POD, to: SERVER }, transport)), mark);
  const back = (transport: Transport): { outcome: number; reasons: number[] } =>
    runner.run('to_pod', frame(ipv4({ from: SERVER, to: POD }, transport)));
  const passes = (reason: number): object => ({ outcome: PASS, reasons: [reason] });
  const asked = { outcome: DROP, reasons: [Reason.DROP_FAILURE_POLICY, Reason.FAIL_ENGINE_ABSENT] };

  describe('the mark of a packet that the engine sends on', () => {
    const query = frame(
      ipv4({ from: POD, to: RESOLVER }, datagram(encodeMessage({ name: 'api.example.com' }), { sport: 40_000, dport: 53 })),
    );
    const hello = (from: string, to: string): Buffer =>
      frame(ipv4({ from, to }, tcp({ dport: 443, flags: 'PA', seq: 1001, ack: 9001, payload: 100 })));
    const malformed = frame(ipv4({ from: POD, to: SERVER }, { protocol: 6, bytes: Buffer.alloc(3) }));
    const opened = (): void => {
      out(tcp({ dport: 443, flags: 'S', seq: 1000 }));
      back(tcp({ sport: 443, dport: 40_000, flags: 'SA', seq: 9000, ack: 1001 }));
    };
    beforeEach(() => {
      runner.plugin(PLUGIN, Verdict.DENY);
      load(POD_MANIFEST.replace(/---\n$/, ''));
      runner.forget();
    });

    test.each([
      { name: 'that policy allows by now', program: 'from_pod', bytes: hello(POD, SERVER) },
      { name: 'that goes to a pod, and that policy allows by now', program: 'to_pod', bytes: hello(SERVER, POD) },
      { name: 'of a connection that is known by now', program: 'from_pod', bytes: hello(POD, SERVER), before: opened },
      { name: 'with a DNS message that nobody reads any more', program: 'from_pod', bytes: query },
      { name: 'that nobody can read', program: 'from_pod', bytes: malformed },
      { name: 'that is no IP', program: 'to_pod', bytes: Buffer.alloc(64) },
    ] as const)('is off one $name: it is no decision at the next endpoint', ({ program, bytes, ...rest }) => {
      for (const decided of [Mark.DECIDED, Mark.PASSED]) {
        if ('before' in rest) rest.before();
        expect(runner.mark(program, bytes, runner.token + decided)).toEqual({ outcome: PASS, mark: 0 });
      }
    });

    test('is off one that policy denies by now, and off one that is asked about', () => {
      load(POD_MANIFEST + NAMES.replace(/^---\n/, ''));
      expect(runner.mark('from_pod', hello(POD, SERVER), runner.token)).toEqual({ outcome: DROP, mark: 0 });
      load(tagged('ask: { plugin: reader, context: connect }'));
      expect(runner.mark('from_pod', hello(POD, SERVER), runner.token)).toEqual({ outcome: DROP, mark: 0 });
    });

    test('is no mark of somebody else’s, which stays', () => {
      for (const mark of [1, 0x4000, 0xffffffff])
        expect(runner.mark('from_pod', hello(POD, SERVER), mark)).toEqual({ outcome: PASS, mark });
    });

    test('is of no use to one that was held for an endpoint that is gone: it does not come again', () => {
      expect(runner.mark('release', hello(POD, SERVER), IFINDEX)).toEqual({ outcome: REDIRECT, mark: 0 });
      runner.datapath.maps.endpoints.delete(runner.datapath.maps.endpoints.dump().keys());
      expect(runner.mark('release', hello(POD, SERVER), IFINDEX)).toMatchObject({ outcome: DROP });
    });
  });

  describe('the hello of a connection', () => {
    beforeEach(() => {
      runner.plugin(PLUGIN, Verdict.DENY);
      load(tagged('ask: { plugin: reader, context: tls }'));
      runner.forget();
      runner.setPolicy({ revision: 1, hashSeed: 77 });
    });
    const say = (from: number, payload: number, mark = 0, dport = 443, flags = 'PA'): { outcome: number; reasons: number[] } =>
      out(tcp({ dport, flags, seq: from, payload, ack: 9001 }), mark);
    /** Opens a connection whose first word is 1001. */
    const open = (dport = 443): void => {
      expect(out(tcp({ dport, flags: 'S', seq: 1000 }))).toEqual(passes(Reason.PASS_POLICY));
      expect(back(tcp({ sport: dport, dport: 40_000, flags: 'SA', seq: 9000, ack: 1001 }))).toEqual(passes(Reason.PASS_REPLY));
    };
    const flagsOf = (): number => connectionCodec.read([...runner.datapath.maps.connections.dump().values()][0] as Buffer, 0).flags;

    test('the connection opens, answers and bare acknowledgements pass, words are asked about', () => {
      open();
      expect(out(tcp({ dport: 443, flags: 'A', seq: 1001, ack: 9001 }))).toEqual(passes(Reason.PASS_ESTABLISHED));
      expect(say(1001, 100)).toEqual(asked);
      expect(say(1001, 1)).toEqual(asked);
      expect(out(tcp({ dport: 443, flags: 'FA', seq: 1001, ack: 9001 }))).toEqual(passes(Reason.PASS_ESTABLISHED));
    });

    test('what the engine sends on passes, and with it what comes behind, but nothing in its place until the server has it', () => {
      open();
      expect(say(1001, 100)).toEqual(asked);
      expect(say(1001, 100, runner.token)).toEqual(passes(Reason.PASS_VERDICT));
      expect(flagsOf() & ConnectionFlag.DECIDED).toBeTruthy();
      expect(say(1101, 50)).toEqual(passes(Reason.PASS_ESTABLISHED));
      // Another hello in the same place, over all of it, its end, or from before it.
      for (const [from, length] of [
        [1001, 100],
        [1001, 500],
        [1100, 1],
        [900, 300],
      ] as const)
        expect(say(from, length)).toEqual(asked);
      expect(back(tcp({ sport: 443, dport: 40_000, flags: 'A', seq: 9001, ack: 1100 }))).toEqual(passes(Reason.PASS_REPLY));
      expect(say(1001, 100)).toEqual(asked);
      expect(back(tcp({ sport: 443, dport: 40_000, flags: 'A', seq: 9001, ack: 1101 }))).toEqual(passes(Reason.PASS_REPLY));
      expect(flagsOf() & (ConnectionFlag.READ | ConnectionFlag.UNREAD | ConnectionFlag.DECIDED)).toBe(ConnectionFlag.READ);
      expect(say(1001, 100)).toEqual(passes(Reason.PASS_ESTABLISHED));
    });

    test('an acknowledgement before anything was decided opens nothing', () => {
      open();
      back(tcp({ sport: 443, dport: 40_000, flags: 'A', seq: 9001, ack: 5000 }));
      expect(say(1001, 100)).toEqual(asked);
    });

    test('a packet that passes by itself decides nothing', () => {
      open();
      expect(say(1001, 100, runner.token + 1)).toEqual(passes(Reason.PASS_VERDICT));
      expect(say(1001, 100)).toEqual(asked);
      expect(say(1101, 100)).toEqual(asked);
    });

    test('a mark that the engine did not make is no decision', () => {
      open();
      for (const mark of [1, runner.token - 1, runner.token + Mark.MAX, 0xffffffff]) expect(say(1001, 100, mark)).toEqual(asked);
    });

    test('a SYN on top of a connection, which its server does not answer, tells of no stream', () => {
      open();
      // The server answers with what it has heard: not this.
      expect(out(tcp({ dport: 443, flags: 'S', seq: 500 }))).toEqual(passes(Reason.PASS_POLICY));
      back(tcp({ sport: 443, dport: 40_000, flags: 'A', seq: 9001, ack: 1001 }));
      back(tcp({ sport: 443, dport: 40_000, flags: 'SA', seq: 9001, ack: 1001 }));
      for (const mark of [0, runner.token]) expect(say(501, 100, mark)).toEqual({ outcome: DROP, reasons: [Reason.DROP_EARLY_DATA] });
      back(tcp({ sport: 443, dport: 40_000, flags: 'A', seq: 9001, ack: 1001 }));
      expect(say(1001, 100)).toEqual({ outcome: DROP, reasons: [Reason.DROP_EARLY_DATA] });
    });

    test('fragments, and urgent bytes, which a server leaves out of the stream, do not pass', () => {
      open();
      const hello = tcp({ dport: 443, flags: 'PA', seq: 1001, ack: 9001, payload: 64 });
      const first = frame(ipv4({ from: POD, to: SERVER, moreFragments: true }, hello));
      expect(runner.run('from_pod', first)).toEqual({ outcome: DROP, reasons: [Reason.DROP_UNREADABLE] });
      const rest = frame(ipv4({ from: POD, to: SERVER, fragmentOffset: 88 }, { protocol: 6, bytes: Buffer.alloc(64) }));
      expect(runner.run('from_pod', rest)).toEqual({ outcome: DROP, reasons: [Reason.DROP_FRAGMENT] });
      expect(say(1001, 64, runner.token, 443, 'UPA')).toEqual({ outcome: DROP, reasons: [Reason.DROP_UNREADABLE] });
    });

    test('whatever a client sends in whatever order, its server hears no word of a hello that was not read', () => {
      const HELLO = 100;
      let state = 20_261_125;
      const below = (limit: number): number => (state = (state * 48_271) % 0x7fffffff) % limit;
      const pick = <T>(items: readonly T[]): T => items[below(items.length)] as T;
      const seen = { read: 0, asked: 0, passed: 0 };
      for (let round = 0; round < 120; round++) {
        runner.forget();
        runner.setPolicy({ revision: 1, hashSeed: 1000 + round });
        let server: { readonly start: number; next: number } | undefined;
        const entry = (): ReturnType<typeof connectionCodec.read> | undefined => {
          const [value] = runner.datapath.maps.connections.dump().values();
          return value && connectionCodec.read(value, 0);
        };
        for (let step = 0; step < 30; step++) {
          expect(isDrawn(entry()?.flags ?? 0), `round ${round}, step ${step}: flags ${entry()?.flags}`).toBe(true);
          const operation = below(10);
          if (operation < 2) {
            const isn = pick([1000, 1000, 850, 899, 950, 1099, 5000]);
            out(tcp({ dport: 443, flags: 'S', seq: isn }));
            const isNew = !server;
            server ??= { start: isn + 1, next: isn + 1 };
            // One that it knows is answered with what it has heard (RFC 5961, 4).
            back(tcp({ sport: 443, dport: 40_000, flags: isNew ? 'SA' : 'A', seq: 9000, ack: server.next }));
          } else if (operation < 8 && server) {
            const before = entry();
            const at = server.start + pick([0, 0, 0, -HELLO, -1, 1, 50, HELLO - 1, HELLO, below(300) - 150]);
            // Where the kernel believes that the stream begins is what a liar would say.
            const from = before?.readTo && !below(3) ? before.readTo : at;
            const length = pick([HELLO, HELLO, HELLO + 20, 1 + below(150)]);
            const heardAll = server.next >= server.start + HELLO;
            const said = say(from, length);
            if (said.outcome === PASS) {
              seen.passed++;
              const within = from < server.start + HELLO && from + length > server.start;
              expect(within && !heardAll, `round ${round}: ${from - server.start} + ${length}`).toBe(false);
            } else if (said.reasons.includes(Reason.FAIL_ENGINE_ABSENT)) {
              seen.asked++;
              // The engine reads from where the kernel says that the stream begins, and only what is whole.
              const reads = before && !(before.flags & ConnectionFlag.DECIDED) && before.readTo === from && length >= HELLO;
              if (!reads || say(from, length, runner.token).outcome !== PASS) continue;
              if (from <= server.next) server.next = Math.max(server.next, from + length);
              seen.read++;
            }
          } else if (operation === 8 && server) back(tcp({ sport: 443, dport: 40_000, flags: 'A', seq: 9001, ack: server.next }));
          else out(tcp({ dport: 443, flags: pick(['A', 'FA', 'R']), seq: below(2000), ack: 9001 }));
        }
      }
      for (const count of Object.values(seen)) expect(count).toBeGreaterThan(50);
    });

    test('sequence numbers may wrap', () => {
      out(tcp({ dport: 443, flags: 'S', seq: 0xffffffd0 }));
      back(tcp({ sport: 443, dport: 40_000, flags: 'SA', seq: 9000, ack: 0xffffffd1 }));
      expect(say(0xffffffd1, 100)).toEqual(asked);
      expect(say(0xffffffd1, 100, runner.token)).toEqual(passes(Reason.PASS_VERDICT));
      expect(say(0xffffffd1 + 100, 100)).toEqual(passes(Reason.PASS_ESTABLISHED));
      back(tcp({ sport: 443, dport: 40_000, flags: 'A', seq: 9001, ack: 0xffffffd1 + 100 }));
      expect(flagsOf() & ConnectionFlag.READ).toBeTruthy();
    });

    test('data with the SYN, and datagrams to the port, are denied', () => {
      expect(out(tcp({ dport: 443, flags: 'S', seq: 1000, payload: 10 }))).toEqual({ outcome: DROP, reasons: [Reason.DROP_EARLY_DATA] });
      expect(out(udp({ dport: 443, payload: 1200 }))).toEqual({ outcome: DROP, reasons: [Reason.DROP_QUIC] });
      expect(out(udp({ dport: 444, payload: 1200 }))).toMatchObject({ outcome: PASS });
      expect(out(tcp({ dport: 80 }))).toMatchObject({ outcome: PASS });
    });

    test('a new connection on the same ports is read anew', () => {
      open();
      say(1001, 100, runner.token);
      back(tcp({ sport: 443, dport: 40_000, flags: 'A', seq: 9001, ack: 1101 }));
      open();
      expect(say(1001, 100)).toEqual(asked);
    });

    test('a connection whose beginning nobody saw is asked about at its next word', () => {
      expect(say(5000, 10)).toEqual(asked);
      expect(say(5000, 10, runner.token)).toEqual(passes(Reason.PASS_VERDICT));
      expect(say(5010, 10)).toEqual(passes(Reason.PASS_ESTABLISHED));
    });

    test('a changed policy that asks the same plugin asks nothing again; one that does not lets all pass; a newly tagged connection is read', () => {
      open();
      say(1001, 100, runner.token);
      back(tcp({ sport: 443, dport: 40_000, flags: 'A', seq: 9001, ack: 1101 }));
      runner.setPolicy({ revision: 2, hashSeed: 77 });
      expect(say(1101, 100)).toEqual(passes(Reason.PASS_ESTABLISHED));
      load(POD_MANIFEST.replace(/---\n$/, ''));
      runner.setPolicy({ revision: 3, hashSeed: 77 });
      expect(say(1201, 100)).toMatchObject({ outcome: PASS });
      load(tagged('ask: { plugin: reader, context: tls }'));
      runner.setPolicy({ revision: 4, hashSeed: 77 });
      expect(say(1301, 100)).toEqual(asked);
    });

    test('what the same plugin decided in another context is no decision about the hello', () => {
      load(tagged('ask: { plugin: reader, context: connect }'));
      runner.plugin(PLUGIN, Verdict.ALLOW);
      out(tcp({ dport: 443, flags: 'S', seq: 1000 }));
      load(tagged('ask: { plugin: reader, context: tls }'));
      runner.plugin(PLUGIN, Verdict.DENY);
      open();
      say(1001, 100, runner.token);
      back(tcp({ sport: 443, dport: 40_000, flags: 'A', seq: 9001, ack: 1101 }));
      expect(say(1101, 100)).toEqual(passes(Reason.PASS_ESTABLISHED));
      // Nor the other way round: the connection is asked about as any that is there.
      load(tagged('ask: { plugin: reader, context: connect }'));
      runner.setPolicy({ revision: 2, hashSeed: 77 });
      expect(say(1201, 100)).toEqual(asked);
    });

    test('without an engine, a plugin that fails open lets it pass, once and for all', () => {
      runner.plugin(PLUGIN, Verdict.ALLOW);
      open();
      expect(say(1001, 100)).toEqual({ outcome: PASS, reasons: [Reason.PASS_FAILURE_POLICY, Reason.FAIL_ENGINE_ABSENT] });
      expect(say(1101, 100)).toEqual(passes(Reason.PASS_ESTABLISHED));
    });

    test('of what the pod receives, the client is the other side', () => {
      load(tagged('ask: { plugin: reader, context: tls }', 'ingress'));
      const inward = (flags: string, seq: number, payload = 0, mark = 0): { outcome: number; reasons: number[] } =>
        runner.run('to_pod', frame(ipv4({ from: SERVER, to: POD }, tcp({ dport: 443, flags, seq, payload, ack: 1 }))), mark);
      expect(inward('S', 1000)).toEqual(passes(Reason.PASS_POLICY));
      expect(out(tcp({ sport: 443, dport: 40_000, flags: 'SA', seq: 9000, ack: 1001 }))).toEqual(passes(Reason.PASS_REPLY));
      expect(inward('PA', 1001, 100)).toEqual(asked);
      expect(inward('PA', 1001, 100, runner.token)).toEqual(passes(Reason.PASS_VERDICT));
      expect(inward('PA', 1101, 100)).toEqual(passes(Reason.PASS_ESTABLISHED));
      expect(out(tcp({ sport: 443, dport: 40_000, flags: 'A', seq: 9001, ack: 1101 }))).toEqual(passes(Reason.PASS_REPLY));
      expect(flagsOf() & ConnectionFlag.READ).toBeTruthy();
    });
  });

  describe('DNS answers', () => {
    const query = (message: DnsMessage, carry = datagram, sport = 40_000): { outcome: number; reasons: number[] } =>
      runner.run('from_pod', frame(ipv4({ from: POD, to: RESOLVER }, carry(encodeMessage(message), { sport, dport: 53 }))));
    const answer = (message: DnsMessage, mark = 0, carry = datagram): { outcome: number; reasons: number[] } => {
      const bytes = carry(encodeMessage({ flags: RESPONSE, ...message }), { sport: 53, dport: 40_000 });
      return runner.run('to_pod', frame(ipv4({ from: RESOLVER, to: POD }, bytes)), mark);
    };
    const good: DnsMessage = { name: 'api.example.com', answers: [{ name: QUESTION, data: SERVER }] };
    const reaches = (): boolean => {
      runner.forget();
      return out(tcp({ dport: 80 })).outcome === PASS;
    };
    beforeEach(() => {
      runner.plugin(PLUGIN, Verdict.DENY);
      load(tagged('ask: { plugin: reader, context: dns }') + NAMES);
      runner.forget();
      for (const map of ['known_addresses', 'queries', 'name_shares'] as const)
        runner.datapath.maps[map].delete(runner.datapath.maps[map].dump().keys());
    });

    test.each([
      { carrier: 'UDP', carry: datagram },
      { carrier: 'TCP', carry: segment },
    ])('over $carrier: asked about, and learned when the engine sends it on', ({ carry }) => {
      query({ name: 'api.example.com' }, carry);
      expect(answer(good, 0, carry)).toEqual(asked);
      expect(reaches()).toBe(false);
      expect(answer(good, runner.token, carry).outcome).toBe(PASS);
      expect(reaches()).toBe(true);
    });

    test.each([
      { carrier: 'UDP', carry: datagram },
      { carrier: 'TCP', carry: segment },
    ])('over $carrier: a plugin that fails open lets it pass and teach, as often as it is asked', ({ carry }) => {
      runner.plugin(PLUGIN, Verdict.ALLOW);
      // More often than there are buffers: each is given back.
      for (let i = 0; i < 10; i++) {
        query({ name: 'api.example.com' }, carry);
        expect(answer(good, 0, carry).outcome).toBe(PASS);
      }
      expect(reaches()).toBe(true);
    });

    test('what answers no query, or cannot be read, does not pass', () => {
      load(tagged('ask: { plugin: reader, context: dns }'));
      expect(answer(good)).toEqual({ outcome: DROP, reasons: [Reason.DROP_UNREADABLE, Reason.DNS_UNSOLICITED] });
      expect(answer(good, runner.token)).toMatchObject({ outcome: DROP });
      query({ name: 'api.example.com' });
      // A piece that goes on by itself is not the whole either.
      expect(answer(good, runner.token + 1)).toEqual({ outcome: DROP, reasons: [Reason.DROP_UNREADABLE] });
      const cut = segment(encodeMessage({ ...good, flags: RESPONSE }), { sport: 53, dport: 40_000, length: 900 });
      expect(runner.run('to_pod', frame(ipv4({ from: RESOLVER, to: POD }, cut)))).toEqual({
        outcome: DROP,
        reasons: [Reason.DROP_UNREADABLE, Reason.DNS_SEGMENTED],
      });
      expect(query({ name: Buffer.from([0x41, 0]), id: 9 })).toMatchObject({ outcome: DROP });
    });

    test('a connection to the port of DNS over TLS or QUIC is shown once, where policy allows it', () => {
      load(
        POD_MANIFEST +
          NAMES.replace(/^---\n/, '').replace('egress:\n', 'egress:\n  - { action: Accept, to: [{ networks: [192.0.2.0/24] }] }\n'),
      );
      for (const carry of [(): Transport => tcp({ dport: 853 }), (): Transport => udp({ dport: 853 })]) {
        expect(out(carry())).toEqual({ outcome: PASS, reasons: [Reason.PASS_POLICY, Reason.DNS_ENCRYPTED] });
        if (carry().protocol === 17) expect(out(carry())).toEqual({ outcome: PASS, reasons: [Reason.PASS_ESTABLISHED] });
      }
      load(POD_MANIFEST + NAMES.replace(/^---\n/, ''));
      runner.forget();
      expect(out(tcp({ dport: 853 }))).toEqual({ outcome: DROP, reasons: [Reason.DROP_POLICY] });
    });

    test('a resolver that is not trusted is asked about too, and teaches nothing', () => {
      runner.datapath.maps.resolvers.delete(runner.datapath.maps.resolvers.dump().keys());
      load(
        (tagged('ask: { plugin: reader, context: dns }') + NAMES).replace(
          'egress:\n',
          'egress:\n  - { action: Accept, to: [{ networks: [10.0.0.0/8] }] }\n',
        ),
      );
      runner.datapath.maps.resolvers.delete(runner.datapath.maps.resolvers.dump().keys());
      query({ name: 'api.example.com' });
      expect(answer(good)).toMatchObject({ outcome: DROP });
      expect(answer(good, runner.token)).toMatchObject({ outcome: PASS });
      expect(reaches()).toBe(false);
    });
  });
});

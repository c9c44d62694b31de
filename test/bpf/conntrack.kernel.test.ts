/** Connections through test-run: what belongs to one passes, what policy revoked does not, and no flood costs an established one. */
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest';
import { Direction, policyEntryCodec, Reason } from '../../engine/abi.gen.ts';
import type { PolicyRule } from '../../engine/policy/objects.ts';
import { frame, icmp, icmpError, ipv4, ipv6, raw, type Transport, tcp, udp } from '../support/packets.ts';

const web: PolicyRule = { ports: [{ protocol: 6, first: 80, last: 80 }] };
const dns: PolicyRule = { ports: [{ protocol: 17, first: 53, last: 53 }] };

describe.skipIf(inject('missing'))('connections', async () => {
  const { ProgramRunner, passes, drops, DROP, PASS } = await import('../support/program-runner.ts');
  let runner: Awaited<ReturnType<typeof ProgramRunner.load>>;

  beforeAll(async () => {
    runner = await ProgramRunner.load();
  });
  afterAll(() => runner?.remove());
  beforeEach(() => runner.endpoint({ [Direction.INGRESS]: [web, dns], [Direction.EGRESS]: [] }));

  const peer = '10.0.0.9';
  const inward = (transport: Transport, from = peer): ReturnType<typeof runner.run> =>
    runner.run('to_pod', frame(ipv4({ from, to: '10.0.0.1' }, transport)));
  const outward = (transport: Transport, to = peer): ReturnType<typeof runner.run> =>
    runner.run('from_pod', frame(ipv4({ from: '10.0.0.1', to }, transport)));
  /** Has policy say nothing at all any more: every rule set is closed. */
  function revoke(): void {
    const closed = Buffer.alloc(policyEntryCodec.size);
    runner.datapath.maps.policies.update(new Map([...runner.datapath.maps.policies.dump().keys()].map((key) => [key, closed])));
    runner.setPolicy({ revision: 2 });
  }
  const tracked = (): number => runner.datapath.maps.connections.dump().size;

  test('a connection is tracked when it is answered, and lives by its packets', () => {
    expect(inward(tcp({ flags: 'S' }))).toEqual(passes(Reason.PASS_POLICY));
    expect(tracked()).toBe(0);
    expect(outward(tcp({ sport: 80, dport: 40_000, flags: 'SA' }))).toEqual(passes(Reason.PASS_REPLY));
    expect(tracked()).toBe(1);
    expect(inward(tcp({ flags: 'A' }))).toEqual(passes(Reason.PASS_ESTABLISHED));
    expect(outward(tcp({ sport: 80, dport: 40_000, flags: 'A', payload: 9 }))).toEqual(passes(Reason.PASS_REPLY));
    // Another endpoint's packet with these ports is of no connection here.
    expect(outward(tcp({ sport: 80, dport: 40_000, flags: 'A' }), '10.0.0.8')).toEqual(drops(Reason.DROP_POLICY));
  });

  test('a datagram without an answer is of a connection too', () => {
    expect(inward(udp({ dport: 53 }))).toEqual(passes(Reason.PASS_POLICY));
    expect(inward(udp({ dport: 53 }))).toEqual(passes(Reason.PASS_ESTABLISHED));
    expect(outward(udp({ sport: 53, dport: 40_000 }))).toEqual(passes(Reason.PASS_REPLY));
    expect(inward(udp({ dport: 53 }))).toEqual(passes(Reason.PASS_ESTABLISHED));
  });

  test('what a new policy does not allow ends at its next packet, in both directions', () => {
    inward(tcp({ flags: 'S' }));
    outward(tcp({ sport: 80, dport: 40_000, flags: 'SA' }));
    inward(udp({ dport: 53 }));
    revoke();
    expect(outward(tcp({ sport: 80, dport: 40_000, flags: 'A' }))).toEqual(drops(Reason.DROP_POLICY));
    expect(inward(tcp({ flags: 'A' }))).toEqual(drops(Reason.DROP_POLICY));
    expect(outward(udp({ sport: 53, dport: 40_000 }))).toEqual(drops(Reason.DROP_POLICY));
  });

  test('what a new policy still allows goes on, answers included', () => {
    inward(tcp({ flags: 'S' }));
    outward(tcp({ sport: 80, dport: 40_000, flags: 'SA' }));
    runner.setPolicy({ revision: 2 });
    expect(outward(tcp({ sport: 80, dport: 40_000, flags: 'A' })).outcome).toBe(PASS);
    expect(outward(tcp({ sport: 80, dport: 40_000, flags: 'A' }))).toEqual(passes(Reason.PASS_REPLY));
    expect(inward(tcp({ flags: 'A' }))).toEqual(passes(Reason.PASS_ESTABLISHED));
  });

  test('a SYN on the ports of an answered connection starts anew', () => {
    inward(tcp({ flags: 'S' }));
    outward(tcp({ sport: 80, dport: 40_000, flags: 'SA' }));
    expect(tracked()).toBe(1);
    expect(inward(tcp({ flags: 'S' }))).toEqual(passes(Reason.PASS_POLICY));
    expect(tracked()).toBe(0);
    expect(outward(tcp({ sport: 80, dport: 40_000, flags: 'S' }))).toEqual(drops(Reason.DROP_POLICY));
  });

  test('ends after its time, which depends on its state', () => {
    runner.setPolicy({ unansweredS: 0 });
    inward(udp({ dport: 53 }));
    expect(inward(udp({ dport: 53 }))).toEqual(passes(Reason.PASS_POLICY));
    expect(outward(udp({ sport: 53, dport: 40_000 }))).toEqual(drops(Reason.DROP_POLICY));
  });

  test('an answered connection that is over does not stand in the way of the next one with its ports', () => {
    runner.setPolicy({ answeredS: 0 });
    inward(udp({ dport: 53 }));
    outward(udp({ sport: 53, dport: 40_000 }));
    expect(tracked()).toBe(1);
    runner.setPolicy({});
    expect(inward(udp({ dport: 53 }))).toEqual(passes(Reason.PASS_POLICY));
    expect(outward(udp({ sport: 53, dport: 40_000 }))).toEqual(passes(Reason.PASS_REPLY));
    expect(inward(udp({ dport: 53 }))).toEqual(passes(Reason.PASS_ESTABLISHED));
  });

  describe('ICMP errors', () => {
    const sent = (transport: Transport, to = peer): Buffer => ipv4({ from: '10.0.0.1', to }, transport).bytes;
    const answer = tcp({ sport: 80, dport: 40_000, flags: 'SA' });

    beforeEach(() => {
      inward(tcp({ flags: 'S' }));
      outward(answer);
    });

    test.each([
      { name: 'fragmentation needed', type: 3, code: 4 },
      { name: 'time exceeded', type: 11, code: 0 },
      { name: 'parameter problem', type: 12, code: 0 },
    ])('about an allowed connection passes, also from a router: $name', ({ type, code }) => {
      expect(inward(icmpError({ about: sent(answer).subarray(0, 28), type, code }), '10.9.9.9')).toEqual(passes(Reason.PASS_RELATED));
    });

    test('a pod may report what it received', () => {
      const received = ipv4({ from: peer, to: '10.0.0.1' }, tcp({ flags: 'A' })).bytes.subarray(0, 28);
      expect(outward(icmpError({ about: received }))).toEqual(passes(Reason.PASS_RELATED));
    });

    test('IPv6: packet too big', () => {
      runner.run('to_pod', frame(ipv6({ from: 'fd00::9', to: 'fd00::1' }, tcp({ flags: 'S' }))));
      const about = ipv6({ from: 'fd00::1', to: 'fd00::9' }, answer).bytes;
      const error = frame(ipv6({ from: 'fd00::5', to: 'fd00::1' }, icmpError({ about, type: 2, code: 0, v6: true })));
      expect(runner.run('to_pod', error)).toEqual(passes(Reason.PASS_RELATED));
    });

    test.each([
      { name: 'a connection that is not there', transport: () => icmpError({ about: sent(tcp({ sport: 80, dport: 40_001 })) }) },
      {
        name: 'a packet that another address sent',
        transport: () => icmpError({ about: ipv4({ from: '10.0.0.7', to: peer }, answer).bytes }),
      },
      { name: 'a quote without ports', transport: () => icmpError({ about: sent(answer).subarray(0, 22) }) },
      {
        name: 'a later fragment',
        transport: () => icmpError({ about: ipv4({ from: '10.0.0.1', to: peer, fragmentOffset: 64 }, answer).bytes }),
      },
      { name: 'the wrong family', transport: () => icmpError({ about: ipv6({ from: 'fd00::1', to: 'fd00::9' }, answer).bytes }) },
      { name: 'nothing', transport: () => raw(1, Buffer.from([3, 4, 0, 0, 0, 0, 0, 0])) },
      { name: 'a redirect', transport: () => icmpError({ about: sent(answer), type: 5, code: 1 }) },
    ])('does not pass: $name', ({ transport }) => {
      expect(inward(transport())).toEqual(drops(Reason.DROP_POLICY));
    });

    test('about a connection that was revoked does not pass', () => {
      revoke();
      expect(inward(icmpError({ about: sent(answer) }))).toEqual(drops(Reason.DROP_POLICY));
    });

    test('an echo and its reply are a connection', () => {
      runner.endpoint({ [Direction.EGRESS]: [{}], [Direction.INGRESS]: [] });
      expect(outward(icmp({ id: 5 }))).toEqual(passes(Reason.PASS_POLICY));
      expect(inward(icmp({ type: 0, id: 5 }))).toEqual(passes(Reason.PASS_REPLY));
      expect(inward(icmp({ type: 0, id: 6 }))).toEqual(drops(Reason.DROP_POLICY));
    });
  });

  test('a flood of new flows takes the place of none that is answered', () => {
    for (let i = 0; i < 64; i++) {
      inward(tcp({ sport: 1000 + i, flags: 'S' }));
      outward(tcp({ sport: 80, dport: 1000 + i, flags: 'SA' }));
    }
    expect(tracked()).toBe(64);
    const before = runner.counts().get(Reason.FAIL_OPENING_LOST) ?? 0n;
    // More flows than the map of connections has room for, and twice as many as there are slots.
    for (let i = 0; i < 136_000; i++) flood(i);
    expect(runner.counts().get(Reason.FAIL_OPENING_LOST) ?? 0n).toBeGreaterThan(before);
    expect(tracked()).toBe(64);
    for (let i = 0; i < 64; i++) expect(outward(tcp({ sport: 80, dport: 1000 + i, flags: 'A' }))).toEqual(passes(Reason.PASS_REPLY));
  }, 60_000);

  /** One SYN of a source that nobody answers, without looking at what was counted. */
  function flood(i: number): void {
    const packet = frame(ipv4({ from: `10.${1 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`, to: '10.0.0.1' }, tcp({ flags: 'S' })));
    runner.send('to_pod', packet);
  }

  test('an endpoint with its share of connections gets no more, and loses none', () => {
    runner.setPolicy({ connectionsShare: 2 });
    const open = (port: number): number[] => {
      inward(tcp({ sport: port, flags: 'S' }));
      return outward(tcp({ sport: 80, dport: port, flags: 'SA' })).reasons;
    };
    expect(open(1)).toEqual([Reason.PASS_REPLY]);
    expect(open(2)).toEqual([Reason.PASS_REPLY]);
    expect(open(3).sort()).toEqual([Reason.PASS_REPLY, Reason.FAIL_CONNECTION_SHARE].sort());
    expect(tracked()).toBe(2);
    // It works on all the same, where nobody takes its slot.
    expect(inward(tcp({ sport: 3, flags: 'A' }))).toEqual(passes(Reason.PASS_ESTABLISHED));
  });

  test('what an endpoint sends to its own address is no matter of policy; what claims to come from it is', () => {
    runner.endpoint({ [Direction.INGRESS]: [], [Direction.EGRESS]: [] });
    const own = frame(ipv4({ from: '10.0.0.1', to: '10.0.0.1' }, tcp()));
    expect(runner.run('from_pod', own)).toEqual(passes(Reason.PASS_SELF));
    // Test-run says that the packet came in nowhere, as one would that an attacker forged elsewhere.
    expect(runner.run('to_pod', own).outcome).toBe(DROP);
  });
});

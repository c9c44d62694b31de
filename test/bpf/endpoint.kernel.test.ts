/** The programs on packets of every shape, through test-run: what passes, what drops, and that each is counted by its reason. */
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest';
import { Direction, endpointCodec, localEndpointCodec, Reason } from '../../engine/abi.gen.ts';
import { DEFAULT_LIMITS } from '../../engine/config.ts';
import { parseNetwork } from '../../engine/policy/address.ts';
import { Compiler } from '../../engine/policy/compile.ts';
import type { PolicyRule } from '../../engine/policy/objects.ts';
import { frame, icmp, ipv4, ipv6, raw, tcp, udp } from '../support/packets.ts';

describe.skipIf(inject('missing'))('endpoint programs', async () => {
  const { ProgramRunner, passes, drops, DROP } = await import('../support/program-runner.ts');
  let runner: Awaited<ReturnType<typeof ProgramRunner.load>>;
  const endpoint = (rules: Parameters<typeof runner.endpoint>[0]): void => runner.endpoint(rules);
  const run = (program: 'from_pod' | 'to_pod', bytes: Buffer): ReturnType<typeof runner.run> => runner.run(program, bytes);

  beforeAll(async () => {
    runner = await ProgramRunner.load();
  });
  afterAll(() => runner?.remove());

  const to = { from: '10.0.0.9', to: '10.0.0.1' };
  const to6 = { from: 'fd00::9', to: 'fd00::1' };
  const web: PolicyRule = { ports: [{ protocol: 6, first: 80, last: 80 }] };

  describe('of an endpoint isolated for ingress, open on TCP 80', () => {
    beforeEach(() => endpoint({ [Direction.INGRESS]: [web] }));

    test.each([
      { name: 'IPv4', packet: frame(ipv4(to, tcp())) },
      { name: 'IPv6', packet: frame(ipv6(to6, tcp())) },
      { name: 'IPv4 with options', packet: frame(ipv4({ ...to, options: Buffer.from([1, 1, 1, 1, 1, 1, 1, 0]) }, tcp())) },
      { name: 'one VLAN tag', packet: frame(ipv4(to, tcp()), [5]) },
      { name: 'two VLAN tags', packet: frame(ipv6(to6, tcp()), [5, 6]) },
      { name: 'IPv6 with hop-by-hop, routing and destination options', packet: frame(ipv6({ ...to6, extensions: [0, 43, 60] }, tcp())) },
      { name: 'a SYN with data: TCP Fast Open', packet: frame(ipv4(to, tcp({ payload: 100 }))) },
      { name: 'TCP options', packet: frame(ipv4(to, tcp({ doff: 8, payload: 12 }))) },
      { name: 'link padding after a short packet', packet: Buffer.concat([frame(ipv4(to, tcp())), Buffer.alloc(20)]) },
    ])('lets the open port through: $name', ({ packet }) => {
      expect(run('to_pod', packet)).toEqual(passes(Reason.PASS_POLICY));
    });

    test.each([
      { name: 'another port', packet: frame(ipv4(to, tcp({ dport: 81 }))) },
      { name: 'another port, with data in the SYN', packet: frame(ipv4(to, tcp({ dport: 81, payload: 100 }))) },
      { name: 'another protocol', packet: frame(ipv4(to, udp({ dport: 80 }))) },
      { name: 'ICMP', packet: frame(ipv4(to, icmp())) },
      { name: 'a protocol without ports', packet: frame(ipv4(to, raw(47, Buffer.alloc(24)))) },
      { name: 'another port behind extension headers', packet: frame(ipv6({ ...to6, extensions: [0, 60] }, tcp({ dport: 81 }))) },
      { name: 'another port behind VLAN tags', packet: frame(ipv4(to, tcp({ dport: 81 })), [5, 6]) },
      { name: 'ICMPv6 that is no neighbour discovery', packet: frame(ipv6(to6, icmp({ type: 128, v6: true }))) },
      { name: 'neighbour discovery that came through a router', packet: frame(ipv6({ ...to6, ttl: 254 }, icmp({ type: 135, v6: true }))) },
      { name: 'a mid-stream TCP packet of no known connection', packet: frame(ipv4(to, tcp({ dport: 81, flags: 'A' }))) },
    ])('drops $name', ({ packet }) => {
      expect(run('to_pod', packet)).toEqual(drops(Reason.DROP_POLICY));
    });

    test.each([
      { name: 'an IPv4 header of four words', packet: frame(ipv4({ ...to, ihl: 4 }, tcp())) },
      { name: 'a total length below the header', packet: frame(ipv4({ ...to, length: 19 }, tcp())) },
      { name: 'a total length beyond the packet', packet: frame(ipv4({ ...to, length: 400 }, tcp())) },
      { name: 'a payload length beyond the packet', packet: frame(ipv6({ ...to6, length: 400 }, tcp())) },
      { name: 'a TCP header cut short', packet: frame(ipv4(to, raw(6, Buffer.alloc(12)))) },
      { name: 'a TCP data offset below the header', packet: frame(ipv4(to, tcp({ doff: 4 }))) },
      { name: 'a TCP data offset beyond the packet', packet: frame(ipv4(to, tcp({ doff: 15 }))) },
      { name: 'a UDP header cut short', packet: frame(ipv4(to, raw(17, Buffer.alloc(4)))) },
      { name: 'nine extension headers', packet: frame(ipv6({ ...to6, extensions: [0, 60, 60, 60, 60, 60, 60, 60, 60] }, tcp())) },
      { name: 'three VLAN tags', packet: frame(ipv4(to, tcp()), [5, 6, 7]) },
      { name: 'a later fragment over the TCP header', packet: frame(ipv4({ ...to, fragmentOffset: 8 }, tcp({ payload: 8 }))) },
      { name: 'a first fragment without its ports', packet: frame(ipv4({ ...to, moreFragments: true }, raw(17, Buffer.alloc(4)))) },
    ])('drops as malformed: $name', ({ packet }) => {
      expect(run('to_pod', packet)).toEqual(drops(Reason.DROP_MALFORMED));
    });

    test.each([
      { name: 'IPv4', ip: ipv4, fields: to },
      { name: 'IPv6', ip: ipv6, fields: to6 },
    ])('lets later fragments follow a first one that passed, and no others: $name', ({ ip, fields }) => {
      endpoint({ [Direction.INGRESS]: [{ ports: [{ protocol: 17, first: 53, last: 53 }] }] });
      const first = frame(ip({ ...fields, moreFragments: true, fragmentId: 77 }, udp({ dport: 53, payload: 16 })));
      const later = (fragmentId: number): Buffer => frame(ip({ ...fields, fragmentOffset: 24, fragmentId }, raw(17, Buffer.alloc(16))));
      expect(run('to_pod', later(77))).toEqual(drops(Reason.DROP_FRAGMENT));
      expect(run('to_pod', first)).toEqual(passes(Reason.PASS_POLICY));
      expect(run('to_pod', later(77))).toEqual(passes(Reason.PASS_FRAGMENT));
      expect(run('to_pod', later(78))).toEqual(drops(Reason.DROP_FRAGMENT));
    });

    test('passes neighbour discovery of this link, and what is no IP', () => {
      expect(run('to_pod', frame(ipv6({ ...to6, ttl: 255 }, icmp({ type: 135, v6: true }))))).toEqual(passes(Reason.PASS_NEIGHBOR));
      expect(run('to_pod', frame({ type: 0x0806, bytes: Buffer.alloc(28) }))).toEqual(passes(Reason.PASS_NOT_IP));
    });

    test('lets replies of a connection that the pod opened in, and nobody else', () => {
      expect(run('from_pod', frame(ipv4({ from: '10.0.0.1', to: '10.0.0.9' }, tcp({ sport: 40000, dport: 443 }))))).toEqual(
        passes(Reason.PASS_NOT_ISOLATED),
      );
      expect(run('to_pod', frame(ipv4(to, tcp({ sport: 443, dport: 40000, flags: 'SA' }))))).toEqual(passes(Reason.PASS_REPLY));
      expect(run('to_pod', frame(ipv4({ ...to, from: '10.0.0.8' }, tcp({ sport: 443, dport: 40000, flags: 'SA' }))))).toEqual(
        drops(Reason.DROP_POLICY),
      );
      // A SYN is no reply, whatever ports it uses.
      expect(run('to_pod', frame(ipv4(to, tcp({ sport: 443, dport: 40000, flags: 'S' }))))).toEqual(drops(Reason.DROP_POLICY));
    });
  });

  test('drops what an endpoint sends from an address that is not its own', () => {
    endpoint({});
    const sent = (from: string): Buffer => frame(ipv4({ from, to: '10.0.0.9' }, udp()));
    expect(run('from_pod', sent('10.0.0.1'))).toEqual(passes(Reason.PASS_NOT_ISOLATED));
    expect(run('from_pod', sent('10.0.0.7'))).toEqual(drops(Reason.DROP_SPOOFED));
    expect(run('from_pod', frame(ipv6({ from: 'fd00::7', to: 'fd00::9' }, tcp())))).toEqual(drops(Reason.DROP_SPOOFED));
    // Also with the ports of a connection that exists.
    expect(run('from_pod', frame(ipv4({ from: '10.0.0.1', to: '10.0.0.9' }, tcp({ flags: 'S' }))))).toEqual(
      passes(Reason.PASS_NOT_ISOLATED),
    );
    expect(run('from_pod', frame(ipv4({ from: '10.0.0.7', to: '10.0.0.9' }, tcp({ flags: 'A' }))))).toEqual(drops(Reason.DROP_SPOOFED));
  });

  test('finds a peer by the longest network around it, and never an IPv4 address in ::/0', () => {
    const network = (text: string) => parseNetwork(text) as NonNullable<ReturnType<typeof parseNetwork>>;
    const block = (text: string, ...except: string[]): PolicyRule => ({
      peers: [{ kind: 'network', network: network(text), except: except.map(network) }],
    });
    endpoint({ [Direction.EGRESS]: [block('10.0.0.0/8', '10.1.0.0/16'), block('::/0')] });
    const sent = (address: string): Buffer => frame(ipv4({ from: '10.0.0.1', to: address }, tcp()));
    expect(run('from_pod', sent('10.2.3.4'))).toEqual(passes(Reason.PASS_POLICY));
    expect(run('from_pod', sent('10.1.3.4'))).toEqual(drops(Reason.DROP_POLICY));
    expect(run('from_pod', sent('192.0.2.1'))).toEqual(drops(Reason.DROP_POLICY));
    expect(run('from_pod', frame(ipv6({ from: 'fd00::1', to: '2001:db8::1' }, tcp())))).toEqual(passes(Reason.PASS_POLICY));
  });

  test('drops and counts what comes to an interface without an endpoint', () => {
    runner.datapath.maps.endpoints.delete(runner.datapath.maps.endpoints.dump().keys());
    expect(run('to_pod', frame(ipv4(to, tcp())))).toEqual(drops(Reason.DROP_NO_ENDPOINT));
  });

  test('survives random bytes: nothing but 80/TCP gets in, whatever they are', () => {
    endpoint({ [Direction.INGRESS]: [] });
    let seed = 20_26;
    const random = (): number => (seed = (seed * 1_103_515_245 + 12_345) & 0x7fffffff);
    for (let i = 0; i < 5000; i++) {
      const whole = i % 2 ? frame(ipv4(to, tcp({ payload: 30 }))) : frame(ipv6({ ...to6, extensions: [0, 60] }, udp({ payload: 30 })));
      // Test-run itself refuses a packet that ends in its IP header.
      const least = i % 2 ? 34 : 54;
      const packet = Buffer.from(whole.subarray(0, least + (random() % (whole.length + 1 - least))));
      for (let n = random() % 6; n > 0; n--) packet[14 + (random() % Math.max(1, packet.length - 14))] = random() & 0xff;
      const { outcome, reasons } = run('to_pod', packet);
      const passed = reasons.filter((reason) => reason < Reason.HELD);
      // Corruption may turn a packet into neighbour discovery; it may not turn it into an allowed flow.
      expect(outcome === DROP || passed.every((reason) => reason === Reason.PASS_NEIGHBOR), `seed 2026, packet ${i}`).toBe(true);
    }
  });

  test('a new engine has every connection judged again, also when it finds nothing to change', async () => {
    const { PolicyMaps } = await import('../../engine/kernel/policy-maps.ts');
    const nothing = { ...new Compiler().maps, endpoints: new Map(), ownsAddress: () => true };
    const revision = (): number => runner.datapath.maps.policy_states.find(Buffer.alloc(4))?.readUInt32LE(0) ?? Number.NaN;
    expect(new PolicyMaps(runner.datapath, DEFAULT_LIMITS).apply(nothing).failures).toEqual([]);
    const before = revision();
    const maps = new PolicyMaps(runner.datapath, DEFAULT_LIMITS);
    expect(maps.apply(nothing)).toEqual({ changes: 0, failures: [] });
    expect(revision()).toBe(before + 1);
    maps.apply(nothing);
    expect(revision()).toBe(before + 1);
  });

  test('an address leads to the endpoint that has it, not to another one that says so', async () => {
    const { PolicyMaps } = await import('../../engine/kernel/policy-maps.ts');
    endpoint({});
    const [value] = runner.datapath.maps.endpoints.dump().values() as Iterable<Buffer>;
    const maps = new PolicyMaps(runner.datapath, DEFAULT_LIMITS);
    const holders = (): number[] =>
      [...runner.datapath.maps.local_endpoints.dump().values()].map((entry) => localEndpointCodec.read(entry, 0).id);
    // No interfaces have these numbers: what is looked at is what stands in the map.
    const endpoints = new Map([901, 902].map((id) => [id, { value: value as Buffer, place: { interface: 'none' } }]));
    for (const owner of [901, 902, 901]) {
      maps.apply({ ...new Compiler().maps, endpoints, ownsAddress: (id) => id === owner });
      expect(holders()).toEqual([owner, owner]);
    }
    maps.apply({ ...new Compiler().maps, endpoints, ownsAddress: () => false });
    expect(holders()).toEqual([]);
  });

  test('the endpoint codec writes what the kernel map takes', () => {
    expect(runner.datapath.maps.endpoints.valueSize).toBe(endpointCodec.size);
  });
});

/** Every packet that the programs drop leaves a record with a reason; who floods takes no one else's. */
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest';
import { Direction, type FlowRecord, Parsed, Reason, Verdict } from '../../engine/abi.gen.ts';
import { formatAddress } from '../../engine/policy/address.ts';
import type { PolicyRule } from '../../engine/policy/objects.ts';
import { frame, ipv4, ipv6, raw, tcp, udp } from '../support/packets.ts';

describe.skipIf(inject('missing'))('records of drops', async () => {
  const { ProgramRunner, IFINDEX } = await import('../support/program-runner.ts');
  const { RecordReader } = await import('../../engine/kernel/record-reader.ts');
  let runner: Awaited<ReturnType<typeof ProgramRunner.load>>;
  let reader: InstanceType<typeof RecordReader>;
  const web: PolicyRule = { ports: [{ protocol: 6, first: 80, last: 80 }] };
  const to = { from: '10.0.0.9', to: '10.0.0.1' };

  beforeAll(async () => {
    runner = await ProgramRunner.load();
    reader = new RecordReader(runner.datapath.recordsRing);
  });
  afterAll(() => runner?.remove());
  beforeEach(() => {
    runner.endpoint({ [Direction.INGRESS]: [web] });
    readAll();
  });

  function readAll(): FlowRecord[] {
    const records: FlowRecord[] = [];
    for (let some = reader.read(); some.length; some = reader.read()) records.push(...some);
    return records;
  }

  test.each([
    {
      name: 'malformed, with the addresses that it claims',
      program: 'to_pod' as const,
      packet: frame(ipv4(to, tcp({ doff: 4 }))),
      want: { reason: Reason.DROP_MALFORMED, parsed: Parsed.MALFORMED, source: '10.0.0.9', destinationPort: 0 },
    },
    {
      name: 'malformed before its addresses',
      program: 'to_pod' as const,
      packet: frame(ipv4({ ...to, ihl: 4 }, tcp())),
      want: { reason: Reason.DROP_MALFORMED, parsed: Parsed.MALFORMED, source: '::', destinationPort: 0 },
    },
    {
      name: 'a later fragment without a first one',
      program: 'to_pod' as const,
      packet: frame(ipv4({ ...to, fragmentOffset: 24, fragmentId: 9 }, raw(17, Buffer.alloc(16)))),
      want: { reason: Reason.DROP_FRAGMENT, parsed: Parsed.LATER_FRAGMENT, source: '10.0.0.9', destinationPort: 0 },
    },
    {
      name: 'from an address that is not its own',
      program: 'from_pod' as const,
      packet: frame(ipv6({ from: 'fd00::7', to: 'fd00::9' }, tcp({ dport: 443 }))),
      want: { reason: Reason.DROP_SPOOFED, parsed: Parsed.FLOW, source: 'fd00::7', destinationPort: 443 },
    },
    {
      name: 'against policy',
      program: 'to_pod' as const,
      packet: frame(ipv4(to, udp({ dport: 81 }))),
      want: { reason: Reason.DROP_POLICY, parsed: Parsed.FLOW, source: '10.0.0.9', destinationPort: 81 },
    },
  ])('a packet that is $name', ({ program, packet, want }) => {
    runner.run(program, packet);
    const records = readAll();
    expect(records).toHaveLength(1);
    const [record] = records as [FlowRecord];
    expect({ ...record, source: formatAddress(record.source) }).toMatchObject({
      ...want,
      endpoint: IFINDEX,
      verdict: Verdict.DENY,
      direction: program === 'from_pod' ? Direction.EGRESS : Direction.INGRESS,
    });
  });

  test('a packet where there is no endpoint', () => {
    runner.datapath.maps.endpoints.delete(runner.datapath.maps.endpoints.dump().keys());
    runner.run('to_pod', frame(ipv4(to, tcp())));
    expect(readAll().map(({ reason, sourceIdentity }) => [reason, sourceIdentity])).toEqual([[Reason.DROP_NO_ENDPOINT, 1]]);
  });

  test('a flood of one reason leaves so many in a second, is counted whole, and pushes out no other', () => {
    const before = runner.counts();
    const malformed = frame(ipv4({ ...to, length: 400 }, tcp()));
    const flood = 3000;
    for (let i = 0; i < flood; i++) runner.send('to_pod', malformed);
    runner.run('to_pod', frame(ipv4(to, udp({ dport: 99 }))));
    const records = readAll();
    const counted = (reason: number): number => Number((runner.counts().get(reason) ?? 0n) - (before.get(reason) ?? 0n));
    const told = records.filter(({ reason }) => reason === Reason.DROP_MALFORMED).length;
    expect(records.filter(({ reason }) => reason === Reason.DROP_POLICY)).toHaveLength(1);
    // A second may end while the packets are sent.
    expect(told).toBeGreaterThanOrEqual(1000);
    expect(told).toBeLessThanOrEqual(2 * 1024);
    expect(counted(Reason.DROP_MALFORMED)).toBe(flood);
    expect(counted(Reason.FAIL_RECORD_SHARE)).toBe(flood - told);
  });

  test('several floods leave half of the ring to those who say little', () => {
    const { record_shares: shares } = runner.datapath.maps;
    const malformed = frame(ipv4({ ...to, length: 400 }, tcp()));
    // As many floods at once as fill the ring: each is another one, for nobody knows any more of those before.
    for (let flood = 0; flood < 13; flood++) {
      shares.delete(shares.dump().keys());
      for (let i = 0; i < 1024; i++) runner.send('to_pod', malformed);
    }
    for (let i = 0; i < 100; i++) runner.send('to_pod', frame(ipv4(to, udp({ dport: 99 }))));
    const reasons = readAll().map(({ reason }) => reason);
    expect(reasons.length).toBeGreaterThan(5000);
    expect(reasons.length).toBeLessThan(7000);
    const others = reasons.filter((reason) => reason === Reason.DROP_POLICY).length;
    // A second may end while the packets are sent.
    expect(others).toBeGreaterThanOrEqual(16);
    expect(others).toBeLessThanOrEqual(2 * 16);
  });
});

/** The table of policies, decided by the programs themselves, through test-run: a packet leaves one pod and reaches the other. */
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { Direction } from '../../engine/abi.gen.ts';
import type { Compiler } from '../../engine/policy/compile.ts';
import { baseCluster, type FlowCase, PODS, POLICY_CASES } from '../cases/policy.ts';
import { compiled, snapshotOf } from '../support/compiled.ts';
import { frame, icmp, ipv4, ipv6, sctp, type Transport, tcp, udp } from '../support/packets.ts';

const TRANSPORTS: Readonly<Record<NonNullable<FlowCase['protocol']>, (dport: number, v6: boolean) => Transport>> = {
  TCP: (dport) => tcp({ dport }),
  UDP: (dport) => udp({ dport }),
  SCTP: (dport) => sctp({ dport }),
  ICMP: (_dport, v6) => icmp({ type: v6 ? 128 : 8, v6 }),
};

describe.skipIf(inject('missing')).each([
  { family: 'IPv4', v6: false, packet: ipv4, ip: (pod: string) => `10.0.0.${PODS.indexOf(pod as never) + 1}` },
  { family: 'IPv6', v6: true, packet: ipv6, ip: (pod: string) => `fd00::${PODS.indexOf(pod as never) + 1}` },
])('programs, $family', async ({ v6, packet, ip }) => {
  const { ProgramRunner, PASS } = await import('../support/program-runner.ts');
  let runner: Awaited<ReturnType<typeof ProgramRunner.load>>;

  beforeAll(async () => {
    runner = await ProgramRunner.load();
  });
  afterAll(() => runner?.remove());

  /** Runs a flow's first packet through the program of one of its ends. */
  function passes(compiler: Compiler, pod: string, direction: Direction, bytes: Buffer): boolean {
    runner.attach(compiler, pod);
    runner.forget();
    return runner.run(direction === Direction.EGRESS ? 'from_pod' : 'to_pod', bytes).outcome === PASS;
  }

  test.each(POLICY_CASES)('$name', ({ policies, flows }) => {
    const base = baseCluster((pod) => ({ interface: `i${PODS.indexOf(pod as never)}`, ips: [ip(pod)] }));
    const compiler = compiled(snapshotOf([base, ...policies(ip)].join('---\n')));
    runner.load(compiler);
    for (const { from, to, port, protocol = 'TCP', allowed } of flows) {
      const bytes = frame(packet({ from: ip(from), to: ip(to) }, TRANSPORTS[protocol](port, v6)));
      const both = passes(compiler, from, Direction.EGRESS, bytes) && passes(compiler, to, Direction.INGRESS, bytes);
      expect(both, `${from} to ${to} ${port}/${protocol}`).toBe(allowed);
    }
  });
});

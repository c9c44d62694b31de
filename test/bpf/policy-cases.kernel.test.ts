/** The table of policies, decided by the programs themselves, through test-run: a packet leaves one pod and reaches the other. */
import { rmSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { Direction, policyStateCodec } from '../../engine/abi.gen.ts';
import { DEFAULT_CONNTRACK } from '../../engine/config.ts';
import type { Compiler } from '../../engine/policy/compile.ts';
import { baseCluster, type FlowCase, PODS, POLICY_CASES } from '../cases/policy.ts';
import { compiled, snapshotOf } from '../support/compiled.ts';
import { frame, icmp, ipv4, ipv6, sctp, type Transport, tcp, udp } from '../support/packets.ts';

const PASS = -1;
/** Loopback: what test-run takes for the packet's interface. */
const IFINDEX = 1;
const PIN = `/sys/fs/bpf/sluice-test-cases-${process.pid}`;

const TRANSPORTS: Readonly<Record<NonNullable<FlowCase['protocol']>, (dport: number, v6: boolean) => Transport>> = {
  TCP: (dport) => tcp({ dport }),
  UDP: (dport) => udp({ dport }),
  SCTP: (dport) => sctp({ dport }),
  ICMP: (_dport, v6) => icmp({ type: v6 ? 128 : 8, v6 }),
};

describe.skipIf(inject('missing')).each([
  { family: 'IPv4', v6: false, packet: ipv4, ip: (pod: string) => `10.0.0.${PODS.indexOf(pod as never) + 1}` },
  { family: 'IPv6', v6: true, packet: ipv6, ip: (pod: string) => `fd00::${PODS.indexOf(pod as never) + 1}` },
])('programs, $family', async ({ family, v6, packet, ip }) => {
  const { Datapath, removeDatapath } = await import('../../engine/kernel/datapath.ts');
  const { native } = await import('../../engine/kernel/native.ts');
  const pin = `${PIN}-${family}`;
  let datapath: Awaited<ReturnType<typeof Datapath.load>>;
  let revision = 1;

  beforeAll(async () => {
    datapath = await Datapath.load(pin);
  });
  afterAll(async () => {
    datapath?.close();
    await removeDatapath(pin);
    rmSync(pin, { recursive: true, force: true });
  });

  function load(compiler: Compiler): void {
    for (const map of ['ports', 'policies', 'networks', 'peers'] as const) {
      datapath.maps[map].delete(datapath.maps[map].dump().keys());
      datapath.maps[map].update(compiler[map].entries);
    }
  }

  /** Runs a flow's first packet through the program of one of its ends. */
  function passes(compiler: Compiler, pod: string, direction: Direction, bytes: Buffer): boolean {
    const endpoint = [...compiler.endpoints.values()].find((each) => `${each.pod.namespace}/${each.pod.name}` === pod);
    const key = Buffer.alloc(4);
    key.writeUInt32LE(IFINDEX);
    datapath.maps.endpoints.update(new Map([[key.toString('latin1'), endpoint?.value as Buffer]]));
    // Each packet is judged as the first of its flow.
    const state = Buffer.alloc(policyStateCodec.size);
    policyStateCodec.write(state, 0, { ...DEFAULT_CONNTRACK, revision: (revision += 1), hashSeed: revision });
    datapath.maps.policy_states.update(new Map([['\0\0\0\0', state]]));
    const outcome = Buffer.alloc(4);
    const program = datapath.programFd(direction === Direction.EGRESS ? 'from_pod' : 'to_pod');
    const result = native.sluice_program__test(
      program,
      bytes as never,
      bytes.length,
      IFINDEX,
      1,
      outcome as never,
      Buffer.alloc(4) as never,
    );
    expect(result).toBe(0);
    return outcome.readInt32LE(0) === PASS;
  }

  test.each(POLICY_CASES)('$name', ({ policies, flows }) => {
    const base = baseCluster((pod) => ({ interface: `i${PODS.indexOf(pod as never)}`, ips: [ip(pod)] }));
    const compiler = compiled(snapshotOf([base, ...policies(ip)].join('---\n')));
    load(compiler);
    for (const { from, to, port, protocol = 'TCP', allowed } of flows) {
      const bytes = frame(packet({ from: ip(from), to: ip(to) }, TRANSPORTS[protocol](port, v6)));
      const both = passes(compiler, from, Direction.EGRESS, bytes) && passes(compiler, to, Direction.INGRESS, bytes);
      expect(both, `${from} to ${to} ${port}/${protocol}`).toBe(allowed);
    }
  });
});

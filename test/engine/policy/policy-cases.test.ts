/** The table of policies, decided from compiled maps. */
import { describe, expect, test } from 'vitest';
import { Action, Direction } from '../../../engine/abi.gen.ts';
import { parseAddress } from '../../../engine/policy/address.ts';
import { baseCluster, PODS, POLICY_CASES } from '../../cases/policy.ts';
import { compiled, ruleOfMaps, snapshotOf } from '../../support/compiled.ts';

const NUMBERS = { TCP: 6, UDP: 17, SCTP: 132, ICMP: 1 } as const;

describe.each([
  { family: 'IPv4', ip: (pod: string) => `10.0.0.${PODS.indexOf(pod as never) + 1}` },
  { family: 'IPv6', ip: (pod: string) => `fd00::${PODS.indexOf(pod as never) + 1}` },
])('compiled maps, $family', ({ ip }) => {
  test.each(POLICY_CASES)('$name', ({ policies, flows }) => {
    const base = baseCluster((pod) => ({ interface: `i${PODS.indexOf(pod as never)}`, ips: [ip(pod)] }));
    const compiler = compiled(snapshotOf([base, ...policies(ip)].join('---\n')));
    for (const { from, to, port, protocol = 'TCP', allowed } of flows) {
      const allows = (pod: string, direction: Direction, peer: string): boolean =>
        ruleOfMaps(compiler, pod, direction, parseAddress(ip(peer)) as Uint8Array, NUMBERS[protocol], port).action === Action.ALLOW;
      expect(allows(from, Direction.EGRESS, to) && allows(to, Direction.INGRESS, from), `${from} to ${to} ${port}/${protocol}`).toBe(
        allowed,
      );
    }
  });
});

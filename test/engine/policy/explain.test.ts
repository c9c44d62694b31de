/** Explanations against the naive evaluator, for endpoints (from compiled entries) and for pods of other nodes (rule by rule). */
import { describe, expect, test } from 'vitest';
import { Action, Direction } from '../../../engine/abi.gen.ts';
import { addressKey, parseAddress } from '../../../engine/policy/address.ts';
import type { Compiler } from '../../../engine/policy/compile.ts';
import { explain, type Party } from '../../../engine/policy/explain.ts';
import { compiled, snapshotOf } from '../../support/compiled.ts';
import { naiveVerdict } from '../../support/naive-policy.ts';
import { RandomCluster } from '../../support/random-cluster.ts';

const seed = Number(process.env.SLUICE_TEST_SEED ?? 20_261_123);
const PEERS = ['10.0.0.1', '10.0.0.4', '10.0.0.9', '192.0.2.1', '10.9.9.9', 'fd00::2', '2001:db8::1'];

const party = (compiler: Compiler, text: string): Party => {
  const address = parseAddress(text) as Uint8Array;
  const pod = compiler.podsByAddress.get(addressKey(address));
  return { address, ...(pod && { pod }) };
};

describe.each([
  { where: 'here', strip: (text: string) => text },
  { where: 'elsewhere', strip: (text: string) => text.replaceAll('sluice.dev/interface', 'other') },
])('explain() for pods $where', ({ strip }) => {
  test(`says what a naive evaluator says, and by which tier (seed ${seed})`, () => {
    let compared = 0;
    for (let i = 0; i < 30; i++) {
      const cluster = new RandomCluster(seed + i);
      for (let n = 0; n < 14; n++) cluster.change();
      const compiler = compiled(snapshotOf(strip(cluster.manifest)));
      for (const pod of cluster.pods)
        for (const peer of PEERS)
          for (const port of [1, 3, 5]) {
            const own = pod.status.podIPs.find(({ ip }: { ip: string }) => ip.includes(':') === peer.includes(':')).ip as string;
            const question = { source: party(compiler, own), destination: party(compiler, peer), protocol: 6, port };
            const [end] = explain(compiler, question, []);
            if (own === peer) {
              expect(end).toMatchObject({ action: Action.ALLOW, beforePolicy: true });
              continue;
            }
            const { allowed, tier } = naiveVerdict(cluster, { direction: 'egress', pod, peer, names: [], protocol: 'TCP', port });
            const where = `seed ${seed + i}: ${pod.metadata.name} to ${peer} ${port}\n${cluster.manifest}`;
            expect(end?.direction, where).toBe(Direction.EGRESS);
            expect(end?.action === Action.ALLOW, where).toBe(allowed);
            expect(end?.tier, where).toBe(tier === 'default' ? 'none' : tier);
            compared += 1;
          }
    }
    expect(compared).toBeGreaterThan(1000);
  });
});

/** The table of policies, on real sockets between namespaces, each case over IPv4 and IPv6 at once. */
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { baseCluster, type FlowCase, PODS, POLICY_CASES } from '../cases/policy.ts';
import { TestNode } from '../support/test-node.ts';

/** Cases that the lab has no listener for; test-run has them in test/bpf/policy-cases. */
const hasListener = ({ protocol = 'TCP' }: FlowCase): boolean => protocol === 'TCP' || protocol === 'ICMP';

describe.skipIf(inject('missing'))('sockets', () => {
  const node = new TestNode();
  const addresses = new Map<string, readonly string[]>();

  beforeAll(async () => {
    await node.lab(baseCluster(() => undefined));
    await node.engine();
    for (const pod of PODS) {
      const { stdout } = await node.exec(pod, 'ip', '-o', 'addr', 'show', 'dev', 'eth0', 'scope', 'global');
      addresses.set(
        pod,
        [...stdout.matchAll(/inet6? ([^/]+)\//g)].map(([, address]) => address as string),
      );
    }
  }, 60_000);
  afterAll(() => node.remove());

  const ipOf = (pod: string, v6: boolean): string => addresses.get(pod)?.find((address) => address.includes(':') === v6) as string;

  async function connects({ from, to, port, protocol }: FlowCase, v6: boolean): Promise<boolean> {
    const address = ipOf(to, v6);
    if (protocol === 'ICMP') return (await node.exec(from, 'ping', '-c', '1', '-W', '0.4', address)).code === 0;
    return node.reaches(from, address, port, 0.4);
  }

  test('every pod has an address of both families', () => {
    for (const pod of PODS) expect([ipOf(pod, false), ipOf(pod, true)]).not.toContain(undefined);
  });

  test.each(POLICY_CASES.filter(({ flows }) => flows.some(hasListener)))('$name', async ({ policies, flows }) => {
    const manifests = [false, true].flatMap((v6) => policies((pod) => ipOf(pod, v6)));
    // Policies that name addresses must name both families' in one policy's place: two policies of one meaning add up to it.
    node.write('case.yaml', manifests.join('---\n'));
    await node.apply();
    const tried = flows.filter(hasListener).flatMap((flow) => [false, true].map((v6) => ({ flow, v6 })));
    const got = await Promise.all(
      tried.map(async ({ flow, v6 }) => ({ ...flow, family: v6 ? 'IPv6' : 'IPv4', allowed: await connects(flow, v6) })),
    );
    expect(got).toEqual(tried.map(({ flow, v6 }) => ({ ...flow, family: v6 ? 'IPv6' : 'IPv4' })));
  });
});

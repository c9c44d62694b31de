/** A pod and its own node: what the node sends there always passes, what the pod sends is policy like any other. */
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { networkPolicy, webPod, withAddresses } from '../support/cluster.ts';
import { TestNode } from '../support/test-node.ts';

/** Of the node: its own, one as node-local DNS caches have it, and the gateway of its pods. */
const PLACES = [
  { name: 'its address', address: '10.89.1.1', pod: '10.89.0.1' },
  { name: 'its second address', address: '10.89.1.2', pod: '10.89.0.1' },
  { name: 'an address of a node-local DNS cache', address: '169.254.20.10', pod: '10.89.0.1' },
  { name: 'the gateway of its pods', address: '169.254.1.1', pod: '10.89.0.1' },
  { name: 'its IPv6 address', address: 'fd00:89:1::1', pod: 'fd00:89::1' },
];

describe.skipIf(inject('missing'))('a pod and its own node', () => {
  const node = new TestNode();

  beforeAll(async () => {
    await node.lab(withAddresses(webPod('shop', 'web'), '10.89.0.1', 'fd00:89::1'));
    for (const { address } of PLACES.filter((place) => place.address !== '169.254.1.1')) {
      const added = address.includes(':') ? [`${address}/128`, 'dev', 'lo', 'nodad'] : [`${address}/32`, 'dev', 'lo'];
      expect(await node.run('ip', 'addr', 'add', ...added)).toMatchObject({ code: 0 });
    }
    node.startOnNode(process.execPath, '-e', "require('http').createServer((_, answer) => answer.end('node')).listen(8088, '::')");
    await node.engine('--node-name', 'here');
  }, 60_000);
  afterAll(() => node.remove());

  const reached = async (): Promise<string[]> => {
    const tried = await Promise.all(
      PLACES.map(async (place) => ((await node.reaches('shop/web', place.address, 8088)) ? [place.name] : [])),
    );
    return tried.flat();
  };
  const every = PLACES.map(({ name }) => name);
  const explained = async (address: string) =>
    JSON.parse(
      (await node.sluiceOk('explain', '--from', 'shop/web', '--to', address, '--port', '8088/tcp', '--verify', '-o', 'json')).stdout,
    );

  test('without a policy each reaches the other', async () => {
    expect(await reached()).toEqual(every);
  });

  test('under isolation the node reaches the pod, from each of its addresses, and the pod the node no longer', async () => {
    node.write('policy.yaml', networkPolicy('closed', 'shop', '{ podSelector: {}, policyTypes: [Ingress, Egress] }'));
    await node.apply();
    expect(await reached()).toEqual([]);
    for (const { address, pod, name } of PLACES) {
      const host = pod.includes(':') ? `[${pod}]` : pod;
      expect((await node.curl('--interface', address, `http://${host}/`)).code, name).toBe(0);
    }
    for (const flow of await explained('10.89.1.1'))
      expect(flow).toMatchObject({ verdict: 'deny', ends: [{ direction: 'egress', verdict: 'deny', kernel: { agrees: true } }] });
    const from = JSON.parse(
      (await node.sluiceOk('explain', '--from', '10.89.1.1', '--to', 'shop/web', '--port', '80/tcp', '--verify', '-o', 'json')).stdout,
    );
    expect(from).toMatchObject([{ verdict: 'allow', ends: [{ direction: 'ingress', kernel: { agrees: true } }] }]);
  });

  test('neighbours are found all the same', async () => {
    await node.exec('shop/web', 'ip', 'neigh', 'flush', 'all');
    expect((await node.curl('http://[fd00:89::1]/')).code).toBe(0);
  });

  test('a rule about its address, or about nodes, opens what it names', async () => {
    const egress = (to: string, ports = ''): string => `{ podSelector: {}, policyTypes: [Egress], egress: [{ to: [${to}]${ports} }] }`;
    node.write('policy.yaml', networkPolicy('closed', 'shop', egress('{ ipBlock: { cidr: 10.89.1.0/31 } }')));
    await node.apply();
    expect(await reached()).toEqual(['its address']);
    node.write(
      'nodes.yaml',
      `apiVersion: v1
kind: Node
metadata: { name: here, labels: { zone: a } }
status: { addresses: [{ type: InternalIP, address: 10.89.1.2 }, { type: InternalIP, address: 'fd00:89:1::1' }] }
---
apiVersion: policy.networking.k8s.io/v1beta1
kind: ClusterNetworkPolicy
metadata: { name: nodes }
spec:
  tier: Admin
  priority: 1
  subject: { namespaces: {} }
  egress: [{ action: Accept, to: [{ nodes: { matchLabels: { zone: a } } }] }]
`,
    );
    await node.apply();
    expect(await reached()).toEqual(['its address', 'its second address', 'its IPv6 address']);
    for (const flow of await explained('10.89.1.2'))
      expect(flow).toMatchObject({ verdict: 'allow', ends: [{ tier: 'admin', kernel: { agrees: true } }] });
    node.delete('nodes.yaml');
    await node.apply();
    expect(await reached()).toEqual(['its address']);
  });
});

/** Every packet that an engine's programs drop is shown with its reason, whatever it was, and counted. */
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import type { FlowView } from '../../engine/observe/flow-fields.ts';
import { barePod } from '../support/cluster.ts';
import { frame, ipv4, raw, tcp, udp } from '../support/packets.ts';
import { TestNode, until } from '../support/test-node.ts';

const ISOLATED = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: closed, namespace: shop }
spec: { podSelector: {}, policyTypes: [Ingress, Egress] }
`;
/** Sends frames as they are. */
const SENDER = `import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
for frame in sys.argv[1:]: s.send(bytes.fromhex(frame))`;

describe.skipIf(inject('missing'))('drops', () => {
  let node: TestNode;
  let own: string;
  beforeAll(async () => {
    node = new TestNode();
    await node.lab(barePod('shop', 'web') + barePod('shop', 'db'));
    own = node.podAddress('web');
    await node.engine();
    node.write('policy.yaml', ISOLATED);
    await node.apply();
  }, 60_000);
  afterAll(() => node?.remove());

  const send = (...frames: Buffer[]) => node.exec('shop/web', 'python3', '-c', SENDER, ...frames.map((each) => each.toString('hex')));
  const flows = async (...flags: string[]): Promise<FlowView[]> =>
    (await node.sluiceOk('flows', '-o', 'jsonl', ...flags)).stdout
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line));

  test.each([
    {
      reason: 'spoofed',
      packet: () => frame(ipv4({ from: '10.99.0.1', to: '10.99.0.2' }, tcp({ dport: 443 }))),
      want: {
        source: { pod: 'shop/web', address: '10.99.0.1' },
        destination: { address: '10.99.0.2', port: 443 },
        reasonCode: 'drop_spoofed',
      },
    },
    {
      reason: 'malformed',
      packet: () => frame(ipv4({ from: own, to: '10.99.0.2', ihl: 4 }, tcp())),
      want: { source: { pod: 'shop/web', address: '' }, destination: { pod: '', address: '' }, protocol: '', reasonCode: 'drop_malformed' },
    },
    {
      reason: 'fragment',
      packet: () => frame(ipv4({ from: own, to: '10.99.0.2', fragmentOffset: 24, fragmentId: 9 }, raw(17, Buffer.alloc(16)))),
      want: { source: { pod: 'shop/web' }, destination: { address: '10.99.0.2', port: 0 }, protocol: 'UDP', reasonCode: 'drop_fragment' },
    },
    {
      reason: 'policy',
      packet: () => frame(ipv4({ from: own, to: '10.99.0.2' }, udp({ dport: 9999 }))),
      want: { source: { pod: 'shop/web' }, destination: { port: 9999 }, protocol: 'UDP', reasonCode: 'drop_policy' },
    },
  ])('of a packet: $reason', async ({ reason, packet, want }) => {
    await send(packet());
    let found: FlowView[] = [];
    await until(async () => (found = await flows('--reason', reason, '--pod', 'shop/web', '--verdict', 'deny')).length > 0, 5000);
    expect(found.at(-1)).toMatchObject({ ...want, direction: 'egress', verdict: 'deny', endpoint: 'shop/web' });
    const metrics = (await node.curl('http://127.0.0.1:9470/metrics')).stdout;
    expect(metrics).toMatch(new RegExp(`^sluice_packets_total\\{reason="drop_${reason}"\\} [1-9]`, 'm'));
    expect(metrics).toMatch(new RegExp(`^sluice_flow_records_total\\{.*reason="drop_${reason}".*\\} [1-9]`, 'm'));
  });
});

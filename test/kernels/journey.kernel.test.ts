/**
 * Every program once, on real sockets, under the kernel that runs this: pods and processes, held and released packets, explain,
 * and enforcement without the engine. Small enough to be run under other kernels too: `npm run test:kernels`.
 */
import { release } from 'node:os';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { TestCgroup } from '../support/cgroup.ts';
import { askingPolicy, networkPolicy, webPod, withAddresses } from '../support/cluster.ts';
import { TestNode, until } from '../support/test-node.ts';

const module = fileURLToPath(new URL('../../plugins/egress-allow-list/build/egress-allow-list.wasm', import.meta.url));

describe.skipIf(inject('missing'))(`on Linux ${release()}`, () => {
  const node = new TestNode();
  const cgroup = new TestCgroup('journey');
  const [web, web6, db, db6] = ['10.88.0.1', 'fd88::1', '10.88.0.2', 'fd88::2'];
  /** Programs are attached by tcx since 6.6, and by clsact before. */
  const [major = 0, minor = 0] = release().split('.').map(Number);
  const attachment = major > 6 || (major === 6 && minor >= 6) ? 'tcx' : 'clsact';

  beforeAll(async () => {
    await node.lab(withAddresses(webPod('shop', 'web'), web, web6) + withAddresses(webPod('shop', 'db'), db, db6));
    node.write(
      'agent.yaml',
      `apiVersion: v1\nkind: Pod\nmetadata: { name: agent, namespace: host, annotations: { sluice.dev/cgroup: ${cgroup.name} } }\nspec: { hostNetwork: true }\n`,
    );
    // An emulated machine takes its time to evaluate, too.
    await node.engine('--hold-timeout', '5s');
  });
  afterAll(async () => {
    await node.remove();
    await until(() => cgroup.tryRemove(), 5000);
  });

  test('programs are attached as this kernel can', async () => {
    await node.apply();
    expect((await node.api<{ attachment: string }>('/v1/status')).attachment).toBe(attachment);
    expect(await node.reaches('shop/db', web, 80)).toBe(true);
  });

  test('NetworkPolicy and ClusterNetworkPolicy, on both families, and the kernel agrees with explain', async () => {
    const guard = `apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: { name: guard }
spec: { tier: Admin, priority: 1, subject: { namespaces: {} }, ingress: [{ action: Deny, from: [{ namespaces: {} }], protocols: [{ tcp: { destinationPort: { number: 8080 } } }] }] }
`;
    node.write(
      'policy.yaml',
      `${networkPolicy('web', 'shop', '{ podSelector: { matchLabels: { app: web } }, ingress: [{ from: [{ podSelector: { matchLabels: { app: db } } }] }] }')}---\n${guard}`,
    );
    await node.apply();
    for (const address of [web, web6]) {
      expect(await node.reaches('shop/db', address, 80)).toBe(true);
      expect(await node.reaches('shop/db', address, 8080)).toBe(false);
    }
    const { stdout } = await node.sluiceOk('explain', '--from', 'shop/db', '--to', 'shop/web', '--port', '8080/tcp', '--verify');
    expect(stdout).toContain('ClusterNetworkPolicy guard ingress[0] denies it');
    expect(stdout).not.toContain('disagrees');
  });

  test('a plugin is asked about the first packet, which goes on when it allows', async () => {
    node.write(
      'plugin.yaml',
      askingPolicy('list', {
        file: module,
        app: 'db',
        spec: 'limits: { evaluateMs: 1000 }, config: { allow: [{ label: app=web, port: 80 }] }',
      }),
    );
    await node.apply();
    expect(await node.reaches('shop/db', web, 80)).toBe(true);
    expect(await node.reaches('shop/db', web, 8080)).toBe(false);
    const { stdout } = await node.sluiceOk('flows', '--last', '20', '-o', 'json');
    const decided = stdout.split('\n').filter((line) => line.includes('"plugin":"list"'));
    expect(decided.some((line) => line.includes('"verdict":"allow"'))).toBe(true);
    node.delete('plugin.yaml');
    await node.apply();
  });

  test('processes by their cgroup: what is denied fails at once', async () => {
    node.write(
      'agent-policy.yaml',
      networkPolicy(
        'agent',
        'host',
        '{ podSelector: {}, policyTypes: [Egress], egress: [{ to: [{ namespaceSelector: {}, podSelector: { matchLabels: { app: web } } }] }] }',
      ),
    );
    await node.apply();
    const curl = async (address: string): Promise<number> =>
      (await node.run(...cgroup.enter('curl', '-gs', '-m', '8', '-o', '/dev/null', `http://${address}/`))).code;
    // 7: could not connect, which a time-out (28) is not.
    expect([await curl(web), await curl(db)]).toEqual([0, 7]);
  });

  test('all of it holds without the engine, and goes with cleanup', async () => {
    await node.stopEngines();
    expect(await node.reaches('shop/db', web, 80)).toBe(true);
    expect(await node.reaches('shop/db', web, 8080)).toBe(false);
    await node.sluiceOk('cleanup', '--bpffs', node.bpffs);
    expect(await node.reaches('shop/db', web, 8080)).toBe(true);
  });
});

/**
 * Every program once, on real sockets, under the kernel that runs this: pods and processes, held and released packets, explain,
 * and enforcement without the engine. Small enough to be run under other kernels too: `npm run test:kernels`.
 */
import { release } from 'node:os';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { TestCgroup } from '../support/cgroup.ts';
import { askingPolicy, barePod, networkPolicy, webPod, withAddresses } from '../support/cluster.ts';
import { TestNode, until } from '../support/test-node.ts';

const built = (plugin: string): string => fileURLToPath(new URL(`../../plugins/${plugin}/build/${plugin}.wasm`, import.meta.url));

describe.skipIf(inject('missing'))(`on Linux ${release()}`, () => {
  const node = new TestNode();
  const cgroup = new TestCgroup('journey');
  const [web, web6, db, db6] = ['10.88.0.1', 'fd88::1', '10.88.0.2', 'fd88::2'];
  /** Programs are attached by tcx since 6.6, and by clsact before. */
  const [major = 0, minor = 0] = release().split('.').map(Number);
  const attachment = major > 6 || (major === 6 && minor >= 6) ? 'tcx' : 'clsact';

  beforeAll(async () => {
    const versions = webPod('http', 'v1') + webPod('http', 'v2') + barePod('http', 'client');
    await node.lab(withAddresses(webPod('shop', 'web'), web, web6) + withAddresses(webPod('shop', 'db'), db, db6) + versions);
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
        file: built('egress-allow-list'),
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

  test('requests of a pod and of a process are decided one by one, and without an engine by the failure policy', async () => {
    const service = (name: string, ips: string, app: string): string =>
      `apiVersion: v1\nkind: Service\nmetadata: { name: ${name}, namespace: http }\nspec: { clusterIPs: [${ips}], selector: { app: ${app} }, ports: [{ port: 80, targetPort: 80 }] }\n`;
    const tag = (namespace: string): string => `apiVersion: sluice.dev/v1alpha1
kind: PluginPolicy
metadata: { name: canary, namespace: ${namespace} }
spec:
  podSelector: {}
  egress:
    - to: [{ service: { name: checkout, namespace: http } }]
      ask: { plugin: canary, context: http }
      http:
        routes: { stable: { service: v1, namespace: http, port: 80 }, canary: { service: v2, namespace: http, port: 80 } }
        default: stable
`;
    const plugin = `apiVersion: sluice.dev/v1alpha1\nkind: PolicyPlugin\nmetadata: { name: canary }\nspec: { module: { file: ${built('canary')} }, failurePolicy: Allow, limits: { evaluateMs: 1000 } }\n`;
    const services = [
      service('checkout', "10.96.0.10, 'fd96::10'", 'v1'),
      service('v1', '10.96.0.11', 'v1'),
      service('v2', '10.96.0.12', 'v2'),
    ];
    node.write('http.yaml', [...services, plugin, tag('http'), tag('host')].join('---\n'));
    await node.apply();
    const clients = {
      pod: (...args: string[]) => node.exec('http/client', 'curl', '-gsS', '-m', '9', ...args),
      process: (...args: string[]) => node.run(...cgroup.enter('curl', '-gsS', '-m', '9', ...args)),
    };
    const canary = ['-H', 'Cookie: canary=v2'];
    for (const [name, curl] of Object.entries(clients))
      for (const host of ['10.96.0.10', '[fd96::10]']) {
        await until(async () => (await curl(`http://${host}/`)).stdout.startsWith('v1'), 5000);
        expect((await curl(`http://${host}/`, ...canary)).stdout, `${name} ${host}`).toMatch(/^v2 asked by/);
        expect((await curl('-i', `http://${host}/admin`)).stdout, `${name} ${host}`).toMatch(/^HTTP\/1.1 403/);
      }
    await node.stopEngines('SIGKILL');
    for (const curl of Object.values(clients))
      await until(async () => (await curl('http://10.96.0.10/', ...canary)).stdout.startsWith('v1'), 5000);
    await node.engine('--hold-timeout', '5s');
    node.delete('http.yaml');
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

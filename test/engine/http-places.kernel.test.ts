/** HTTP requests decided one by one, where client or backend is no pod with an interface here: processes of the node, other nodes. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { FlowView } from '../../engine/observe/flow-fields.ts';
import { buildPlugin } from '../../engine/plugin-tools/build-plugin.ts';
import { TestCgroup } from '../support/cgroup.ts';
import { CHECKOUT, CHECKOUT_IPV6, httpLab, plugin, SERVICES, service, tag } from '../support/http-cluster.ts';
import { TestNode, until } from '../support/test-node.ts';

const SERVER = fileURLToPath(new URL('../fixtures/http-server.ts', import.meta.url));
const CANARY = ['-H', 'Cookie: canary=v2'];

/** Says what getpeername() has on a connection, and on what port it really is. */
const PEER = `
const socket = require('node:net').connect({ host: process.argv[1], port: Number(process.argv[2]) }, () => {
  console.log(socket.remoteAddress, socket.remotePort, socket.localAddress);
  process.exit(0);
}).on('error', (error) => { console.log(error.code); process.exit(0); });`;

describe('requests of processes of the node', () => {
  const node = new TestNode();
  const cgroup = new TestCgroup('http');
  const agent = `apiVersion: v1
kind: Pod
metadata: { name: agent, namespace: shop, labels: { app: agent }, annotations: { sluice.dev/cgroup: ${cgroup.name} } }
spec: { hostNetwork: true }
`;
  let canary: string;
  let known: string;
  const inside = (...command: string[]) => node.run(...cgroup.enter(...command));
  const curl = (...args: string[]) => inside('curl', '-gsS', '-m', '5', ...args);
  const get = async (...args: string[]): Promise<string> => (await curl(`http://${CHECKOUT}/`, ...args)).stdout.trim();
  const peer = async (host: string, port: number): Promise<string> =>
    (await inside(process.execPath, '-e', PEER, host, String(port))).stdout.trim();
  const policies = (...parts: string[]): void => node.write('canary.yaml', parts.join('---\n'));

  beforeAll(async () => {
    await node.lab(httpLab(SERVER));
    canary = (await buildPlugin('plugins/canary', join(node.directory, 'canary.wasm'))).path;
    known = (await buildPlugin('test/fixtures/known-route', join(node.directory, 'known-route.wasm'))).path;
    node.write('services.yaml', SERVICES);
    node.write('agent.yaml', agent);
    policies(plugin('canary', canary), tag('canary', undefined, 'agent'));
    await node.engine();
    await node.apply();
    await until(async () => (await get()).startsWith('v1'), 10_000);
  });
  afterAll(async () => {
    await node.remove();
    await until(
      () => cgroup.tryRemove(),
      5000,
      () => 'cgroup still in use',
    );
  });

  test('go to the version that the plugin says, one by one, over IPv4, IPv6 and HTTP/2', async () => {
    expect(await get()).toMatch(/^v1 asked by /);
    expect(await get(...CANARY)).toMatch(/^v2 asked by /);
    expect((await curl(`http://[${CHECKOUT_IPV6}]/`, ...CANARY)).stdout).toMatch(/^v2/);
    expect((await curl(`http://[::ffff:${CHECKOUT}]/`, ...CANARY)).stdout).toMatch(/^v2/);
    expect((await curl('--http2-prior-knowledge', `http://${CHECKOUT}/x`, ...CANARY)).stdout).toContain('v2 over HTTP/2 at /x');
    const { stdout, stderr } = await curl('-v', `http://${CHECKOUT}/`, '--next', '-gsSv', ...CANARY, `http://${CHECKOUT}/`);
    expect(stdout).toMatch(/^v1.*\nv2/);
    expect(stderr.match(/Re-using existing/g)).toHaveLength(1);
  });

  test('that are denied get the reason, and are shown with who asked', async () => {
    expect((await curl('-i', `http://${CHECKOUT}/admin`)).stdout).toMatch(/^HTTP\/1.1 403 [\s\S]*x-sluice-reason: admin only/);
    const denied = async (): Promise<FlowView | undefined> =>
      (await node.sluiceOk('flows', '-o', 'json')).stdout
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line) as FlowView)
        .find(({ http }) => http?.status === 403);
    await until(async () => (await denied()) !== undefined, 3000);
    expect(await denied()).toMatchObject({ verdict: 'deny', reason: 'admin only', hook: 'http', plugin: 'canary' });
  });

  test('see the address that they asked for, wherever the connection goes', async () => {
    expect(await peer(CHECKOUT, 80)).toBe(`${CHECKOUT} 80 127.0.0.1`);
    expect(await peer(CHECKOUT_IPV6, 80)).toBe(`${CHECKOUT_IPV6} 80 ::1`);
  });

  test('of other processes of the node do not go through the proxy, and nobody else can talk to it', async () => {
    // No such address on this node: without the proxy it is nobody's.
    expect((await node.run('curl', '-gsS', '-m', '1', `http://${CHECKOUT}/`)).code).not.toBe(0);
    const listening = (await node.run('ss', '-Hltn', 'src', '127.0.0.1')).stdout;
    const ports = [...listening.matchAll(/127\.0\.0\.1\]?:(\d+)/g)].map(([, port]) => Number(port)).filter((port) => port !== 9470);
    expect(ports).toHaveLength(1);
    const refused = async (): Promise<number> =>
      Number(/sluice_http_refused_connections_total (\d+)/.exec((await node.curl('http://127.0.0.1:9470/metrics')).stdout)?.[1]);
    const before = await refused();
    for (const enter of [[], cgroup.enter()])
      expect(await node.run(...enter, 'curl', '-gsS', '-m', '2', `http://127.0.0.1:${ports[0]}/`)).toMatchObject({
        code: expect.toSatisfy((code: number) => [7, 52, 56].includes(code)),
        stdout: '',
      });
    await until(async () => (await refused()) === before + 2, 3000);
  });

  test('reach only backends that policy lets the process reach', async () => {
    node.write(
      'egress.yaml',
      `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: only-v1, namespace: shop }
spec: { podSelector: { matchLabels: { app: agent } }, policyTypes: [Egress], egress: [{ to: [{ podSelector: { matchLabels: { version: v1 } } }] }] }
`,
    );
    await node.apply();
    expect(await get()).toMatch(/^v1/);
    expect((await curl('-i', ...CANARY, `http://${CHECKOUT}/`)).stdout).toMatch(
      /^HTTP\/1.1 503 [\s\S]*no backend that is ready and allowed/,
    );
    node.delete('egress.yaml');
    await node.apply();
  });

  test('are decided, too, where a rule is about the pods themselves', async () => {
    const v1 = node.podAddress('v1');
    policies(plugin('canary', canary), tag('canary', '[{ podSelector: { matchLabels: { app: checkout } } }]', 'agent'));
    await node.apply();
    expect((await curl('-i', `http://${v1}/admin`)).stdout).toMatch(/^HTTP\/1.1 403/);
    expect((await curl(`http://${v1}/`, ...CANARY)).stdout).toMatch(/^v2/);
  });

  test('of a verdict for all connections never meet the engine, and go on without it', async () => {
    policies(plugin('known-route', known, 'failurePolicy: Allow'), tag('known-route', undefined, 'agent'));
    await node.apply();
    expect(await get()).toMatch(/^v1/);
    const proxied = async (): Promise<number> =>
      Number(/reason="pass_proxy"\} (\d+)/.exec((await node.curl('http://127.0.0.1:9470/metrics')).stdout)?.[1] ?? 0);
    const before = await proxied();
    for (let i = 0; i < 5; i++) expect(await get(...CANARY)).toMatch(/^v1/);
    expect(await peer(CHECKOUT, 80)).toMatch(new RegExp(`^${CHECKOUT} 80 `));
    expect((await proxied()) - before).toBeLessThanOrEqual(1);
    await node.stopEngines('SIGKILL');
    expect(await get()).toMatch(/^v1/);
    await node.engine();
    expect(await get()).toMatch(/^v1/);
  });

  test('get the failure policy at once when the engine is gone, and a new engine takes over', async () => {
    policies(plugin('canary', canary, 'failurePolicy: Allow'), tag('canary', undefined, 'agent'));
    await node.apply();
    expect(await get(...CANARY)).toMatch(/^v2/);
    await node.stopEngines('SIGKILL');
    for (let i = 0; i < 10; i++) expect(await get(...CANARY)).toMatch(/^v1/);
    await node.engine();
    expect(await get(...CANARY)).toMatch(/^v2/);
    policies(plugin('canary', canary), tag('canary', undefined, 'agent'));
    await node.apply();
    await node.stopEngines('SIGKILL');
    expect(await peer(CHECKOUT, 80)).toBe('EPERM');
    await node.engine();
    expect(await get(...CANARY)).toMatch(/^v2/);
  });
});

describe('requests to backends that are not on this node', () => {
  const node = new TestNode();
  const other = `sluicetest-${node.name}-other`;
  const [ELSEWHERE, ELSEWHERE_IPV6] = ['10.77.0.5', 'fd77::5'];
  const curl = (...args: string[]) => node.exec('shop/client', 'curl', '-gsS', '-m', '5', ...args);
  const get = async (...args: string[]): Promise<string> => (await curl(`http://${CHECKOUT}/`, ...args)).stdout.trim();
  /** The settings of a real node: forwarding, and a firewall that knows half a connection when it sees one. */
  const SETUP = `set -e
ip link add uplink type veth peer name node netns ${other}
ip addr add 10.99.0.1/24 dev uplink; ip addr add fd99::1/64 dev uplink nodad; ip link set uplink up
ip -n ${other} link set lo up; ip -n ${other} link set node up
ip -n ${other} addr add 10.99.0.2/24 dev node; ip -n ${other} addr add fd99::2/64 dev node nodad
ip -n ${other} addr add ${ELSEWHERE}/32 dev lo; ip -n ${other} addr add ${ELSEWHERE_IPV6}/128 dev lo nodad
ip -n ${other} route add default via 10.99.0.1; ip -n ${other} route add ::/0 via fd99::1
ip route add ${ELSEWHERE}/32 via 10.99.0.2; ip route add ${ELSEWHERE_IPV6}/128 via fd99::2
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=1
echo 'table inet guard { chain onward { type filter hook forward priority 0; ct state invalid drop; }
}' | nft -f -`;

  beforeAll(async () => {
    await node.lab(httpLab(SERVER));
    expect((await node.run('ip', 'netns', 'add', other)).stderr).toBe('');
    expect((await node.run('sh', '-c', SETUP)).stderr).toBe('');
    node.startOnNode('nsenter', `--net=/run/netns/${other}`, '--', process.execPath, SERVER, 'v3');
    const canary = (await buildPlugin('plugins/canary', join(node.directory, 'canary.wasm'))).path;
    node.write(
      'cluster2.yaml',
      `apiVersion: v1
kind: Pod
metadata: { name: v3, namespace: shop, labels: { app: checkout, version: v3 } }
spec: { nodeName: elsewhere, containers: [{ name: main, ports: [{ name: web, containerPort: 80 }] }] }
status: { podIPs: [{ ip: ${ELSEWHERE} }, { ip: '${ELSEWHERE_IPV6}' }] }
`,
    );
    node.write('services.yaml', SERVICES.replaceAll('version: v2 }, ports', 'version: v3 }, ports'));
    node.write('canary.yaml', `${plugin('canary', canary)}---\n${tag('canary')}`);
    await node.engine();
    await node.apply();
    await until(async () => (await get()).startsWith('v1'), 10_000);
  });
  afterAll(async () => {
    const { stderr } = await node.run('ip', 'netns', 'delete', other);
    await node.remove();
    expect(stderr).toBe('');
  });

  test('are decided, answered, and see the pod', async () => {
    const address = (await node.exec('shop/client', 'hostname', '-I')).stdout.trim().split(' ');
    expect(await get(...CANARY)).toBe(`v3 asked by ${address.find((each) => !each.includes(':'))}`);
    expect((await curl(`http://[${CHECKOUT_IPV6}]/`, ...CANARY)).stdout.trim()).toBe(
      `v3 asked by ${address.find((each) => each.includes(':'))}`,
    );
    expect((await curl('-o', '/dev/null', '-w', '%{size_download}', ...CANARY, `http://${CHECKOUT}/large`)).stdout).toBe(String(64 << 20));
    expect((await curl('--http2-prior-knowledge', ...CANARY, `http://${CHECKOUT}/`)).stdout).toContain('v3 over HTTP/2');
  });

  test('go on when policy changes on the way', async () => {
    const slow = curl(...CANARY, `http://${CHECKOUT}/slow`);
    await until(async () => (await node.run('ip', 'netns', 'exec', other, 'ss', '-Htn')).stdout.includes('ESTAB'), 3000);
    node.write(
      'more.yaml',
      'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: open, namespace: shop }\nspec: { podSelector: {}, policyTypes: [Egress], egress: [{}] }\n',
    );
    await node.apply();
    expect((await slow).stdout).toBe('v3 slowly\n');
    expect(await get(...CANARY)).toMatch(/^v3/);
  });

  test('of a Service whose only backend is the pod itself come back to it', async () => {
    node.write('self.yaml', service('self', ['10.96.0.20'], '{ app: checkout, version: v1 }'));
    node.write('self-tag.yaml', tag('canary', '[{ service: { name: self } }]', 'checkout'));
    await node.apply();
    expect((await node.exec('shop/v1', 'curl', '-gsS', '-m', '5', 'http://10.96.0.20/')).stdout).toMatch(/^v1 asked by /);
  });
});

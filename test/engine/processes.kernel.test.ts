/** Endpoints without an interface of their own: chosen processes of the host, by their cgroup. */
import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { TestCgroup } from '../support/cgroup.ts';
import { networkPolicy, webPod, withAddresses } from '../support/cluster.ts';
import { TestNode, until } from '../support/test-node.ts';

/** Connects or sends, and says how that ended and after how many milliseconds. */
const CLIENT = `
const [kind, host, port] = process.argv.slice(1);
const started = performance.now();
const end = (result) => { console.log(JSON.stringify({ result, ms: performance.now() - started })); process.exit(0); };
setTimeout(() => end('timeout'), 700);
if (kind === 'tcp') require('net').connect({ host, port: Number(port) }).on('connect', () => end('connected')).on('error', (error) => end(error.code));
else require('dgram').createSocket(host.includes(':') ? 'udp6' : 'udp4').send('x', Number(port), host, (error) => end(error ? error.code : 'sent'));
`;

describe.skipIf(inject('missing'))('processes of the host', () => {
  const node = new TestNode();
  const cgroup = new TestCgroup('processes');
  const hostPod = `apiVersion: v1
kind: Pod
metadata: { name: agent, namespace: host, labels: { app: agent }, annotations: { sluice.dev/cgroup: ${cgroup.name} } }
spec: { hostNetwork: true }
`;
  const [web, web6, db, db6] = ['10.88.0.1', 'fd88::1', '10.88.0.2', 'fd88::2'];

  beforeAll(async () => {
    await node.lab(withAddresses(webPod('shop', 'web'), web, web6) + withAddresses(webPod('shop', 'db'), db, db6));
    node.write('agent.yaml', hostPod);
    await node.engine();
  }, 60_000);
  afterAll(async () => {
    await node.remove();
    await until(
      () => cgroup.tryRemove(),
      5000,
      () => 'cgroup still in use',
    );
  });

  async function tries(kind: 'tcp' | 'udp', host: string, port: number, inside = true): Promise<{ result: string; ms: number }> {
    const client = [process.execPath, '-e', CLIENT, kind, host, String(port)];
    const { stdout, stderr } = await node.run(...(inside ? cgroup.enter(...client) : client));
    if (!stdout) throw new Error(stderr);
    return JSON.parse(stdout) as { result: string; ms: number };
  }

  test('are open while no policy selects them', async () => {
    await node.apply();
    expect((await tries('tcp', web, 80)).result).toBe('connected');
  });

  describe('isolated for egress but for one pod', () => {
    beforeAll(async () => {
      const to = '[{ namespaceSelector: {}, podSelector: { matchLabels: { app: web } } }]';
      node.write(
        'policy.yaml',
        networkPolicy('agent', 'host', `{ podSelector: {}, policyTypes: [Egress], egress: [{ to: ${to}, ports: [{ port: 80 }] }] }`),
      );
      await node.apply();
    });

    test.each([
      { name: 'the pod they may reach', kind: 'tcp', host: web, port: 80, result: 'connected' },
      { name: 'the same over IPv6', kind: 'tcp', host: web6, port: 80, result: 'connected' },
      { name: 'by an IPv4-mapped address', kind: 'tcp', host: `::ffff:${web}`, port: 80, result: 'connected' },
      { name: 'another port', kind: 'tcp', host: web, port: 8080, result: 'EPERM' },
      { name: 'another pod', kind: 'tcp', host: db, port: 80, result: 'EPERM' },
      { name: 'another pod by an IPv4-mapped address', kind: 'tcp', host: `::ffff:${db}`, port: 80, result: 'EPERM' },
      { name: 'another port over IPv6', kind: 'tcp', host: web6, port: 8080, result: 'EPERM' },
      { name: 'a datagram', kind: 'udp', host: web, port: 80, result: 'EPERM' },
      { name: 'a datagram over IPv6', kind: 'udp', host: web6, port: 53, result: 'EPERM' },
    ] as const)('$name: $result', async ({ kind, host, port, result }) => {
      const got = await tries(kind, host, port);
      expect(got.result).toBe(result);
      // At once: not by a time-out.
      if (result === 'EPERM') expect(got.ms).toBeLessThan(300);
    });

    test('other processes of the host are not concerned', async () => {
      expect((await tries('tcp', db, 80, false)).result).toBe('connected');
    });

    test('they reach their own host', async () => {
      expect((await tries('tcp', '127.0.0.1', 9470)).result).toBe('connected');
    });

    test('a refused connection is shown with its rule, and counted', async () => {
      await tries('tcp', db, 80);
      await until(
        async () =>
          (await node.sluiceOk('flows', '--last', '50', '-o', 'json')).stdout.includes(
            'NetworkPolicy host/agent egress: no rule allows it',
          ),
        3000,
      );
    });

    test('explain says why, and the kernel agrees', async () => {
      const { stdout } = await node.sluiceOk('explain', '--from', 'host/agent', '--to', 'shop/db', '--port', '80/tcp', '--verify');
      expect(stdout).toContain('deny: isolated by NetworkPolicy host/agent, and no rule allows it');
      expect(stdout).toContain('the kernel agrees');
    });
  });

  test('what they receive is judged by who sends it', async () => {
    node.delete('policy.yaml');
    node.write(
      'policy.yaml',
      networkPolicy(
        'agent',
        'host',
        '{ podSelector: {}, ingress: [{ from: [{ namespaceSelector: {}, podSelector: { matchLabels: { app: web } } }] }] }',
      ),
    );
    await node.apply();
    const script = `require('http').createServer((_, r) => r.end('hi')).listen(7777, '0.0.0.0', () => console.log('ready'))`;
    const server = node.startOnNode(...cgroup.enter(process.execPath, '-e', script));
    await new Promise((resolve) => server.stdout?.once('data', resolve));
    const { stdout } = await node.run('sh', '-c', "ip -4 -o addr show scope link | head -1 | sed 's/.*inet \\([^/]*\\).*/\\1/'");
    const host = stdout.trim();
    expect(await node.reaches('shop/web', host, 7777)).toBe(true);
    expect(await node.reaches('shop/db', host, 7777)).toBe(false);
    server.kill('SIGKILL');
    await new Promise((resolve) => server.once('exit', resolve));
  });

  test('every record that a packet of theirs had was given back', async () => {
    const busy = (): number[] => {
      const dump = execFileSync('bpftool', ['-j', 'map', 'dump', 'pinned', `${node.bpffs}/journeys`], { encoding: 'utf8' });
      const entries = JSON.parse(dump) as { formatted: { values: { value: { busy: number } }[] } }[];
      return entries.flatMap(({ formatted }) => formatted.values.map(({ value }) => value.busy));
    };
    expect(busy().length).toBeGreaterThan(1);
    await until(
      () => busy().every((each) => each === 0),
      5000,
      () => `records are taken: ${busy().join(' ')}`,
    );
  });

  test('enforcement outlives the engine, and cleanup takes it away', async () => {
    node.write('policy.yaml', networkPolicy('agent', 'host', '{ podSelector: {}, policyTypes: [Egress] }'));
    await node.apply();
    await node.stopEngines();
    expect((await tries('tcp', web, 80)).result).toBe('EPERM');
    await node.sluiceOk('cleanup', '--bpffs', node.bpffs);
    expect((await tries('tcp', web, 80)).result).toBe('connected');
  });
});

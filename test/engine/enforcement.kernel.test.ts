/** NetworkPolicy with real sockets between real network namespaces, and what becomes of bad manifests. */
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest';
import { barePod, networkPolicy, webPod } from '../support/cluster.ts';
import { type RunningEngine, TestNode, until } from '../support/test-node.ts';

const FRONTEND = { pod: 'shop/frontend', ipv4: '10.0.88.1' };

describe.skipIf(inject('missing'))('enforcement', () => {
  let node: TestNode;
  let engine: RunningEngine;
  const backend: { ipv4: string; ipv6: string } = { ipv4: '', ipv6: '' };

  beforeAll(async () => {
    node = new TestNode();
    await node.lab(webPod('shop', 'frontend') + webPod('shop', 'backend') + barePod('elsewhere', 'stranger'));
    const { stdout } = await node.exec('shop/backend', 'ip', '-j', 'addr', 'show', 'eth0');
    const [eth0] = JSON.parse(stdout) as { addr_info: { local: string; scope: string }[] }[];
    for (const { local, scope } of eth0?.addr_info ?? []) if (scope === 'global') backend[local.includes(':') ? 'ipv6' : 'ipv4'] = local;
    engine = await node.engine();
  });
  afterAll(() => node?.remove());
  beforeEach(() => node.delete('policy.yaml'));

  /** Who reaches which port of the backend, over both families. */
  async function matrix(): Promise<Record<string, boolean>> {
    const cells: Record<string, boolean> = {};
    const tries = ['shop/frontend', 'elsewhere/stranger'].flatMap((pod) =>
      [backend.ipv4, backend.ipv6].flatMap((address) => [80, 8080].map((port) => ({ pod, address, port }))),
    );
    await Promise.all(
      tries.map(async ({ pod, address, port }) => {
        cells[`${pod} ${address.includes(':') ? 'v6' : 'v4'} ${port}`] = await node.reaches(pod, address, port);
      }),
    );
    return cells;
  }
  const open = (key: string, cells: Record<string, boolean>): string[] =>
    Object.keys(cells).filter((cell) => cell.includes(key) && cells[cell]);

  const allowFrontend = networkPolicy(
    'allow-frontend-to-backend',
    'shop',
    '{ podSelector: { matchLabels: { app: backend } }, ingress: [{ from: [{ podSelector: { matchLabels: { app: frontend } } }], ports: [{ protocol: TCP, port: 80 }] }] }',
  );

  test('without policy everybody reaches everybody', async () => {
    await node.apply();
    expect(open('', await matrix())).toHaveLength(8);
  });

  test('lets app: frontend reach app: backend on TCP 80 over both families, and nobody else', async () => {
    node.write('policy.yaml', allowFrontend);
    await node.apply();
    expect(open('', await matrix()).sort()).toEqual(['shop/frontend v4 80', 'shop/frontend v6 80']);
  });

  test('the node reaches its own pods, whatever isolates them', async () => {
    node.write('policy.yaml', networkPolicy('none', 'shop', '{ podSelector: {} }'));
    await node.apply();
    expect((await node.curl('-o', '/dev/null', `http://${backend.ipv4}:80`)).code).toBe(0);
    expect((await node.curl('-o', '/dev/null', `http://[${backend.ipv6}]:80`)).code).toBe(0);
    expect(open('', await matrix())).toEqual([]);
  });

  test('an isolated pod still gets the replies to what it asks', async () => {
    node.write('policy.yaml', networkPolicy('none', 'shop', '{ podSelector: { matchLabels: { app: frontend } } }'));
    await node.apply();
    expect(open('shop/frontend', await matrix())).toHaveLength(4);
  });

  test('egress isolation closes the sender, by network as well', async () => {
    node.write(
      'policy.yaml',
      networkPolicy(
        'out',
        'shop',
        `{ podSelector: { matchLabels: { app: frontend } }, policyTypes: [Egress], egress: [{ to: [{ ipBlock: { cidr: ${backend.ipv4}/32 } }], ports: [{ port: 8080 }] }] }`,
      ),
    );
    await node.apply();
    expect(open('shop/frontend', await matrix())).toEqual(['shop/frontend v4 8080']);
    expect(open('elsewhere/stranger', await matrix())).toHaveLength(4);
  });

  test('follows the files without being asked', async () => {
    node.write('policy.yaml', allowFrontend);
    await until(
      async () => !(await node.reaches('elsewhere/stranger', backend.ipv4, 80)),
      10_000,
      () => engine.log(),
    );
    node.delete('policy.yaml');
    await until(
      () => node.reaches('elsewhere/stranger', backend.ipv4, 80),
      10_000,
      () => engine.log(),
    );
  });

  test('large transfers pass an isolated pod whole', async () => {
    node.write('policy.yaml', allowFrontend);
    await node.apply();
    const server = node.start(
      'shop/backend',
      process.execPath,
      '-e',
      "require('http').createServer((q, r) => r.end(Buffer.alloc(2e7, 7))).listen(81, () => console.log('ready'))",
    );
    await new Promise((resolve) => server.stdout?.once('data', resolve));
    node.write('policy.yaml', allowFrontend.replace('port: 80 ', 'port: 81 '));
    await node.apply();
    const { stdout } = await node.exec(
      'shop/frontend',
      'curl',
      '-s',
      '-m',
      '10',
      '-o',
      '/dev/null',
      '-w',
      '%{size_download}',
      `http://${backend.ipv4}:81`,
    );
    expect(stdout).toBe('20000000');
  });

  test.each([
    { name: 'YAML that does not parse', text: 'kind: [', reason: /policy\.yaml:1: not valid YAML/ },
    {
      name: 'an unknown kind',
      text: 'apiVersion: v1\nkind: Unicorn\nmetadata: { name: u }\n',
      reason: /policy\.yaml:2: Unicorn default\/u: kind: unknown kind Unicorn/,
    },
    {
      name: 'a plugin that nobody declared',
      text: 'apiVersion: sluice.dev/v1alpha1\nkind: PluginPolicy\nmetadata: { name: p, namespace: shop }\nspec: { egress: [{ ask: { plugin: none } }] }\n',
      reason: /no PolicyPlugin none: what it tags is denied/,
    },
  ])('$name makes wait fail with the reason, and the engine goes on', async ({ text, reason }) => {
    node.write('policy.yaml', text);
    const { code, stderr } = await node.sluice('wait', '--timeout', '3s');
    expect(code).toBe(1);
    expect(stderr).toMatch(reason);
    expect((await node.sluice('status', '-o', 'json')).stdout).toMatch(
      reason.source.includes('none') ? /no PolicyPlugin none/ : /problems/,
    );
  });

  test('an invalid policy closes what it selects, says why, and leaves the rest in force', async () => {
    node.write(
      'policy.yaml',
      networkPolicy(
        'bad',
        'shop',
        '{ podSelector: { matchLabels: { app: backend } }, ingress: [{ from: [{ ipBlock: { cidr: 10.0.0/8 } }] }] }',
      ),
    );
    const { code, stderr } = await node.sluice('wait', '--timeout', '3s');
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /policy\.yaml:4: NetworkPolicy shop\/bad: spec\.ingress\[0\]\.from\[0\]\.ipBlock\.cidr: "10\.0\.0\/8" is not a CIDR/,
    );
    const events = (await node.sluiceOk('events', '-o', 'json')).stdout;
    expect(events).toMatch(/"type":"problem","object":"NetworkPolicy shop\/bad","message":"[^"]*policy\.yaml:4:/);
    expect(open('', await matrix())).toEqual([]);
    expect(
      await node.reaches('elsewhere/stranger', FRONTEND.ipv4.replace('10.0.88', backend.ipv4.split('.').slice(0, 3).join('.')), 80),
    ).toBe(true);
  });

  test('a file that breaks keeps in force what it said', async () => {
    node.write('policy.yaml', allowFrontend);
    await node.apply();
    expect((await node.sluiceOk('events', '-o', 'json')).stdout).toMatch(/"type":"resolved","object":"NetworkPolicy shop\/bad"/);
    node.write('policy.yaml', `${allowFrontend}\n  broken: [`);
    expect((await node.sluice('wait', '--timeout', '3s')).code).toBe(1);
    expect(open('', await matrix()).sort()).toEqual(['shop/frontend v4 80', 'shop/frontend v6 80']);
  });

  test('an established connection is cut when policy stops allowing it, and its sender told nothing', async () => {
    await node.apply();
    const script = `const s = require('net').connect(80, '${backend.ipv4}', () => { console.log('open'); setInterval(() => s.write('GET / HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n'), 50); }); s.on('data', () => console.log('data')); s.on('error', () => {});`;
    const client = node.start('elsewhere/stranger', process.execPath, '-e', script);
    let answers = 0;
    client.stdout?.on('data', (chunk: Buffer) => (answers += String(chunk).split('data').length - 1));
    await until(() => answers > 3, 5000);
    node.write('policy.yaml', allowFrontend);
    await node.apply();
    // Packets that were on their way may still come; then nothing does.
    let seen = -1;
    await until(async () => {
      const same = seen === answers;
      seen = answers;
      await new Promise((resolve) => setTimeout(resolve, 300));
      return same && seen === answers;
    }, 5000);
    const stopped = answers;
    node.delete('policy.yaml');
    await node.apply();
    await until(
      () => answers > stopped,
      10_000,
      () => 'the connection did not go on after it was allowed again',
    );
    client.kill('SIGKILL');
  });

  test('counts and shows what it denies', async () => {
    node.write('policy.yaml', allowFrontend);
    await node.apply();
    await node.reaches('elsewhere/stranger', backend.ipv4, 80);
    const metrics = (await node.curl('http://127.0.0.1:9470/metrics')).stdout;
    expect(Number(/sluice_packets_total\{reason="drop_policy"\} (\d+)/.exec(metrics)?.[1])).toBeGreaterThan(0);
    await until(async () => {
      const { stdout } = await node.sluice('flows', '-o', 'json', '--last', '20');
      return stdout.split('\n').some((line) => line.includes('"elsewhere/stranger"') && line.includes('no rule allows it'));
    }, 5000);
  });

  test('describes its API, and refuses what it does not know', async () => {
    const document = await node.api<{ paths: Record<string, unknown> }>('/openapi.json');
    expect(Object.keys(document.paths).sort()).toEqual([
      '/healthz',
      '/metrics',
      '/readyz',
      '/v1/events',
      '/v1/explain',
      '/v1/flows',
      '/v1/host-firewall',
      '/v1/host-firewall/confirm',
      '/v1/host-firewall/retry',
      '/v1/names',
      '/v1/plugins',
      '/v1/plugins/{name}',
      '/v1/plugins/{name}/promote',
      '/v1/plugins/{name}/rollback',
      '/v1/reconcile',
      '/v1/status',
    ]);
    expect(await node.api('/v1/nothing')).toMatchObject({ message: expect.stringContaining('no such path') });
    expect(
      (await node.run('curl', '-s', '-o', '/dev/null', '-w', '%{http_code}', '-H', 'Host: evil.example', 'http://127.0.0.1:9470/v1/status'))
        .stdout,
    ).toBe('403');
  });
});

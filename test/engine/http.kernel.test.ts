/** HTTP requests decided one by one: real clients in pods, real servers behind Services, real packets. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { FlowView } from '../../engine/observe/flow-fields.ts';
import { buildPlugin } from '../../engine/plugin-tools/build-plugin.ts';
import { askingPolicy } from '../support/cluster.ts';
import { CHECKOUT, CHECKOUT_IPV6, httpLab, plugin, SERVICES, tag } from '../support/http-cluster.ts';
import { TestNode, until } from '../support/test-node.ts';

const SERVER = fileURLToPath(new URL('../fixtures/http-server.ts', import.meta.url));
const CANARY = ['-H', 'Cookie: session=1; canary=v2'];

describe('requests of a pod', () => {
  const node = new TestNode();
  let allowed: string;
  const curl = (...args: string[]) => node.exec('shop/client', 'curl', '-gsS', '-m', '5', ...args);
  const get = async (...args: string[]): Promise<string> => (await curl(`http://${CHECKOUT}/`, ...args)).stdout.trim();
  const flows = async (): Promise<FlowView[]> =>
    (await node.sluiceOk('flows', '-o', 'json')).stdout
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as FlowView);

  /** Says bytes on one connection, more when it is there, and returns what comes until it is closed or quiet for a moment. */
  const say = (bytes: string, quietMs = 400, to = CHECKOUT, more?: Promise<string>, heard?: () => void): Promise<string> =>
    new Promise((resolve) => {
      const child = spawn('nsenter', [
        `--net=/run/netns/${node.podNetns('shop/client')}`,
        '--',
        process.execPath,
        '-e',
        `
        const socket = require('node:net').connect({ host: ${JSON.stringify(to)}, port: 80, allowHalfOpen: true });
        let timer; const quiet = () => { clearTimeout(timer); timer = setTimeout(() => process.exit(0), ${quietMs}); };
        socket.on('data', (bytes) => { process.stdout.write(bytes); quiet(); }).on('end', () => process.exit(0)).on('error', (e) => { process.stdout.write(e.code); process.exit(0); });
        process.stdin.on('data', (more) => socket.write(more));
        socket.write(Buffer.from(${JSON.stringify(Buffer.from(bytes, 'latin1').toString('base64'))}, 'base64')); setTimeout(quiet, 1500);`,
      ]);
      let out = '';
      child.stdout.on('data', (chunk: Buffer) => {
        out += chunk.toString('latin1');
        heard?.();
      });
      child.on('exit', () => resolve(out));
      more?.then((rest) => child.stdin.write(rest));
    });

  beforeAll(async () => {
    await node.lab(httpLab(SERVER));
    const canary = (await buildPlugin('plugins/canary', join(node.directory, 'canary.wasm'))).path;
    const known = (await buildPlugin('test/fixtures/known-route', join(node.directory, 'known-route.wasm'))).path;
    node.write('services.yaml', SERVICES);
    node.write('canary.yaml', `${plugin('canary', canary)}---\n${tag('canary')}`);
    allowed = plugin('known-route', known, 'failurePolicy: Allow');
    await node.engine('--hold-timeout', '2s');
    await node.apply();
    await until(async () => (await get()).startsWith('v1'), 10_000);
  });
  afterAll(() => node.remove());

  test('go to the version that the plugin says, over IPv4 and IPv6, and the backend sees the pod', async () => {
    const address = (await node.exec('shop/client', 'hostname', '-I')).stdout.trim().split(' ');
    expect(await get()).toBe(`v1 asked by ${address.find((each) => !each.includes(':'))}`);
    expect(await get(...CANARY)).toMatch(/^v2 asked by /);
    expect(await get('-H', 'X-Canary: YES')).toMatch(/^v2/);
    expect(await get('-H', 'Cookie: canary=v1')).toMatch(/^v1/);
    expect((await curl(`http://[${CHECKOUT_IPV6}]/`, ...CANARY)).stdout.trim()).toBe(
      `v2 asked by ${address.find((each) => each.includes(':'))}`,
    );
  });

  test('go on where a pod that is not here says that it has the address of their pod, and comes before it by name', async () => {
    const own = (await node.exec('shop/client', 'hostname', '-I')).stdout.trim().split(' ')[0];
    node.write(
      'stale.yaml',
      `apiVersion: v1\nkind: Pod\nmetadata: { name: stale, namespace: lost }\nspec: {}\nstatus: { podIPs: [{ ip: "${own}" }] }\n`,
    );
    expect((await node.sluice('wait')).stderr).toContain('of pod lost/stale');
    expect(await get()).toMatch(/^v1/);
    expect(await get(...CANARY)).toMatch(/^v2/);
    node.delete('stale.yaml');
    await node.apply();
  });

  test('are decided one by one on one connection, one after the other and ahead of the answers', async () => {
    const { stdout, stderr } = await curl(
      '-v',
      `http://${CHECKOUT}/`,
      '--next',
      '-gsSv',
      ...CANARY,
      `http://${CHECKOUT}/`,
      '--next',
      '-gsSv',
      `http://${CHECKOUT}/`,
    );
    expect(stdout.split('\n').map((line) => line.slice(0, 2))).toEqual(['v1', 'v2', 'v1', '']);
    expect(stderr.match(/Re-using existing/g)).toHaveLength(2);
    const request = (cookie: string): string => `GET / HTTP/1.1\r\nHost: x\r\nCookie: canary=${cookie}\r\n\r\n`;
    const said = await say(request('v2') + request('v1') + request('v2') + request('v1'));
    expect(said.match(/v[12] asked/g)).toEqual(['v2 asked', 'v1 asked', 'v2 asked', 'v1 asked']);
  });

  test('that the plugin denies get its reason, and are in the flows with it', async () => {
    const { stdout } = await curl('-i', '--path-as-is', `http://${CHECKOUT}/x/..//%61dmin/users`);
    expect(stdout).toMatch(/^HTTP\/1.1 403 [\s\S]*x-sluice-reason: admin only[\s\S]*denied by policy/);
    await until(async () => (await flows()).some((flow) => flow.http?.status === 403), 3000);
    const flow = (await flows()).find((each) => each.http?.status === 403);
    expect(flow).toMatchObject({
      verdict: 'deny',
      reason: 'admin only',
      hook: 'http',
      plugin: 'canary',
      http: { method: 'GET', path: '/x/..//%61dmin/users', version: 'canary 1.1.0', backend: '' },
    });
  });

  test("are explained: the plugin's answer, who may take them, and why not", async () => {
    const explain = async (...args: string[]): Promise<string> =>
      (await node.sluiceOk('explain', '--from', 'shop/client', '--to', CHECKOUT, '--port', '80/tcp', ...args)).stdout;
    expect(await explain('--host', 'shop.example', '--cookie', 'session=1', '--cookie', 'canary=v2')).toMatch(
      /GET http:\/\/shop.example\/: allow: route canary, decided by canary 1.1.0, to shop\/checkout-v2:80 [\d.]+:80\n$/,
    );
    expect(await explain('--path', '/cart?x=1', '--header', 'X-Other: a')).toMatch(/\/cart\?x=1: allow: route stable, .*checkout-v1:80/);
    expect(await explain('--method', 'post', '--path', '/admin')).toMatch(
      /POST http:.*\/admin: deny with 403: admin only, decided by canary/,
    );
    expect(await explain()).not.toContain('http://');
    const asked = JSON.parse(await explain('--cookie', 'canary=v2', '-o', 'json')) as { request: { route: string } }[];
    expect(asked.map(({ request }) => request.route)).toEqual(['canary']);
    const { stdout } = await node.sluiceOk('explain', '--from', 'shop/v1', '--to', CHECKOUT, '--port', '80/tcp', '--host', 'x');
    expect(stdout).toContain('requests on this flow are not decided one by one here');
    const wrong = await node.sluice('explain', '--from', 'shop/client', '--to', CHECKOUT, '--port', '80/tcp', '--cookie', 'canary');
    expect(wrong).toMatchObject({ code: 2, stderr: expect.stringContaining('Cannot explain cookie "canary": must be such as canary=v2') });
  });

  test('that two readers could read differently are refused, and nothing of them goes on', async () => {
    const head = 'POST /sum HTTP/1.1\r\nHost: x\r\n';
    for (const bytes of [
      `${head}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      `${head}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc`,
      `${head}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`,
      `${head}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n`,
      `${head}X: a\r\n b\r\n\r\n`,
      'GET / HTTP/1.1\nHost: x\n\n\r\n\r\n',
      'GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n',
      'GET / HTTP/1.1\r\n\r\n',
      'GET http://other/ HTTP/1.1\r\nHost: x\r\n\r\n',
      'CONNECT v1:80 HTTP/1.1\r\nHost: v1\r\n\r\n',
    ]) {
      const said = await say(bytes, 200);
      expect(said, JSON.stringify(bytes)).toMatch(/^HTTP\/1.1 400 /);
      expect(said.match(/HTTP\/1.1/g), JSON.stringify(bytes)).toHaveLength(1);
    }
    expect(await say(`GET / HTTP/1.1\r\nHost: x\r\nX: ${'a'.repeat(40_000)}\r\n\r\n`)).toMatch(/^HTTP\/1.1 431 /);
    expect(await say(`${head}Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n`)).toMatch(/^HTTP\/1.1 400 /);
  });

  test('carry bodies of any size and framing, both ways', async () => {
    const body = join(node.directory, 'body');
    await node.run('sh', '-c', `head -c 5000000 /dev/urandom > ${body}`);
    const sum = (await node.run('sha256sum', body)).stdout.slice(0, 64);
    expect((await curl('--data-binary', `@${body}`, `http://${CHECKOUT}/sum`)).stdout.trim()).toBe(`v1 5000000 ${sum}`);
    expect(
      (await curl('-H', 'Transfer-Encoding: chunked', '--data-binary', `@${body}`, ...CANARY, `http://${CHECKOUT}/sum`)).stdout.trim(),
    ).toBe(`v2 5000000 ${sum}`);
    expect((await curl('-o', '/dev/null', '-w', '%{size_download}', `http://${CHECKOUT}/large`)).stdout).toBe(String(64 << 20));
    expect((await curl('-0', `http://${CHECKOUT}/`)).stdout).toMatch(/^v1/);
    expect((await curl('-I', `http://${CHECKOUT}/`)).stdout).toMatch(/^HTTP\/1.1 200/);
  });

  test('of an upgrade are decided, and then both sides talk', async () => {
    const said = await say('GET /upgrade HTTP/1.1\r\nHost: x\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\nping');
    expect(said).toMatch(/^HTTP\/1.1 101 [\s\S]*ping$/);
  });

  test('of a WebSocket are decided, and then both sides talk until one closes', async () => {
    const script = `
const socket = new WebSocket('ws://${CHECKOUT}/chat', { headers: { cookie: process.argv[1] ?? '' } });
socket.onopen = () => socket.send('hello');
socket.onmessage = ({ data }) => { console.log(data); socket.close(1000); };
socket.onclose = ({ code }) => console.log(code);
socket.onerror = ({ message }) => console.log('error', message);`;
    const talk = async (cookie: string) => (await node.exec('shop/client', process.execPath, '-e', script, cookie)).stdout;
    expect(await talk('session=1')).toBe('v1 heard hello\n1000\n');
    expect(await talk('canary=v2')).toBe('v2 heard hello\n1000\n');
  });

  test('over HTTP/2 without TLS are decided stream by stream, with trailers', async () => {
    const h2 = (...args: string[]) => curl('--http2-prior-knowledge', '-i', ...args);
    expect((await h2(`http://${CHECKOUT}/shop.Cart/Get`)).stdout).toMatch(
      /^HTTP\/2 200[\s\S]*v1 over HTTP\/2 at \/shop.Cart\/Get\s+grpc-status: 0/,
    );
    expect((await h2(...CANARY, `http://${CHECKOUT}/`)).stdout).toContain('v2 over HTTP/2');
    expect((await h2(`http://${CHECKOUT}/admin`)).stdout).toMatch(/^HTTP\/2 403[\s\S]*x-sluice-reason: admin only/);
  });

  test('of h2load are answered, many at once on each connection', async () => {
    const { stdout } = await node.exec(
      'shop/client',
      'h2load',
      '-n',
      '2000',
      '-c',
      '10',
      '-m',
      '20',
      '-H',
      CANARY[1] ?? '',
      `http://${CHECKOUT}/`,
    );
    expect(stdout).toContain('2000 succeeded, 0 failed, 0 errored');
  });

  test('whose backend dies are answered all the same: with the reason, or broken off where the answer had begun', async () => {
    expect((await curl('-i', `http://${CHECKOUT}/die`)).stdout).toMatch(/^HTTP\/1.1 502 [\s\S]*x-sluice-reason: the backend broke off/);
    expect((await curl(`http://${CHECKOUT}/break`)).code).not.toBe(0);
    node.write('none.yaml', SERVICES.replaceAll('version: v2 }, ports', 'version: v9 }, ports'));
    node.delete('services.yaml');
    await node.apply();
    expect((await curl('-i', ...CANARY, `http://${CHECKOUT}/`)).stdout).toMatch(
      /^HTTP\/1.1 503 [\s\S]*no backend that is ready and allowed/,
    );
    expect(await get()).toMatch(/^v1/);
    node.write('services.yaml', SERVICES);
    node.delete('none.yaml');
    await node.apply();
  });

  test('reach only backends that policy lets the pod reach, and that let it', async () => {
    const policy = (name: string, spec: string): string =>
      `apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: ${name}, namespace: shop }\nspec: ${spec}\n`;
    node.write(
      'egress.yaml',
      policy(
        'only-v1',
        '{ podSelector: { matchLabels: { app: client } }, policyTypes: [Egress], egress: [{ to: [{ podSelector: { matchLabels: { version: v1 } } }] }] }',
      ),
    );
    await node.apply();
    expect(await get()).toMatch(/^v1/);
    expect((await curl('-i', ...CANARY, `http://${CHECKOUT}/`)).stdout).toMatch(
      /^HTTP\/1.1 503 [\s\S]*no backend that is ready and allowed/,
    );
    node.delete('egress.yaml');
    node.write(
      'ingress.yaml',
      policy('v2-closed', '{ podSelector: { matchLabels: { version: v2 } }, policyTypes: [Ingress], ingress: [] }'),
    );
    await node.apply();
    expect((await curl('-i', ...CANARY, `http://${CHECKOUT}/`)).stdout).toMatch(/^HTTP\/1.1 503 [\s\S]*cannot be reached/);
    node.delete('ingress.yaml');
    await node.apply();
    await until(async () => (await get(...CANARY)).startsWith('v2'), 5000);
  });

  test('reach a backend about which a rule beside theirs asks the same, by the proxy’s choice and by the kernel’s', async () => {
    const both = (name: string): string =>
      tag(name).replace(
        'egress:',
        `egress:\n    - { to: [{ podSelector: { matchLabels: { app: checkout } } }], ask: { plugin: ${name}, context: http }, http: { deny: { status: 418 } } }`,
      );
    const declared = plugin('canary', join(node.directory, 'canary.wasm'));
    node.write('canary.yaml', `${declared}---\n${both('canary')}`);
    await node.apply();
    expect(await get()).toMatch(/^v1/);
    expect(await get(...CANARY)).toMatch(/^v2/);
    node.write('known.yaml', `${allowed}---\n${both('known-route')}`);
    node.write('canary.yaml', declared);
    await node.apply();
    for (let i = 0; i < 3; i++) expect(await get()).toMatch(/^v1/);
    node.delete('known.yaml');
    node.write('canary.yaml', `${declared}---\n${tag('canary')}`);
    await node.apply();
    await until(async () => (await get(...CANARY)).startsWith('v2'), 5000);
  });

  test('reach a backend whose own plugin decides who may connect', async () => {
    const asked = (await buildPlugin('plugins/egress-allow-list', join(node.directory, 'list.wasm'))).path;
    const list = (label: string): string =>
      askingPolicy('list', {
        file: asked,
        spec: `config: { allow: [{ label: ${label}, port: 80 }] }`,
        app: 'checkout',
        direction: 'ingress',
      });
    node.write('list.yaml', list('app=checkout'));
    await node.apply();
    // At once: nobody has to say anything twice.
    const { stdout } = await curl('-o', '/dev/null', '-w', '%{http_code} %{time_total}', ...CANARY, `http://${CHECKOUT}/`);
    expect(stdout).toMatch(/^200 0\./);
    expect(Number(stdout.split(' ')[1])).toBeLessThan(0.9);
    node.write('list.yaml', list('app=nobody'));
    await node.apply();
    expect((await curl('-i', ...CANARY, `http://${CHECKOUT}/`)).stdout).toMatch(/^HTTP\/1.1 503 [\s\S]*cannot be reached/);
    node.delete('list.yaml');
    await node.apply();
    await until(async () => (await get(...CANARY)).startsWith('v2'), 5000);
  });

  test('go on while the plugin is swapped: none fails', async () => {
    const load = node.exec(
      'shop/client',
      'sh',
      '-c',
      `for i in $(seq 300); do curl -gsS -m 5 -o /dev/null -w '%{http_code}\\n' http://${CHECKOUT}/; done`,
    );
    for (let i = 0; i < 20; i++) {
      await node.run(
        'curl',
        '-gsf',
        '-X',
        'PUT',
        '-H',
        'content-type: application/wasm',
        '--data-binary',
        `@${join(node.directory, 'canary.wasm')}`,
        'http://127.0.0.1:9470/v1/plugins/canary',
      );
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
    const codes = (await load).stdout.trim().split('\n');
    expect(codes.filter((code) => code !== '200')).toEqual([]);
    expect(codes).toHaveLength(300);
  });

  test('are counted by route, backend and version', async () => {
    await until(async () => (await node.curl('http://127.0.0.1:9470/metrics')).stdout.includes('route="canary"'), 3000);
    const { stdout } = await node.curl('http://127.0.0.1:9470/metrics');
    expect(stdout).toMatch(
      /sluice_http_requests_total\{rule="PluginPolicy shop\/canary egress\[0\]",route="stable",backend="shop\/checkout-v1:80 [\d.]+:80",plugin="canary 1.1.0",status="2xx"\} \d+/,
    );
    expect(stdout).toMatch(
      /sluice_http_request_duration_seconds_bucket\{rule="[^"]+",route="stable",backend="[^"]+",plugin="canary 1.1.0",le="0.01"\} \d+/,
    );
  });

  test('of users without a mark are spread by weight, marked, and stay where they are', async () => {
    const weighted = (weight: number): string => plugin('canary', join(node.directory, 'canary.wasm'), `config: { weight: ${weight} }`);
    node.write('canary.yaml', `${weighted(100)}---\n${tag('canary')}`);
    await node.apply();
    expect((await curl('-i', `http://${CHECKOUT}/`)).stdout).toMatch(/set-cookie: canary=v2; Path=\/; Max-Age=86400\r\n\r\nv2/);
    expect((await curl('-i', '--http2-prior-knowledge', `http://${CHECKOUT}/`)).stdout).toMatch(/set-cookie: canary=v2;[\s\S]*v2 over/);
    expect((await curl('-i', '-H', 'Cookie: canary=stable', `http://${CHECKOUT}/`)).stdout).toMatch(
      /^HTTP\/1.1 200((?!set-cookie)[\s\S])*v1/,
    );
    node.write('canary.yaml', `${weighted(50)}---\n${tag('canary')}`);
    await node.apply();
    const many = await node.exec('shop/client', 'sh', '-c', `for i in $(seq 60); do curl -gsS -m 5 http://${CHECKOUT}/; done`);
    const canaries = many.stdout.match(/^v2/gm)?.length ?? 0;
    expect(many.stdout.match(/^v[12]/gm)).toHaveLength(60);
    expect(canaries).toBeGreaterThan(10);
    expect(canaries).toBeLessThan(50);
  });

  test('are decided where the node translates addresses itself', async () => {
    node.write('canary.yaml', `${plugin('canary', join(node.directory, 'canary.wasm'))}---\n${tag('canary')}`);
    await node.apply();
    const v1 = node.podAddress('v1');
    const rules = `table ip kube { chain pre { type nat hook prerouting priority -100; ip daddr ${CHECKOUT} tcp dport 80 dnat to ${v1}:80; }
chain onward { type filter hook forward priority 0; ct state invalid drop; }
}`;
    const ran = await node.run(
      'sh',
      '-c',
      `echo '${rules}' | nft -f - && sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.all.src_valid_mark=1`,
    );
    expect(ran.stderr).toBe('');
    expect(await get()).toMatch(/^v1/);
    expect(await get(...CANARY)).toMatch(/^v2/);
    expect((await curl(`http://${CHECKOUT}/admin`)).stdout).toContain('denied by policy');
    await node.run('nft', 'delete', 'table', 'ip', 'kube');
  });

  test('of slow and greedy clients end, and others do not wait for them', async () => {
    const greedy = await node.exec(
      'shop/client',
      process.execPath,
      '-e',
      `
      const net = require('node:net'); const sockets = [];
      for (let i = 0; i < 200; i++) { const s = net.connect(80, '${CHECKOUT}'); s.on('error', () => {}); s.write('GET / HTTP/1.1\\r\\nHost: x\\r\\nX: '); sockets.push(s); }
      setTimeout(() => { for (const s of sockets) s.write('a'); }, 300);
      setTimeout(() => { require('node:http').get('http://${CHECKOUT}/', (r) => r.on('data', (d) => process.stdout.write(d)).on('end', () => process.exit(0))); }, 600);`,
    );
    expect(greedy.stdout).toMatch(/^v1/);
    const late = await say('GET / HTTP/1.1\r\nHost: x\r\n', 12_000);
    expect(late).toMatch(/^HTTP\/1.1 408 /);
  });

  test('of a verdict for all connections never meet the engine, and go on without it', async () => {
    node.write('canary.yaml', `${allowed}---\n${tag('known-route')}`);
    await node.apply();
    expect(await get()).toMatch(/^v1/);
    const proxied = async (): Promise<number> =>
      Number(/reason="pass_proxy"\} (\d+)/.exec((await node.curl('http://127.0.0.1:9470/metrics')).stdout)?.[1] ?? 0);
    const before = await proxied();
    for (let i = 0; i < 5; i++) expect(await get(...CANARY)).toMatch(/^v1/);
    expect((await curl(`http://[${CHECKOUT_IPV6}]/`)).stdout).toMatch(/^v1/);
    expect((await proxied()) - before).toBeLessThanOrEqual(1);
    await node.stopEngines('SIGKILL');
    expect(await get()).toMatch(/^v1/);
    await node.engine('--hold-timeout', '2s');
    expect(await get()).toMatch(/^v1/);
  });

  test('get the failure policy at once when the engine is gone, and a new engine takes over', async () => {
    const canary = plugin('canary', join(node.directory, 'canary.wasm'), 'failurePolicy: Allow');
    node.write('canary.yaml', `${canary}---\n${tag('canary')}`);
    await node.apply();
    expect(await get(...CANARY)).toMatch(/^v2/);
    await node.stopEngines('SIGKILL');
    await until(async () => (await get(...CANARY)).startsWith('v1'), 10_000);
    await node.engine('--hold-timeout', '2s');
    await until(async () => (await get(...CANARY)).startsWith('v2'), 10_000);
    node.write('canary.yaml', `${canary.replace('Allow', 'Deny')}---\n${tag('canary')}`);
    await node.apply();
    expect(await get(...CANARY)).toMatch(/^v2/);
    await node.stopEngines('SIGKILL');
    await until(async () => (await curl('-m', '1', `http://${CHECKOUT}/`)).code === 7, 10_000);
    await node.engine('--hold-timeout', '2s');
    expect(await get(...CANARY)).toMatch(/^v2/);
  });

  test('under way are answered when the engine is told to stop', async () => {
    const slow = curl('-i', `http://${CHECKOUT}/slow`);
    await until(async () => (await node.exec('shop/v1', 'ss', '-Htn', 'sport', '80')).stdout.includes('ESTAB'), 10_000);
    await node.stopEngines();
    expect((await slow).stdout).toMatch(/^HTTP\/1.1 200 OK\r\n[\s\S]*connection: close\r\n\r\nv1 slowly\n$/);
    expect((await curl('-m', '1', `http://${CHECKOUT}/`)).code).toBe(7);
  });

  test('get the failure policy where the proxy cannot be started, and that is reported', async () => {
    node.wrap = ['setpriv', '--bounding-set', '-sys_admin'];
    await node.engine();
    node.wrap = [];
    const { stdout, stderr } = await node.sluice('wait', '--timeout', '5s');
    expect(`${stdout}${stderr}`).toMatch(
      /requests are not decided and get the failure policy: Cannot make the network of the proxy: EPERM/,
    );
    expect((await curl('-m', '1', `http://${CHECKOUT}/`)).code).toBe(7);
    await node.stopEngines();
    await node.engine('--hold-timeout', '2s');
    await node.apply();
    expect(await get(...CANARY)).toMatch(/^v2/);
  });

  test('of HTTPRoutes go by header, weight and path, and by our plugin where that is their filter', async () => {
    const route = (rules: string, annotations = ''): string => `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: checkout, namespace: shop, annotations: { ${annotations} } }
spec: { parentRefs: [{ group: "", kind: Service, name: checkout, port: 80 }], rules: ${rules} }
`;
    node.write(
      'canary.yaml',
      route(
        '[{ matches: [{ headers: [{ name: x-version, value: "2" }] }], backendRefs: [{ name: checkout-v2, port: 80 }] }, { matches: [{ path: { value: /none } }], backendRefs: [] }, { backendRefs: [{ name: checkout-v1, port: 80, weight: 1 }, { name: checkout-v2, port: 80, weight: 0 }] }]',
      ),
    );
    await node.apply();
    expect(await get()).toMatch(/^v1/);
    expect(await get('-H', 'X-Version: 2')).toMatch(/^v2/);
    expect((await curl('-i', `http://${CHECKOUT}/none/x`)).stdout).toMatch(/^HTTP\/1.1 503/);
    node.write(
      'canary.yaml',
      `${plugin('canary', join(node.directory, 'canary.wasm'))}---\n${route(
        '[{ filters: [{ type: ExtensionRef, extensionRef: { group: sluice.dev, kind: PolicyPlugin, name: canary } }], backendRefs: [{ name: checkout-v1, port: 80 }, { name: checkout-v2, port: 80 }] }]',
        'sluice.dev/routes: "stable=checkout-v1,canary=checkout-v2"',
      )}`,
    );
    await node.apply();
    expect(await get()).toMatch(/^v1/);
    expect(await get(...CANARY)).toMatch(/^v2/);
  });

  test('of connections that were there before a rule about them are reset, so that the next one is decided', async () => {
    node.write('canary.yaml', plugin('canary', join(node.directory, 'canary.wasm')));
    await node.apply();
    const v1 = node.podAddress('v1');
    const request = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n';
    const ruled = Promise.withResolvers<string>();
    const answered = Promise.withResolvers<void>();
    const kept = say(request, 8000, v1, ruled.promise, answered.resolve);
    await answered.promise;
    node.write('tag.yaml', tag('canary', '[{ podSelector: { matchLabels: { app: checkout } } }]'));
    await node.apply();
    ruled.resolve(request);
    expect(await kept).toMatch(/^HTTP\/1.1 200 [\s\S]*v1 asked by [\s\S]*ECONNRESET$/);
    expect((await curl(`http://${v1}/`)).stdout).toMatch(/^v1/);
    expect((await curl('-i', `http://${v1}/admin`)).stdout).toMatch(/^HTTP\/1.1 403/);
  });
});

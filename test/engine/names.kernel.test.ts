/** Domain names with real resolvers, real clients and real connections: open when resolved, closed before, engine or no engine. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { buildPlugin } from '../../engine/plugin-tools/build-plugin.ts';
import { TestCgroup } from '../support/cgroup.ts';
import { networkPolicy, webPod } from '../support/cluster.ts';
import { TestNode, until } from '../support/test-node.ts';
import { TLS_SERVER } from '../support/tls.ts';

/** On the node itself: whatever is connected to answers, at any address of these networks. */
const RESOLVER = '198.18.255.53';
const SECOND_RESOLVER = '198.18.255.54';
const RESOLVER_IPV6 = 'fd98::53';
/** Its answers are too long for a packet, and it writes them in pieces. */
const LONG_RESOLVER = '198.18.255.55';
const LONG_RESOLVER_IPV6 = 'fd98::55';
const OUTSIDE = '198.18.0.9';
const LATE = '198.18.0.10';
/** Names n0.fresh.test and on, each with an address of its own. */
const FRESH = 10_000;
const address = (i: number): string => `198.18.${100 + (i >> 8)}.${i & 255}`;

/** Resolves each of the names with c-ares and connects at once; says how many did, and what went wrong with the others. */
const RESOLVE_THEN_CONNECT = `
const { Resolver } = require('dns').promises; const net = require('net');
const [server, first, count, family] = process.argv.slice(1);
const resolver = new Resolver({ timeout: 2000, tries: 3 }); resolver.setServers([server]);
const connect = (host) => new Promise((resolve) => { const s = net.connect({ host, port: 80, timeout: 400 }); s.on('connect', () => { s.resetAndDestroy(); resolve('connected'); }); s.on('timeout', () => { s.destroy(); resolve('timeout'); }); s.on('error', (e) => resolve(e.code)); });
(async () => {
  const counts = {};
  for (let i = Number(first); i < Number(first) + Number(count); i++) {
    let result;
    try { const [a] = await (family === '6' ? resolver.resolve6('n' + i + '.fresh.test') : resolver.resolve4('n' + i + '.fresh.test')); result = await connect(a); } catch (e) { result = e.code || String(e); }
    counts[result] = (counts[result] || 0) + 1;
  }
  console.log(JSON.stringify(counts));
})();
`;

/** The same with glibc: getaddrinfo, which asks for both families at once from one port. */
const GLIBC = `
import socket, sys, json
counts = {}
for i in range(int(sys.argv[1]), int(sys.argv[1]) + int(sys.argv[2])):
    try:
        infos = socket.getaddrinfo('n%d.fresh.test' % i, 80, type=socket.SOCK_STREAM)
        result = 'connected'
        for family, kind, proto, _, where in infos:
            with socket.socket(family, kind, proto) as s:
                s.settimeout(0.4)
                s.connect(where)
    except Exception as e:
        result = type(e).__name__ + str(e)
    counts[result] = counts.get(result, 0) + 1
print(json.dumps(counts))
`;

/** Answers every question with 40 addresses of a network, behind so much text that it takes several packets. */
const LONG_SERVER = `
const dns = require('dns-packet'); const net = require('net'), dgram = require('dgram');
const answer = (query) => { const { id, questions: [q] } = dns.decode(query); const large = q.name.startsWith('huge');
  return dns.encode({ type: 'response', id, flags: 0x180, questions: [q], answers: Array.from({ length: 40 }, (_, i) => ({ type: 'A', name: q.name, ttl: 300, data: '198.18.60.' + (i + 1) })),
    additionals: Array.from({ length: large ? 30 : 10 }, (_, i) => ({ type: 'TXT', name: q.name, data: 'x'.repeat(200) })) }); };
for (const [family, address] of [['udp4', '${LONG_RESOLVER}'], ['udp6', '${LONG_RESOLVER_IPV6}']]) {
  const u = dgram.createSocket(family); u.on('message', (m, r) => u.send(answer(m), r.port, r.address)); u.bind(53, address);
  net.createServer({ noDelay: true }, (s) => { s.on('error', () => {}); let got = Buffer.alloc(0), said = Promise.resolve();
    const say = async (a) => { const out = Buffer.concat([Buffer.from([a.length >> 8, a.length & 255]), a]); for (let at = 0; at < out.length; at += 700) { s.write(out.subarray(at, at + 700)); await new Promise((r) => setTimeout(r, 3)); } };
    s.on('data', (d) => { got = Buffer.concat([got, d]);
      while (got.length >= 2 && got.length >= 2 + got.readUInt16BE(0)) { const end = 2 + got.readUInt16BE(0); const a = answer(got.subarray(2, end)); got = got.subarray(end); said = said.then(() => say(a)); } }); }).listen(53, address);
}`;

const POLICY = `apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: { name: names }
spec:
  tier: Admin
  priority: 1
  subject: { pods: { namespaceSelector: {}, podSelector: { matchLabels: { app: web } } } }
  egress:
  - name: fresh
    action: Accept
    to: [{ domainNames: ['*.fresh.test', 'big.test', 'alias.test'] }]
    protocols: [{ tcp: { destinationPort: { number: 80 } } }]
---
${networkPolicy('closed', 'shop', '{ podSelector: { matchLabels: { app: web } }, policyTypes: [Egress] }')}`;

describe.skipIf(inject('missing'))('domain names', () => {
  const node = new TestNode();
  const cgroup = new TestCgroup('names');
  const trusted = [RESOLVER, RESOLVER_IPV6, SECOND_RESOLVER, LONG_RESOLVER, LONG_RESOLVER_IPV6];
  const flags = trusted.flatMap((address) => ['--resolver', address]);

  beforeAll(async () => {
    await node.lab(webPod('shop', 'web', [80]) + webPod('shop', 'other', [80]));
    for (const [family, network] of [
      ['-4', '198.18.0.0/16'],
      ['-6', 'fd98::/64'],
    ] as const)
      expect((await node.run('ip', family, 'route', 'add', 'local', network, 'dev', 'lo')).code).toBe(0);
    // Addresses of no interface, as those are that names lead to: what comes from one of the node's own passes whatever policy says.
    await node.run('sysctl', '-qw', 'net.ipv4.ip_nonlocal_bind=1', 'net.ipv6.ip_nonlocal_bind=1');
    startServers();
    node.write('policy.yaml', POLICY);
    await node.engine(...flags);
    await node.apply();
  }, 60_000);
  afterAll(async () => {
    await node.remove();
    await until(() => cgroup.tryRemove(), 5000);
  });

  /** dnsmasq and unbound with the same names, and somebody who takes every connection to port 80. */
  function startServers(): void {
    const hosts = Array.from({ length: FRESH }, (_, i) => `${address(i)} n${i}.fresh.test\nfd98::1:${i.toString(16)} n${i}.fresh.test`);
    const big = Array.from({ length: 60 }, (_, i) => `198.18.50.${i + 1} big.test`);
    writeFileSync(
      join(node.directory, 'hosts'),
      [
        ...hosts,
        ...big,
        `${OUTSIDE} outside.test`,
        `${LATE} late.fresh.test`,
        '198.18.0.20 www.ok.test',
        '198.18.0.21 www.bad.test',
        '198.18.0.7 target.elsewhere.test',
        '198.18.0.30 good.cdn.test',
        '198.18.0.30 bad.cdn.test',
        '198.18.0.31 good.cdn.test',
      ].join('\n'),
    );
    const listen = [RESOLVER, RESOLVER_IPV6].map((at) => `--listen-address=${at}`);
    node.startOnNode(
      'dnsmasq',
      '--keep-in-foreground',
      '--conf-file=/dev/null',
      '--no-resolv',
      '--no-hosts',
      '--bind-interfaces',
      '--user=root',
      `--pid-file=${join(node.directory, 'dnsmasq.pid')}`,
      `--addn-hosts=${join(node.directory, 'hosts')}`,
      '--cname=alias.test,target.elsewhere.test',
      '--local=/test/',
      ...listen,
    );
    const local = Array.from({ length: 200 }, (_, i) => `local-data: "n${i}.fresh.test. A ${address(i)}"`);
    writeFileSync(
      join(node.directory, 'unbound.conf'),
      `server:\n  interface: ${SECOND_RESOLVER}\n  access-control: 0.0.0.0/0 allow\n  do-daemonize: no\n  chroot: ""\n  username: ""\n  use-syslog: no\n  pidfile: "${join(node.directory, 'unbound.pid')}"\n  directory: "${node.directory}"\n  local-zone: "test." static\n  ${local.join('\n  ')}\nremote-control:\n  control-enable: no\n`,
    );
    node.startOnNode('unbound', '-d', '-c', join(node.directory, 'unbound.conf'));
    const server =
      "const s = require('net').createServer((c) => { c.on('error', () => {}); c.on('data', (d) => c.write(d)); }); s.listen(80, '::')";
    node.startOnNode(process.execPath, '-e', server);
    node.startOnNode(process.execPath, '-e', LONG_SERVER);
    node.startOnNode(process.execPath, '-e', TLS_SERVER, node.directory);
  }

  /** Asks with dig from the pod, and returns the addresses that it prints, or what went wrong. */
  const dig = async (name: string, ...options: string[]): Promise<string[]> =>
    (await node.exec('shop/web', 'dig', '+tries=1', '+time=2', '+short', `@${RESOLVER}`, name, ...options)).stdout
      .trim()
      .split('\n')
      .filter((line) => line && !line.startsWith(';;'));
  const connects = async (to: string, pod = 'shop/web'): Promise<boolean> =>
    (
      await node.exec(
        pod,
        process.execPath,
        '-e',
        "const s = require('net').connect(80, process.argv[1]); s.on('connect', () => process.exit(0)); s.on('error', () => process.exit(1)); setTimeout(() => process.exit(2), 400)",
        to,
      )
    ).code === 0;
  const freshly = async (server: string, first: number, count: number, family = '4'): Promise<Record<string, number>> =>
    JSON.parse(
      (await node.exec('shop/web', process.execPath, '-e', RESOLVE_THEN_CONNECT, server, String(first), String(count), family)).stdout,
    ) as Record<string, number>;

  test('the servers answer', async () => {
    await until(
      async () => (await node.exec('shop/other', 'dig', '+short', `@${RESOLVER}`, 'n1.fresh.test')).stdout.includes(address(1)),
      10_000,
    );
    await until(
      async () => (await node.exec('shop/other', 'dig', '+short', `@${SECOND_RESOLVER}`, 'n1.fresh.test')).stdout.includes(address(1)),
      10_000,
    );
    await until(() => connects(address(1), 'shop/other'), 5000);
  });

  test('an address is closed until its name is resolved, by the pod itself', async () => {
    expect(await connects(address(1))).toBe(false);
    await node.exec('shop/other', 'dig', '+short', `@${RESOLVER}`, 'n1.fresh.test');
    expect(await connects(address(1))).toBe(false);
    expect(await dig('n1.fresh.test')).toEqual([address(1)]);
    expect(await connects(address(1))).toBe(true);
    expect(await connects(address(2))).toBe(false);
  });

  test('a name without a rule is refused at once, shown with its name, and opens nothing', async () => {
    const started = performance.now();
    const { stdout } = await node.exec('shop/web', 'dig', '+tries=1', '+time=3', `@${RESOLVER}`, 'outside.test');
    expect(stdout).toContain('status: REFUSED');
    expect(performance.now() - started).toBeLessThan(2000);
    const over6 = await node.exec('shop/web', 'dig', '-6', '+tries=1', '+time=3', `@${RESOLVER_IPV6}`, 'outside.test');
    expect(over6.stdout).toContain('status: REFUSED');
    expect(await connects(OUTSIDE)).toBe(false);
    let flows = '';
    await until(async () => (flows = (await node.sluiceOk('flows', '--last', '50')).stdout).includes('outside.test'), 3000);
    expect(flows).toMatch(
      /deny +shop\/web:\d+ → 198\.18\.255\.53:53 UDP egress: a DNS query for a name that no rule is about: refused \(outside\.test, /,
    );
  });

  test('over TCP, with EDNS, in mixed case, with sixty addresses, by way of another name', async () => {
    expect(await dig('N2.fResh.TEST', '+tcp')).toEqual([address(2)]);
    expect(await connects(address(2))).toBe(true);
    expect(await dig('big.test', '+bufsize=4096')).toHaveLength(60);
    expect([await connects('198.18.50.1'), await connects('198.18.50.60')]).toEqual([true, true]);
    // Too large for 512 bytes: truncated, and asked for again over TCP.
    expect(await dig('big.test', '+noedns')).toHaveLength(60);
    expect(await dig('alias.test')).toEqual(['target.elsewhere.test.', '198.18.0.7']);
    expect(await connects('198.18.0.7')).toBe(true);
  });

  test('explain and dns say who knows what, for how long and why', async () => {
    const { stdout } = await node.sluiceOk('explain', '--from', 'shop/web', '--to', 'n1.fresh.test', '--port', '80/tcp', '--verify');
    expect(stdout).toContain(`allow  shop/web (10.`);
    expect(stdout).toContain(`n1.fresh.test (${address(1)}) 80/tcp`);
    expect(stdout).toContain('ClusterNetworkPolicy names egress[0] "fresh" allows it');
    expect(stdout).toContain('the kernel agrees');
    const byAddress = await node.sluiceOk('explain', '--from', 'shop/web', '--to', address(1), '--port', '80/tcp', '--verify');
    expect(byAddress.stdout).toContain('"fresh" allows it');
    const unresolved = await node.sluiceOk('explain', '--from', 'shop/web', '--to', 'n77.fresh.test', '--port', '80/tcp', '--verify');
    expect(unresolved.stdout).toContain('n77.fresh.test (not resolved by the pod yet) 80/tcp');
    expect(unresolved.stdout).toContain('"fresh" allows it');
    expect((await node.sluiceOk('explain', '--from', 'shop/web', '--to', 'outside.test', '--port', '80/tcp')).stdout).toContain('deny');
    const rows = (await node.sluiceOk('dns', '--from', 'shop/web')).stdout.split('\n');
    const row = rows.find((line) => line.includes('n1.fresh.test')) ?? '';
    expect(row.split(/ {2,}/).slice(0, 3)).toEqual(['shop/web', 'n1.fresh.test', address(1)]);
    expect(row).toMatch(/\d+ s +\*\.fresh\.test +ClusterNetworkPolicy names egress\[0\] "fresh"/);
    expect((await node.sluiceOk('dns', '--from', 'shop/other')).stdout).toContain('no address is known');
  });

  test('resolve, then connect at once: 10,000 names, none fails, while the engine is killed and started every second', async () => {
    let killing = true;
    const killer = (async () => {
      while (killing) {
        await new Promise((resolve) => setTimeout(resolve, 1000));
        await node.stopEngines('SIGKILL');
        node.spawnEngine(...flags, '--log-level', 'warn');
      }
    })();
    const half = FRESH / 2;
    const results = await Promise.all([freshly(RESOLVER, 0, half), freshly(`[${RESOLVER_IPV6}]`, half, half, '6')]);
    killing = false;
    await killer;
    expect(results).toEqual([{ connected: half }, { connected: half }]);
    await node.stopEngines('SIGKILL');
    // Nobody there at all.
    expect(await freshly(RESOLVER, half, 200)).toEqual({ connected: 200 });
    expect(await dig('outside.test')).toEqual([]);
    expect(await connects(OUTSIDE)).toBe(false);
    await node.engine(...flags);
    await node.apply();
  }, 120_000);

  test('the same with another resolver, and with glibc', async () => {
    expect(await freshly(SECOND_RESOLVER, 0, 200)).toEqual({ connected: 200 });
    const conf = join(node.directory, 'resolv.conf');
    writeFileSync(conf, `nameserver ${RESOLVER}\noptions timeout:1 attempts:2\n`);
    const { stdout, stderr } = await node.exec(
      'shop/web',
      'unshare',
      '-m',
      'sh',
      '-c',
      `mount --bind ${conf} /etc/resolv.conf && exec python3 -c "$0" 1000 1000`,
      GLIBC,
    );
    expect(stdout && JSON.parse(stdout), stderr).toEqual({ connected: 1000 });
  });

  test('a change of policy is in force for what is known already', async () => {
    expect(await dig('n3.fresh.test')).toEqual([address(3)]);
    expect(await connects(address(3))).toBe(true);
    node.write('policy.yaml', POLICY.replace('number: 80', 'number: 81'));
    await node.apply();
    expect(await connects(address(3))).toBe(false);
    node.write('policy.yaml', POLICY.replace("'*.fresh.test', ", ''));
    await node.apply();
    expect(await connects(address(3))).toBe(false);
    node.write('policy.yaml', POLICY);
    await node.apply();
    expect(await connects(address(3))).toBe(true);
  });

  test('answers in several packets, over UDP and TCP, and queries in pieces', async () => {
    const lookUp = (server: string, name: string, ...options: string[]): ReturnType<typeof node.exec> =>
      node.exec('shop/web', 'dig', '+tries=1', '+time=2', '+short', `@${server}`, name, ...options);
    let last = 0;
    for (const server of [LONG_RESOLVER, LONG_RESOLVER_IPV6])
      for (const options of [['+tcp'], ['+bufsize=4096'], ['+ignore', '+bufsize=4096']]) {
        last += 1;
        const { stdout } = await lookUp(server, `a${last}.fresh.test`, ...options);
        // One that asks for the beginning only gets that: it says that it is not whole.
        expect(
          stdout
            .trim()
            .split('\n')
            .filter((line) => line.startsWith('198.')),
        ).toHaveLength(options[0] === '+ignore' ? 0 : 40);
        expect(await connects('198.18.60.40')).toBe(true);
      }
    // Refused at once over TCP as well, and so that the client understands it.
    for (const server of [LONG_RESOLVER, LONG_RESOLVER_IPV6]) {
      const refused = await node.exec('shop/web', 'dig', '+tcp', '+tries=1', '+time=2', `@${server}`, 'outside.test');
      expect(refused.stdout).toContain('status: REFUSED');
    }
    // Beyond what the kernel reads: delivered all the same.
    expect((await lookUp(LONG_RESOLVER, 'huge.fresh.test', '+tcp')).stdout.trim().split('\n').length).toBeGreaterThanOrEqual(40);
    const pieces = `
const dns = require('dns-packet'); const [server, name, sizes] = process.argv.slice(1);
const q = (id, name) => { const b = dns.encode({ id, type: 'query', flags: 0x100, questions: [{ type: 'A', name }] }); return Buffer.concat([Buffer.from([0, b.length]), b]); };
const s = require('net').connect({ host: server, port: 53, noDelay: true }); const bytes = Buffer.concat([q(7, name), q(8, name)]); let got = Buffer.alloc(0);
s.on('connect', async () => { let at = 0; for (const size of JSON.parse(sizes)) { s.write(bytes.subarray(at, at + size)); at += size; await new Promise((r) => setTimeout(r, 5)); } s.write(bytes.subarray(at)); });
s.on('data', (d) => { got = Buffer.concat([got, d]); let n = 0, at = 0; while (got.length >= at + 2 && got.length >= at + 2 + got.readUInt16BE(at)) { at += 2 + got.readUInt16BE(at); n++; } if (n === 2) { console.log('answers', n); process.exit(0); } });
s.on('end', () => { console.log(got.length >= 2 && got.length === 2 + got.readUInt16BE(0) ? '1 answer, and an end' : 'an end'); process.exit(0); }); s.on('error', (e) => { console.log(e.code); process.exit(0); });
setTimeout(() => { console.log('nothing'); process.exit(0); }, 1500);`;
    const ask = async (name: string, sizes: readonly number[]): Promise<string> =>
      (await node.exec('shop/web', process.execPath, '-e', pieces, LONG_RESOLVER, name, JSON.stringify(sizes))).stdout.trim();
    for (const sizes of [[2], [1, 1, 1, 20], [30, 30, 3], []]) {
      expect(await ask('p.fresh.test', sizes), JSON.stringify(sizes)).toBe('answers 2');
      expect(await ask('outside.test', sizes), JSON.stringify(sizes)).toBe('1 answer, and an end');
    }
  });

  test('of names that share an address, with the server name: who resolved the one and names it, and nobody else', async () => {
    const accept = (name: string): string =>
      POLICY.replace("'big.test'", `'${name}'`).replace(
        '{ tcp: { destinationPort: { number: 80 } } }',
        '{ tcp: { destinationPort: { number: 443 } } }',
      );
    const tagged = `---
apiVersion: sluice.dev/v1alpha1
kind: PluginPolicy
metadata: { name: cdn, namespace: shop }
spec: { podSelector: { matchLabels: { app: web } }, egress: [{ to: [{ names: [good.cdn.test] }], serverNames: { names: [good.cdn.test] } }] }
`;
    const get = async (name: string, at: string): Promise<string> => {
      const { code, stdout } = await node.exec('shop/web', 'curl', '-sk', '-m', '1', '--resolve', `${name}:443:${at}`, `https://${name}/`);
      return code ? `failed ${code}` : stdout;
    };
    node.write('policy.yaml', accept('good.cdn.test'));
    await node.apply();
    expect(await get('good.cdn.test', '198.18.0.30')).toBe('failed 28');
    expect((await dig('good.cdn.test')).sort()).toEqual(['198.18.0.30', '198.18.0.31']);
    // The hole: an address that is open for one name is open for what else it serves.
    expect([await get('good.cdn.test', '198.18.0.30'), await get('bad.cdn.test', '198.18.0.30')]).toEqual([
      'good.cdn.test',
      'bad.cdn.test',
    ]);
    node.write('policy.yaml', accept('good.cdn.test') + tagged);
    await node.apply();
    expect([await get('good.cdn.test', '198.18.0.30'), await get('good.cdn.test', '198.18.0.31')]).toEqual([
      'good.cdn.test',
      'good.cdn.test',
    ]);
    expect([await get('bad.cdn.test', '198.18.0.30'), await get('good.cdn.test', '198.18.0.32')]).toEqual(['failed 35', 'failed 28']);
    node.write('policy.yaml', POLICY);
    await node.apply();
  });

  test('a plugin sees the name, and flows show it', async () => {
    await buildPlugin('test/fixtures/name-reader', join(node.directory, 'reader.wasm'));
    const names = POLICY.replace("'big.test'", "'big.test', '*.ok.test', '*.bad.test'");
    const ask = `apiVersion: sluice.dev/v1alpha1
kind: PolicyPlugin
metadata: { name: reader }
spec: { module: { file: ${join(node.directory, 'reader.wasm')} } }
---
apiVersion: sluice.dev/v1alpha1
kind: PluginPolicy
metadata: { name: reader, namespace: shop }
spec: { podSelector: { matchLabels: { app: web } }, egress: [{ to: [{ names: ['*.ok.test', '*.bad.test'] }], ask: { plugin: reader } }] }
`;
    node.write('policy.yaml', `${names}---\n${ask}`);
    await node.apply();
    expect([await dig('www.ok.test'), await dig('www.bad.test')]).toEqual([['198.18.0.20'], ['198.18.0.21']]);
    expect([await connects('198.18.0.20'), await connects('198.18.0.21'), await connects(address(3))]).toEqual([true, false, true]);
    let flows = '';
    await until(async () => (flows = (await node.sluiceOk('flows', '--last', '50')).stdout).includes('known as www.bad.test'), 3000);
    expect(flows).toMatch(/allow shop\/web:\d+ → www\.ok\.test:80 TCP egress/);
    expect(flows).toMatch(/deny +shop\/web:\d+ → www\.bad\.test:80 TCP egress: known as www\.bad\.test/);
    node.write('policy.yaml', POLICY);
    await node.apply();
  });

  test('processes of the host: connect fails at once until the name is resolved', async () => {
    node.write(
      'agent.yaml',
      `apiVersion: v1\nkind: Pod\nmetadata: { name: agent, namespace: shop, labels: { app: web }, annotations: { sluice.dev/cgroup: ${cgroup.name} } }\nspec: { hostNetwork: true }\n`,
    );
    await node.apply();
    const inside = (...command: string[]): ReturnType<typeof node.run> => node.run(...cgroup.enter(...command));
    const connect = (to: string): Promise<{ code: number }> => inside('curl', '-s', '-m', '1', '-o', '/dev/null', `http://${to}/`);
    expect((await connect(address(4))).code).toBe(7);
    expect((await inside('dig', '+short', '+tries=1', '+time=2', `@${RESOLVER}`, 'n4.fresh.test')).stdout.trim()).toBe(address(4));
    // Connected: what the server says is no HTTP.
    expect((await connect(address(4))).code).toBe(1);
    expect((await inside('dig', '+tries=1', '+time=1', `@${RESOLVER}`, 'outside.test')).code).not.toBe(0);
    node.delete('agent.yaml');
    await node.apply();
  });

  test('a resolver that is not trusted is not reached for the sake of names, and is not believed', async () => {
    await node.stopEngines();
    await node.engine('--resolver', '192.0.2.53');
    await node.apply();
    expect(await dig('late.fresh.test')).toEqual([]);
    const open = `  - { action: Accept, to: [{ networks: [${RESOLVER}/32] }], protocols: [{ udp: { destinationPort: { number: 53 } } }] }\n`;
    node.write('policy.yaml', POLICY.replace('  egress:\n', `  egress:\n${open}`));
    await node.apply();
    expect(await dig('late.fresh.test')).toEqual([LATE]);
    expect(await connects(LATE)).toBe(false);
  });
});

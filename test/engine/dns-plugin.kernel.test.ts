/** A plugin that sees each DNS answer before the pod has it: what it allows teaches the kernel, what it denies says so. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import type { FlowView } from '../../engine/observe/flow-fields.ts';
import { buildPlugin } from '../../engine/plugin-tools/build-plugin.ts';
import { networkPolicy, webPod } from '../support/cluster.ts';
import { TestNode, until } from '../support/test-node.ts';

const RESOLVER = '198.18.255.53';
const RESOLVER_IPV6 = 'fd98::53';

/** Long enough for a busy machine: delays are not tested here. */
const FLAGS = ['--resolver', RESOLVER, '--resolver', RESOLVER_IPV6, '--hold-timeout', '2s'];

const plugin = (file: string, spec = ''): string => `apiVersion: sluice.dev/v1alpha1
kind: PolicyPlugin
metadata: { name: answers }
spec: { module: { file: ${file} }${spec} }
---
apiVersion: sluice.dev/v1alpha1
kind: PluginPolicy
metadata: { name: answers, namespace: shop }
spec: { podSelector: { matchLabels: { app: web } }, egress: [{ ask: { plugin: answers, context: dns } }] }
`;
/** Names are the only way out: the queries themselves pass for their names. */
const NAMES = `apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: { name: names }
spec:
  tier: Admin
  priority: 1
  subject: { pods: { namespaceSelector: {}, podSelector: { matchLabels: { app: web } } } }
  egress: [{ action: Accept, to: [{ domainNames: [www.test, denied.test, gone.test, many.test, late.test] }], protocols: [{ tcp: { destinationPort: { number: 80 } } }] }]
---
${networkPolicy('closed', 'shop', '{ podSelector: { matchLabels: { app: web } }, policyTypes: [Egress] }')}`;

describe.skipIf(inject('missing'))('plugins for DNS answers', () => {
  const node = new TestNode();
  const module = join(node.directory, 'answers.wasm');
  beforeAll(async () => {
    await buildPlugin('test/fixtures/answer-reader', module);
    await node.lab(webPod('shop', 'web', [80]) + webPod('shop', 'other', [80]));
    await node.run('ip', '-4', 'route', 'add', 'local', '198.18.0.0/16', 'dev', 'lo');
    await node.run('ip', '-6', 'route', 'add', 'local', 'fd98::/64', 'dev', 'lo');
    await node.run('sysctl', '-qw', 'net.ipv4.ip_nonlocal_bind=1', 'net.ipv6.ip_nonlocal_bind=1');
    const names = ['short', 'gone', 'loop', 'shown', 'www', 'late'].map(
      (name, i) => `198.18.0.${i + 1} ${name}.test\nfd98::${i + 1} ${name}.test`,
    );
    const many = Array.from({ length: 30 }, (_, i) => `198.18.1.${i + 1} many.test`);
    writeFileSync(join(node.directory, 'hosts'), [...names, '198.18.0.66 denied.test', ...many].join('\n'));
    const listen = [RESOLVER, RESOLVER_IPV6].map((at) => `--listen-address=${at}`);
    const pid = `--pid-file=${join(node.directory, 'dnsmasq.pid')}`;
    const quiet = ['--keep-in-foreground', '--conf-file=/dev/null', '--no-resolv', '--no-hosts', '--bind-interfaces', '--user=root'];
    node.startOnNode(
      'dnsmasq',
      ...quiet,
      pid,
      `--addn-hosts=${join(node.directory, 'hosts')}`,
      '--local=/test/',
      '--local-ttl=600',
      ...listen,
    );
    node.startOnNode(process.execPath, '-e', "require('net').createServer((c) => c.on('error', () => {})).listen(80, '::')");
    node.write('plugin.yaml', plugin(module));
    await node.engine(...FLAGS);
    await node.apply();
    await until(async () => (await dig('www.test', { pod: 'shop/other' })).includes('198.18.0.5'), 10_000);
  }, 60_000);
  afterAll(() => node.remove());

  /** Status and answers, as dig prints them. */
  const dig = async (name: string, { pod = 'shop/web', server = RESOLVER, options = [] as string[] } = {}): Promise<string> => {
    const { stdout } = await node.exec(pod, 'dig', '+tries=1', '+time=2', '+noall', '+comments', '+answer', `@${server}`, name, ...options);
    const status = /status: (\w+)/.exec(stdout)?.[1] ?? 'TIMEOUT';
    return [status, ...stdout.split('\n').flatMap((line) => /\sIN\s+\w+\s+(\S+)$/.exec(line)?.[1] ?? [])].join(' ');
  };
  const connects = async (to: string): Promise<boolean> => {
    const connect = `require('net').connect(80, '${to}').on('connect', () => process.exit(0)); setTimeout(() => process.exit(2), 400)`;
    return (await node.exec('shop/web', process.execPath, '-e', connect)).code === 0;
  };
  const flow = async (wanted: (flow: FlowView) => boolean): Promise<FlowView> => {
    let found: FlowView | undefined;
    await until(async () => {
      const { stdout } = await node.sluiceOk('flows', '--last', '200', '-o', 'json');
      found = stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as FlowView)
        .findLast(wanted);
      return found !== undefined;
    }, 3000);
    return found as FlowView;
  };

  test.each([
    { carrier: 'UDP', options: [] },
    { carrier: 'TCP', options: ['+tcp'] },
  ])('over $carrier, both families: allowed, denied, no such name', async ({ options }) => {
    for (const server of [RESOLVER, RESOLVER_IPV6]) {
      expect(await dig('www.test', { server, options })).toBe('NOERROR 198.18.0.5');
      expect(await dig('denied.test', { server, options })).toBe('REFUSED');
      expect(await dig('gone.test', { server, options })).toBe('NXDOMAIN');
      expect((await dig('many.test', { server, options })).split(' ')).toHaveLength(31);
    }
    expect(await dig('denied.test', { pod: 'shop/other', options })).toBe('NOERROR 198.18.0.66');
    // A resolver of this node takes what was held for sent: its connections end.
    await until(async () => !(await node.run('ss', '-tnH', 'sport = :53')).stdout.includes('ESTAB'), 3000);
  });

  test('the plugin sees name, type, TTL, addresses and resolver, and flows show what it said', async () => {
    expect(await dig('shown.test', { options: ['AAAA'] })).toBe('NOERROR fd98::4');
    const shown = await flow(({ audited }) => audited);
    expect(shown).toMatchObject({
      verdict: 'allow',
      hook: 'dns',
      name: 'shown.test',
      plugin: 'answers',
      rule: 'PluginPolicy shop/answers egress[0]',
      reason: `shown.test 28 600 fd98::4 of ${RESOLVER}`,
    });
    const line = (await node.sluiceOk('flows', '--last', '50')).stdout;
    expect(line).toMatch(/deny +198\.18\.255\.53:53 → shop\/web:\d+ \w+ ingress: address 66 \(denied\.test, plugin answers, PluginPolicy/);
  });

  test('an answer lives no longer than the plugin says', async () => {
    const ttlOf = async (pod: string): Promise<number> =>
      Number(/short\.test\.\s+(\d+)\s/.exec((await node.exec(pod, 'dig', '+noall', '+answer', `@${RESOLVER}`, 'short.test')).stdout)?.[1]);
    expect([await ttlOf('shop/other'), await ttlOf('shop/web')]).toEqual([600, 20]);
  });

  test('names that passed the plugin open their addresses, others do not', async () => {
    node.write('names.yaml', NAMES);
    await node.apply();
    expect([await dig('www.test'), await dig('denied.test'), await dig('gone.test')]).toEqual([
      'NOERROR 198.18.0.5',
      'REFUSED',
      'NXDOMAIN',
    ]);
    expect([await connects('198.18.0.5'), await connects('198.18.0.66'), await connects('198.18.0.2')]).toEqual([true, false, false]);
    expect(await dig('many.test', { options: ['+tcp'] })).toMatch(/^NOERROR/);
    expect(await connects('198.18.1.30')).toBe(true);
    node.delete('names.yaml');
    await node.apply();
  });

  test('an endless loop costs its own answer, and other pods nothing', async () => {
    expect(await dig('loop.test')).toBe('SERVFAIL');
    expect(await dig('loop.test', { pod: 'shop/other' })).toBe('NOERROR 198.18.0.3');
    await until(async () => (await dig('www.test')) === 'NOERROR 198.18.0.5', 5000);
  });

  test('a plugin that nobody declared lets no answer pass', async () => {
    node.write('plugin.yaml', plugin(module).replace('plugin: answers, context', 'plugin: other, context'));
    expect((await node.sluice('wait', '--timeout', '10s')).stderr).toContain('no PolicyPlugin other');
    expect(await dig('www.test')).toBe('TIMEOUT');
    node.write('plugin.yaml', plugin(module));
    await node.apply();
    expect(await dig('www.test')).toBe('NOERROR 198.18.0.5');
  });

  test('without an engine the failure policy decides: denied, or delivered and learned', async () => {
    await node.stopEngines('SIGKILL');
    expect(await dig('www.test')).toBe('TIMEOUT');
    await node.engine(...FLAGS);
    node.write('plugin.yaml', `${plugin(module, ', failurePolicy: Allow')}---\n${NAMES}`);
    await node.apply();
    await node.stopEngines('SIGKILL');
    // A packet of the moment in which the engine dies may be held for nobody.
    await until(async () => (await dig('late.test')) === 'NOERROR 198.18.0.6', 5000);
    expect(await connects('198.18.0.6')).toBe(true);
  });
});

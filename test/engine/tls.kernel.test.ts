/** The hello of TLS read on the way: real clients, real servers, whatever the hello looks like on the wire. */
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { barePod, webPod, withAddresses } from '../support/cluster.ts';
import { TestNode, until } from '../support/test-node.ts';
import { TLS_SERVER } from '../support/tls.ts';

const SERVER = '10.91.250.1';
const SERVER_IPV6 = 'fd91:250::1';

const policy = (rule: string): string => `apiVersion: sluice.dev/v1alpha1
kind: PluginPolicy
metadata: { name: names, namespace: shop }
spec:
  podSelector: { matchLabels: { app: client } }
  egress: [${rule}]
`;
const LIST = '{ serverNames: { names: [api.example.com, "*.cdn.example"] } }';

describe.skipIf(inject('missing'))('server names', () => {
  const node = new TestNode();
  beforeAll(async () => {
    await node.lab(
      withAddresses(barePod('shop', 'server'), SERVER, SERVER_IPV6) + webPod('shop', 'client', [80]) + webPod('shop', 'other', [80]),
    );
    node.start('shop/server', process.execPath, '-e', TLS_SERVER, node.directory);
    node.write('policy.yaml', policy(LIST));
    await node.engine();
    await node.apply();
    await until(async () => (await ask('api.example.com', { pod: 'shop/other' })) === 'api.example.com', 10_000);
  }, 60_000);
  afterAll(() => node.remove());

  /** What the server says, or how curl failed: 35 is a reset in the handshake, 28 a time-out. */
  const ask = async (name: string, { pod = 'shop/client', to = SERVER, seconds = 2 } = {}): Promise<string> => {
    const at = to.includes(':') ? `[${to}]` : to;
    const target = name ? ['--resolve', `${name}:443:${at}`, `https://${name}/`] : [`https://${at}/`];
    const { code, stdout } = await node.exec(pod, 'curl', '-sk', '-m', String(seconds), ...target);
    return code ? `failed ${code}` : stdout;
  };

  test.each([SERVER, SERVER_IPV6])('a listed name passes, another one is ended at once, over %s', async (to) => {
    expect(await ask('api.example.com', { to })).toBe('api.example.com');
    expect(await ask('www.cdn.example', { to })).toBe('www.cdn.example');
    expect(await ask('www.evil.example', { to })).toBe('failed 35');
    expect(await ask('cdn.example', { to })).toBe('failed 35');
    expect(await ask('', { to })).toBe('failed 35');
    expect(await ask('www.evil.example', { to, pod: 'shop/other' })).toBe('www.evil.example');
  });
});

/** Messages, good ones and bad ones, through the proxy and, beside it, to nginx; nginx is also who gets them behind the proxy. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buildPlugin } from '../../engine/plugin-tools/build-plugin.ts';
import { type Answers, HTTP_MESSAGES } from '../cases/http-messages.ts';
import { CHECKOUT, httpLab, plugin, SERVICES, tag } from '../support/http-cluster.ts';
import { TestNode, until } from '../support/test-node.ts';

const SAYER = fileURLToPath(new URL('../fixtures/http-sayer.ts', import.meta.url));

describe('messages of HTTP/1', () => {
  const node = new TestNode();
  let proxied: Answers[];
  let direct: Answers[];
  const say = async (host: string): Promise<Answers[]> => {
    const { stdout, stderr } = await node.exec('shop/client', process.execPath, SAYER, host, join(node.directory, 'messages.json'));
    if (!stdout) throw new Error(stderr);
    return (JSON.parse(stdout) as string[]).map((said) => ({
      statuses: [...said.matchAll(/^HTTP\/1\.1 (\d{3})/gm)].map(([, status]) => Number(status)),
      refused: /^server: sluice\r$/m.test(said),
    }));
  };

  beforeAll(async () => {
    const conf = join(node.directory, 'nginx.conf');
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${node.directory}/${kind};`);
    writeFileSync(
      conf,
      `user root; daemon off; worker_processes 1; pid ${node.directory}/nginx.pid; error_log ${node.directory}/nginx.log crit;
events {} http { access_log off; ${temporary.join(' ')} server { listen 80; listen [::]:80; location / { return 200 "ok\\n"; } } }
`,
    );
    writeFileSync(join(node.directory, 'messages.json'), JSON.stringify(HTTP_MESSAGES.map(({ bytes }) => bytes)));
    const canary = (await buildPlugin('plugins/canary', join(node.directory, 'canary.wasm'))).path;
    await node.lab(httpLab('').replaceAll('image: sluice.dev/lab/http-echo', 'image: nginx'));
    node.start('shop/v1', 'nginx', '-c', conf, '-p', node.directory);
    node.write('services.yaml', SERVICES);
    node.write('canary.yaml', `${plugin('canary', canary)}---\n${tag('canary')}`);
    await node.engine();
    await node.apply();
    const v1 = node.podAddress('v1');
    await until(async () => (await node.exec('shop/client', 'curl', '-gsf', `http://${v1}/`)).code === 0, 10_000);
    proxied = await say(CHECKOUT);
    direct = await say(v1);
  });
  afterAll(() => node.remove());

  test.each(HTTP_MESSAGES.map((each, i) => ({ ...each, i })))('$name', ({ i, proxy, nginx = proxy.statuses }) => {
    expect(proxied[i]).toEqual(proxy);
    expect(direct[i]?.statuses).toEqual(nginx);
  });

  test('that nginx refuses are never answered with success', () => {
    const fine = ({ statuses }: Answers): boolean => statuses.length > 0 && statuses.every((status) => status < 300);
    const lax = HTTP_MESSAGES.filter((_, i) => fine(proxied[i] as Answers) && !fine(direct[i] as Answers));
    expect(lax.map(({ name }) => name)).toEqual([]);
  });
});

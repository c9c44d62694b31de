/** Downloads from servers that do what servers do: each failure by itself, with what people are told. */

import type { AddressInfo } from 'node:net';
import { createServer, type Server } from 'node:net';
import { afterAll, describe, expect, test } from 'vitest';
import type { DownloaderParts } from '../../../../engine/plugins/modules/download.ts';
import { hashOf } from '../../../../engine/plugins/version-store.ts';
import { DownloadStand } from '../../../support/downloads.ts';

const MODULE = Buffer.from('\0asm and so on');
const FAST = { connectMs: 1000, idleMs: 200, totalMs: 600 };
const BYTES_MAX = 1000;

const stand = new DownloadStand();
const { servers } = stand;

function get(url: string, more: { sha256?: string; headers?: Record<string, string>; parts?: Partial<DownloaderParts> } = {}) {
  const downloader = stand.open({ limits: FAST, ...more.parts });
  return downloader.get({ url: new URL(url), bytesMax: BYTES_MAX, sha256: more.sha256, ...(more.headers && { headers: more.headers }) });
}

const told = async (download: Promise<unknown>): Promise<[string, string]> => {
  const error = await download.then(
    () => expect.fail('it was taken'),
    (thrown: Error & { code?: string }) => thrown,
  );
  return [error.code ?? '', error.message.replaceAll(/127\.0\.0\.1:\d+/g, 'HOST')];
};

test('what is there comes, over TLS as without', async () => {
  for (const server of [await servers.start((_q, a) => a.end(MODULE)), await servers.start((_q, a) => a.end(MODULE), stand.tls)]) {
    const { bytes } = await get(`${server.url}/p.wasm`, { sha256: hashOf(MODULE) });
    expect(Buffer.from(bytes).equals(MODULE)).toBe(true);
  }
});

describe('refuses, and does not ask again soon', () => {
  const redirecting = (to: string) => servers.start((_q, a) => a.writeHead(302, { location: to }).end());

  test('other bytes than were named', async () => {
    const { url } = await servers.start((_q, a) => a.end('another'));
    expect(await told(get(`${url}/p.wasm?signature=secret`, { sha256: hashOf(MODULE) }))).toEqual([
      'PLUGIN_INVALID',
      `http://HOST/p.wasm: its SHA-256 is ${hashOf(Buffer.from('another'))}, and not ${hashOf(MODULE)}`,
    ]);
  });

  test('more than fits, said before', async () => {
    const { url } = await servers.start((_q, a) => a.writeHead(200, { 'content-length': '1001' }).write('x'));
    expect(await told(get(`${url}/p`))).toEqual(['PLUGIN_INVALID', 'http://HOST/p: larger than 1000 bytes']);
  });

  test('more than fits, and no end to it', async () => {
    const { url } = await servers.start((_q, a) => {
      const more = (): void => void (a.destroyed || a.write('x'.repeat(400), () => setImmediate(more)));
      more();
    });
    expect(await told(get(`${url}/p`))).toEqual(['PLUGIN_INVALID', 'http://HOST/p: larger than 1000 bytes']);
  });

  test.each(['http://169.254.169.254/latest/meta-data/', 'https://[fe80::1]/'])('a redirect to %s', async (to) => {
    const { url } = await redirecting(to);
    expect(await told(get(`${url}/p`))).toEqual(['PLUGIN_INVALID', expect.stringContaining('is no address that a module may come from')]);
  });

  test('a redirect to this machine, and a name for it', async () => {
    for (const to of ['http://127.0.0.1:1/', 'http://localhost:1/'])
      expect(await told(get(to, { parts: { loopback: false } }))).toEqual([
        'PLUGIN_INVALID',
        expect.stringContaining('is no address that a module'),
      ]);
  });

  test('a redirect from https to http', async () => {
    const { url } = await servers.start((_q, a) => a.writeHead(307, { location: 'http://127.0.0.1/p' }).end(), stand.tls);
    expect(await told(get(`${url}/p`))).toEqual(['PLUGIN_INVALID', 'https://HOST/p: redirects from https: to http:']);
  });

  test.each([
    { to: 'file:///etc/passwd', reason: 'redirects from http: to file:' },
    { to: 'http://', reason: 'redirects to nowhere' },
    { to: 'http://a:b@127.0.0.1/', reason: 'redirects with a password' },
  ])('a redirect to $to', async ({ to, reason }) => {
    const { url } = await redirecting(to);
    expect(await told(get(`${url}/p`))).toEqual(['PLUGIN_INVALID', `http://HOST/p: ${reason}`]);
  });

  test('one redirect after the other', async () => {
    const server = await servers.start((q, a) => a.writeHead(302, { location: `${q.url}x` }).end());
    expect(await told(get(`${server.url}/p`))).toEqual(['PLUGIN_INVALID', 'http://HOST/p: redirects more than 5 times']);
    expect(server.requests).toHaveLength(6);
  });

  test.each([403, 404, 410])('status %i', async (status) => {
    const { url } = await servers.start((_q, a) => a.writeHead(status).end('secret'));
    expect(await told(get(`${url}/p`))).toEqual(['PLUGIN_INVALID', `http://HOST/p: answers with status ${status}`]);
  });
});

describe('does not get it, and may another time', () => {
  test.each([429, 500, 503, 204])('status %i', async (status) => {
    const { url } = await servers.start((_q, a) => a.writeHead(status).end());
    expect(await told(get(`${url}/p`))).toEqual(['MODULE_UNAVAILABLE', `http://HOST/p: answers with status ${status}`]);
  });

  test('an answer that breaks off', async () => {
    const { url } = await servers.start((_q, a) => {
      a.writeHead(200, { 'content-length': '100' });
      a.write('half', () => a.destroy());
    });
    expect(await told(get(`${url}/p`))).toEqual(['MODULE_UNAVAILABLE', expect.stringMatching(/^http:\/\/HOST\/p: .*(closed|terminated)/)]);
  });

  test('a server that says nothing', async () => {
    const { url } = await servers.start(() => {});
    const parts = { limits: { ...FAST, idleMs: 50, totalMs: 10_000 } };
    expect(await told(get(`${url}/p`, { parts }))).toEqual(['MODULE_UNAVAILABLE', expect.stringContaining('Headers Timeout')]);
  });

  test('a server that says a little again and again, and never all', async () => {
    const { url } = await servers.start((_q, a) => {
      const timer = setInterval(() => a.write('x'), 50);
      a.on('close', () => clearInterval(timer));
    });
    expect(await told(get(`${url}/p`))).toEqual(['MODULE_UNAVAILABLE', 'http://HOST/p: not complete after 0.6 seconds']);
  });

  test('a server that nobody vouches for', async () => {
    const { url } = await servers.start((_q, a) => a.end(MODULE), stand.tls);
    expect(await told(get(`${url}/p`, { parts: { authority: undefined } }))).toEqual([
      'MODULE_UNAVAILABLE',
      expect.stringContaining('self-signed certificate'),
    ]);
  });

  let server: Server;
  afterAll(() => void server?.close());
  test('what is no HTTP', async () => {
    server = createServer((socket) => socket.on('error', () => {}).end('SSH-2.0-nonsense\r\n'));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    expect(await told(get(`http://127.0.0.1:${port}/p`))).toEqual(['MODULE_UNAVAILABLE', expect.stringContaining('HTTP')]);
  });

  test('nobody there', async () => {
    expect(await told(get('http://127.0.0.1:1/p'))).toEqual(['MODULE_UNAVAILABLE', expect.stringContaining('ECONNREFUSED')]);
  });
});

test('credentials go no further than to whom they were given', async () => {
  const other = await servers.start((_q, a) => a.end(MODULE));
  const first = await servers.start((q, a) => a.writeHead(302, { location: q.url === '/p' ? '/q' : `${other.url}/p` }).end());
  await get(`${first.url}/p`, { headers: { Authorization: 'Basic c2VjcmV0' } });
  expect(first.requests.map(({ headers }) => headers.authorization)).toEqual(['Basic c2VjcmV0', 'Basic c2VjcmV0']);
  expect(other.requests.map(({ headers }) => headers.authorization)).toEqual([undefined]);
});

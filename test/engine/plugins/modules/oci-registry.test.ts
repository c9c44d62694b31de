/** The distribution API against registries that behave, and those that do not; a real one is in real-registry.slow.test.ts. */
import { describe, expect, test } from 'vitest';
import { readChallenges } from '../../../../engine/plugins/modules/oci-challenge.ts';
import { moduleOfManifest, OciRegistry } from '../../../../engine/plugins/modules/oci-registry.ts';
import type { Credentials } from '../../../../engine/plugins/modules/registry-credentials.ts';
import { hashOf } from '../../../../engine/plugins/version-store.ts';
import { DownloadStand } from '../../../support/downloads.ts';
import type { Answerer, WebServer } from '../../../support/web-server.ts';

const MODULE = Buffer.from('\0asm and so on');
const OCI = 'application/vnd.oci.image.manifest.v1+json';
const layer = (more: object = {}): object => ({
  mediaType: 'application/wasm',
  digest: `sha256:${hashOf(MODULE)}`,
  size: MODULE.length,
  ...more,
});
const manifest = (more: object = {}): Buffer =>
  Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI, layers: [layer()], ...more }));
const CREDENTIALS = { user: 'ops', password: 'hunter2' };
const BASIC = `Basic ${Buffer.from('ops:hunter2').toString('base64')}`;

const stand = new DownloadStand();
const { servers } = stand;

interface Visit {
  readonly reference?: string;
  readonly credentials?: Credentials;
  readonly tokenHosts?: Record<string, string[]>;
  readonly plainText?: boolean;
}

async function visit(
  server: WebServer,
  { reference = `sha256:${hashOf(manifest())}`, credentials, tokenHosts = {}, plainText }: Visit = {},
) {
  const downloader = stand.open();
  const registry = new OciRegistry(
    { downloader, plainText: plainText ? [server.host] : [], tokenHosts },
    { kind: 'oci', registry: server.host, repository: 'team/limit', reference },
    credentials,
    new AbortController().signal,
  );
  const { bytes, contentType } = await registry.manifest();
  return registry.module(moduleOfManifest(bytes, contentType));
}

const told = (visited: Promise<unknown>): Promise<string> =>
  visited.then(
    () => expect.fail('it was taken'),
    (thrown: Error) => thrown.message.replaceAll(/127\.0\.0\.1:\d+/g, 'HOST'),
  );

const contents: Answerer = ({ url }, response) => {
  if (url?.includes('/manifests/')) response.setHeader('content-type', OCI).end(manifest());
  else response.end(MODULE);
};

/** A registry that lets in who has an Authorization; who has not is told what it says. */
const guarded =
  (wanted: string, challenge: (server: WebServer) => string): Answerer =>
  (request, response, server) => {
    if (request.url?.startsWith('/token'))
      response.end(JSON.stringify(request.headers.authorization === BASIC ? { token: 'T0ken' } : { access_token: 'anonymous' }));
    else if (request.headers.authorization === wanted) contents(request, response, server);
    else response.writeHead(401, { 'www-authenticate': challenge(server) }).end();
  };

test('the manifest by its digest, and the layer that it names', async () => {
  const server = await servers.start(contents, stand.tls);
  expect(Buffer.from(await visit(server)).equals(MODULE)).toBe(true);
  expect(server.requests.map(({ url }) => url)).toEqual([
    `/v2/team/limit/manifests/sha256:${hashOf(manifest())}`,
    `/v2/team/limit/blobs/sha256:${hashOf(MODULE)}`,
  ]);
  expect(server.requests[0]?.headers.accept).toContain(OCI);
});

test('another manifest or another layer than the digest says is refused', async () => {
  const others = await servers.start(
    (q, a) => a.end(q.url?.includes('/manifests/') ? manifest({ annotations: { a: 'b' } }) : 'another'),
    stand.tls,
  );
  expect(await told(visit(others))).toMatch(/manifests\/sha256:.*: its SHA-256 is [0-9a-f]{64}, and not /);
  expect(await told(visit(others, { reference: 'v1' }))).toMatch(/blobs\/sha256:.*: its SHA-256 is [0-9a-f]{64}, and not /);
});

test('without TLS only where that is configured, and never with a password to others', async () => {
  const server = await servers.start(contents);
  expect(await told(visit(server))).toContain('https://HOST');
  expect(Buffer.from(await visit(server, { plainText: true })).equals(MODULE)).toBe(true);
});

describe('letting in', () => {
  test('by a token: asked for reading one repository, with the password, where the registry itself gives them out', async () => {
    const server = await servers.start(
      guarded('Bearer T0ken', ({ url }) => `Bearer realm="${url}/token?x=1",service="reg",scope="registry:catalog:*"`),
      stand.tls,
    );
    await visit(server, { credentials: CREDENTIALS });
    const [asked] = server.requests.filter(({ url }) => url?.startsWith('/token'));
    expect(Object.fromEntries(new URL(asked?.url ?? '', server.url).searchParams)).toEqual({
      x: '1',
      service: 'reg',
      scope: 'repository:team/limit:pull',
    });
    expect(asked?.headers.authorization).toBe(BASIC);
    // One token for both.
    expect(server.requests.filter(({ url }) => url?.startsWith('/token'))).toHaveLength(1);
  });

  test('by a token for anybody', async () => {
    const server = await servers.start(
      guarded('Bearer anonymous', ({ url }) => `Bearer realm="${url}/token"`),
      stand.tls,
    );
    await visit(server);
    expect(server.requests.every(({ headers }) => !headers.authorization?.startsWith('Basic'))).toBe(true);
  });

  test('by the password itself', async () => {
    const server = await servers.start(
      guarded(BASIC, () => 'Basic realm="here"'),
      stand.tls,
    );
    await visit(server, { credentials: CREDENTIALS });
    expect(server.requests.map(({ headers }) => headers.authorization)).toEqual([undefined, BASIC, BASIC]);
  });

  test('by a token from another host only where that is configured', async () => {
    const realm = await servers.start((_q, a) => a.end('{"token":"T0ken"}'), stand.tls);
    const port = realm.url.split(':').at(-1);
    const server = await servers.start(
      guarded('Bearer T0ken', () => `Bearer realm="https://localhost:${port}/token"`),
      stand.tls,
    );
    expect(await told(visit(server, { credentials: CREDENTIALS }))).toBe(
      'registry HOST wants a token from localhost: if that is right, name it in modules.tokenHosts of --config',
    );
    expect(realm.requests).toEqual([]);
    await visit(server, { credentials: CREDENTIALS, tokenHosts: { [server.host]: ['localhost'] } });
    expect(realm.requests).toHaveLength(1);
  });

  test.each([
    {
      name: 'a realm without TLS',
      challenge: 'Bearer realm="http://127.0.0.1:1/token"',
      want: 'wants a token from http://HOST: not over https',
    },
    { name: 'a realm that is none', challenge: 'Bearer realm="nowhere"', want: 'names no realm to ask for a token' },
    { name: 'no realm', challenge: 'Bearer service="x"', want: 'names no realm to ask for a token' },
    { name: 'a metadata service', challenge: 'Bearer realm="https://169.254.169.254/token"', want: 'wants a token from 169.254.169.254' },
    { name: 'another kind', challenge: 'Negotiate', want: 'does not say how it wants to be asked' },
    { name: 'nothing', challenge: '', want: 'does not say how it wants to be asked' },
  ])('$name: nothing is sent there', async ({ challenge, want }) => {
    const server = await servers.start(
      guarded('never', () => challenge),
      stand.tls,
    );
    expect(await told(visit(server, { credentials: CREDENTIALS }))).toContain(`registry HOST ${want}`);
    expect(server.requests).toHaveLength(1);
  });

  test.each([
    { name: 'a wrong password', credentials: CREDENTIALS, want: 'registry HOST does not let these credentials read it' },
    { name: 'none', credentials: undefined, want: 'registry HOST wants credentials: name a pullSecret, or --registry-auth' },
  ])('$name: the sentence has no password', async ({ credentials, want }) => {
    const server = await servers.start(
      guarded('never', () => 'Basic realm="here"'),
      stand.tls,
    );
    expect(await told(visit(server, credentials && { credentials }))).toBe(want);
  });

  test.each(['{}', 'no JSON', '{"token":""}', '{"token":"two\\r\\nlines"}'])('a token that is none: %s', async (answer) => {
    const server = await servers.start((q, a, own) => {
      if (q.url?.startsWith('/token')) a.end(answer);
      else a.writeHead(401, { 'www-authenticate': `Bearer realm="${own.url}/token"` }).end();
    }, stand.tls);
    expect(await told(visit(server))).toBe('registry HOST gives no token');
  });
});

describe('a manifest', () => {
  const read = (content: Buffer | object, type?: string): string =>
    moduleOfManifest(Buffer.isBuffer(content) ? content : Buffer.from(JSON.stringify(content)), type);

  test('names its module', () => {
    expect(read(manifest())).toBe(hashOf(MODULE));
    expect(read(manifest({ layers: [layer({ mediaType: 'application/vnd.wasm.content.layer.v1+wasm' })] }))).toBe(hashOf(MODULE));
    expect(read({ schemaVersion: 2, layers: [layer()] }, `${OCI}; charset=utf-8`)).toBe(hashOf(MODULE));
  });

  test.each([
    { name: 'an index', content: { schemaVersion: 2, manifests: [] }, want: 'is an index of several manifests: name the digest of one' },
    { name: 'both at once', content: { schemaVersion: 2, layers: [layer()], manifests: [] }, want: 'is an index' },
    { name: 'schema 1', content: { schemaVersion: 1, fsLayers: [] }, want: 'cannot be read' },
    { name: 'an image of several layers', content: { schemaVersion: 2, layers: [layer(), layer()] }, want: 'has 2 layers, and not one' },
    { name: 'nothing', content: { schemaVersion: 2, layers: [] }, want: 'has 0 layers' },
    {
      name: 'something else',
      content: { schemaVersion: 2, layers: [layer({ mediaType: 'application/vnd.oci.image.layer.v1.tar\n' })] },
      want: 'has a layer of type application/vnd.oci.image.layer.v1.tar?, and not application/wasm',
    },
    {
      name: 'another hash',
      content: { schemaVersion: 2, layers: [layer({ digest: `sha512:${'0'.repeat(128)}` })] },
      want: 'another digest',
    },
    { name: 'a way out', content: { schemaVersion: 2, layers: [layer({ digest: 'sha256:../../x' })] }, want: 'another digest' },
    { name: 'a large module', content: { schemaVersion: 2, layers: [layer({ size: 1e9 })] }, want: 'has a module of 1000000000 bytes' },
    { name: 'no object', content: Buffer.from('null'), want: 'cannot be read' },
    { name: 'no JSON', content: Buffer.from('<html>'), want: 'is not JSON' },
  ])('that is $name is refused', ({ content, want }) => {
    expect(() => read(content)).toThrow(want);
  });

  test('of an index by its header alone is refused', () => {
    expect(() => read({ schemaVersion: 2 }, 'application/vnd.oci.image.index.v1+json')).toThrow('is an index');
  });
});

test('challenges are read as RFC 9110 has them', () => {
  const read = (header: string): unknown =>
    readChallenges(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);
  expect(read('Bearer realm="https://a/t",service="b, c",scope="x:y"')).toEqual([
    ['bearer', { realm: 'https://a/t', service: 'b, c', scope: 'x:y' }],
  ]);
  expect(read('BASIC realm="a \\"b\\"", Bearer realm=https://c')).toEqual([
    ['basic', { realm: 'a "b"' }],
    ['bearer', { realm: 'https://c' }],
  ]);
  expect(read(`Digest qop="auth", ${'x'.repeat(100_000)}`)).toEqual([]);
});

/** Who may use the API: tokens, certificates, roles; and a configuration that lets nobody in by mistake. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request as requestTls } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Registry } from 'prom-client';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type ApiParts, createApi, listen } from '../../../engine/api/api.ts';
import { ApiClient } from '../../../engine/cli/client.ts';
import { readConfig } from '../../../engine/config.ts';
import { type ApiAccess, NO_CONFIG_FILE, readConfigFile, readConfigFlags } from '../../../engine/config-file.ts';
import { createLogger } from '../../../engine/log.ts';

const directory = mkdtempSync(join(tmpdir(), 'sluice-access-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const READER = 'r'.repeat(40);
const PUSHER = 'p'.repeat(40);

function write(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

const tokens = (): ApiAccess => {
  write('reader.token', `${READER}\n`);
  write('pusher.token', PUSHER);
  return readConfigFile(
    write(
      'tokens.yaml',
      'access:\n  tokens:\n  - { name: dashboards, role: read, file: reader.token }\n  - { name: ci, role: push, file: pusher.token }\n',
    ),
  ).access;
};

/** An API whose answers are all the same; what matters is who gets them. */
function createTestApi(access: ApiAccess, host = '127.0.0.1') {
  const plugins = {
    plugins: () => [],
    plugin: () => ({}),
    pushPlugin: async () => ({}),
    changePlugin: async () => ({}),
    moduleBytesMax: 1000,
  };
  const stream = { latest: () => [], follow: () => () => {} };
  const parts = { version: '0', ready: () => true, metrics: new Registry(), flows: stream, events: stream, ...plugins };
  return createApi({ ...parts, access, listen: { host, port: 0 }, log: createLogger('silent') } as unknown as ApiParts);
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

describe('an API with tokens', () => {
  test.each([
    { who: 'nobody', headers: {}, get: 401, put: 401 },
    { who: 'a wrong token', headers: bearer('x'.repeat(40)), get: 401, put: 401 },
    { who: 'an empty token', headers: { authorization: 'Bearer ' }, get: 401, put: 401 },
    { who: 'part of a token', headers: bearer(PUSHER.slice(0, 39)), get: 401, put: 401 },
    { who: 'another scheme', headers: { authorization: `Basic ${PUSHER}` }, get: 401, put: 401 },
    { who: 'role read', headers: bearer(READER), get: 200, put: 403 },
    { who: 'role push', headers: bearer(PUSHER), get: 200, put: 422 },
  ])('answers $who with $get to GET and $put to PUT', async ({ headers, get, put }) => {
    const api = await createTestApi(tokens(), '0.0.0.0');
    expect((await api.inject({ method: 'GET', url: '/v1/plugins', headers })).statusCode).toBe(get);
    expect((await api.inject({ method: 'GET', url: '/metrics', headers })).statusCode).toBe(get);
    for (const [method, url] of [
      ['PUT', '/v1/plugins/p'],
      ['POST', '/v1/plugins/p/promote'],
      ['DELETE', '/v1/plugins/p'],
      ['POST', '/v1/reconcile'],
    ] as const) {
      const { statusCode } = await api.inject({ method, url, headers });
      // Past the door, what the request says counts.
      if (put === 422) expect(statusCode).not.toBe(401);
      else expect(statusCode).toBe(put);
      if (put === 422) expect(statusCode).not.toBe(403);
    }
    const denied = await api.inject({ method: 'GET', url: '/v1/plugins', headers: {} });
    expect(denied.headers['www-authenticate']).toBe('Bearer');
    expect(denied.json()).toMatchObject({ code: 'API_DENIED' });
  });

  test('answers probes, which have no token and learn nothing', async () => {
    const api = await createTestApi(tokens(), '0.0.0.0');
    for (const url of ['/healthz', '/readyz']) expect((await api.inject({ url })).statusCode).toBe(200);
    for (const url of ['/openapi.json', '/healthz/../v1/plugins', '/healthz?x', '//healthz'])
      expect((await api.inject({ url })).statusCode).not.toBe(200);
  });

  test('asks for them on a loopback address as well', async () => {
    const api = await createTestApi(tokens());
    expect((await api.inject({ url: '/v1/plugins', headers: { host: 'localhost' } })).statusCode).toBe(401);
  });
});

test('an API without tokens answers this machine, and no web page that is called something else', async () => {
  const api = await createTestApi(NO_CONFIG_FILE.access);
  expect((await api.inject({ url: '/v1/plugins', headers: { host: '127.0.0.1:9470' } })).statusCode).toBe(200);
  expect((await api.inject({ url: '/v1/plugins', headers: { host: 'evil.example' } })).statusCode).toBe(403);
});

describe('the configuration', () => {
  const flags = {
    source: 'dir:/tmp',
    bpffs: '/b',
    stateDir: '/s',
    holdTimeoutMs: 100,
    logLevel: 'info',
    conntrack: [],
    dns: [],
    resolver: undefined,
    hostFirewall: undefined,
    confirmMs: 60_000,
    cgroupRoot: '/',
    cniResults: [],
  };

  test('refuses an address that others reach without somebody who may use it, or in clear', () => {
    expect(() => readConfig({ ...flags, api: '0.0.0.0:9470' })).toThrow('whoever reaches it could push plugins; give tokens or clients');
    expect(() => readConfig({ ...flags, api: '0.0.0.0:9470', file: { ...NO_CONFIG_FILE, access: tokens() } })).toThrow(
      'tokens would cross the network in clear',
    );
    expect(
      readConfig({ ...flags, api: '0.0.0.0:9470', file: { ...NO_CONFIG_FILE, access: { ...tokens(), plainText: true } } }).api.host,
    ).toBe('0.0.0.0');
    expect(readConfig({ ...flags, api: '[::1]:9470' }).access.tokens).toEqual([]);
  });

  test.each([
    {
      what: 'a short token',
      text: 'access: { tokens: [{ name: a, role: push, file: short }] }',
      reason: 'token a has 5 characters; at least 32 are needed',
    },
    { what: 'a role that does not exist', text: 'access: { tokens: [{ name: a, role: admin, file: short }] }', reason: 'access.tokens.0' },
    {
      what: 'a token that is written into it',
      text: 'access: { tokens: [{ name: a, role: push, token: secret }] }',
      reason: 'access.tokens.0',
    },
    { what: 'a file that is not there', text: 'access: { tokens: [{ name: a, role: push, file: nowhere }] }', reason: 'nowhere: ENOENT' },
    {
      what: 'clients without who signed them',
      text: 'access: { clients: [{ commonName: a, role: push }] }',
      reason: 'access.clients needs access.tls.clientAuthority',
    },
    { what: 'a misspelt key', text: 'access: { token: [] }', reason: 'token' },
    { what: 'a list', text: '[]', reason: 'it must be a map' },
    { what: 'damaged YAML', text: 'access: {', reason: 'Cannot use configuration' },
  ])('refuses $what', ({ text, reason }) => {
    write('short', 'short');
    const path = write('config.yaml', text);
    expect(() => readConfigFile(path)).toThrow(reason);
  });

  test('has flags beside it, and takes the hash of a token', () => {
    const path = write(
      'config.yaml',
      `source: dir:/etc/sluice\nlog-level: warn\naccess: { tokens: [{ name: a, role: read, sha256: ${'ab'.repeat(32)} }] }\n`,
    );
    expect(readConfigFlags(path)).toEqual({ source: 'dir:/etc/sluice', 'log-level': 'warn' });
    expect(readConfigFile(path).access.tokens[0]).toMatchObject({ name: 'a', role: 'read' });
  });
});

describe('an API with TLS', () => {
  const openssl = (...args: string[]): void => void execFileSync('openssl', args, { cwd: directory, stdio: 'ignore' });
  const certificate = (name: string, issuer: string): void => {
    openssl(
      'req',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.csr`,
      '-subj',
      `/CN=${name}`,
    );
    write('san', 'subjectAltName=IP:127.0.0.1');
    openssl(
      'x509',
      '-req',
      '-in',
      `${name}.csr`,
      '-CA',
      `${issuer}.crt`,
      '-CAkey',
      `${issuer}.key`,
      '-CAcreateserial',
      '-days',
      '2',
      '-extfile',
      'san',
      '-out',
      `${name}.crt`,
    );
  };
  const authority = (name: string): void =>
    openssl(
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.crt`,
      '-days',
      '2',
      '-subj',
      `/CN=${name}`,
    );
  let url = '';
  let close: () => Promise<unknown> = async () => {};

  beforeAll(async () => {
    for (const name of ['authority', 'other-authority']) authority(name);
    for (const name of ['server', 'ops', 'guest']) certificate(name, 'authority');
    certificate('forged', 'other-authority');
    writeFileSync(join(directory, 'forged-ops.crt'), readFileSync(join(directory, 'forged.crt')));
    write('reader.token', READER);
    const { access } = readConfigFile(
      write(
        'tls.yaml',
        'access:\n  tls: { certificate: server.crt, key: server.key, clientAuthority: authority.crt }\n  clients: [{ commonName: ops, role: push }, { commonName: forged, role: push }]\n  tokens: [{ name: r, role: read, file: reader.token }]\n',
      ),
    );
    const api = await createTestApi(access);
    url = await listen(api, { host: '127.0.0.1', port: 0 });
    close = () => api.close();
  });
  afterAll(() => close());
  const variables = ['SLUICE_CA', 'SLUICE_CERT', 'SLUICE_KEY', 'SLUICE_TOKEN', 'SLUICE_TOKEN_FILE'];
  afterEach(() => {
    for (const name of variables) delete process.env[name];
  });
  const as = (name: string): void => {
    process.env.SLUICE_CERT = join(directory, `${name}.crt`);
    process.env.SLUICE_KEY = join(directory, `${name}.key`);
  };
  const client = (): ApiClient => {
    process.env.SLUICE_CA = join(directory, 'authority.crt');
    return new ApiClient(url);
  };

  test('lets in who has a certificate of the authority and a role', async () => {
    as('ops');
    expect(await client().request('GET', '/v1/plugins')).toEqual([]);
    // Past the door; the answer of this test's API is none.
    await expect(client().request('POST', '/v1/plugins/p/promote')).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  });

  test.each(['guest', 'forged'])('lets nobody in with the certificate of %s', async (name) => {
    as(name);
    await expect(client().request('GET', '/v1/plugins')).rejects.toMatchObject({ code: 'API_DENIED' });
  });

  test('takes a token in place of a certificate, from a variable or a file', async () => {
    await expect(client().request('GET', '/v1/plugins')).rejects.toMatchObject({ code: 'API_DENIED' });
    process.env.SLUICE_TOKEN_FILE = join(directory, 'reader.token');
    expect(await client().request('GET', '/v1/plugins')).toEqual([]);
    await expect(client().request('POST', '/v1/plugins/p/promote')).rejects.toThrow('role read may only look; it needs role push');
    process.env.SLUICE_TOKEN_FILE = join(directory, 'nowhere');
    await expect(client().request('GET', '/v1/plugins')).rejects.toThrow('which SLUICE_TOKEN_FILE names: ENOENT');
  });

  test('is not believed by a client that does not know its authority', async () => {
    await expect(new ApiClient(url).request('GET', '/v1/plugins')).rejects.toMatchObject({ code: 'API_UNREACHABLE' });
  });

  test('refuses what is older than TLS 1.2', async () => {
    const error = await new Promise<Error | undefined>((resolve) =>
      requestTls(url, { rejectUnauthorized: false, maxVersion: 'TLSv1.1', minVersion: 'TLSv1' }, () => resolve(undefined))
        .once('error', resolve)
        .end(),
    );
    expect(error).toBeDefined();
  });
});

/** Modules out of a real registry (docker-registry), pushed by a real client (oras): by anybody, by password and by token. */
import { execFile } from 'node:child_process';
import { createPrivateKey, sign, X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { ModuleFetcher, type ModuleSettings } from '../../../../engine/plugins/modules/module-fetcher.ts';
import { hashOf } from '../../../../engine/plugins/version-store.ts';
import { moduleSpec } from '../../../../engine/sources/module-schema.ts';
import { type DockerRegistry, type RegistryOptions, startDockerRegistry } from '../../../support/docker-registry.ts';
import { orasProgram } from '../../../support/oras.ts';
import { plugin } from '../../../support/plugin-modules.ts';
import { type Certificate, makeCertificate, WebServers } from '../../../support/web-server.ts';

const MODULE = Buffer.from(plugin());
const PASSWORD = 'correct horse';
/** Of that password, by bcrypt. */
const PASSWORDS = 'ops:$2b$04$nK0uWem6O6rR9BJFVtsDSOX9DMIKsUy0IYqcS0PBNKEGYrezH5S2O';
const BUILD_MS = 240_000;

const directory = mkdtempSync(join(tmpdir(), 'sluice-oras-'));
const registries: DockerRegistry[] = [];
const fetchers: ModuleFetcher[] = [];
const servers = new WebServers();
let program: string;
let tls: Certificate;

beforeAll(async () => {
  program = await orasProgram();
  tls = makeCertificate();
  writeFileSync(join(directory, 'ca.pem'), tls.cert);
  writeFileSync(join(directory, 'limit.wasm'), MODULE);
  writeFileSync(join(directory, 'other.txt'), 'something else');
}, BUILD_MS);
afterEach(async () => {
  for (const fetcher of fetchers.splice(0)) await fetcher.close();
  for (const registry of registries.splice(0)) await registry.close();
  await servers.close();
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** Runs oras where the modules lie, with a file of credentials of its own. */
async function oras(...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(program, [...args, '--registry-config', join(directory, 'auth.json')], { cwd: directory });
  return stdout.trim();
}

async function start(options: RegistryOptions = {}): Promise<string> {
  const registry = await startDockerRegistry(options);
  registries.push(registry);
  return registry.host;
}

function fetch(module: object, settings: Partial<ModuleSettings> = {}): Promise<Buffer> {
  const fetcher = new ModuleFetcher({
    settings: { namespaces: ['kube-system'], plainText: [], tokenHosts: {}, loopback: true, authority: tls.cert, ...settings },
    cluster: {
      configMapValue: async () => undefined,
      secret: async () => ({
        type: 'kubernetes.io/dockerconfigjson',
        data: new Map([['.dockerconfigjson', readFileSync(join(directory, 'auth.json'))]]),
      }),
    },
  });
  fetchers.push(fetcher);
  return fetcher.fetch(moduleSpec.parse(module), new AbortController().signal).then(({ bytes }) => Buffer.from(bytes));
}

/** Pushes the module, and returns the digest of its manifest. */
function push(name: string, ...flags: string[]): Promise<string> {
  return oras('push', '--format', 'go-template={{.digest}}', ...flags, name, 'limit.wasm:application/wasm');
}

test('what oras pushed comes by its digest, and by a tag with the module’s own', async () => {
  const host = await start();
  const digest = await push(`${host}/team/limit:1.2`, '--plain-http', '--artifact-type', 'application/vnd.sluice.plugin');
  const plainText = [host];
  expect((await fetch({ oci: `${host}/team/limit@${digest}` }, { plainText })).equals(MODULE)).toBe(true);
  expect((await fetch({ oci: `${host}/team/limit:1.2`, sha256: hashOf(MODULE) }, { plainText })).equals(MODULE)).toBe(true);
  await expect(fetch({ oci: `${host}/team/limit:1.2`, sha256: '0'.repeat(64) }, { plainText })).rejects.toThrow(
    `its module’s SHA-256 is ${hashOf(MODULE)}, and not 000`,
  );
  await expect(fetch({ oci: `${host}/team/limit@sha256:${'0'.repeat(64)}` }, { plainText })).rejects.toThrow('answers with status 404');
  await expect(fetch({ oci: `${host}/team/limit@${digest}` })).rejects.toThrow(`https://${host}`);
});

test('what is no plugin is told as that: an index, several files, another type', async () => {
  const host = await start();
  const plainText = [host];
  const digest = await push(`${host}/team/limit:1`, '--plain-http');
  const size = (await oras('manifest', 'fetch', '--plain-http', `${host}/team/limit:1`)).length;
  const index = {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.index.v1+json',
    manifests: [{ mediaType: 'application/vnd.oci.image.manifest.v1+json', digest, size }],
  };
  writeFileSync(join(directory, 'index.json'), JSON.stringify(index));
  await oras('manifest', 'push', '--plain-http', `${host}/team/limit:index`, 'index.json');
  await oras('push', '--plain-http', `${host}/team/limit:two`, 'limit.wasm:application/wasm', 'other.txt');
  await oras('push', '--plain-http', `${host}/team/limit:text`, 'other.txt');
  const sha256 = hashOf(MODULE);
  const told = (tag: string): Promise<unknown> =>
    fetch({ oci: `${host}/team/limit:${tag}`, sha256 }, { plainText }).catch((error: Error) => error.message);
  expect(await told('index')).toContain('is an index of several manifests: name the digest of one of them');
  expect(await told('two')).toContain('has 2 layers, and not one: push the module alone');
  expect(await told('text')).toContain('has a layer of type application/vnd.oci.image.layer.v1.tar, and not application/wasm');
});

test('over TLS by password: of the file that oras login writes, and of a Secret', async () => {
  const host = await start({ tls, passwords: PASSWORDS });
  const login = ['--username', 'ops', '--password', PASSWORD, '--ca-file', 'ca.pem'];
  await oras('login', host, ...login);
  const digest = await push(`${host}/team/limit:1`, '--ca-file', 'ca.pem');
  const module = { oci: `${host}/team/limit@${digest}` };
  expect((await fetch(module, { registryAuth: join(directory, 'auth.json') })).equals(MODULE)).toBe(true);
  expect((await fetch({ ...module, pullSecret: { namespace: 'kube-system', name: 'registry' } })).equals(MODULE)).toBe(true);
  await expect(fetch(module)).rejects.toThrow('wants credentials: name a pullSecret, or --registry-auth');
  const wrong = join(directory, 'wrong.json');
  writeFileSync(wrong, JSON.stringify({ auths: { [host]: { username: 'ops', password: 'hunter2' } } }));
  await expect(fetch(module, { registryAuth: wrong })).rejects.toThrow(
    /^registry 127\.0\.0\.1:\d+ does not let these credentials read it$/,
  );
});

test('over TLS by a token for one repository', async () => {
  const asked: string[] = [];
  const issuer = await servers.start((request, response) => {
    const { searchParams } = new URL(request.url ?? '', 'https://issuer');
    asked.push(searchParams.get('scope') ?? '');
    const [, name, actions = ''] = (searchParams.get('scope') ?? '').split(':');
    const basic = `Basic ${Buffer.from(`ops:${PASSWORD}`).toString('base64')}`;
    if (request.headers.authorization !== basic) response.writeHead(401).end();
    else
      response.end(
        JSON.stringify({
          token: token(tls, 'issuer', 'registry', name ? [{ type: 'repository', name, actions: actions.split(',') }] : []),
        }),
      );
  }, tls);
  const host = await start({ tls, tokens: { realm: `${issuer.url}/token`, service: 'registry', issuer: 'issuer', certificate: tls.cert } });
  await oras('login', host, '--username', 'ops', '--password', PASSWORD, '--ca-file', 'ca.pem');
  const digest = await push(`${host}/team/limit:1`, '--ca-file', 'ca.pem');
  asked.length = 0;
  const fetched = await fetch({ oci: `${host}/team/limit@${digest}` }, { registryAuth: join(directory, 'auth.json') });
  expect(fetched.equals(MODULE)).toBe(true);
  expect(asked).toEqual(['repository:team/limit:pull']);
  await expect(fetch({ oci: `${host}/team/limit@${digest}` })).rejects.toThrow('wants credentials: name a pullSecret, or --registry-auth');
});

/** A token as the registry takes it: RFC 7519, signed with ES256, the certificate in its header. */
function token({ cert, key }: Certificate, issuer: string, audience: string, access: object[]): string {
  const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const nowS = Math.floor(Date.now() / 1000);
  const header = { typ: 'JWT', alg: 'ES256', x5c: [new X509Certificate(cert).raw.toString('base64')] };
  const claims = { iss: issuer, aud: audience, sub: 'ops', iat: nowS, nbf: nowS - 10, exp: nowS + 300, jti: 'one', access };
  const signed = `${encode(header)}.${encode(claims)}`;
  const signature = sign('sha256', Buffer.from(signed), { key: createPrivateKey(key), dsaEncoding: 'ieee-p1363' });
  return `${signed}.${signature.toString('base64url')}`;
}

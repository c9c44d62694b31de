import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { INLINE_BYTES_MAX, moduleSpec, parseOciReference } from '../../../engine/sources/module-schema.ts';

const SHA = 'a'.repeat(64);
const MODULE = Buffer.from('\0asm');
const PINNED = `ghcr.io/acme/limit@sha256:${SHA}`;
const problems = (module: object): string[] =>
  (moduleSpec.safeParse(module).error?.issues ?? []).map(({ path, message }) => [path.join('.'), message].filter(Boolean).join(': '));

test.each([
  { name: 'a file', module: { file: 'p.wasm' }, want: { kind: 'file', path: 'p.wasm' } },
  {
    name: 'inline',
    module: { inline: MODULE.toString('base64') },
    want: { kind: 'inline', bytes: new Uint8Array(MODULE), sha256: createHash('sha256').update(MODULE).digest('hex') },
  },
  {
    name: 'a ConfigMap',
    module: { configMap: { namespace: 'kube-system', name: 'plugins', key: 'p.wasm' }, sha256: SHA },
    want: { kind: 'configMap', namespace: 'kube-system', name: 'plugins', key: 'p.wasm', sha256: SHA },
  },
  {
    name: 'a URL',
    module: { url: 'https://a.example/p.wasm', sha256: SHA },
    want: { kind: 'url', url: 'https://a.example/p.wasm', sha256: SHA },
  },
  {
    name: 'an artifact',
    module: { oci: PINNED, pullSecret: { namespace: 'kube-system', name: 'reg' } },
    want: {
      kind: 'oci',
      registry: 'ghcr.io',
      repository: 'acme/limit',
      reference: `sha256:${SHA}`,
      pullSecret: { namespace: 'kube-system', name: 'reg' },
    },
  },
  {
    name: 'a tag with the hash beside it',
    module: { oci: 'reg:5000/limit:1.2', sha256: SHA },
    want: { kind: 'oci', registry: 'reg:5000', repository: 'limit', reference: '1.2', sha256: SHA },
  },
])('$name is read', ({ module, want }) => {
  expect(moduleSpec.parse(module)).toEqual(want);
});

test.each([
  { name: 'nothing', module: {}, want: ['must have exactly one of file, inline, configMap, url, oci'] },
  {
    name: 'two',
    module: { file: 'a', oci: PINNED },
    want: ['must have exactly one of file, inline, configMap, url, oci; it has file and oci'],
  },
  {
    name: 'a URL without a hash',
    module: { url: 'https://a.example/p' },
    want: ['sha256: is needed beside url: what else says that the right module came'],
  },
  { name: 'another scheme', module: { url: 'file:///p', sha256: SHA }, want: ['url: must be a URL that begins with https:// or http://'] },
  {
    name: 'a password in a URL',
    module: { url: 'https://a:b@a.example/p', sha256: SHA },
    want: ['url: must not have a user or a password in it'],
  },
  {
    name: 'a tag alone',
    module: { oci: 'ghcr.io/acme/limit:1.2' },
    want: ['oci: must end with @sha256:…, or have the module’s sha256 beside it: a tag may be another module tomorrow'],
  },
  { name: 'no registry', module: { oci: 'acme/limit:1' }, want: [expect.stringContaining('oci: "acme/limit:1" is no artifact such as')] },
  {
    name: 'an upper-case hash',
    module: { file: 'a', sha256: SHA.toUpperCase() },
    want: [expect.stringContaining('sha256: must be 64 hex digits')],
  },
  { name: 'a Secret for a file', module: { file: 'a', pullSecret: { namespace: 'a', name: 'b' } }, want: ['pullSecret: is for oci only'] },
  { name: 'no base64', module: { inline: 'AAA' }, want: ['inline: must be the module in base64'] },
  { name: 'an empty module', module: { inline: '' }, want: ['inline: must be the module in base64'] },
  {
    name: 'a large one',
    module: { inline: Buffer.alloc(INLINE_BYTES_MAX + 3).toString('base64') },
    want: ['inline: holds more than 1048576 bytes: use oci, url or configMap'],
  },
  {
    name: 'another hash',
    module: { inline: MODULE.toString('base64'), sha256: SHA },
    want: ['sha256: is another one than that of the inline module'],
  },
  { name: 'a way out', module: { configMap: { namespace: 'a', name: '../b', key: '../c' } }, want: [expect.anything(), expect.anything()] },
])('$name is refused, with a sentence', ({ module, want }) => {
  expect(problems(module)).toEqual(want);
});

describe('the name of an artifact', () => {
  test.each([
    ['localhost/a:1', 'localhost', 'a', '1'],
    ['docker.io/library/a/b:1', 'docker.io', 'library/a/b', '1'],
    [`[::1]:5000/a@sha256:${SHA}`, '[::1]:5000', 'a', `sha256:${SHA}`],
    [`reg.example/a:1@sha256:${SHA}`, 'reg.example', 'a', `sha256:${SHA}`],
  ])('%s', (text, registry, repository, reference) => {
    expect(parseOciReference(text)).toEqual({ kind: 'oci', registry, repository, reference });
  });

  test.each([
    'reg.example',
    'reg.example/',
    'reg.example/a',
    'reg.example/A:1',
    'reg.example/../a:1',
    'reg.example/a//b:1',
    'reg.example/a:1@sha256:short',
    `reg.example/a@sha512:${SHA}`,
    `reg.example/a@sha256:${SHA}@sha256:${SHA}`,
    'https://reg.example/a:1',
    'user@reg.example/a:1',
    'reg.example:port/a:1',
    'reg.example/a:1?x',
    'reg.example\r\n/a:1',
  ])('%s is none', (text) => {
    expect(parseOciReference(text)).toBeUndefined();
  });
});

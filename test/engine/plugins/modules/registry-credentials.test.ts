import { expect, test } from 'vitest';
import { findCredentials } from '../../../../engine/plugins/modules/registry-credentials.ts';

const auth = (text: string): { auth: string } => ({ auth: Buffer.from(text).toString('base64') });
const find = (auths: object, registry: string, repository = 'team/limit'): string | undefined => {
  const found = findCredentials(JSON.stringify({ auths, credsStore: 'desktop' }), 'config.json', registry, repository);
  return found && `${found.user} ${found.password}`;
};

test.each([
  { name: 'the host', auths: { 'ghcr.io': auth('a:b') }, registry: 'ghcr.io', want: 'a b' },
  { name: 'a port', auths: { 'reg:5000': auth('a:b'), reg: auth('c:d') }, registry: 'reg:5000', want: 'a b' },
  { name: 'a URL', auths: { 'https://ghcr.io/v2/': auth('a:b') }, registry: 'ghcr.io', want: 'a b' },
  { name: 'Docker Hub', auths: { 'https://index.docker.io/v1/': auth('a:b') }, registry: 'docker.io', want: 'a b' },
  { name: 'a password with a colon', auths: { 'ghcr.io': auth('a:b:c') }, registry: 'ghcr.io', want: 'a b:c' },
  { name: 'plain fields', auths: { 'ghcr.io': { username: 'a', password: 'b' } }, registry: 'ghcr.io', want: 'a b' },
  {
    name: 'the closest path',
    auths: { 'g.io': auth('a:b'), 'g.io/team': auth('c:d'), 'g.io/te': auth('e:f') },
    registry: 'g.io',
    want: 'c d',
  },
  { name: 'a wildcard', auths: { '*.example.com': auth('a:b') }, registry: 'reg.example.com', want: 'a b' },
  {
    name: 'the host before a wildcard',
    auths: { '*.example.com': auth('a:b'), 'r.example.com': auth('c:d') },
    registry: 'r.example.com',
    want: 'c d',
  },
  { name: 'no wildcard over a dot', auths: { '*.example.com': auth('a:b') }, registry: 'a.b.example.com', want: undefined },
  { name: 'no host of another', auths: { 'ghcr.io': auth('a:b') }, registry: 'ghcr.io.evil.example', want: undefined },
  { name: 'nothing', auths: {}, registry: 'ghcr.io', want: undefined },
])('finds by $name', ({ auths, registry, want }) => {
  expect(find(auths, registry)).toBe(want);
});

test('a file that is none is told without its content', () => {
  for (const text of ['hunter2', '{"auths":{"a":{"auth":7}},"x":"hunter2"}', '[]'])
    expect(() => findCredentials(text, 'config.json', 'a', 'b')).toThrow(
      /^config\.json: is no registry configuration such as docker login writes$/,
    );
});

test('an identity token, and an entry without anything, are told', () => {
  expect(() => find({ 'ghcr.io': { identitytoken: 'x' } }, 'ghcr.io')).toThrow('has an identity token for ghcr.io');
  expect(() => find({ 'ghcr.io': {} }, 'ghcr.io')).toThrow('has no user and password for ghcr.io');
});

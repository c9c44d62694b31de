/**
 * Credentials for registries, as `docker login`, `oras login` and Secrets of type kubernetes.io/dockerconfigjson have them. Programs that such a file
 * names (credHelpers, credsStore) are not run.
 */
import { z } from 'zod';
import { EngineError } from '../../errors.ts';

export interface Credentials {
  readonly user: string;
  readonly password: string;
}

const text = z.string().max(64 * 1024);
const entry = z.looseObject({
  auth: text.optional(),
  username: text.optional(),
  password: text.optional(),
  identitytoken: text.optional(),
});
const file = z.looseObject({ auths: z.record(z.string(), entry).optional() });

/** Docker Hub by the names that such files have for it. */
const ALIASES: Readonly<Record<string, string>> = { 'index.docker.io': 'docker.io', 'registry-1.docker.io': 'docker.io' };

/**
 * The credentials for a repository, undefined where a file has none: those of its closest path, before those of its registry, before those whose
 * host has wildcards.
 *
 * @throws EngineError `PLUGIN_INVALID` when it cannot be read; its content is not in the message.
 */
export function findCredentials(json: string, from: string, registry: string, repository: string): Credentials | undefined {
  const refuse = (reason: string): EngineError => new EngineError('PLUGIN_INVALID', `${from}: ${reason}`);
  let parsed: z.infer<typeof file>;
  try {
    parsed = file.parse(JSON.parse(json));
  } catch {
    // The message of JSON.parse() has a piece of the text in it.
    throw refuse('is no registry configuration such as docker login writes');
  }
  const fitting = Object.entries(parsed.auths ?? {})
    .map(([key, value]) => ({ ...keyOf(key), value }))
    .filter(({ host, path }) => matchesHost(host, registry) && (!path || repository === path || repository.startsWith(`${path}/`)))
    .sort((a, b) => Number(a.host.includes('*')) - Number(b.host.includes('*')) || b.path.length - a.path.length);
  const [found] = fitting;
  if (!found) return undefined;
  const { auth, username, password, identitytoken } = found.value;
  if (username !== undefined && password !== undefined) return { user: username, password };
  const decoded = auth === undefined ? '' : Buffer.from(auth, 'base64').toString('utf8');
  const colon = decoded.indexOf(':');
  if (colon > 0) return { user: decoded.slice(0, colon), password: decoded.slice(colon + 1) };
  if (identitytoken)
    throw refuse(`has an identity token for ${registry}: only a user with a password, or an access token as one, is taken`);
  throw refuse(`has no user and password for ${registry}`);
}

/** `https://index.docker.io/v1/` is the host docker.io without a path. */
function keyOf(key: string): { host: string; path: string } {
  const [, rest = ''] = /^(?:https?:\/\/)?(.*?)\/*$/.exec(key) ?? [];
  const [host = '', ...steps] = rest.split('/');
  const path = /^v[12]$/.test(steps.join('/')) ? '' : steps.join('/');
  return { host: (ALIASES[host.toLowerCase()] ?? host).toLowerCase(), path };
}

/** As kubelet does: a wildcard stands for a part of one label. */
function matchesHost(pattern: string, host: string): boolean {
  if (!pattern.includes('*')) return pattern === host;
  const labels = host.split('.');
  const patterns = pattern.split('.');
  return (
    labels.length === patterns.length &&
    patterns.every((part, i) => {
      const pieces = part.split('*').map((piece) => piece.replace(/[^a-z0-9]/g, '\\$&'));
      return new RegExp(`^${pieces.join('[^.]*')}$`).test(labels[i] as string);
    })
  );
}

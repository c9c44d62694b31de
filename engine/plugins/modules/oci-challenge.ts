/** How a registry says who it lets in: the WWW-Authenticate header (RFC 9110, 11.6.1), and the token that it wants (OCI distribution: token authentication). */
import { EngineError } from '../../errors.ts';

export interface Challenge {
  readonly scheme: 'basic' | 'bearer';
  /** `realm`, `service` and whatever else it says. */
  readonly parameters: ReadonlyMap<string, string>;
}

const SCHEME = /(?:^|,)\s*(basic|bearer)\s+(?=[a-z]+\s*=)/gi;
const PARAMETER = /([a-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))/gi;
/** Longer ones are no challenges of a registry. */
const HEADER_MAX = 8192;

/** The challenges that can be answered, in the order of the header. */
export function readChallenges(header: string | string[] | undefined): Challenge[] {
  const text = (Array.isArray(header) ? header.join(', ') : (header ?? '')).slice(0, HEADER_MAX);
  const starts = [...text.matchAll(SCHEME)];
  return starts.map((start, i) => {
    const own = text.slice(start.index + start[0].length, starts[i + 1]?.index);
    const parameters = [...own.matchAll(PARAMETER)].map(([, name, quoted, plain]): [string, string] => [
      (name as string).toLowerCase(),
      quoted === undefined ? (plain as string) : quoted.replace(/\\(.)/g, '$1'),
    ]);
    return { scheme: (start[1] as string).toLowerCase() as Challenge['scheme'], parameters: new Map(parameters) };
  });
}

/** Where registries have their tokens from, if not from themselves. */
const TOKEN_HOSTS: Readonly<Record<string, readonly string[]>> = {
  'docker.io': ['auth.docker.io'],
  'registry.gitlab.com': ['gitlab.com'],
};

/**
 * The URL to ask for a token that lets read one repository. The registry says where that is, and with it where its password goes: only to
 * itself, to a host that is known for it, or to one that the configuration names.
 *
 * @throws EngineError `PLUGIN_INVALID`
 */
export function tokenUrl(
  challenge: Challenge,
  registry: { name: string; url: URL; repository: string; tokenHosts: readonly string[] },
): URL {
  const { name, url, repository, tokenHosts } = registry;
  const text = challenge.parameters.get('realm') ?? '';
  const refuse = (why: string): EngineError => new EngineError('PLUGIN_INVALID', `registry ${name} ${why}`);
  if (!URL.canParse(text)) throw refuse('names no realm to ask for a token');
  const realm = new URL(text);
  if (realm.protocol !== 'https:' && realm.origin !== url.origin) throw refuse(`wants a token from ${realm.origin}: not over https`);
  const known = [url.hostname, ...(TOKEN_HOSTS[name] ?? []), ...tokenHosts];
  if (!known.includes(realm.hostname))
    throw refuse(`wants a token from ${realm.hostname}: if that is right, name it in modules.tokenHosts of --config`);
  realm.username = '';
  realm.password = '';
  realm.hash = '';
  const service = challenge.parameters.get('service');
  if (service !== undefined) realm.searchParams.set('service', service);
  // As little as is needed, whatever it asks for.
  realm.searchParams.set('scope', `repository:${repository}:pull`);
  return realm;
}

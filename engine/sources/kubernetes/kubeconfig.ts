/**
 * Where the API server is and how it is told who we are: a kubeconfig, or a pod's service account. Files are checked here, and read anew
 * whenever a connection is made: they rotate.
 *
 * Of `@kubernetes/client-node` the parts that know files, tokens and exec plugins are imported one by one: its KubeConfig, which is made of
 * them, loads a class for each type of the API, 80 MiB.
 */
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import type { Cluster, Context, User } from '@kubernetes/client-node/dist/config_types.js';
import { newClusters, newContexts, newUsers } from '@kubernetes/client-node/dist/config_types.js';
import { load } from 'js-yaml';
import { EngineError, messageOf } from '../../errors.ts';
import { isRecord } from '../raw-object.ts';

/** A cluster, and as whom. */
export interface Access {
  readonly cluster: Cluster;
  readonly user: User;
  /** `kubeconfig /root/.kube/config`, `service account` */
  readonly from: string;
}

const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';

/**
 * Finds the access: the named file, else those of KUBECONFIG, else a pod's service account, else `~/.kube/config`.
 *
 * @throws EngineError `CONFIG_INVALID`
 */
export function readAccess(kubeconfig: string | undefined, environment: NodeJS.ProcessEnv = process.env): Access {
  if (kubeconfig !== undefined) return accessOfFiles([kubeconfig]);
  const files = (environment.KUBECONFIG ?? '').split(delimiter).filter((file) => file);
  if (files.length) return accessOfFiles(files);
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = environment;
  if (host && port) return serviceAccount(host, port);
  const home = join(environment.HOME ?? homedir(), '.kube', 'config');
  if (existsSync(home)) return accessOfFiles([home]);
  throw new EngineError(
    'CONFIG_INVALID',
    `Cannot find the API server: no --kubeconfig, no KUBECONFIG, no service account of a pod, no ${home}; name a kubeconfig with --kubeconfig`,
  );
}

function serviceAccount(host: string, port: string, root = SERVICE_ACCOUNT): Access {
  const server = `https://${host.includes(':') ? `[${host}]` : host}:${port}`;
  return checked({
    from: 'service account',
    cluster: { name: 'pod', server, caFile: join(root, 'ca.crt'), skipTLSVerify: false },
    user: { name: 'pod', authProvider: { name: 'tokenFile', config: { tokenFile: join(root, 'token') } } },
  });
}

interface Parts {
  readonly clusters: readonly Cluster[];
  readonly users: readonly User[];
  readonly contexts: readonly Context[];
  readonly current: unknown;
}

/** Of several files the first that has a name counts, as with kubectl. */
function accessOfFiles(files: readonly string[]): Access {
  const from = `kubeconfig ${files.join(delimiter)}`;
  const parts = files.map(readParts);
  const current = parts.map((part) => part.current).find((name) => typeof name === 'string' && name !== '');
  const refuse = (why: string): never => {
    throw new EngineError('CONFIG_INVALID', `Cannot use ${from}: ${why}`);
  };
  if (current === undefined) return refuse('it has no current-context');
  const find = <T extends { readonly name: string }>(what: string, list: readonly T[], name: unknown): T =>
    list.find((each) => each.name === name) ?? refuse(`it has no ${what} "${String(name)}"`);
  const context = find(
    'context',
    parts.flatMap((part) => part.contexts),
    current,
  );
  const cluster = find(
    'cluster',
    parts.flatMap((part) => part.clusters),
    context.cluster,
  );
  const user = find(
    'user',
    parts.flatMap((part) => part.users),
    context.user,
  );
  return checked({ from, cluster, user });
}

function readParts(file: string): Parts {
  const path = resolve(file);
  try {
    const config: unknown = load(readFileSync(path, 'utf8'));
    if (!isRecord(config)) throw new Error('it is no kubeconfig');
    const besides = (name: string | undefined): string | undefined => name && resolve(dirname(path), name);
    const clusters = newClusters(asList(config.clusters)).map((each) => ({ ...each, caFile: besides(each.caFile) }));
    const tokenFiles = new Map(asList(config.users).map((each) => [each.name, besides(each.user?.tokenFile)]));
    const users = newUsers(asList(config.users)).map((each) =>
      withTokenFile({ ...each, certFile: besides(each.certFile), keyFile: besides(each.keyFile) } as User, tokenFiles.get(each.name)),
    );
    return { clusters, users, contexts: newContexts(asList(config.contexts)), current: config['current-context'] } as Parts;
  } catch (error) {
    throw new EngineError('CONFIG_INVALID', `Cannot read kubeconfig ${file}: ${messageOf(error)}`, error);
  }
}

// biome-ignore lint/suspicious/noExplicitAny: the library takes what YAML has, and checks it itself
const asList = (value: unknown): any[] => (Array.isArray(value) ? value.filter(isRecord) : []);

/** A token in a file counts before one in the kubeconfig, as with kubectl. */
function withTokenFile(user: User, tokenFile: string | undefined): User {
  if (!tokenFile) return user;
  const { token: _token, ...rest } = user;
  return { ...rest, authProvider: { name: 'tokenFile', config: { tokenFile } } };
}

/** Policy is taken from the API server only, and it must prove that it is it, whatever a kubeconfig says. */
function checked(access: Access): Access {
  const { cluster, user, from } = access;
  const refuse = (why: string): never => {
    throw new EngineError('CONFIG_INVALID', `Cannot use ${from}: ${why}`);
  };
  if (!URL.canParse(cluster.server)) refuse(`its server "${cluster.server}" is no URL`);
  if (new URL(cluster.server).protocol !== 'https:')
    refuse(`its server ${cluster.server} is not https: anybody in between could change policy`);
  if (cluster.skipTLSVerify) refuse('insecure-skip-tls-verify: anybody in between could change policy; give certificate-authority instead');
  if (cluster.proxyUrl) refuse('proxy-url: proxies are not supported');
  const provider = user.authProvider as { name?: string; config?: { tokenFile?: string } } | undefined;
  if (provider && !provider.config?.tokenFile) refuse(`its auth-provider "${String(provider.name)}" is not supported; use exec instead`);
  return access;
}

/** Shown to the API server: a token with each request, a client certificate with each connection; from wherever the access has them. */
import { readFileSync } from 'node:fs';
import type { RequestOptions } from 'node:https';
import type { SecureContextOptions } from 'node:tls';
import { ExecAuth } from '@kubernetes/client-node/dist/exec_auth.js';
import { FileAuth } from '@kubernetes/client-node/dist/file_auth.js';
import type { Access } from './kubeconfig.ts';

export interface Credentials {
  /** Another text, other certificates: a connection that was made with others ends. */
  readonly tls: Pick<SecureContextOptions, 'ca' | 'cert' | 'key'>;
  readonly headers: Readonly<Record<string, string>>;
}

/** An exec plugin may ask somebody, but nobody waits for it forever. */
const EXEC_MS = 30_000;

export class CredentialSource {
  readonly #access: Access;
  #authenticator: FileAuth | ExecAuth | undefined;
  /** One at a time: a plugin that hangs is not started again and again. */
  #asked: Promise<RequestOptions> | undefined;

  constructor(access: Access) {
    this.#access = access;
    this.renew();
  }

  /** Forgets what was kept: the API server does not believe it. */
  renew(): void {
    this.#authenticator = [new FileAuth(), new ExecAuth()].find((each) => each.isAuthProvider(this.#access.user));
  }

  /** As they are now. @throws Error when a file cannot be read, or the exec plugin fails. */
  async get(): Promise<Credentials> {
    const { cluster, user } = this.#access;
    const options = await this.#authenticate();
    const headers = { ...(options.headers as Record<string, string>) };
    if (user.token) headers.Authorization = `Bearer ${user.token}`;
    else if (user.username) headers.Authorization = `Basic ${Buffer.from(`${user.username}:${user.password ?? ''}`).toString('base64')}`;
    if (headers.Authorization) headers.Authorization = headers.Authorization.trim();
    if (user.impersonateUser) headers['Impersonate-User'] = user.impersonateUser;
    const tls = {
      ca: read(cluster.caFile, cluster.caData),
      cert: (options.cert as string | undefined) ?? read(user.certFile, user.certData),
      key: (options.key as string | undefined) ?? read(user.keyFile, user.keyData),
    };
    return { headers, tls: Object.fromEntries(Object.entries(tls).filter(([, value]) => value !== undefined)) };
  }

  async #authenticate(): Promise<RequestOptions> {
    const authenticator = this.#authenticator;
    if (!authenticator) return { headers: {} };
    const options: RequestOptions = { headers: {} };
    this.#asked ??= authenticator
      .applyAuthentication(this.#access.user, options)
      .then(() => options)
      .finally(() => {
        this.#asked = undefined;
      });
    return await withinMs(this.#asked, EXEC_MS);
  }
}

async function withinMs<T>(asked: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the exec plugin of the kubeconfig does not answer within ${ms / 1000} s`)), ms);
  });
  return await Promise.race([asked, late]).finally(() => clearTimeout(timer));
}

/** Text in the kubeconfig itself counts before a file, as with kubectl. */
function read(file: string | undefined, base64: string | undefined): Buffer | undefined {
  if (base64) return Buffer.from(base64, 'base64');
  return file ? readFileSync(file) : undefined;
}

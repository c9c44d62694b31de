/** Keys and certificates of a cluster, by openssl, and kubeconfigs with them. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './command.ts';
import { API_PORT, API_SERVICE_ADDRESS, type Layout } from './layout.ts';

const DAYS = '30';
const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

/** Files of one key and its certificate. */
export interface Credentials {
  readonly certificate: string;
  readonly key: string;
}

export class Pki {
  readonly #cluster: Layout;
  readonly #directory: string;

  constructor(cluster: Layout) {
    this.#cluster = cluster;
    this.#directory = join(cluster.directory, 'pki');
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
  }

  get authority(): Credentials {
    return this.files('ca');
  }

  /** Signs the tokens of service accounts; it has no certificate. */
  get serviceAccountKey(): string {
    return join(this.#directory, 'service-accounts.key');
  }

  files(name: string): Credentials {
    return { certificate: join(this.#directory, `${name}.crt`), key: join(this.#directory, `${name}.key`) };
  }

  async makeAuthority(): Promise<void> {
    const { certificate, key } = this.authority;
    await Promise.all([
      run(['openssl', 'req', '-x509', ...NEW_KEY, '-keyout', key, '-out', certificate, '-subj', '/CN=sluice-test', '-days', DAYS]),
      run(['openssl', 'ecparam', '-genkey', '-name', 'prime256v1', '-noout', '-out', this.serviceAccountKey]),
    ]);
  }

  /**
   * Makes a key and a certificate for both ends of TLS, with the API server's names and `addresses`.
   *
   * `subject` as openssl takes it: `/O=system:masters/CN=admin`.
   */
  async issue(name: string, subject: string, addresses: readonly string[] = []): Promise<Credentials> {
    const { certificate, key } = this.files(name);
    const all = ['127.0.0.1', API_SERVICE_ADDRESS, this.#cluster.apiAddress, ...addresses].map((address) => `IP:${address}`);
    const names = ['localhost', 'kubernetes', 'kubernetes.default', 'kubernetes.default.svc'].map((host) => `DNS:${host}`);
    await run([
      ...['openssl', 'req', '-x509', '-CA', this.authority.certificate, '-CAkey', this.authority.key],
      ...[...NEW_KEY, '-keyout', key, '-out', certificate, '-subj', subject, '-days', DAYS],
      ...['-addext', `subjectAltName=${[...all, ...names].join(',')}`, '-addext', 'basicConstraints=critical,CA:FALSE'],
    ]);
    return { certificate, key };
  }

  /** issue(), and a kubeconfig with it. Returns the kubeconfig's path. */
  async issueKubeconfig(name: string, subject: string, addresses: readonly string[] = []): Promise<string> {
    const { certificate, key } = await this.issue(name, subject, addresses);
    const path = this.kubeconfig(name);
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [
        {
          name: this.#cluster.name,
          cluster: { server: `https://${this.#cluster.apiAddress}:${API_PORT}`, 'certificate-authority': this.authority.certificate },
        },
      ],
      users: [{ name, user: { 'client-certificate': certificate, 'client-key': key } }],
      contexts: [{ name: this.#cluster.name, context: { cluster: this.#cluster.name, user: name } }],
      'current-context': this.#cluster.name,
    };
    writeFileSync(path, `${JSON.stringify(config, null, 2)}\n`, { mode: 0o600 });
    return path;
  }

  kubeconfig(name: string): string {
    return join(this.#cluster.directory, `${name}.kubeconfig`);
  }
}

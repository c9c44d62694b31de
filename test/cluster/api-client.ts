/** A few questions to a cluster's API server, without starting kubectl for each. */
import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { API_PORT } from './layout.ts';
import type { Credentials } from './pki.ts';

const TIMEOUT_MS = 10_000;

export interface ApiAnswer {
  readonly status: number;
  readonly body: string;
}

/** How something is asked. */
export interface Asking {
  /** Of the body; default: JSON. */
  readonly contentType?: string;
}

export class ApiClient {
  readonly #host: string;
  readonly #agent: Agent;
  readonly #headers: Readonly<Record<string, string>>;

  /** With a certificate, or a bearer token. */
  constructor(host: string, authority: string, credentials: Credentials | { readonly token: string }) {
    this.#host = host;
    const ca = readFileSync(authority);
    if ('token' in credentials) {
      this.#agent = new Agent({ ca });
      this.#headers = { authorization: `Bearer ${credentials.token}` };
    } else {
      this.#agent = new Agent({ ca, cert: readFileSync(credentials.certificate), key: readFileSync(credentials.key) });
      this.#headers = {};
    }
  }

  ask(method: string, path: string, body?: unknown, { contentType = 'application/json' }: Asking = {}): Promise<ApiAnswer> {
    return new Promise((resolve, reject) => {
      const headers = { ...this.#headers, ...(body !== undefined && { 'content-type': contentType }) };
      const asked = request(
        { host: this.#host, port: API_PORT, method, path, agent: this.#agent, timeout: TIMEOUT_MS, headers },
        (answer) => {
          const chunks: Buffer[] = [];
          answer.on('data', (chunk: Buffer) => chunks.push(chunk));
          answer.on('error', reject);
          answer.on('end', () => resolve({ status: answer.statusCode ?? 0, body: Buffer.concat(chunks).toString() }));
        },
      );
      asked.on('timeout', () => asked.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
      asked.on('error', reject);
      asked.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  async isReady(): Promise<boolean> {
    return (await this.ask('GET', '/readyz')).status === 200;
  }

  /** @throws Error with the server's reason. */
  async get<T>(path: string): Promise<T> {
    const { status, body } = await this.ask('GET', path);
    if (status !== 200) throw new Error(`Cannot get ${path}: ${status} ${body}`);
    return JSON.parse(body) as T;
  }

  /** @throws Error with the server's reason. */
  async create(path: string, object: unknown): Promise<void> {
    const { status, body } = await this.ask('POST', path, object);
    if (status !== 201) throw new Error(`Cannot create an object in ${path}: ${status} ${body}`);
  }
}

/**
 * A real API server with its store and without nodes, on ports and in a folder of its own: what objects it takes, who may do what.
 * It reads its programs from where test clusters have them.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { createServer } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';

const programs = join(homedir(), '.cache/sluice-kube/bin');
/** Without them nothing of this can run: they are built from Go modules, in ten minutes. */
export const hasApiServer = ['etcd', 'kube-apiserver'].every((name) => existsSync(join(programs, name)));

const READY_MS = 60_000;
const ANSWER_MS = 20_000;
const ADMIN = 'admin-token';

export interface Asked {
  readonly body?: unknown;
  readonly contentType?: string;
  /** A bearer token; an administrator's where absent. */
  readonly token?: string;
}

export interface Answer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: an object of whatever kind
  readonly body: any;
}

export class ApiServer {
  readonly url: string;
  readonly #folder: string;
  readonly #children: readonly ChildProcess[];
  readonly #agent: Agent;

  private constructor(port: number, folder: string, children: readonly ChildProcess[]) {
    this.url = `https://127.0.0.1:${port}`;
    this.#folder = folder;
    this.#children = children;
    // Its certificate is made by itself, at its start.
    this.#agent = new Agent({ keepAlive: true, rejectUnauthorized: false });
  }

  static async start(): Promise<ApiServer> {
    const folder = mkdtempSync(join(tmpdir(), 'sluice-api-server-'));
    const [client, peer, port] = (await Promise.all([freePort(), freePort(), freePort()])) as [number, number, number];
    const { privateKey } = generateKeyPairSync('rsa', {
      modulusLength: 2048,
      publicKeyEncoding: { type: 'spki', format: 'pem' },
      privateKeyEncoding: { type: 'pkcs1', format: 'pem' },
    });
    writeFileSync(join(folder, 'sa.key'), privateKey);
    writeFileSync(join(folder, 'tokens'), `${ADMIN},admin,1,"system:masters"\n`);
    const store = `http://127.0.0.1:${client}`;
    const peers = `http://127.0.0.1:${peer}`;
    const children = [
      run(folder, 'etcd', [
        ...['--unsafe-no-fsync', '--log-level=warn', `--data-dir=${folder}/etcd`, `--listen-client-urls=${store}`],
        ...[`--advertise-client-urls=${store}`, `--listen-peer-urls=${peers}`, `--initial-advertise-peer-urls=${peers}`],
        `--initial-cluster=default=${peers}`,
      ]),
      run(folder, 'kube-apiserver', [
        ...[`--etcd-servers=${store}`, `--secure-port=${port}`, '--bind-address=127.0.0.1', '--advertise-address=127.0.0.1'],
        ...['--endpoint-reconciler-type=none', `--cert-dir=${folder}/certs`, `--token-auth-file=${folder}/tokens`],
        ...['--authorization-mode=RBAC', '--service-account-issuer=https://test', '--service-cluster-ip-range=10.96.0.0/16'],
        ...[`--service-account-key-file=${folder}/sa.key`, `--service-account-signing-key-file=${folder}/sa.key`],
      ]),
    ];
    const server = new ApiServer(port, folder, children);
    try {
      await server.until('it is ready', async () => (await server.ask('GET', '/readyz').catch(() => undefined))?.status === 200, READY_MS);
      return server;
    } catch (error) {
      const log = readFileSync(join(folder, 'kube-apiserver.log'), 'utf8').slice(-2000);
      await server.stop();
      throw new Error(`Cannot start an API server: ${log}`, { cause: error });
    }
  }

  ask(method: string, path: string, { body, contentType = 'application/json', token = ADMIN }: Asked = {}): Promise<Answer> {
    const headers = { authorization: `Bearer ${token}`, ...(body !== undefined && { 'content-type': contentType }) };
    return new Promise((resolve, reject) => {
      const asked = request(`${this.url}${path}`, { method, headers, agent: this.#agent, timeout: ANSWER_MS }, (answer) => {
        const chunks: Buffer[] = [];
        answer.on('data', (chunk: Buffer) => chunks.push(chunk));
        answer.on('error', reject);
        answer.on('end', () => {
          const text = Buffer.concat(chunks).toString();
          resolve({ status: answer.statusCode ?? 0, body: text.startsWith('{') ? JSON.parse(text) : text });
        });
      });
      asked.on('timeout', () => asked.destroy(new Error(`no answer within ${ANSWER_MS / 1000} s`)));
      asked.on('error', reject);
      asked.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  /** As `kubectl apply --server-side` does. */
  async apply(path: string, body: unknown): Promise<Answer> {
    return await this.ask('PATCH', `${path}?fieldManager=test&fieldValidation=Strict`, {
      body,
      contentType: 'application/apply-patch+yaml',
    });
  }

  async until(what: string, holds: () => Promise<boolean>, withinMs = 20_000): Promise<void> {
    const end = Date.now() + withinMs;
    while (!(await holds())) {
      if (Date.now() > end) throw new Error(`Cannot wait any longer until ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async stop(): Promise<void> {
    this.#agent.destroy();
    for (const child of [...this.#children].reverse()) {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill('SIGKILL');
      await ended;
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function run(folder: string, name: string, flags: readonly string[]): ChildProcess {
  const script = `exec "$0" "$@" >"${folder}/${name}.log" 2>&1`;
  return spawn('sh', ['-c', script, join(programs, name), ...flags], { stdio: 'ignore' });
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address ? address.port : 0));
    });
  });
}

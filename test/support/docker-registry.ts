/** Debian's docker-registry on the loopback, with a folder of its own, for one test. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Certificate } from './web-server.ts';

export interface RegistryOptions {
  readonly tls?: Certificate;
  /** A line of htpasswd: `user:$2b$…`. */
  readonly passwords?: string;
  /** It takes tokens that this one gives out. */
  readonly tokens?: { readonly realm: string; readonly service: string; readonly issuer: string; readonly certificate: string };
}

export interface DockerRegistry {
  /** `127.0.0.1:1234` */
  readonly host: string;
  close(): Promise<void>;
}

const READY_MS = 10_000;

/** @throws Error with what it printed where it does not start */
export async function startDockerRegistry({ tls, passwords, tokens }: RegistryOptions = {}): Promise<DockerRegistry> {
  const directory = mkdtempSync(join(tmpdir(), 'sluice-registry-'));
  const file = (name: string, text: string): string => {
    writeFileSync(join(directory, name), text);
    return join(directory, name);
  };
  const host = `127.0.0.1:${await freePort()}`;
  const auth = {
    ...(passwords !== undefined && { htpasswd: { realm: 'test', path: file('htpasswd', `${passwords}\n`) } }),
    ...(tokens && {
      token: {
        realm: tokens.realm,
        service: tokens.service,
        issuer: tokens.issuer,
        rootcertbundle: file('issuer.pem', tokens.certificate),
      },
    }),
  };
  // JSON is YAML.
  const config = file(
    'config.yml',
    JSON.stringify({
      version: 0.1,
      log: { level: 'warn', accesslog: { disabled: true } },
      storage: { filesystem: { rootdirectory: join(directory, 'content') } },
      http: { addr: host, ...(tls && { tls: { certificate: file('cert.pem', tls.cert), key: file('key.pem', tls.key) } }) },
      ...(Object.keys(auth).length && { auth }),
    }),
  );
  const child = spawn('docker-registry', ['serve', config], { stdio: ['ignore', 'ignore', 'pipe'] });
  const close = async (): Promise<void> => {
    await end(child);
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    await answering(`http${tls ? 's' : ''}://${host}/v2/`, child);
    return { host, close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function answering(url: string, child: ChildProcess): Promise<void> {
  let printed = '';
  child.stderr?.on('data', (chunk) => (printed += chunk));
  let failed: Error | undefined;
  child.on('error', (error) => (failed = error));
  child.on('exit', (code) => (failed ??= new Error(`Cannot start docker-registry: it ended with ${code}: ${printed}`)));
  const { hostname, port } = new URL(url);
  const deadline = performance.now() + READY_MS;
  while (performance.now() < deadline) {
    if (failed) throw failed;
    if (await connects(hostname, Number(port))) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`Cannot start docker-registry: nobody answers at ${url}: ${printed}`);
}

function connects(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port }, () => resolve(socket.destroy() !== undefined));
    socket.on('error', () => resolve(false));
  });
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.pid === undefined) return;
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await gone;
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

/** HTTP and HTTPS servers on the loopback for one test: what is asked of them is noted, and all of it is gone after. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface WebServer {
  /** `http://127.0.0.1:1234` */
  readonly url: string;
  /** `127.0.0.1:1234` */
  readonly host: string;
  readonly requests: IncomingMessage[];
}

export type Answerer = (request: IncomingMessage, response: ServerResponse, server: WebServer) => void;

export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

/** A certificate of its own authority for 127.0.0.1 and localhost. */
export function makeCertificate(): Certificate {
  const directory = mkdtempSync(join(tmpdir(), 'sluice-certificate-'));
  try {
    const [key, cert] = [join(directory, 'key.pem'), join(directory, 'cert.pem')];
    execFileSync(
      'openssl',
      `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test -addext subjectAltName=IP:127.0.0.1,DNS:localhost -keyout ${key} -out ${cert}`.split(
        ' ',
      ),
      { stdio: 'ignore' },
    );
    return { cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

export class WebServers {
  readonly #servers: Server[] = [];

  async start(answer: Answerer, tls?: Certificate): Promise<WebServer> {
    const requests: IncomingMessage[] = [];
    let started: WebServer | undefined;
    const listener: RequestListener = (request, response) => {
      requests.push(request);
      answer(request, response, started as WebServer);
    };
    const server = tls ? createTlsServer(tls, listener) : createServer(listener);
    this.#servers.push(server as Server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    started = { url: `http${tls ? 's' : ''}://${host}`, host, requests };
    return started;
  }

  async close(): Promise<void> {
    await Promise.all(
      this.#servers.splice(0).map((server) => {
        server.closeAllConnections();
        return new Promise((resolve) => server.close(resolve));
      }),
    );
  }
}

/** A server of HTTP/2 that answers whatever a test says, on a loopback port, and an ApiClient that asks it. */
import { once } from 'node:events';
import { createServer, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { ApiClient } from '../../engine/sources/kubernetes/api-client.ts';
import { Connection } from '../../engine/sources/kubernetes/connection.ts';
import type { Timing } from '../../engine/sources/kubernetes/timing.ts';
import { SHORT_TIMING } from './scripted-api.ts';
import { Wire } from './wire.ts';

type Answer = (stream: ServerHttp2Stream, path: string) => void;

export class ApiStand {
  answer: Answer = () => {};
  readonly client: ApiClient;
  /** Between the two. */
  readonly wire: Wire;
  renewed = 0;
  readonly sessions = new Set<ServerHttp2Session>();
  readonly #server: Http2Server;
  readonly #connection: Connection;

  private constructor(server: Http2Server, wire: Wire, timing: Timing) {
    this.#server = server;
    this.wire = wire;
    this.#connection = new Connection({
      server: `http://127.0.0.1:${wire.port}`,
      tlsServerName: undefined,
      credentials: { get: async () => ({ headers: {}, tls: {} }), renew: () => (this.renewed += 1) },
      timing,
    });
    this.client = new ApiClient(this.#connection, timing);
    server.on('session', (session) => {
      this.sessions.add(session);
      session.on('error', () => {});
      session.on('close', () => this.sessions.delete(session));
    });
    server.on('stream', (stream, headers) => {
      stream.on('error', () => {});
      this.answer(stream, String(headers[':path']));
    });
  }

  static async start(timing: Timing = SHORT_TIMING): Promise<ApiStand> {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new ApiStand(server, await Wire.to('127.0.0.1', (server.address() as AddressInfo).port), timing);
  }

  async close(): Promise<void> {
    this.#connection.close();
    await this.wire.close();
    for (const session of this.sessions) session.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

export const JSON_TYPE = 'application/json';

/** Answers with a status and a body, which ends. */
export const say =
  (status: number, type: string, body: string | Buffer, headers: Record<string, string> = {}): Answer =>
  (stream) => {
    stream.respond({ ':status': status, 'content-type': type, ...headers });
    stream.end(body);
  };

/** Begins an answer and leaves it open. */
export const begin =
  (type: string, body: string | Buffer): Answer =>
  (stream) => {
    stream.respond({ ':status': 200, 'content-type': type });
    stream.write(body);
  };

/** Begins an answer that has no end. */
export const sayForever =
  (letter: string): Answer =>
  (stream) => {
    const chunk = Buffer.alloc(1024 * 1024, letter);
    stream.respond({ ':status': 200, 'content-type': JSON_TYPE });
    const more = (): void => {
      if (!stream.destroyed && !stream.closed) stream.write(chunk, more);
    };
    more();
  };

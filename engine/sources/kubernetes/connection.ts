/**
 * One HTTP/2 connection to the API server for all requests, made when it is needed and again when it broke: of each node the server has
 * one, not one for each watch. One that says nothing is asked whether it is there.
 */

import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type OutgoingHttpHeaders,
  type SecureClientSessionOptions,
} from 'node:http2';
import { messageOf } from '../../errors.ts';
import { ApiFailure } from './api-failure.ts';
import type { Credentials } from './credentials.ts';
import type { Timing } from './timing.ts';

/** A page of a list is some MiB: a smaller window would make it wait for the other end again and again. */
const STREAM_WINDOW_BYTES = 1024 * 1024;
const CONNECTION_WINDOW_BYTES = 4 * 1024 * 1024;

export interface ConnectionParts {
  /** `https://10.96.0.1:443`, also with a path. */
  readonly server: string;
  readonly tlsServerName: string | undefined;
  readonly credentials: { get(): Promise<Credentials>; renew(): void };
  readonly timing: Timing;
}

/** An answer's head; its body is the stream. */
export interface Answer {
  readonly status: number;
  readonly contentType: string;
  readonly retryAfterMs: number | undefined;
  readonly stream: ClientHttp2Stream;
}

interface Session {
  readonly http2: ClientHttp2Session;
  /** Of what it was made. */
  readonly tlsText: string;
  /** Why it broke: its streams only know that it did. */
  error?: Error;
}

export class Connection {
  readonly #parts: ConnectionParts;
  readonly #prefix: string;
  #session: Session | undefined;
  #closed = false;

  constructor(parts: ConnectionParts) {
    this.#parts = parts;
    this.#prefix = new URL(parts.server).pathname.replace(/\/$/, '');
  }

  /** Sends a GET; resolves with the head of the answer. Whoever gets it reads the stream to its end, or destroys it. @throws ApiFailure */
  async get(path: string, accept: string, signal: AbortSignal): Promise<Answer> {
    const { credentials, timing } = this.#parts;
    const current = await credentials.get().catch((error: unknown) => {
      throw new ApiFailure('unreachable', `no credentials: ${messageOf(error)}`);
    });
    if (signal.aborted || this.#closed) throw new ApiFailure('unreachable', 'stopped');
    const headers = { ':path': `${this.#prefix}${path}`, accept, ...lowerCase(current.headers), 'user-agent': 'sluice' };
    const { session, stream } = this.#request(current, headers);
    stream.end();
    const answer = await headOf(stream, session, timing.answerMs, signal);
    if (answer.status === 401) credentials.renew();
    return answer;
  }

  close(): void {
    this.#closed = true;
    this.#session?.http2.destroy();
    this.#session = undefined;
  }

  #request(credentials: Credentials, headers: OutgoingHttpHeaders): { session: Session; stream: ClientHttp2Stream } {
    try {
      const session = this.#open(credentials);
      return { session, stream: session.http2.request(headers) };
    } catch (error) {
      // Such as of a certificate that is none.
      throw new ApiFailure('unreachable', messageOf(error));
    }
  }

  #open({ tls }: Credentials): Session {
    const tlsText = [tls.ca, tls.cert, tls.key].map((part) => String(part)).join('\n');
    const known = this.#session;
    if (known && !known.http2.closed && !known.http2.destroyed && known.tlsText === tlsText) return known;
    // Requests under way on it end by themselves: no watch lasts longer than minutes.
    known?.http2.close();
    const http2 = this.#connect(tls);
    const session: Session = { http2, tlsText };
    this.#session = session;
    // Each stream has one as well; without a listener it would end the process.
    http2.on('error', (error) => {
      session.error = error;
    });
    const leave = (): void => {
      if (this.#session === session) this.#session = undefined;
    };
    http2.on('goaway', leave);
    http2.on('close', leave);
    return session;
  }

  #connect(tls: Credentials['tls']): ClientHttp2Session {
    const { server, tlsServerName, timing } = this.#parts;
    const options: SecureClientSessionOptions = {
      ...tls,
      // Whatever the environment says.
      rejectUnauthorized: true,
      ...(tlsServerName && { servername: tlsServerName }),
      settings: { enablePush: false, initialWindowSize: STREAM_WINDOW_BYTES },
    };
    const http2 = connect(server, options);
    http2.on('connect', () => http2.setLocalWindowSize(CONNECTION_WINDOW_BYTES));
    const connecting = setTimeout(() => http2.destroy(new Error('no connection in time')), timing.answerMs);
    http2.on('connect', () => clearTimeout(connecting));
    const pings = setInterval(() => askWhetherThere(http2, timing.pingMs / 2), timing.pingMs);
    http2.on('close', () => {
      clearTimeout(connecting);
      clearInterval(pings);
    });
    return http2;
  }
}

function askWhetherThere(http2: ClientHttp2Session, withinMs: number): void {
  if (http2.connecting || http2.destroyed) return;
  const late = setTimeout(() => http2.destroy(new Error('the connection does not answer any more')), withinMs);
  const sent = http2.ping(() => clearTimeout(late));
  if (!sent) clearTimeout(late);
}

async function headOf(stream: ClientHttp2Stream, session: Pick<Session, 'error'>, withinMs: number, signal: AbortSignal): Promise<Answer> {
  return await new Promise<Answer>((resolve, reject) => {
    const fail = (reason: string): void => {
      done();
      stream.on('error', () => {});
      stream.destroy();
      reject(new ApiFailure('unreachable', reason));
    };
    const onError = (error: Error): void => fail(describeError(session.error ?? error));
    const onClose = (): void => fail(session.error ? describeError(session.error) : 'the connection ended without an answer');
    const onAbort = (): void => fail('stopped');
    const timer = setTimeout(() => fail(`no answer within ${withinMs / 1000} s`), withinMs);
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      stream.off('error', onError);
      stream.off('close', onClose);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    stream.on('error', onError);
    stream.on('close', onClose);
    stream.once('response', (headers) => {
      done();
      const retryAfter = Number(headers['retry-after']);
      resolve({
        status: Number(headers[constants.HTTP2_HEADER_STATUS]),
        contentType: String(headers['content-type'] ?? ''),
        retryAfterMs: retryAfter > 0 ? retryAfter * 1000 : undefined,
        stream,
      });
    });
  });
}

/** Also of an error that only has a code, and of several addresses that were tried. */
function describeError(error: Error): string {
  const inner = error instanceof AggregateError ? (error.errors[0] as Error | undefined) : undefined;
  const { code } = error as NodeJS.ErrnoException;
  return error.message || inner?.message || code || 'the connection failed';
}

function lowerCase(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}

/**
 * Clients that speak HTTP/2 without TLS, such as gRPC: each stream is decided like a request of HTTP/1, and goes to a backend over
 * HTTP/2 from the client's address. Streams of one client to one backend share a connection.
 */
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
  performServerHandshake,
  type ServerHttp2Stream,
} from 'node:http2';
import { Socket } from 'node:net';
import type { SocketEnds } from '../native.gen.ts';
import type { Backend } from './backends.ts';
import { headerText } from './client-connection.ts';
import type { Decision } from './decider.ts';
import { type Client, type Desk, TIMEOUTS, type Timeouts } from './desk.ts';
import type { ProxyPolicy } from './messages.ts';
import { originOf, type Party } from './party.ts';

const {
  HTTP2_HEADER_METHOD,
  HTTP2_HEADER_PATH,
  HTTP2_HEADER_AUTHORITY,
  HTTP2_HEADER_STATUS,
  NGHTTP2_CANCEL,
  NGHTTP2_FLAG_END_STREAM,
  NGHTTP2_REFUSED_STREAM,
  NGHTTP2_NO_ERROR,
} = constants;

/** Streams of one client at once. */
const STREAMS_MAX = 256;
const HEADER_PAIRS_MAX = 128;
/** What is kept of one client at once. */
const SESSION_MB = 2;
const CONNECT_MS = 2000;
/** Connections to backends without a stream are closed after so long. */
const IDLE_MS = 30_000;
const SETTINGS = { enablePush: false, maxConcurrentStreams: STREAMS_MAX, maxHeaderListSize: 32 * 1024 };

/** Notes a stream that has its answer, or what there is of it. */
type Note = (status: number, reason: string, backend: Backend | undefined, bytesIn: number, bytesOut: number) => void;

interface BackendSession {
  readonly session: ClientHttp2Session;
  readonly ready: Promise<void>;
  idleSinceMs: number;
  streams: number;
}

export class Http2Proxy {
  readonly #desk: Desk;
  readonly #connect: (beside: number, from: Uint8Array | undefined, to: Uint8Array, port: number) => number;
  readonly #timeouts: Timeouts;
  readonly #sessions = new Map<string, BackendSession>();

  /** `connectTo` gives the descriptor of a socket that is connecting, in the network of the socket `beside`; it throws when it cannot. */
  constructor(
    desk: Desk,
    connectTo: (beside: number, from: Uint8Array | undefined, to: Uint8Array, port: number) => number,
    timeouts: Timeouts = TIMEOUTS,
  ) {
    this.#desk = desk;
    this.#connect = connectTo;
    this.#timeouts = timeouts;
  }

  /** Serves a client whose first bytes were read already. */
  serve(fd: number, first: Buffer, ends: SocketEnds): void {
    const desk = this.#desk;
    const socket = new Socket({ fd, readable: true, writable: true });
    socket.on('error', () => {});
    const party = desk.find(ends);
    if (!party || !desk.hasRoom(party)) {
      desk.tally.counts.refusedClients += 1;
      socket.resetAndDestroy();
      return;
    }
    socket.unshift(first);
    const session = performServerHandshake(socket, {
      settings: SETTINGS,
      maxHeaderListPairs: HEADER_PAIRS_MAX,
      maxSessionMemory: SESSION_MB,
    });
    const open = new Map<ServerHttp2Stream, Backend>();
    const client: Client = {
      check: () => {},
      drain: () => session.close(),
      destroy: () => session.destroy(),
      backends: () => open.values(),
    };
    desk.add(client, party);
    session.on('error', () => {});
    session.on('close', () => desk.remove(client));
    session.setTimeout(this.#timeouts.idle, () => (open.size ? undefined : session.close()));
    session.on('stream', (stream, headers) => {
      stream.on('error', () => {});
      stream.on('close', () => open.delete(stream));
      this.#exchange(fd, stream, headers, desk.partyOf(client) ?? party, (backend) => open.set(stream, backend)).catch(() =>
        stream.close(constants.NGHTTP2_INTERNAL_ERROR),
      );
    });
  }

  /** Takes over another revision of policy. */
  setPolicy(policy: ProxyPolicy): void {
    this.#desk.setPolicy(policy);
    this.renew();
  }

  /** Lets nobody use a connection to a backend again: who allowed it may not any more. What is under way on them ends first. */
  renew(): void {
    for (const { session } of this.#sessions.values()) session.close();
    this.#sessions.clear();
  }

  /** Closes connections that nobody uses. */
  sweep(nowMs: number): void {
    for (const [key, each] of this.#sessions)
      if (!each.streams && nowMs - each.idleSinceMs > IDLE_MS) {
        this.#sessions.delete(key);
        each.session.close();
      }
  }

  close(): void {
    for (const { session } of this.#sessions.values()) session.destroy();
    this.#sessions.clear();
  }

  async #exchange(
    fd: number,
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    party: Party,
    uses: (backend: Backend) => void,
  ): Promise<void> {
    const startedMs = performance.now();
    const request = requestOf(headers);
    const decision = request ? this.#desk.decide(party, request, startedMs) : undefined;
    const { method = '', host = '', path = '' } = request ?? {};
    const note: Note = (status, reason, backend, bytesIn, bytesOut) =>
      this.#desk.note(party, decision, performance.now(), {
        protocol: 'HTTP/2',
        method,
        host,
        path,
        status,
        reason,
        backend,
        startedMs,
        bytesIn,
        bytesOut,
      });
    const answer = (status: number, reason: string, body: string, backend?: Backend): void => {
      if (!stream.destroyed && !stream.headersSent)
        stream.respond({
          [HTTP2_HEADER_STATUS]: status,
          'content-type': 'text/plain; charset=utf-8',
          'x-sluice-reason': headerText(reason),
        });
      stream.end(body);
      note(status, reason, backend, 0, body.length);
    };
    if (!decision) {
      stream.close(constants.NGHTTP2_PROTOCOL_ERROR);
      return;
    }
    if (!decision.allowed) {
      answer(decision.status, decision.reason, decision.body);
      return;
    }
    let backend: Backend | undefined;
    let upstream: BackendSession | undefined;
    for (let tries = 0; tries < 2 && !upstream && !stream.destroyed; tries++) {
      const chosen = this.#desk.choose(party, decision, backend, performance.now());
      if (!chosen) break;
      backend = chosen;
      try {
        upstream = await this.#session(fd, party, chosen);
      } catch {
        this.#desk.noteFailure(chosen, performance.now());
      }
    }
    if (stream.destroyed) return;
    if (!backend || !upstream) {
      answer(503, backend ? 'the backend cannot be reached' : 'there is no backend that is ready and allowed', '', backend);
      return;
    }
    uses(backend);
    this.#forward(stream, headers, upstream, backend, decision, note, answer);
  }

  #forward(
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    upstream: BackendSession,
    backend: Backend,
    decision: Decision,
    note: Note,
    answer: (status: number, reason: string, body: string, backend: Backend) => void,
  ): void {
    const bytes = { in: 0, out: 0 };
    let status = 0;
    let over = false;
    let out: ClientHttp2Stream;
    try {
      out = upstream.session.request(headers, { endStream: stream.endAfterHeaders });
    } catch (error) {
      answer(503, `no stream can be opened: ${(error as Error).message}`, '', backend);
      return;
    }
    backend.active += 1;
    upstream.streams += 1;
    const finish = (reason: string, failure = 502): void => {
      if (over) return;
      over = true;
      backend.active -= 1;
      upstream.streams -= 1;
      upstream.idleSinceMs = performance.now();
      clearTimeout(timer);
      if (status) note(status, reason, backend, bytes.in, bytes.out);
      else if (!stream.destroyed) answer(failure, reason, '', backend);
    };
    // As long as anything happens on either side, it goes on.
    const timer = setTimeout(() => {
      finish(status ? 'nothing has come from either side' : 'the backend does not answer', 504);
      out.close(NGHTTP2_CANCEL);
      if (status) stream.close(NGHTTP2_CANCEL);
    }, this.#timeouts.exchange);
    out.on('error', () => {});
    // Interim answers: 103 and its like, and 100 by itself.
    const interim = (headers: IncomingHttpHeaders): void => {
      if (!stream.destroyed && !stream.headersSent) stream.additionalHeaders(headers);
    };
    out.on('headers', interim);
    out.on('continue', () => interim({ [HTTP2_HEADER_STATUS]: '100' }));
    out.on('response', (answered, flags) => {
      timer.refresh();
      status = Number(answered[HTTP2_HEADER_STATUS]);
      if (stream.destroyed) {
        out.close(NGHTTP2_CANCEL);
        return;
      }
      const cookies = decision.cookie ? { 'set-cookie': [...(answered['set-cookie'] ?? []), decision.cookie] } : {};
      // An answer without a body says in its head what others say behind it, and must end with that: so gRPC tells an error.
      const ends = (flags & NGHTTP2_FLAG_END_STREAM) !== 0;
      stream.respond({ ...answered, ...cookies }, ends ? { endStream: true } : { waitForTrailers: true });
    });
    let trailers: IncomingHttpHeaders = {};
    out.on('trailers', (sent) => (trailers = sent));
    stream.on('wantTrailers', () => stream.sendTrailers(trailers));
    stream.on('data', (chunk: Buffer) => {
      timer.refresh();
      bytes.in += chunk.length;
    });
    out.on('data', (chunk: Buffer) => {
      timer.refresh();
      bytes.out += chunk.length;
    });
    stream.pipe(out);
    out.pipe(stream);
    out.on('close', () => {
      const broken = out.rstCode !== NGHTTP2_NO_ERROR || !status;
      finish(broken ? 'the backend broke off' : '');
      if (broken && !stream.destroyed) stream.close(out.rstCode || NGHTTP2_REFUSED_STREAM);
    });
    stream.on('close', () => {
      if (!out.destroyed && !out.readableEnded) out.close(stream.rstCode || NGHTTP2_CANCEL);
      finish(stream.rstCode ? 'the client broke off' : '');
    });
  }

  async #session(beside: number, party: Party, backend: Backend): Promise<BackendSession> {
    const key = `${party.clientKey}${backend.key}`;
    let known = this.#sessions.get(key);
    if (!known || known.session.closed || known.session.destroyed) {
      const fd = this.#connect(beside, originOf(party, backend), backend.address, backend.port);
      const socket = new Socket({ fd, readable: true, writable: true });
      const session = connect('http://backend', { createConnection: () => socket, settings: { enablePush: false } });
      const ready = readyOf(session);
      session.on('error', () => {});
      session.on('close', () => {
        if (this.#sessions.get(key)?.session === session) this.#sessions.delete(key);
      });
      known = { session, ready, idleSinceMs: performance.now(), streams: 0 };
      this.#sessions.set(key, known);
    }
    try {
      await known.ready;
    } catch (error) {
      known.session.destroy();
      throw error;
    }
    return known;
  }
}

/** A wrapped socket tells nobody that it is connected; the other side's first settings do. */
function readyOf(session: ClientHttp2Session): Promise<void> {
  return new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('no answer to the connection')), CONNECT_MS);
    session.once('remoteSettings', () => {
      clearTimeout(timer);
      resolve();
    });
    session.once('close', () => {
      clearTimeout(timer);
      reject(new Error('closed'));
    });
  });
}

/** Undefined where it is no request. */
function requestOf(
  headers: IncomingHttpHeaders,
): { method: string; host: string; path: string; query: string; headers: string[] } | undefined {
  const method = headers[HTTP2_HEADER_METHOD] as string | undefined;
  const target = headers[HTTP2_HEADER_PATH] as string | undefined;
  const authority = (headers[HTTP2_HEADER_AUTHORITY] as string | undefined) ?? headers.host ?? '';
  if (!method || !target?.startsWith('/') || (headers.host && headers.host !== authority)) return undefined;
  const mark = target.indexOf('?');
  const list: string[] = [];
  for (const [name, value] of Object.entries(headers)) {
    if (name.startsWith(':') || value === undefined) continue;
    for (const each of Array.isArray(value) ? value : [value]) list.push(name, each);
  }
  return {
    method,
    host: authority.replace(/:[0-9]*$/, ''),
    path: mark < 0 ? target : target.slice(0, mark),
    query: mark < 0 ? '' : target.slice(mark + 1),
    headers: list,
  };
}

/** Connections to backends that speak HTTP/2: streams of one client to one backend share one. */
import { type ClientHttp2Session, connect } from 'node:http2';
import { Socket } from 'node:net';
import type { Backend } from './backends.ts';
import { originOf, type TaggedFlow } from './tagged-flow.ts';

/** Connections without a stream are closed after so long. */
const IDLE_MS = 30_000;

/** Gives the descriptor of a socket that is connecting, in the network of the socket `beside`; it throws when it cannot. */
export type ConnectBeside = (beside: number, from: Uint8Array | undefined, to: Uint8Array, port: number) => number;

export interface BackendSession {
  readonly session: ClientHttp2Session;
  readonly ready: Promise<void>;
  idleSinceMs: number;
  streams: number;
}

export class Http2Backends {
  readonly #connect: ConnectBeside;
  readonly #connectMs: number;
  readonly #sessions = new Map<string, BackendSession>();

  /** `connectMs`: a backend that has not said its settings by then is not there. */
  constructor(connectBeside: ConnectBeside, connectMs: number) {
    this.#connect = connectBeside;
    this.#connectMs = connectMs;
  }

  /** A connection of a client's flow to a backend, which has answered. @throws Error with `code` where there is none */
  async take(beside: number, flow: TaggedFlow, backend: Backend): Promise<BackendSession> {
    const key = `${flow.clientKey}${backend.key}`;
    let known = this.#sessions.get(key);
    if (!known || known.session.closed || known.session.destroyed) known = this.#open(key, beside, flow, backend);
    try {
      await known.ready;
    } catch (error) {
      known.session.destroy();
      throw error;
    }
    return known;
  }

  /** Lets nobody use these connections again; streams on them end first. */
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

  #open(key: string, beside: number, flow: TaggedFlow, backend: Backend): BackendSession {
    const fd = this.#connect(beside, originOf(flow, backend), backend.address, backend.port);
    const socket = new Socket({ fd, readable: true, writable: true });
    const session = connect('http://backend', { createConnection: () => socket, settings: { enablePush: false } });
    const ready = readyOf(session, this.#connectMs);
    session.on('close', () => {
      if (this.#sessions.get(key)?.session === session) this.#sessions.delete(key);
    });
    const opened = { session, ready, idleSinceMs: performance.now(), streams: 0 };
    this.#sessions.set(key, opened);
    return opened;
  }
}

/** A wrapped socket tells nobody that it is connected; the other side's first settings do. */
function readyOf(session: ClientHttp2Session, limitMs: number): Promise<void> {
  return new Promise<void>((resolve, reject) => {
    const fail = (code: string): void => reject(Object.assign(new Error('no answer to the connection'), { code }));
    const timer = setTimeout(() => fail('ETIMEDOUT'), limitMs);
    session.once('remoteSettings', () => {
      clearTimeout(timer);
      resolve();
    });
    // Errors of streams come here, too, long after.
    session.on('error', ({ code }: NodeJS.ErrnoException) => fail(code ?? ''));
    session.once('close', () => {
      clearTimeout(timer);
      fail('');
    });
  });
}

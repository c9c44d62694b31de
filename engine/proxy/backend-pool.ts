/** Connections to backends that wait for their next exchange, by client and backend: a backend sees who asks. */
import type { ProxySocket } from '../kernel/proxy-socket.ts';
import { BackendConnection } from './backend-connection.ts';
import type { Backend } from './backends.ts';
import { originOf, type TaggedFlow } from './tagged-flow.ts';

/** Servers close idle connections after 5 s (Node), 60 s (Envoy, nginx as upstream) or 75 s (nginx): before the first of them does. */
const IDLE_MS = 4000;
/** Of one client to one backend. */
const IDLE_MAX = 128;

/** Connections of one client that wait, by backend. */
type Waiting = Map<Backend, BackendConnection[]>;

export class BackendPool {
  readonly #connect: (from: Uint8Array | undefined, to: Uint8Array, port: number) => ProxySocket;
  readonly #idle = new Map<string, Waiting>();
  /** Whose they are, of connections that are in use. */
  readonly #origins = new WeakMap<BackendConnection, string>();
  #open = 0;

  /** `connect` begins a connection; it throws when it cannot. */
  constructor(connect: (from: Uint8Array | undefined, to: Uint8Array, port: number) => ProxySocket) {
    this.#connect = connect;
  }

  /** Connections that there are. */
  get open(): number {
    return this.#open;
  }

  /** A connection to a backend: the one that was used last, or, where none waits or `fresh` is asked for, a new one. */
  take(flow: TaggedFlow, backend: Backend, fresh: boolean, nowMs: number): BackendConnection {
    const ready = fresh ? undefined : this.#idle.get(flow.clientKey)?.get(backend);
    for (let connection = ready?.pop(); connection; connection = ready?.pop()) if (connection.alive) return connection;
    const socket = this.#connect(originOf(flow, backend), backend.address, backend.port);
    const connection = new BackendConnection(backend, socket, nowMs, () => void (this.#open -= 1));
    this.#open += 1;
    this.#origins.set(connection, flow.clientKey);
    return connection;
  }

  /** Gives a connection back, for others. */
  give(connection: BackendConnection, nowMs: number): void {
    connection.end();
    const { backend } = connection;
    const origin = this.#origins.get(connection) as string;
    let waiting = this.#idle.get(origin);
    if (!waiting) this.#idle.set(origin, (waiting = new Map()));
    let ready = waiting.get(backend);
    if (!ready) waiting.set(backend, (ready = []));
    if (backend.gone || !connection.alive || ready.length >= IDLE_MAX) {
      connection.close();
      return;
    }
    connection.idleSinceMs = nowMs;
    ready.push(connection);
  }

  /** Closes everything that waits: a connection that policy has cut would answer nobody. */
  clear(): void {
    for (const waiting of this.#idle.values()) for (const ready of waiting.values()) for (const connection of ready) connection.close();
    this.#idle.clear();
  }

  /** Closes connections that have waited too long, or lead to backends that are gone. */
  sweep(nowMs: number): void {
    for (const [key, waiting] of this.#idle) {
      for (const [backend, ready] of waiting) {
        // The one that was used last is behind: the oldest stand in front.
        let stale = 0;
        while (stale < ready.length && (backend.gone || nowMs - (ready[stale]?.idleSinceMs ?? 0) >= IDLE_MS)) stale++;
        for (const connection of ready.splice(0, stale)) connection.close();
        if (!ready.length) waiting.delete(backend);
      }
      if (!waiting.size) this.#idle.delete(key);
    }
  }
}

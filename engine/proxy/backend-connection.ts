/** A connection to a backend, from the address of a client's pod; it serves one exchange at a time, and again when that is over. */
import type { ProxySocket, SocketHandler } from '../kernel/proxy-socket.ts';
import type { Backend } from './backends.ts';

/** Whose turn it is on a connection. */
export interface BackendUser {
  /** Lent until the next turn. */
  onAnswer(bytes: Buffer): void;
  /** The backend says no more. */
  onAnswerEnd(): void;
  /** The connection is gone, with an error's name or without; `kept` is what was kept of the request. */
  onBackendGone(code: string, kept: Buffer): void;
  onBackendDrain(): void;
}

/** Kept of a request, so that it can be sent again. */
const KEPT_MAX = 64 * 1024;
/** For most requests; what is larger is given up with its exchange. */
const KEPT_USUAL = 1024;
const NOTHING = Buffer.alloc(0);

export class BackendConnection implements SocketHandler {
  readonly backend: Backend;
  readonly stream: ProxySocket;
  /** Another exchange was served before: the backend may be closing it. */
  used = false;
  readonly startedMs: number;
  idleSinceMs = 0;
  #user: BackendUser | undefined;
  #room = NOTHING;
  #keptBytes = 0;
  #closed = false;
  readonly #onClose: () => void;

  constructor(backend: Backend, stream: ProxySocket, nowMs: number, onClose: () => void) {
    this.backend = backend;
    this.stream = stream;
    this.startedMs = nowMs;
    this.#onClose = onClose;
    stream.handler = this;
  }

  get alive(): boolean {
    return !this.stream.closed;
  }

  begin(user: BackendUser): void {
    this.#user = user;
    this.#keptBytes = 0;
    this.backend.active += 1;
  }

  /** Keeps what is sent; returns false where that is too much in all. */
  keep(bytes: Buffer): boolean {
    const wanted = this.#keptBytes + bytes.length;
    if (wanted > KEPT_MAX) return false;
    if (wanted > this.#room.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(KEPT_USUAL, 2 * wanted));
      this.#room.copy(grown, 0, 0, this.#keptBytes);
      this.#room = grown;
    }
    this.#room.set(bytes, this.#keptBytes);
    this.#keptBytes = wanted;
    return true;
  }

  /** The exchange is over. */
  end(): void {
    if (!this.#user) return;
    if (this.#room.length > KEPT_USUAL) {
      this.#room = NOTHING;
      this.#keptBytes = 0;
    }
    this.#user = undefined;
    this.used = true;
    this.backend.active -= 1;
  }

  close(): void {
    this.end();
    this.stream.close();
    this.#noteClosed();
  }

  /** Breaks it off, as if the connection had failed. */
  fail(code: string): void {
    const user = this.#user;
    const kept = this.#room.subarray(0, this.#keptBytes);
    this.close();
    user?.onBackendGone(code, kept);
  }

  onData(bytes: Buffer): void {
    // What nobody has asked for belongs to nobody: the connection is of no use.
    if (this.#user) this.#user.onAnswer(bytes);
    else this.close();
  }

  onEnd(): void {
    if (this.#user) this.#user.onAnswerEnd();
    else this.close();
  }

  onDrain(): void {
    this.#user?.onBackendDrain();
  }

  onGone(code: string): void {
    this.fail(code);
  }

  #noteClosed(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#onClose();
  }
}

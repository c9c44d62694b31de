/** A connection to a backend, from the address of a client's pod; it serves one exchange at a time, and again when that is over. */
import type { ProxySocket, SocketHandler } from '../kernel/proxy-socket.ts';
import { next, type Transitions } from '../transitions.ts';
import type { Backend } from './backends.ts';

export type BackendState = 'waiting' | 'busy' | 'closed';

/**
 * Of a connection to a backend:
 *
 *     waiting -> busy      begin: an exchange begins
 *     busy -> waiting      end: it is over, and another one may follow
 *     busy -> closed       close: it failed, or was given up
 *     waiting -> closed    close: it waited too long, may not be used any more, or the backend said something that nobody asked for
 */
export const BACKEND: Transitions<BackendState, 'begin' | 'end' | 'close'> = {
  waiting: { begin: 'busy', close: 'closed' },
  busy: { end: 'waiting', close: 'closed' },
  closed: {},
};

/** The exchange whose turn it is on a connection. */
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
/** For most requests; a larger room is given up with its exchange. */
const KEPT_USUAL = 1024;
const NOTHING = Buffer.alloc(0);

export class BackendConnection implements SocketHandler {
  readonly backend: Backend;
  readonly socket: ProxySocket;
  readonly startedMs: number;
  idleSinceMs = 0;
  #state: BackendState = 'waiting';
  #user: BackendUser | undefined;
  #room = NOTHING;
  #keptBytes = 0;
  readonly #onClose: () => void;

  constructor(backend: Backend, socket: ProxySocket, nowMs: number, onClose: () => void) {
    this.backend = backend;
    this.socket = socket;
    this.startedMs = nowMs;
    this.#onClose = onClose;
    socket.handler = this;
  }

  get alive(): boolean {
    return this.#state !== 'closed';
  }

  begin(user: BackendUser): void {
    this.#state = next(BACKEND, this.#state, 'begin');
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

  /** The exchange is over, and another one may begin. */
  end(): void {
    if (this.#state !== 'busy') return;
    this.#state = next(BACKEND, this.#state, 'end');
    this.#leave();
    if (this.#room.length <= KEPT_USUAL) return;
    this.#room = NOTHING;
    this.#keptBytes = 0;
  }

  close(): void {
    if (this.#state === 'closed') return;
    if (this.#state === 'busy') this.#leave();
    this.#state = next(BACKEND, this.#state, 'close');
    this.socket.close();
    this.#onClose();
  }

  /** Closes it in the middle of an exchange. Returns what was kept of the request. */
  giveUp(): Buffer {
    this.close();
    return this.#room.subarray(0, this.#keptBytes);
  }

  onData(bytes: Buffer): void {
    // Bytes that nobody has asked for belong to nobody: the connection is of no use.
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
    const user = this.#user;
    const kept = this.giveUp();
    user?.onBackendGone(code, kept);
  }

  #leave(): void {
    this.#user = undefined;
    this.backend.active -= 1;
  }
}

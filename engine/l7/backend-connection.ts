/** A connection to a backend, from the address of a client's pod; it serves one exchange at a time, and again when that is over. */
import type { Stream, StreamUser } from '../kernel/streams.ts';
import type { Backend } from './backends.ts';

/** Whose turn it is on a connection. */
export interface BackendUser {
  /** Lent until the next turn. */
  onAnswer(bytes: Buffer): void;
  /** The backend says no more. */
  onAnswerEnd(): void;
  /** The connection is gone, with an error's name or without. */
  onBackendGone(code: string): void;
  onBackendDrain(): void;
}

export class BackendConnection implements StreamUser {
  readonly backend: Backend;
  readonly stream: Stream;
  /** Another exchange was served before: the backend may be closing it. */
  used = false;
  readonly startedMs: number;
  idleSinceMs = 0;
  #user: BackendUser | undefined;
  #closed = false;
  readonly #onClose: () => void;

  constructor(backend: Backend, stream: Stream, nowMs: number, onClose: () => void) {
    this.backend = backend;
    this.stream = stream;
    this.startedMs = nowMs;
    this.#onClose = onClose;
    stream.user = this;
  }

  get alive(): boolean {
    return !this.stream.closed;
  }

  begin(user: BackendUser): void {
    this.#user = user;
    this.backend.active += 1;
  }

  /** The exchange is over. */
  end(): void {
    if (!this.#user) return;
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
    this.close();
    user?.onBackendGone(code);
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

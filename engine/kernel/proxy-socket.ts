/** One socket of the proxy, by its number: what is asked of it becomes a command of the next turn. */
import { SocketOperation } from '../native.gen.ts';

/** Whoever has a socket is told here, never while it calls the socket itself. */
export interface SocketHandler {
  /** Lent until the next turn. */
  onData(bytes: Buffer): void;
  /** The other side says no more. */
  onEnd(): void;
  /** It takes more, after write() has returned false. */
  onDrain(): void;
  /** It is gone, with an error's name or without; nothing more is said about it. */
  onGone(code: string): void;
}

export interface ProxySocket {
  handler: SocketHandler | undefined;
  /** The other side has accepted it. */
  readonly connected: boolean;
  /** Something waits to be taken by the other side. */
  readonly blocked: boolean;
  readonly closed: boolean;
  /** Sends bytes behind those that were written before. Returns whether there is room for more: else onDrain() follows. */
  write(bytes: Buffer): boolean;
  /** Says that nothing follows. */
  end(): void;
  /** Closes it, when everything is sent; nothing more is heard of it. */
  close(): void;
  /** Breaks it off: the other side is told that something went wrong. */
  reset(): void;
  /** Reads nothing until it is to go on. */
  pause(paused: boolean): void;
  /** Gives it up without closing it. Returns its descriptor. */
  take(): number;
}

/** Takes commands for the next turn. */
export interface SocketCommands {
  write(id: number, bytes: Buffer): void;
  command(id: number, operation: SocketOperation, offset: number, length: number): void;
  take(id: number): number;
  forget(id: number): void;
}

export class NumberedSocket implements ProxySocket {
  readonly #commands: SocketCommands;
  readonly #id: number;
  handler: SocketHandler | undefined;
  connected: boolean;
  blocked = false;
  closed = false;
  #paused = false;

  constructor(commands: SocketCommands, id: number, connected: boolean) {
    this.#commands = commands;
    this.#id = id;
    this.connected = connected;
  }

  write(bytes: Buffer): boolean {
    if (!this.closed && bytes.length) this.#commands.write(this.#id, bytes);
    return !this.blocked;
  }

  end(): void {
    if (!this.closed) this.#commands.command(this.#id, SocketOperation.END, 0, 0);
  }

  close(): void {
    this.#finish(SocketOperation.CLOSE);
  }

  reset(): void {
    this.#finish(SocketOperation.RESET);
  }

  pause(paused: boolean): void {
    if (this.closed || this.#paused === paused) return;
    this.#paused = paused;
    this.#commands.command(this.#id, paused ? SocketOperation.PAUSE : SocketOperation.RESUME, 0, 0);
  }

  take(): number {
    this.closed = true;
    return this.#commands.take(this.#id);
  }

  #finish(operation: SocketOperation): void {
    if (this.closed) return;
    this.closed = true;
    this.handler = undefined;
    this.#commands.command(this.#id, operation, 0, 0);
    this.#commands.forget(this.#id);
  }
}

/** Sockets without a kernel: what is written to them is kept, and what the other side does is said by the test. */
import type { ProxySocket, SocketHandler } from '../../engine/kernel/proxy-socket.ts';

export class FakeSocket implements ProxySocket {
  handler: SocketHandler | undefined;
  connected = true;
  blocked = false;
  closed = false;
  /** `end`, `close`, `reset`, `pause` and `resume` as they were asked for, in order. */
  readonly asked: string[] = [];
  paused = false;
  /** Everything that was written since the last look. */
  #written = '';
  descriptor = -1;

  get written(): string {
    const written = this.#written;
    this.#written = '';
    return written;
  }

  write(bytes: Buffer): boolean {
    if (!this.closed) this.#written += bytes.toString('latin1');
    return !this.blocked;
  }

  end(): void {
    this.asked.push('end');
  }

  close(): void {
    this.#finish('close');
  }

  reset(): void {
    this.#finish('reset');
  }

  pause(paused: boolean): void {
    if (this.closed || this.paused === paused) return;
    this.paused = paused;
    this.asked.push(paused ? 'pause' : 'resume');
  }

  take(): number {
    this.closed = true;
    return this.descriptor;
  }

  /** The other side says something. */
  say(text: string | Buffer): void {
    this.handler?.onData(Buffer.from(text as string, 'latin1'));
  }

  sayEnd(): void {
    this.handler?.onEnd();
  }

  drain(): void {
    this.blocked = false;
    this.handler?.onDrain();
  }

  /** It is gone, as the kernel's sockets tell it: closed first. */
  vanish(code = ''): void {
    const { handler } = this;
    this.close();
    handler?.onGone(code);
  }

  #finish(how: string): void {
    if (this.closed) return;
    this.closed = true;
    this.handler = undefined;
    this.asked.push(how);
  }
}

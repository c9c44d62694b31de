/** Where the body of a message ends, in a stream of bytes that may hold the next message behind it. */
import { CHUNKED, UNTIL_CLOSE } from './head.ts';
import { ChunkReader } from './llhttp.ts';

export class Body {
  #left: number;
  #chunks: ChunkReader | undefined;

  /** `framing`: bytes, CHUNKED or UNTIL_CLOSE. */
  constructor(framing: number) {
    this.#left = framing === UNTIL_CLOSE ? Number.POSITIVE_INFINITY : Math.max(framing, 0);
    if (framing === CHUNKED) this.#chunks = new ChunkReader();
  }

  /** Nothing of it is to come. */
  get complete(): boolean {
    return this.#left === 0 && !this.#chunks;
  }

  /** How many of the bytes from there on are its. @throws HttpError when chunks are broken */
  take(bytes: Buffer, from: number): number {
    if (this.#chunks) {
      const end = this.#chunks.read(bytes, from);
      if (end < 0) return bytes.length - from;
      this.close();
      return end - from;
    }
    const taken = Math.min(this.#left, bytes.length - from);
    this.#left -= taken;
    return taken;
  }

  /** Gives up what it holds; of a body that is not complete, too. */
  close(): void {
    this.#chunks?.close();
    this.#chunks = undefined;
  }
}

/**
 * A stream cut into the messages of a watch: protobuf ones have their length before them (4 bytes, big-endian), JSON ones end with a line.
 * Source: k8s.io/apimachinery, util/framer.
 */
import { ApiFailure } from './api-failure.ts';

/** Objects have at most 1.5 MB in etcd; an event may be of JSON, which is longer, and in an envelope. */
const FRAME_BYTES_MAX = 8 * 1024 * 1024;
const LENGTH_BYTES = 4;
const NEWLINE = 10;

/** Gives each whole message to `take`, which must not keep the bytes; the rest of a message waits for what comes. */
export interface Frames {
  /** @throws ApiFailure `nonsense` when a message is longer than any can be. */
  add(chunk: Buffer, take: (frame: Buffer) => void): void;
  /** Bytes of a message that is not whole. */
  readonly pendingBytes: number;
}

export class LengthFrames implements Frames {
  readonly #pending = new Pending();

  get pendingBytes(): number {
    return this.#pending.bytes;
  }

  add(chunk: Buffer, take: (frame: Buffer) => void): void {
    this.#pending.push(chunk);
    for (;;) {
      const length = this.#pending.peekLength();
      if (length === undefined) return;
      checkLength(length);
      if (this.#pending.bytes < LENGTH_BYTES + length) return;
      take(this.#pending.shift(LENGTH_BYTES + length).subarray(LENGTH_BYTES));
    }
  }
}

export class LineFrames implements Frames {
  readonly #pending = new Pending();

  get pendingBytes(): number {
    return this.#pending.bytes;
  }

  add(chunk: Buffer, take: (frame: Buffer) => void): void {
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, from)) {
      this.#pending.push(chunk.subarray(from, end));
      from = end + 1;
      checkLength(this.#pending.bytes);
      if (this.#pending.bytes) take(this.#pending.shift(this.#pending.bytes));
    }
    this.#pending.push(chunk.subarray(from));
    checkLength(this.#pending.bytes);
  }
}

function checkLength(length: number): void {
  if (length > FRAME_BYTES_MAX) throw new ApiFailure('nonsense', `nonsense: a message of more than ${FRAME_BYTES_MAX} bytes`);
}

/** Chunks that were not used yet. Joined once they are: a long message in small chunks is copied once. */
class Pending {
  #chunks: Buffer[] = [];
  bytes = 0;

  push(chunk: Buffer): void {
    if (!chunk.length) return;
    this.#chunks.push(chunk);
    this.bytes += chunk.length;
  }

  peekLength(): number | undefined {
    if (this.bytes < LENGTH_BYTES) return undefined;
    if ((this.#chunks[0] as Buffer).length < LENGTH_BYTES) this.#chunks = [Buffer.concat(this.#chunks)];
    return (this.#chunks[0] as Buffer).readUInt32BE();
  }

  shift(length: number): Buffer {
    const [first] = this.#chunks as [Buffer];
    const all = first.length >= length ? first : Buffer.concat(this.#chunks);
    const others = first.length >= length ? this.#chunks.slice(1) : [];
    const rest = all.subarray(length);
    this.#chunks = rest.length ? [rest, ...others] : others;
    this.bytes -= length;
    return all.subarray(0, length);
  }
}

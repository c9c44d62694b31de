/** WebAssembly's binary encoding, read with bounds and written without allocation for each byte. Numbers are LEB128. */

/** The bytes do not follow the encoding. `at` is where, from the beginning of the module. */
export class MalformedWasm extends Error {
  readonly at: number;

  constructor(reason: string, at: number) {
    super(reason);
    this.at = at;
  }
}

export class ByteReader {
  readonly bytes: Uint8Array;
  readonly end: number;
  at: number;

  /** Reads `bytes` from `at` to before `end`. */
  constructor(bytes: Uint8Array, at = 0, end = bytes.length) {
    this.bytes = bytes;
    this.at = at;
    this.end = end;
  }

  get done(): boolean {
    return this.at >= this.end;
  }

  byte(): number {
    if (this.at >= this.end) throw new MalformedWasm('it ends in the middle: it is truncated', this.at);
    return this.bytes[this.at++] as number;
  }

  /** An unsigned number of at most 32 bits. */
  u32(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte & 0x80) continue;
      if (value > 0xffffffff) break;
      return value;
    }
    throw new MalformedWasm('a number in it is longer than 32 bits', this.at);
  }

  /** Steps over a number of any width. */
  skipNumber(): void {
    for (let i = 0; i < 10; i++) if (!(this.byte() & 0x80)) return;
    throw new MalformedWasm('a number in it is longer than 64 bits', this.at);
  }

  skip(count: number): void {
    if (count > this.end - this.at) throw new MalformedWasm('it ends in the middle: it is truncated', this.at);
    this.at += count;
  }

  /** A name, UTF-8 with its length before it. */
  name(): string {
    const length = this.u32();
    const from = this.at;
    this.skip(length);
    return Buffer.from(this.bytes.buffer, this.bytes.byteOffset + from, length).toString('utf8');
  }
}

export class ByteWriter {
  #bytes: Uint8Array;
  #length = 0;

  constructor(capacity = 1024) {
    this.#bytes = new Uint8Array(capacity);
  }

  get length(): number {
    return this.#length;
  }

  byte(value: number): this {
    this.#reserve(1);
    this.#bytes[this.#length++] = value;
    return this;
  }

  u32(value: number): this {
    let left = value;
    while (left > 0x7f) {
      this.byte((left % 128) | 0x80);
      left = Math.floor(left / 128);
    }
    return this.byte(left);
  }

  /** A signed number of 32 bits. */
  i32(value: number): this {
    let left = value | 0;
    for (;;) {
      const low = left & 0x7f;
      left >>= 7;
      if ((left === 0 && !(low & 0x40)) || (left === -1 && low & 0x40)) return this.byte(low);
      this.byte(low | 0x80);
    }
  }

  raw(bytes: Uint8Array): this {
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
    return this;
  }

  /** A name or a block: its length, then its bytes. */
  block(bytes: Uint8Array): this {
    return this.u32(bytes.length).raw(bytes);
  }

  text(text: string): this {
    return this.block(Buffer.from(text, 'utf8'));
  }

  section(id: number, body: Uint8Array): this {
    return this.byte(id).block(body);
  }

  take(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  #reserve(count: number): void {
    if (this.#length + count <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(this.#bytes.length * 2, this.#length + count));
    larger.set(this.take());
    this.#bytes = larger;
  }
}

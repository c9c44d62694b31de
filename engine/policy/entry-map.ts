/** The entries that a kernel map should have, and which of them changed since they were last written. */

export class EntryMap {
  readonly entries = new Map<string, Buffer>();
  /** Keys of entries that were set, changed or deleted since. Whoever writes them to the kernel clears this. */
  readonly touched = new Set<string>();

  /** Keys are latin1 strings of their bytes. */
  set(key: string, value: Buffer): void {
    if (this.entries.get(key)?.equals(value)) return;
    this.entries.set(key, value);
    this.touched.add(key);
  }

  find(key: string): Buffer | undefined {
    return this.entries.get(key);
  }

  delete(key: string): void {
    if (this.entries.delete(key)) this.touched.add(key);
  }
}

/** A value of four bytes, as the kernel reads it. */
export function u32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** The same as a key, or a part of one. */
export function u32Key(value: number): string {
  return String.fromCharCode(value & 255, (value >>> 8) & 255, (value >>> 16) & 255, value >>> 24);
}

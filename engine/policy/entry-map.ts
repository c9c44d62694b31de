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

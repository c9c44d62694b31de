/**
 * Keeps what is known of packets that wait for others, in the order in which it came: bounded in bytes, an eighth of that for one endpoint,
 * and whatever has expired leaves.
 */
const ENDPOINT_SHARE = 1 / 8;

export interface Kept {
  readonly endpoint: number;
  readonly expiresMs: number;
  /** Bytes. */
  readonly size: number;
}

export class BoundedStore<T extends Kept> {
  readonly #bytesMax: number;
  readonly #entries = new Map<string, { readonly kept: T; readonly bytes: number }>();
  readonly #endpoints = new Map<number, { bytes: number; readonly keys: Set<string> }>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  find(key: string): T | undefined {
    return this.#entries.get(key)?.kept;
  }

  hasRoom(endpoint: number, bytes: number): boolean {
    const used = this.#endpoints.get(endpoint)?.bytes ?? 0;
    return this.#bytes + bytes <= this.#bytesMax && used + bytes <= this.#bytesMax * ENDPOINT_SHARE;
  }

  /** Notes something, or that it takes more or less than before. */
  put(key: string, kept: T): void {
    const before = this.#entries.get(key)?.bytes ?? 0;
    const { size: bytes, endpoint } = kept;
    this.#entries.set(key, { kept, bytes });
    const own = this.#endpoints.get(endpoint) ?? { bytes: 0, keys: new Set<string>() };
    this.#endpoints.set(endpoint, own);
    own.bytes += bytes - before;
    own.keys.add(key);
    this.#bytes += bytes - before;
  }

  /** The same, in the place of the oldest: of this endpoint, when it has its share. */
  makeRoom(key: string, kept: T): void {
    this.remove(key);
    for (const own = this.#endpoints.get(kept.endpoint); own?.keys.size && !this.hasRoom(kept.endpoint, kept.size); )
      this.remove(own.keys.values().next().value as string);
    for (const oldest of this.#entries.keys()) {
      if (this.hasRoom(kept.endpoint, kept.size)) break;
      this.remove(oldest);
    }
    this.put(key, kept);
  }

  remove(key: string): void {
    const entry = this.#entries.get(key);
    if (!entry) return;
    const { endpoint } = entry.kept;
    const own = this.#endpoints.get(endpoint);
    this.#entries.delete(key);
    this.#bytes -= entry.bytes;
    if (!own) return;
    own.bytes -= entry.bytes;
    own.keys.delete(key);
    if (!own.keys.size) this.#endpoints.delete(endpoint);
  }

  expire(nowMs: number): void {
    for (const [key, { kept }] of this.#entries) {
      if (kept.expiresMs > nowMs) return;
      this.remove(key);
    }
  }
}

/** A set that a PolicyPlugin fills and its plugin asks: of domains, of networks, or of strings. */
import type { PluginSet } from '../policy/objects.ts';

export interface NamedSet {
  /** Whether the bytes of a key are in it. */
  has(bytes: Uint8Array, at: number, length: number): boolean;
}

/** Bytes of a key that can be in a set; a longer one is in none. */
export const KEY_BYTES_MAX = 256;
const ADDRESS_BYTES = 16;

export function createSet(content: PluginSet): NamedSet {
  switch (content.kind) {
    case 'strings':
      return new StringSet(content.items);
    case 'domains':
      return new DomainSet(content.items);
    case 'networks':
      return new NetworkSet(content.items);
  }
}

function textOf(bytes: Uint8Array, at: number, length: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + at, length).toString('latin1');
}

class StringSet implements NamedSet {
  readonly #items: ReadonlySet<string>;

  constructor(items: readonly string[]) {
    this.#items = new Set(items.map((item) => Buffer.from(item, 'utf8').toString('latin1')));
  }

  has(bytes: Uint8Array, at: number, length: number): boolean {
    return this.#items.has(textOf(bytes, at, length));
  }
}

/** `example.com` is itself only; `*.example.com` is every name below it, of one or more labels, and not itself. */
class DomainSet implements NamedSet {
  readonly #exact = new Set<string>();
  readonly #below = new Set<string>();

  constructor(items: readonly string[]) {
    for (const item of items) {
      const name = item.toLowerCase().replace(/\.$/, '');
      if (name.startsWith('*.')) this.#below.add(name.slice(2));
      else this.#exact.add(name);
    }
  }

  has(bytes: Uint8Array, at: number, length: number): boolean {
    const name = textOf(bytes, at, length).toLowerCase().replace(/\.$/, '');
    if (this.#exact.has(name)) return true;
    for (let dot = name.indexOf('.'); dot > 0; dot = name.indexOf('.', dot + 1)) if (this.#below.has(name.slice(dot + 1))) return true;
    return false;
  }
}

class NetworkSet implements NamedSet {
  readonly #byPrefix = new Map<number, Set<string>>();
  readonly #scratch = Buffer.alloc(ADDRESS_BYTES);

  constructor(items: readonly { readonly address: string; readonly prefixBits: number }[]) {
    for (const { address, prefixBits } of items) {
      const found = this.#byPrefix.get(prefixBits) ?? new Set();
      this.#byPrefix.set(prefixBits, found.add(this.#masked(Buffer.from(address, 'latin1'), 0, prefixBits)));
    }
  }

  has(bytes: Uint8Array, at: number, length: number): boolean {
    if (length !== ADDRESS_BYTES) return false;
    for (const [prefixBits, networks] of this.#byPrefix) if (networks.has(this.#masked(bytes, at, prefixBits))) return true;
    return false;
  }

  #masked(bytes: Uint8Array, at: number, prefixBits: number): string {
    for (let i = 0; i < ADDRESS_BYTES; i++) {
      const bits = Math.max(0, Math.min(8, prefixBits - 8 * i));
      this.#scratch[i] = (bytes[at + i] as number) & (0xff00 >> bits);
    }
    return this.#scratch.toString('latin1');
  }
}

/** Domain names by their hashes, as programs noted them: looked up once, for a lookup costs 10 µs and more. */
import { dnsNameCodec } from '../abi.gen.ts';
import { check, errnoName, native } from './native.ts';

/** Names kept; then all are forgotten. */
const NAMES_MAX = 4096;
const NONE = '\0'.repeat(8);

export class DomainNames {
  readonly #fd: number;
  readonly #toText: (wire: Uint8Array) => string;
  readonly #known = new Map<string, string>();

  /** `fd`: of the map dns_names. `toText` writes a name in wire format as people read it. */
  constructor(fd: number, toText: (wire: Uint8Array) => string) {
    this.#fd = fd;
    this.#toText = toText;
  }

  /** The name of a hash; empty when the kernel has forgotten it, or there is none. */
  find(hash: bigint): string {
    if (!hash) return '';
    const key = Buffer.alloc(8);
    key.writeBigUInt64LE(hash);
    return this.findByKey(key.toString('latin1'));
  }

  /** The same by the eight bytes of the hash as a latin1 string. */
  findByKey(key: string): string {
    if (key === NONE) return '';
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const wire = Buffer.alloc(dnsNameCodec.size);
    const result = native.sluice_map__lookup(this.#fd, Buffer.from(key, 'latin1'), wire);
    // One that is not there may come: it is asked for again.
    if (result < 0 && errnoName(result) === 'ENOENT') return '';
    check(result, 'read map dns_names');
    const text = this.#toText(wire);
    if (this.#known.size >= NAMES_MAX) this.#known.clear();
    this.#known.set(key, text);
    return text;
  }
}

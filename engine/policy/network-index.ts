/** The networks that policy names: which of them an address is in, and which came or went. */
import { ADDRESS_BITS, addressKey, EVERY_IPV4, IPV4_PREFIX, isIpv4, lastKey, maskAddress, type Network } from './address.ts';
import { SortedKeys } from './sorted-keys.ts';

/** Characters of an address as a key; its bits follow as one more. */
const KEY_LENGTH = 16;
/** Behind every number of bits. */
const BEHIND = String.fromCharCode(ADDRESS_BITS + 1);

function sortKey({ key, bits }: Network): string {
  return key + String.fromCharCode(bits);
}

/** The networks that policy names, counted by who names them, and which of them an address is in. */
export class NetworkIndex {
  readonly #networks = new Map<string, { readonly network: Network; users: number }>();
  readonly #byBits = new Map<number, Map<string, Network>>();
  /** Address and bits of each. */
  readonly #sorted = new SortedKeys();
  #changed = new Map<string, Network>();

  /** The listed networks inside another one, itself included. */
  within(outer: Network): Network[] {
    return this.#sorted
      .between(outer.key, `${lastKey(outer)}${BEHIND}`)
      .flatMap((key) => this.#byBits.get(key.charCodeAt(KEY_LENGTH))?.get(key.slice(0, KEY_LENGTH)) ?? [])
      .filter(({ bits }) => bits >= outer.bits);
  }

  has(text: string): boolean {
    return this.#networks.has(text);
  }

  add(network: Network): void {
    const known = this.#networks.get(network.text);
    if (known) {
      known.users += 1;
      return;
    }
    this.#networks.set(network.text, { network, users: 1 });
    let sameBits = this.#byBits.get(network.bits);
    if (!sameBits) this.#byBits.set(network.bits, (sameBits = new Map()));
    sameBits.set(network.key, network);
    this.#sorted.add(sortKey(network));
    this.#note(network);
  }

  remove(network: Network): void {
    const known = this.#networks.get(network.text);
    if (!known || --known.users) return;
    this.#networks.delete(network.text);
    const sameBits = this.#byBits.get(network.bits);
    sameBits?.delete(network.key);
    this.#sorted.remove(sortKey(network));
    if (!sameBits?.size) this.#byBits.delete(network.bits);
    this.#note(network);
  }

  /** The networks that came or went since this was asked last. */
  takeChanged(): Network[] {
    const changed = [...this.#changed.values()];
    this.#changed = new Map();
    return changed;
  }

  /** Texts of the networks that hold all of `address`/`bits`, sorted. An IPv6 network holds no IPv4 address. */
  containing(address: Uint8Array, bits = ADDRESS_BITS): string[] {
    const found: string[] = [];
    const least = bits >= IPV4_PREFIX && isIpv4(address) ? IPV4_PREFIX : 0;
    for (const [length, networks] of this.#byBits) {
      if (length > bits || length < least) continue;
      const network = networks.get(addressKey(length === ADDRESS_BITS ? address : maskAddress(address, length)));
      if (network) found.push(network.text);
    }
    return found.length > 1 ? found.sort() : found;
  }

  /** Whether a listed IPv6 network covers the range that IPv4 addresses are mapped into. */
  get coversMapped(): boolean {
    for (const [length, networks] of this.#byBits)
      if (length < IPV4_PREFIX && networks.has(addressKey(maskAddress(EVERY_IPV4.address, length)))) return true;
    return false;
  }

  /** One that came and went again between two looks has not changed. */
  #note(network: Network): void {
    if (!this.#changed.delete(network.text)) this.#changed.set(network.text, network);
  }
}

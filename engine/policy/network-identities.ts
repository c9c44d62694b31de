/** Identities of the networks that policy names, for addresses that are no pod's: the map networks. */
import { Identity } from '../abi.gen.ts';
import { EVERY_IPV4, type Network } from './address.ts';
import { EntryMap, u32 } from './entry-map.ts';
import type { Identities, IdentityInfo } from './identities.ts';
import type { NetworkIndex } from './network-index.ts';

export class NetworkIdentities {
  readonly entries = new EntryMap();
  readonly #identities: Identities;
  readonly #index: NetworkIndex;
  readonly #identityOf = new Map<string, IdentityInfo>();

  constructor(identities: Identities, index: NetworkIndex) {
    this.#identities = identities;
    this.#index = index;
  }

  /** Takes over networks that came or went. That also changes who those are that lie in them. */
  update(changed: readonly Network[]): void {
    for (const network of changed)
      if (!this.#index.has(network.text)) {
        this.#release(network);
        this.entries.delete(networkKey(network));
      }
    const inside = new Map(changed.flatMap((network) => this.#index.within(network)).map((network) => [network.text, network]));
    for (const network of inside.values()) {
      const now = this.#identities.acquireNetworks(this.#index.containing(network.address, network.bits));
      this.#release(network);
      this.#identityOf.set(network.text, now);
      this.entries.set(networkKey(network), u32(now.id));
    }
    if (this.#index.has(EVERY_IPV4.text)) return;
    // IPv4 addresses lie inside ::/0 in the trie, and must not be found there.
    if (this.#index.coversMapped) this.entries.set(networkKey(EVERY_IPV4), u32(Identity.WORLD));
    else this.entries.delete(networkKey(EVERY_IPV4));
  }

  #release({ text }: Network): void {
    const before = this.#identityOf.get(text);
    if (before) this.#identities.release(before);
    this.#identityOf.delete(text);
  }
}

/** Key of the networks map: struct network_key. */
function networkKey({ bits, key }: Network): string {
  return String.fromCharCode(bits, 0, 0, 0) + key;
}

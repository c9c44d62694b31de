/** Which Service has a cluster address: of several that say so, the first by name. */
import { addressKey } from './address.ts';
import type { Replaced } from './cluster.ts';
import { objectName } from './object-name.ts';
import type { Service } from './objects.ts';
import { addTo, removeFrom } from './set-map.ts';

export class ServiceAddresses {
  /** Address key → the Service's `namespace/name`. */
  readonly owners = new Map<string, string>();
  /** Every Service that says it has an address. */
  readonly #claims = new Map<string, Set<string>>();
  #changed = new Map<string, string | undefined>();

  /** Takes over Services that came, changed or went. */
  update(services: readonly Replaced<Service>[]): void {
    const touched = new Set<string>();
    for (const { before, after } of services) {
      for (const address of before?.addresses ?? []) {
        removeFrom(this.#claims, addressKey(address), objectName(before as Service));
        touched.add(addressKey(address));
      }
      for (const address of after?.addresses ?? []) {
        addTo(this.#claims, addressKey(address), objectName(after as Service));
        touched.add(addressKey(address));
      }
    }
    for (const key of touched) this.#settle(key);
  }

  /** Addresses whose Service changed since this was asked last; undefined: none has it any more. */
  takeChanged(): ReadonlyMap<string, string | undefined> {
    const changed = this.#changed;
    this.#changed = new Map();
    return changed;
  }

  #settle(key: string): void {
    const [owner] = [...(this.#claims.get(key) ?? [])].sort();
    if (owner === this.owners.get(key)) return;
    if (owner === undefined) this.owners.delete(key);
    else this.owners.set(key, owner);
    this.#changed.set(key, owner);
  }
}

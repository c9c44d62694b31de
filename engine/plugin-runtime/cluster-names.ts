/**
 * Who is behind identities and addresses, kept up to date by changes. The main thread keeps the texts, to tell them to threads that start;
 * a thread that runs plugins keeps their bytes.
 */
import type { ClusterChange, IdentityEntry } from './messages.ts';

export class ClusterNames<Identity, Pod> {
  readonly identities = new Map<number, Identity>();
  /** By the address's 16 bytes as a latin1 string. */
  readonly pods = new Map<string, Pod>();
  readonly #identityOf: (entry: IdentityEntry) => Identity;
  readonly #podOf: (name: string) => Pod;

  constructor(identityOf: (entry: IdentityEntry) => Identity, podOf: (name: string) => Pod) {
    this.#identityOf = identityOf;
    this.#podOf = podOf;
  }

  apply({ identities, identitiesGone, pods }: ClusterChange): void {
    for (const id of identitiesGone) this.identities.delete(id);
    for (const entry of identities) this.identities.set(entry.id, this.#identityOf(entry));
    for (const [address, name] of pods)
      if (name) this.pods.set(address, this.#podOf(name));
      else this.pods.delete(address);
  }
}

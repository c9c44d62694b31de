/**
 * Who is behind identities and addresses, kept up to date by changes. The main thread keeps the texts, to tell them to threads that start;
 * a thread that runs plugins keeps their bytes.
 */
import type { ClusterChange, IdentityEntry, PodEntry } from './messages.ts';

/** How each is kept. */
export interface NameForms<Identity, Pod, Service> {
  readonly identity: (entry: IdentityEntry) => Identity;
  readonly pod: (entry: PodEntry) => Pod;
  readonly service: (name: string) => Service;
}

export class ClusterNames<Identity, Pod, Service> {
  readonly identities = new Map<number, Identity>();
  /** By the address's 16 bytes as a latin1 string. */
  readonly pods = new Map<string, Pod>();
  /** By the cluster address in the same form. */
  readonly services = new Map<string, Service>();
  readonly #forms: NameForms<Identity, Pod, Service>;

  constructor(forms: NameForms<Identity, Pod, Service>) {
    this.#forms = forms;
  }

  apply({ identities, identitiesGone, pods, services }: ClusterChange): void {
    for (const id of identitiesGone) this.identities.delete(id);
    for (const entry of identities) this.identities.set(entry.id, this.#forms.identity(entry));
    for (const [address, pod] of pods)
      if (pod) this.pods.set(address, this.#forms.pod(pod));
      else this.pods.delete(address);
    for (const [address, name] of services)
      if (name) this.services.set(address, this.#forms.service(name));
      else this.services.delete(address);
  }
}

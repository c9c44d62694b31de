/** Everything that threads are told, kept in one place, so that one that starts can be told from the beginning. */
import type { PluginState } from '../abi.gen.ts';
import { ClusterNames } from '../plugin-runtime/cluster-names.ts';
import { type ClusterChange, type IdentityEntry, NOBODY_WAITS, type PodEntry, type ToWorker } from '../plugin-runtime/messages.ts';
import type { PluginSetup } from '../plugin-runtime/plugin-setup.ts';
import type { ProxyPolicy, ToProxy } from '../proxy/messages.ts';

/** Told to threads of every kind. */
type Common = Extract<ToWorker, { type: 'cluster' | 'plugin' | 'switch-off' }>;

export class Briefing {
  readonly #names = new ClusterNames<IdentityEntry, PodEntry, string>({
    identity: (entry) => entry,
    pod: (entry) => entry,
    service: (name) => name,
  });
  readonly #setups = new Map<number, PluginSetup>();
  readonly #declared = new Map<number, PluginState>();
  readonly #off = new Set<number>();
  #serverNames: ClusterChange['serverNames'];
  #policy: ProxyPolicy | undefined;

  setCluster(change: ClusterChange): void {
    this.#names.apply(change);
    if (change.serverNames) this.#serverNames = change.serverNames;
  }

  setPolicy(policy: ProxyPolicy): void {
    this.#policy = policy;
  }

  /** A version is in force. Returns how to take that back: what was told before is told again then. */
  install(setup: PluginSetup): () => void {
    const { id } = setup;
    const [before, state, off] = [this.#setups.get(id), this.#declared.get(id), this.#off.has(id)];
    this.#setups.set(id, setup);
    this.#declared.delete(id);
    this.#off.delete(id);
    return () => {
      if (before) this.#setups.set(id, before);
      else this.#setups.delete(id);
      if (state) this.#declared.set(id, state);
      if (off) this.#off.add(id);
    };
  }

  remove(id: number): void {
    this.#setups.delete(id);
    this.#off.delete(id);
  }

  declare(id: number, state: PluginState): void {
    this.#declared.set(id, state);
  }

  switchOff(id: number): void {
    if (this.#setups.has(id)) this.#off.add(id);
  }

  /** Labels of an identity, `key=value` each; empty for what is no pod. */
  labels(identity: number): string[] {
    return this.#names.identities.get(identity)?.labels.split('\n').filter(Boolean) ?? [];
  }

  /** All that a flow worker has to know. */
  forFlowWorker(): ToWorker[] {
    const states = [...this.#declared].map(([id, state]): ToWorker => ({ type: 'declare', id, state }));
    return [...states, ...this.#common()];
  }

  /** All that a thread of the proxy has to know. */
  forProxy(): ToProxy[] {
    return [...this.#common(), ...(this.#policy ? [{ type: 'policy' as const, policy: this.#policy }] : [])];
  }

  #common(): Common[] {
    return [
      {
        type: 'cluster',
        identities: [...this.#names.identities.values()],
        identitiesGone: [],
        pods: [...this.#names.pods],
        services: [...this.#names.services],
        serverNames: this.#serverNames,
      },
      ...[...this.#setups.values()].map((setup): Common => ({ type: 'plugin', seq: NOBODY_WAITS, setup })),
      ...[...this.#off].map((id): Common => ({ type: 'switch-off', id })),
    ];
  }
}

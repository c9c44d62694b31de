/**
 * The cluster as it is known now: objects by kind and key, pods also by namespace, slices by their Service. Takes changes by
 * object, and says what each object was before.
 */
import { objectName } from './object-name.ts';
import { type EndpointSlice, KINDS, type Kind, type Namespace, type ObjectChange, type ObjectsByKind, type Pod } from './objects.ts';

/** An object that came (no `before`), changed, or went (no `after`). */
export interface Replaced<T> {
  readonly key: string;
  readonly before: T | undefined;
  readonly after: T | undefined;
}

/** The objects that changed, by kind. */
export type ClusterDelta = { readonly [K in Kind]: readonly Replaced<ObjectsByKind[K]>[] };

/** A namespace without an object of its own still has its name. */
export function namespaceLabels(namespaces: ReadonlyMap<string, Namespace>, name: string): Namespace['labels'] {
  return namespaces.get(name)?.labels ?? new Map([['kubernetes.io/metadata.name', name]]);
}

export class Cluster {
  /** By name; of every other kind, see of(). */
  readonly namespaces = new Map<string, Namespace>();
  readonly #objects = Object.fromEntries(KINDS.map((kind) => [kind, new Map()])) as { readonly [K in Kind]: Map<string, ObjectsByKind[K]> };
  readonly #podsByNamespace = new Map<string, Map<string, Pod>>();
  readonly #slicesByService = new Map<string, Map<string, EndpointSlice>>();

  /** Objects of a kind, by key. */
  of<K extends Kind>(kind: K): ReadonlyMap<string, ObjectsByKind[K]> {
    return this.#objects[kind];
  }

  /** By key. */
  podsIn(namespace: string): ReadonlyMap<string, Pod> | undefined {
    return this.#podsByNamespace.get(namespace);
  }

  /** Those of a Service by its key; undefined where it has none. */
  slicesOf(service: string): ReadonlyMap<string, EndpointSlice> | undefined {
    return this.#slicesByService.get(service);
  }

  /** Takes over changes. Of several about one object, the last counts; what changes nothing is left out of the result. */
  apply(changes: readonly ObjectChange[]): ClusterDelta {
    const delta = Object.fromEntries(KINDS.map((kind) => [kind, []])) as unknown as { [K in Kind]: Replaced<ObjectsByKind[K]>[] };
    const last = new Map(changes.map((change) => [`${change.kind} ${change.key}`, change]));
    for (const change of last.values()) {
      const replaced = this.#replace(change.kind, change.key, change.value);
      if (replaced) (delta[change.kind] as Replaced<unknown>[]).push(replaced);
    }
    for (const { before, after } of delta.Namespace) {
      if (before) this.namespaces.delete(before.name);
      if (after) this.namespaces.set(after.name, after);
    }
    for (const { key, before, after } of delta.Pod) {
      if (before) removeFrom(this.#podsByNamespace, before.namespace, key);
      if (after) addTo(this.#podsByNamespace, after.namespace, key, after);
    }
    for (const { key, before, after } of delta.EndpointSlice) {
      if (before) removeFrom(this.#slicesByService, serviceOf(before), key);
      if (after) addTo(this.#slicesByService, serviceOf(after), key, after);
    }
    return delta;
  }

  #replace<K extends Kind>(kind: K, key: string, after: ObjectsByKind[K] | undefined): Replaced<ObjectsByKind[K]> | undefined {
    const objects = this.#objects[kind] as Map<string, ObjectsByKind[K]>;
    const before = objects.get(key);
    if (before === after) return undefined;
    if (after) objects.set(key, after);
    else objects.delete(key);
    return { key, before, after };
  }
}

function serviceOf({ namespace, service }: EndpointSlice): string {
  return objectName({ namespace, name: service });
}

function addTo<T>(index: Map<string, Map<string, T>>, group: string, key: string, value: T): void {
  const members = index.get(group);
  if (members) members.set(key, value);
  else index.set(group, new Map([[key, value]]));
}

function removeFrom<T>(index: Map<string, Map<string, T>>, group: string, key: string): void {
  const members = index.get(group);
  members?.delete(key);
  if (!members?.size) index.delete(group);
}

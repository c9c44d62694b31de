/**
 * Selectors, found by the labels that they ask for: of many policies or peers only those are tried that could match.
 *
 * Each is filed under the values of its first requirement that a label has one of them; one without such a requirement is
 * tried for everybody within its scope.
 */
import type { Labels, Selector } from './objects.ts';

/** The conditions on a pod and its namespace. */
export interface SelectorScope {
  /** The only namespace that it is about; absent: every one. */
  readonly namespace?: string;
  readonly pods: Selector;
  readonly namespaces?: Selector;
}

/** No namespace is called so. */
const ANYWHERE = '*';

export class SelectorIndex<T> {
  readonly #filed = new Map<string, Set<T>>();

  add(item: T, scope: SelectorScope): void {
    for (const place of placesOf(scope)) {
      const items = this.#filed.get(place);
      if (items) items.add(item);
      else this.#filed.set(place, new Set([item]));
    }
  }

  remove(item: T, scope: SelectorScope): void {
    for (const place of placesOf(scope)) {
      const items = this.#filed.get(place);
      items?.delete(item);
      if (!items?.size) this.#filed.delete(place);
    }
  }

  /** Everything that may select a pod of these labels, each once; whether it does is for the caller to try. */
  *candidates(namespace: string, labels: Labels, ofNamespace: Labels): Iterable<T> {
    if (!this.#filed.size) return;
    for (const where of [namespace, ANYWHERE]) {
      yield* this.#filed.get(where) ?? [];
      for (const [key, value] of labels) yield* this.#filed.get(`${where} pod ${key}=${value}`) ?? [];
    }
    for (const [key, value] of ofNamespace) yield* this.#filed.get(`${ANYWHERE} namespace ${key}=${value}`) ?? [];
  }
}

function placesOf({ namespace = ANYWHERE, pods, namespaces }: SelectorScope): string[] {
  const label = pods.find(({ operator }) => operator === 'In');
  if (label) return label.values.map((value) => `${namespace} pod ${label.key}=${value}`);
  const ofNamespace = namespace === ANYWHERE ? namespaces?.find(({ operator }) => operator === 'In') : undefined;
  if (ofNamespace) return ofNamespace.values.map((value) => `${ANYWHERE} namespace ${ofNamespace.key}=${value}`);
  return [namespace];
}

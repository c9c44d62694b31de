/**
 * The nodes of the cluster as peers: whose an address is, and which of the selectors that rules name select it. Nodes that no rule can
 * tell apart are one peer: what they are called by is the selectors that select them.
 */
import { addressKey } from './address.ts';
import type { Replaced } from './cluster.ts';
import type { Node, Selector } from './objects.ts';
import { matches } from './selector.ts';
import { addTo, removeFrom } from './set-map.ts';

/** Equal selectors, equal text. */
export function selectorText(selector: Selector): string {
  return JSON.stringify(selector);
}

export class NodePeers {
  /** By each address that it has; of several with one address, all of them. */
  readonly #byAddress = new Map<string, Set<Node>>();
  readonly #nodes = new Set<Node>();
  /** By their text, counted by who names them. */
  readonly #selectors = new Map<string, { readonly selector: Selector; users: number }>();
  #changedSelectors = new Map<string, Selector>();

  /** Takes over nodes that came, changed or went; returns the addresses that this is about. */
  update(nodes: readonly Replaced<Node>[]): Set<string> {
    const touched = new Set<string>();
    for (const { before, after } of nodes) {
      if (before) this.#nodes.delete(before);
      if (after) this.#nodes.add(after);
      for (const key of keysOf(before)) removeFrom(this.#byAddress, key, before as Node);
      for (const key of keysOf(after)) addTo(this.#byAddress, key, after as Node);
      for (const key of [...keysOf(before), ...keysOf(after)]) touched.add(key);
    }
    return touched;
  }

  /** The nodes that have an address, as addressKey() has it. */
  at(key: string): ReadonlySet<Node> | undefined {
    return this.#byAddress.get(key);
  }

  add(selector: Selector): void {
    const text = selectorText(selector);
    const known = this.#selectors.get(text);
    if (known) {
      known.users += 1;
      return;
    }
    this.#selectors.set(text, { selector, users: 1 });
    this.#note(text, selector);
  }

  remove(selector: Selector): void {
    const text = selectorText(selector);
    const known = this.#selectors.get(text);
    if (!known || --known.users) return;
    this.#selectors.delete(text);
    this.#note(text, selector);
  }

  /** Texts of the selectors that rules name and that select a node with this address, sorted. */
  selecting(key: string): string[] {
    const nodes = this.#byAddress.get(key);
    if (!nodes || !this.#selectors.size) return [];
    return [...this.#selectors].flatMap(([text, { selector }]) => (selectsOne(selector, nodes) ? [text] : [])).sort();
  }

  /** The addresses of nodes that a selector selects which rules began or ceased to name since this was asked last. */
  takeChanged(): Set<string> {
    const changed = [...this.#changedSelectors.values()];
    this.#changedSelectors = new Map();
    const keys = new Set<string>();
    for (const selector of changed)
      for (const node of this.#nodes) if (matches(selector, node.labels)) for (const key of keysOf(node)) keys.add(key);
    return keys;
  }

  /** One that came and went again between two looks has not changed. */
  #note(text: string, selector: Selector): void {
    if (!this.#changedSelectors.delete(text)) this.#changedSelectors.set(text, selector);
  }
}

/** Whether a selector selects one of these nodes at least. */
export function selectsOne(selector: Selector, nodes: Iterable<Node>): boolean {
  for (const node of nodes) if (matches(selector, node.labels)) return true;
  return false;
}

function keysOf(node: Node | undefined): string[] {
  return node ? node.addresses.map(addressKey) : [];
}

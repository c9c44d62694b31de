/** A compiled cluster in one step, and what the kernel would decide from its entries. */

import { Action, type Direction, type Rule } from '../../engine/abi.gen.ts';
import { Compiler } from '../../engine/policy/compile.ts';
import { findIdentity, findNamedRule } from '../../engine/policy/decide.ts';
import { objectName } from '../../engine/policy/object-name.ts';
import { KINDS, type Kind, type ObjectChange, type ObjectsByKind } from '../../engine/policy/objects.ts';
import { ALLOWED } from '../../engine/policy/port-table.ts';
import { readManifest } from '../../engine/sources/manifest.ts';

/** All objects of a cluster at one moment, by kind. */
export type Snapshot = { readonly [K in Kind]: readonly ObjectsByKind[K][] };

export const EMPTY_SNAPSHOT = Object.fromEntries(KINDS.map((kind) => [kind, []])) as unknown as Snapshot;

export const DENIED: Rule = { id: 0, plugin: 0, action: Action.DENY, context: 0 };

/** A snapshot from manifests; throws where one is invalid. */
export function snapshotOf(text: string): Snapshot {
  const { objects, problems } = readManifest('test.yaml', text);
  if (problems.length) throw new Error(problems.map((problem) => problem.reason).join('; '));
  const of = (kind: Kind): unknown[] => objects.filter((object) => object.kind === kind).map((object) => object.value);
  return Object.fromEntries(KINDS.map((kind) => [kind, of(kind)])) as unknown as Snapshot;
}

/** The changes that a source would tell that had the one snapshot before and has the other one now. */
export function changesBetween(before: Snapshot, after: Snapshot): ObjectChange[] {
  return KINDS.flatMap((kind) => {
    const olds = new Map(before[kind].map((value) => [objectName(value), value]));
    const news = new Map(after[kind].map((value) => [objectName(value), value]));
    const gone = [...olds.keys()].filter((key) => !news.has(key)).map((key) => ({ kind, key, value: undefined }));
    const came = [...news].filter(([key, value]) => olds.get(key) !== value).map(([key, value]) => ({ kind, key, value }));
    return [...gone, ...came] as ObjectChange[];
  });
}

/** The snapshot that each compiler was told last. */
const known = new WeakMap<Compiler, Snapshot>();

/** Has a compiler take over a whole snapshot. */
export function update(
  compiler: Compiler,
  snapshot: Snapshot,
  pluginIds: ReadonlyMap<string, number> = new Map(),
  nodes: readonly Uint8Array[] = [],
): void {
  compiler.update(changesBetween(known.get(compiler) ?? EMPTY_SNAPSHOT, snapshot), pluginIds, nodes);
  known.set(compiler, snapshot);
}

export function compiled(
  snapshot: Snapshot,
  pluginIds: ReadonlyMap<string, number> = new Map(),
  nodes: readonly Uint8Array[] = [],
  resolvers: readonly Uint8Array[] = [],
): Compiler {
  const compiler = new Compiler({ resolvers });
  update(compiler, snapshot, pluginIds, nodes);
  return compiler;
}

/** The rule for one direction of an endpoint, a peer, which it knows by these names, and a port. */
export function ruleOfMaps(
  compiler: Compiler,
  pod: string,
  direction: Direction,
  peer: Uint8Array,
  protocol: number,
  port: number,
  names: readonly string[] = [],
): Rule {
  const endpoint = [...compiler.endpoints.values()].find((candidate) => objectName(candidate.pod) === pod);
  if (!endpoint) throw new Error(`no endpoint ${pod}`);
  if (endpoint.closed) return DENIED;
  const ruleSet = endpoint.ruleSets[direction]?.id ?? 0;
  if (!ruleSet) return ALLOWED;
  const identity = findIdentity(compiler, peer);
  const { remembered } = compiler.named;
  const patterns = names.map((name) => remembered.get(compiler.named.closest(name) ?? '')).filter((id) => id !== undefined);
  return findNamedRule(compiler, ruleSet, patterns, { identity, protocol, port }) ?? DENIED;
}

/** A compiled cluster in one step, and what the kernel would decide from its entries. */
import { Action, type Direction, Identity, type Rule } from '../../engine/abi.gen.ts';
import { Compiler } from '../../engine/policy/compile.ts';
import { findIdentity, findNamedRule } from '../../engine/policy/decide.ts';
import { ALLOWED } from '../../engine/policy/port-table.ts';
import type { Snapshot } from '../../engine/policy/snapshot.ts';
import { EMPTY_SNAPSHOT } from '../../engine/policy/snapshot.ts';
import { readManifest } from '../../engine/sources/manifest.ts';

export const DENIED: Rule = { id: 0, plugin: 0, action: Action.DENY, context: 0 };

/** A snapshot from manifests, as a directory source makes it; throws where one is invalid. */
export function snapshotOf(text: string): Snapshot {
  const { objects, problems } = readManifest('test.yaml', text);
  if (problems.length) throw new Error(problems.map((problem) => problem.reason).join('; '));
  const of = <T>(kind: string): T[] => objects.filter((object) => object.kind === kind).map((object) => object.value as T);
  return {
    ...EMPTY_SNAPSHOT,
    namespaces: new Map(of<{ name: string }>('Namespace').map((namespace) => [namespace.name, namespace as never])),
    pods: of('Pod'),
    policies: of('NetworkPolicy'),
    clusterPolicies: of('ClusterNetworkPolicy'),
    pluginPolicies: of('PluginPolicy'),
    plugins: of('PolicyPlugin'),
  };
}

export function compiled(
  snapshot: Snapshot,
  pluginIds: ReadonlyMap<string, number> = new Map(),
  nodes: readonly Uint8Array[] = [],
  resolvers: readonly Uint8Array[] = [],
): Compiler {
  const compiler = new Compiler(resolvers);
  compiler.update(snapshot, pluginIds, nodes);
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
  const endpoint = [...compiler.endpoints.values()].find((candidate) => `${candidate.pod.namespace}/${candidate.pod.name}` === pod);
  if (!endpoint) throw new Error(`no endpoint ${pod}`);
  if (endpoint.pod.quarantined) return DENIED;
  const ruleSet = endpoint.ruleSets[direction]?.id ?? 0;
  if (!ruleSet) return ALLOWED;
  const identity = findIdentity(compiler, peer);
  if (identity === Identity.NODE) return ALLOWED;
  const { remembered } = compiler.named;
  const patterns = names.map((name) => remembered.get(compiler.named.closest(name) ?? '')).filter((id) => id !== undefined);
  return findNamedRule(compiler, ruleSet, patterns, { identity, protocol, port }) ?? DENIED;
}

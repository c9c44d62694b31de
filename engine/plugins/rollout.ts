/**
 * Which module of a plugin a node runs: the one for all, or one that some nodes try. Every node decides that for itself, from its name and what
 * the PolicyPlugin says, and comes to the same whenever it is asked.
 */
import { createHash } from 'node:crypto';
import type { Canary, ModuleReference } from '../policy/objects.ts';
import { hashOf } from './version-store.ts';

/** The modules of a plugin on one node. */
export interface NodeModules {
  /** The one that decides. */
  readonly module: ModuleReference | undefined;
  /** One beside it, only compared. */
  readonly shadow?: ModuleReference;
  /** What becomes of the canary here; absent where there is none. */
  readonly canary?: { readonly digest: string; readonly is: 'enforced' | 'shadow' | 'elsewhere' | 'failed' };
}

/** `sha256:…` of the artifact's manifest where it is named by that, else of the module. */
export function digestOf(module: ModuleReference): string {
  if (module.kind === 'oci' && module.reference.startsWith('sha256:')) return module.reference;
  return `sha256:${module.sha256 ?? (module.kind === 'inline' ? hashOf(module.bytes) : '')}`;
}

/** Whether a node is one of those that try a canary. Another module has other nodes; a greater share has those of a lesser one, too. */
export function isChosen(node: string, { module, percent, nodeNames }: Canary): boolean {
  if (nodeNames.includes(node)) return true;
  const hash = createHash('sha256')
    .update(`${node}\0${digestOf(module)}`)
    .digest();
  return hash.readUInt32BE(0) % 100 < percent;
}

/** `failedHere`: digests of canaries that failed on this node. */
export function modulesOn(
  node: string,
  { module, canary }: { readonly module?: ModuleReference; readonly canary?: Canary },
  failedHere: ReadonlyMap<string, string>,
): NodeModules {
  if (!canary) return { module };
  const digest = digestOf(canary.module);
  if (failedHere.has(digest) || canary.failed.some((failure) => failure.digest === digest))
    return { module, canary: { digest, is: 'failed' } };
  if (!isChosen(node, canary)) return { module, canary: { digest, is: 'elsewhere' } };
  if (canary.mode === 'Shadow') return { module, shadow: canary.module, canary: { digest, is: 'shadow' } };
  return { module: canary.module, canary: { digest, is: 'enforced' } };
}

/** Why the canary that is declared is not used here, where it failed on this node or another; undefined where it did not. */
export function canaryProblem(canary: Canary, failedHere: ReadonlyMap<string, string>): string | undefined {
  const digest = digestOf(canary.module);
  const here = failedHere.get(digest);
  const [elsewhere] = canary.failed.filter((failure) => failure.digest === digest);
  if (here === undefined && !elsewhere) return undefined;
  const where = here === undefined ? `node ${elsewhere?.node}: ${elsewhere?.reason}` : `this node: ${here}`;
  return `canary ${digest.slice(0, 19)} is not used any more: it failed on ${where}`;
}

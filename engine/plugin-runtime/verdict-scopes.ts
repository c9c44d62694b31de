/** Which scopes the kernel has to look up for a plugin: those that its verdicts can have, and no other. */
import { Scope } from '../abi.gen.ts';
import { widestScope } from './fields.ts';
import { declaredFields } from './manifest.ts';
import type { PluginSetup, PluginVersion } from './plugin-setup.ts';

/**
 * The enum scope bits of every verdict that a setup may put into the cache.
 *
 * Known before the first verdict is: the cache must not hold one of a scope that nobody looks up, or its packet would be held again and
 * again. An unsigned version is taken to have read all that its manifest declares; a signed one says what it read, and may have read nothing.
 * Verdicts for one connection are kept by their flow.
 */
export function verdictScopes({ live, previous, candidate }: Pick<PluginSetup, 'live' | 'previous' | 'candidate'>): number {
  // Other flows may be another version's to decide.
  if (candidate?.mode === 'canary') return Scope.FLOW;
  return [live, previous].reduce((scopes, version) => scopes | (version ? scopesOf(version) : 0), Scope.FLOW as number);
}

function scopesOf({ parts }: PluginVersion): number {
  switch (parts.trusted ? Scope.IDENTITY : widestScope(declaredFields(parts.manifest))) {
    case Scope.IDENTITY:
      return Scope.FLOW | Scope.ADDRESS | Scope.IDENTITY;
    case Scope.ADDRESS:
      return Scope.FLOW | Scope.ADDRESS;
    default:
      return Scope.FLOW;
  }
}

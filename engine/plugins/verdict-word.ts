/** The verdict word that a plugin returns, and how widely the host may cache it. */
import { PluginField, Scope, Verdict, VerdictWord } from '../abi.gen.ts';

export interface DecodedVerdict {
  readonly verdict: Verdict;
  readonly scope: Scope;
  /** 0 = this connection only. */
  readonly ttlMs: number;
}

const SCOPES: ReadonlySet<number> = new Set(Object.values(Scope));

/** What a word means, or undefined when it is no word of ABI version 1 for the connect hook. */
export function decodeVerdict(word: number): DecodedVerdict | undefined {
  const verdict = word & 0xf;
  const scope = (word >>> VerdictWord.SCOPE_SHIFT) & 0xf;
  if (verdict > Verdict.DENY || !SCOPES.has(scope)) return undefined;
  const mantissa = (word >>> VerdictWord.TTL_SHIFT) & 0xff;
  const exponent = (word >>> VerdictWord.TTL_EXPONENT_SHIFT) & 0xf;
  return { verdict: verdict as Verdict, scope: scope as Scope, ttlMs: mantissa * 2 ** exponent * VerdictWord.TTL_UNIT_MS };
}

/**
 * The widest scope that a verdict may have: no wider than the plugin asks for, and no wider than what it read allows.
 * A verdict that depends on an address must not answer for another address of the same identity.
 */
export function effectiveScope(asked: Scope, fieldsRead: number): Scope {
  if (fieldsRead & PluginField.MOMENT) return Scope.NONE;
  if (fieldsRead & PluginField.SOURCE_PORT) return Math.min(asked, Scope.FLOW) as Scope;
  if (fieldsRead & PluginField.ADDRESS) return Math.min(asked, Scope.ADDRESS) as Scope;
  return asked;
}

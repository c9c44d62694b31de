/** The verdict word that a plugin returns. */
import { Context, PluginAction, Scope, VerdictWord } from '../abi.gen.ts';

export interface DecodedWord {
  readonly action: PluginAction;
  /** As the plugin asks; see fields.ts for what it gets. */
  readonly scope: Scope;
  /** 0 = this connection only. */
  readonly ttlMs: number;
  /** Which of the manifest's reasons, from 1; 0 = none of them. */
  readonly reason: number;
}

/** A bit for each scope that there is. */
const SCOPES = Object.values(Scope).reduce((mask: number, scope) => mask | (1 << scope), 0);

/** Whether a word means something for a hook. */
export function isVerdictWord(word: number, hook: Context): boolean {
  const action = word & 0xf;
  if (action >= PluginAction.MAX || (action === PluginAction.ROUTE && hook !== Context.HTTP)) return false;
  return (SCOPES & (1 << scopeOf(word))) !== 0;
}

export function actionOf(word: number): PluginAction {
  return (word & 0xf) as PluginAction;
}

export function scopeOf(word: number): Scope {
  return ((word >>> VerdictWord.SCOPE_SHIFT) & 0xf) as Scope;
}

export function ttlMsOf(word: number): number {
  const mantissa = (word >>> VerdictWord.TTL_SHIFT) & 0xff;
  return mantissa * 2 ** ((word >>> VerdictWord.TTL_EXPONENT_SHIFT) & 0xf) * VerdictWord.TTL_UNIT_MS;
}

export function reasonOf(word: number): number {
  return word >>> VerdictWord.REASON_SHIFT;
}

/** The word with another scope. */
export function withScope(word: number, scope: Scope): number {
  return ((word & ~(0xf << VerdictWord.SCOPE_SHIFT)) | (scope << VerdictWord.SCOPE_SHIFT)) >>> 0;
}

/** The meaning of a word, or undefined when it is none of ABI version 1 for the hook. */
export function decodeWord(word: number, hook: Context): DecodedWord | undefined {
  if (!isVerdictWord(word, hook)) return undefined;
  return { action: actionOf(word), scope: scopeOf(word), ttlMs: ttlMsOf(word), reason: reasonOf(word) };
}

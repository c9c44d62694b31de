/** The answer of a plugin: a word of 32 bits, built without allocation. */
import { PluginActionValue, ScopeValue, VerdictWordValue } from './abi.gen';
import { setReason, setResponseCode, setRoute } from './state';

/** DNS response code (RFC 1035, 4.1.1). */
const NXDOMAIN: u32 = 3;

/** Never an object: the handle itself is the verdict word. */
@unmanaged
export class Verdict {
  /** Holds for `ttlMs` for this flow: the same addresses and both ports. */
  perFlow(ttlMs: u32): Verdict { return withScope(this, ScopeValue.FLOW, ttlMs); }

  /** Holds for `ttlMs` for every connection between the same two addresses to the same port. */
  perAddress(ttlMs: u32): Verdict { return withScope(this, ScopeValue.ADDRESS, ttlMs); }

  /** Holds for `ttlMs` for every connection between pods of the same two identities to the same port. */
  perIdentity(ttlMs: u32): Verdict { return withScope(this, ScopeValue.IDENTITY, ttlMs); }

  /** Of an allowed DNS answer: nothing in it lives longer, rounded up by a hundredth at most. */
  atMost(ttlMs: u32): Verdict { return withScope(this, ScopeValue.NONE, ttlMs); }

  /** Of a request: holds for `ttlMs` for those with the same values in all that the plugin declares. */
  perValues(ttlMs: u32): Verdict { return withScope(this, ScopeValue.NONE, ttlMs); }

  /** Holds for this connection or request only: what a verdict without a scope does anyway. */
  perRequest(): Verdict { return withScope(this, ScopeValue.NONE, 0); }
}

/** Lets it through. Without a scope, the next connection is asked about again. */
export function allow(): Verdict { return wordOf(PluginActionValue.ALLOW); }

/** Refuses it. The reason is shown with the flow; a literal costs nothing, and is counted by itself in the metrics. */
export function deny(reason: string): Verdict {
  setReason(reason);
  return wordOf(PluginActionValue.DENY);
}

/** Refuses a DNS answer as if there were no such name (NXDOMAIN); deny says REFUSED. Hook `dns` only. */
export function nxdomain(reason: string): Verdict {
  setResponseCode(NXDOMAIN);
  return deny(reason);
}

/** Lets it through, and has it shown with the reason. */
export function audit(reason: string): Verdict {
  setReason(reason);
  return wordOf(PluginActionValue.AUDIT);
}

/** Lets the request through to a named backend set. The name is a literal; hook `http` only. */
export function route(name: string): Verdict {
  setRoute(name);
  return wordOf(PluginActionValue.ROUTE);
}

/** Sets a cookie with the answer to a request that is let through: `name=value; Path=/; Max-Age=3600`. Hook `http` only; not beside audit(). */
export function setCookie(cookie: string): void { setReason(cookie); }

/** Has no opinion: it passes as if the plugin had not been asked. */
export function next(): Verdict { return wordOf(PluginActionValue.NEXT); }

function wordOf(action: PluginActionValue): Verdict { return changetype<Verdict>(<usize>action); }

function withScope(verdict: Verdict, scope: ScopeValue, ttlMs: u32): Verdict {
  const action = <u32>changetype<usize>(verdict) & 0xf;
  return changetype<Verdict>(<usize>(action | (<u32>scope << VerdictWordValue.SCOPE_SHIFT) | (encodeTtl(ttlMs) << VerdictWordValue.TTL_SHIFT)));
}

/** Rounds up to what 8 bits of mantissa and 4 of exponent can say, in units of 10 ms: 23 hours at most. */
function encodeTtl(ttlMs: u32): u32 {
  let mantissa = (<u64>ttlMs + VerdictWordValue.TTL_UNIT_MS - 1) / VerdictWordValue.TTL_UNIT_MS;
  let exponent: u32 = 0;
  while (mantissa > 255) {
    mantissa = (mantissa + 1) >> 1;
    exponent++;
  }
  return exponent > 15 ? 0xfff : <u32>mantissa | (exponent << 8);
}

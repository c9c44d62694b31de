/** What a plugin answers: a word of 32 bits, built without allocation. */
import { ScopeValue, VerdictValue, VerdictWordValue } from './abi.gen';
import { setMessage } from './state';

/** Never an object: the handle itself is the verdict word. */
@unmanaged
export class Verdict {
  /** Holds for `ttlMs` for every connection between the same two addresses to the same port. */
  perAddress(ttlMs: u32): Verdict { return withScope(this, ScopeValue.ADDRESS, ttlMs); }

  /** Holds for `ttlMs` for every connection between pods of the same two identities to the same port. */
  perIdentity(ttlMs: u32): Verdict { return withScope(this, ScopeValue.IDENTITY, ttlMs); }

  /** Holds for `ttlMs` for this flow: the same addresses and both ports. */
  perFlow(ttlMs: u32): Verdict { return withScope(this, ScopeValue.FLOW, ttlMs); }
}

/** Lets the connection through. Without a scope, the next connection is asked about again. */
export function allow(): Verdict { return changetype<Verdict>(<usize>VerdictValue.ALLOW); }

/** Refuses the connection. The reason, ASCII, at most 85 characters, is shown with the flow. */
export function deny(reason: string): Verdict {
  setMessage(reason);
  return changetype<Verdict>(<usize>VerdictValue.DENY);
}

/** Has no opinion: the connection passes as if the plugin had not been asked. */
export function next(): Verdict { return changetype<Verdict>(<usize>VerdictValue.NEXT); }

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

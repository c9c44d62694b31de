/** The plugin ABI, version 1, but for sluice_eval, which the build writes. The entry of every plugin exports this file. */
import { setPluginResultFields, setPluginResultMessage, setPluginResultMessageLength, setPluginResultRoute, VerdictWordValue } from './abi.gen';
import { Config } from './config';
import { CONFIG, CONFIG_CAPACITY, CONTEXT, CONTEXT_CAPACITY, fieldsRead, givenReason, givenResponseCode, MESSAGE, MESSAGE_CAPACITY, RESULT } from './state';
import { Policy } from './policy';
import { Verdict } from './verdict';

/** Says which ABI this module speaks; never called. */
export function sluice_abi_v1(): void {}

export function sluice_ctx(): usize { return CONTEXT; }

export function sluice_ctx_cap(): i32 { return CONTEXT_CAPACITY; }

export function sluice_res(): usize { return RESULT; }

export function sluice_cfg(): usize { return CONFIG; }

export function sluice_cfg_cap(): i32 { return CONFIG_CAPACITY; }

/** Has a policy take the configuration that the host wrote. What is allocated so far is kept for good. */
export function configure(policy: Policy, length: i32): i32 {
  policy.configure(new Config(String.UTF8.decodeUnsafe(CONFIG, length)));
  // @ts-ignore: of the runtime
  __arena_keep();
  return 0;
}

/** Writes the result record and returns the verdict word. `reason` and `route` are numbers of the manifest, or 0. */
export function finish(verdict: Verdict, reason: u32, route: u32): i32 {
  let message = 0;
  if (!reason && givenReason.length) {
    // One UTF-16 unit takes three bytes at most.
    const units = min(givenReason.length, MESSAGE_CAPACITY / 3);
    message = <i32>String.UTF8.encodeUnsafe(changetype<usize>(givenReason), units, MESSAGE, false);
  }
  setPluginResultFields(RESULT, fieldsRead);
  setPluginResultRoute(RESULT, route ? route : givenResponseCode);
  setPluginResultMessage(RESULT, <u32>MESSAGE);
  setPluginResultMessageLength(RESULT, <u32>message);
  // @ts-ignore: of the runtime
  __arena_release();
  return <i32>(<u32>changetype<usize>(verdict) | (reason << VerdictWordValue.REASON_SHIFT));
}

/** The plugin ABI, version 1: what the host calls. Every plugin's entry exports this file. */
import { ContextValue, setPluginResultFields, setPluginResultMessage, setPluginResultMessageLength, setPluginResultRoute } from './abi.gen';
import { Config } from './config';
import { Connection } from './connection';
import { registeredPolicy } from './policy';
import { CONFIG, CONFIG_CAPACITY, CONTEXT, CONTEXT_CAPACITY, fieldsRead, MESSAGE, messageLength, resetEvaluation, RESULT } from './state';
import { next } from './verdict';

/** Says which ABI this module speaks; never called. */
export function sluice_abi_v1(): void {}

export function sluice_ctx(): usize { return CONTEXT; }

export function sluice_ctx_cap(): i32 { return CONTEXT_CAPACITY; }

export function sluice_res(): usize { return RESULT; }

export function sluice_cfg(): usize { return CONFIG; }

export function sluice_cfg_cap(): i32 { return CONFIG_CAPACITY; }

/** Takes the configuration that the host wrote; returns 0. What is allocated so far is kept for good. */
export function sluice_init(length: i32): i32 {
  registeredPolicy().configure(new Config(String.UTF8.decodeUnsafe(CONFIG, length)));
  // @ts-ignore: of the runtime
  __arena_keep();
  return 0;
}

/** Evaluates the context record; returns the verdict word. */
export function sluice_eval(hook: i32): i32 {
  resetEvaluation();
  let verdict = next();
  if (hook == ContextValue.CONNECT) verdict = registeredPolicy().onConnect(changetype<Connection>(<usize>0));
  setPluginResultFields(RESULT, fieldsRead);
  setPluginResultRoute(RESULT, 0);
  setPluginResultMessage(RESULT, <u32>MESSAGE);
  setPluginResultMessageLength(RESULT, <u32>messageLength);
  // @ts-ignore: of the runtime
  __arena_release();
  return <i32>changetype<usize>(verdict);
}

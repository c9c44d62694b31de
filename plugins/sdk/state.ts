/** The records that host and plugin share, and what the evaluation under way has done so far. */
import { PLUGIN_CONTEXT_SIZE, PLUGIN_RESULT_SIZE, pluginContextSlots, PluginSlotValue } from './abi.gen';

/** Bytes that the host may write: the fixed head and the texts. */
export const CONTEXT_CAPACITY: i32 = 16384;
export const CONFIG_CAPACITY: i32 = 16384;
/** Bytes of a reason, UTF-8. */
export const MESSAGE_CAPACITY: i32 = 256;

export const CONTEXT: usize = memory.data(16384, 16);
export const RESULT: usize = memory.data(16, 16);
export const CONFIG: usize = memory.data(16384, 16);
export const MESSAGE: usize = memory.data(256, 16);

assert(PLUGIN_CONTEXT_SIZE < CONTEXT_CAPACITY && PLUGIN_RESULT_SIZE == 16);

/** Which kinds of fields were read: the host caches a verdict no wider than this allows. */
export let fieldsRead: u32 = 0;
export let messageLength: i32 = 0;

export function resetEvaluation(): void {
  fieldsRead = 0;
  messageLength = 0;
}

// @ts-ignore: decorator
@inline export function noteRead(fields: u32): void { fieldsRead |= fields; }

// @ts-ignore: decorator
@inline export function slot(index: PluginSlotValue): u32 { return pluginContextSlots(CONTEXT, index); }

/** Keeps a reason for the host, cut to what fits. */
export function setMessage(text: string): void {
  // One UTF-16 unit takes three bytes at most.
  const units = min(text.length, MESSAGE_CAPACITY / 3);
  messageLength = <i32>String.UTF8.encodeUnsafe(changetype<usize>(text), units, MESSAGE, false);
}

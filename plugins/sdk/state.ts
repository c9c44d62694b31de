/** The records that host and plugin share, and what the evaluation under way has done so far. */
import { PLUGIN_CONTEXT_SIZE, PLUGIN_HEADER_SIZE, PLUGIN_RESULT_SIZE, pluginContextSlots, PluginSlotValue } from './abi.gen';

/** Bytes that the host may write: the fixed head, the headers and the texts. */
export const CONTEXT_CAPACITY: i32 = 16384;
export const CONFIG_CAPACITY: i32 = 16384;
/** Bytes of a reason, UTF-8. */
export const MESSAGE_CAPACITY: i32 = 256;

export const CONTEXT: usize = memory.data(16384, 16);
export const RESULT: usize = memory.data(16, 16);
export const CONFIG: usize = memory.data(16384, 16);
export const MESSAGE: usize = memory.data(256, 16);

assert(PLUGIN_CONTEXT_SIZE == 152 && PLUGIN_HEADER_SIZE == 12 && PLUGIN_RESULT_SIZE == 16);

/** Which fields were read: a signed plugin's verdict is cached no wider than these allow. */
export let fieldsRead: u32 = 0;
/** The parts that the verdict was given: resolved to numbers of the manifest when the evaluation ends. */
export let givenReason: string = '';
export let givenRoute: string = '';
/** Of a denied DNS answer. */
export let givenResponseCode: u32 = 0;

export function resetEvaluation(): void {
  fieldsRead = 0;
  givenReason = '';
  givenRoute = '';
  givenResponseCode = 0;
}

export function setReason(reason: string): void { givenReason = reason; }

export function setRoute(name: string): void { givenRoute = name; }

export function setResponseCode(code: u32): void { givenResponseCode = code; }

// @ts-ignore: decorator
@inline export function noteRead(field: u32): void { fieldsRead |= field; }

// @ts-ignore: decorator
@inline export function slot(index: i32): u32 { return pluginContextSlots(CONTEXT, index); }

/** The number of a table or set in the manifest; the build's entry file knows them. */
export let numberOf: (kind: i32, name: string) => i32 = (_kind: i32, _name: string): i32 => -1;

export function setNumbers(find: (kind: i32, name: string) => i32): void { numberOf = find; }

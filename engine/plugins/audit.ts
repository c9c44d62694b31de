/** What a module must and must not be before any of it runs. Every refusal tells its author what to do. */
import { EngineError } from '../errors.ts';

/** Larger than any policy, small enough to hold and compile. */
export const MODULE_BYTES_MAX = 4 * 1024 * 1024;

const FUNCTION_EXPORTS = ['sluice_abi_v1', 'sluice_ctx', 'sluice_ctx_cap', 'sluice_res', 'sluice_eval'] as const;
const IMPORTS = new Set(['env.abort']);

const SECTION_MEMORY = 5;
const SECTION_START = 8;

function refuse(reason: string, cause?: unknown): EngineError {
  return new EngineError('PLUGIN_INVALID', `Cannot load module: ${reason}`, cause);
}

/**
 * Compiles a module that may be instantiated.
 *
 * @throws EngineError `PLUGIN_INVALID`
 */
export async function auditModule(bytes: Uint8Array, memoryPages: number): Promise<WebAssembly.Module> {
  if (bytes.length > MODULE_BYTES_MAX) throw refuse(`${bytes.length} bytes; at most ${MODULE_BYTES_MAX} are taken`);
  const sections = readSections(bytes);
  let module: WebAssembly.Module;
  try {
    module = await WebAssembly.compile(bytes as Uint8Array<ArrayBuffer>);
  } catch (error) {
    throw refuse(`not valid WebAssembly: ${(error as Error).message.replace(/^WebAssembly\.compile\(\): /, '')}`, error);
  }
  if (sections.has(SECTION_START))
    throw refuse('it has a start section, which runs before it can be bounded; build with --exportStart _initialize');
  checkMemory(sections.get(SECTION_MEMORY), memoryPages);
  for (const { module: from, name, kind } of WebAssembly.Module.imports(module))
    if (!IMPORTS.has(`${from}.${name}`) || kind !== 'function')
      throw refuse(`it imports ${kind} ${from}.${name}; a plugin gets ${[...IMPORTS].join(', ')} and nothing else`);
  const exports = new Map(WebAssembly.Module.exports(module).map(({ name, kind }) => [name, kind]));
  for (const name of FUNCTION_EXPORTS)
    if (exports.get(name) !== 'function')
      throw refuse(`it does not export function ${name}; the entry must export * from "@sluice/plugin-sdk/exports"`);
  if (exports.get('memory') !== 'memory') throw refuse('it does not export its memory as "memory"');
  return module;
}

/** Section id → body, of a module's known sections. @throws EngineError where the framing is damaged. */
function readSections(bytes: Uint8Array): Map<number, Uint8Array> {
  const magic = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
  if (bytes.length < magic.length || magic.some((byte, i) => bytes[i] !== byte)) throw refuse('not a WebAssembly module of version 1');
  const sections = new Map<number, Uint8Array>();
  for (let at = magic.length; at < bytes.length; ) {
    const id = bytes[at] as number;
    const size = readLeb(bytes, at + 1);
    const end = size.next + size.value;
    if (end > bytes.length) throw refuse(`section ${id} ends beyond the module: it is truncated`);
    if (id !== 0) sections.set(id, bytes.subarray(size.next, end));
    at = end;
  }
  return sections;
}

function checkMemory(section: Uint8Array | undefined, memoryPages: number): void {
  if (!section) throw refuse('it has no memory of its own');
  const count = readLeb(section, 0);
  if (count.value !== 1) throw refuse(`it has ${count.value} memories; one is taken`);
  const flags = section[count.next] as number;
  if (flags !== 0 && flags !== 1) throw refuse('its memory is shared or 64-bit');
  if (flags === 0) throw refuse(`its memory declares no maximum; build with --maximumMemory ${memoryPages}`);
  const maximum = readLeb(section, readLeb(section, count.next + 1).next).value;
  if (maximum > memoryPages) throw refuse(`its memory may grow to ${maximum} pages, and its PolicyPlugin grants ${memoryPages}`);
}

function readLeb(bytes: Uint8Array, at: number): { value: number; next: number } {
  let value = 0;
  for (let i = 0; i < 5; i++) {
    const byte = bytes[at + i];
    if (byte === undefined) throw refuse('it ends in the middle of a number: it is truncated');
    value += (byte & 0x7f) * 2 ** (7 * i);
    if (!(byte & 0x80)) return { value, next: at + i + 1 };
  }
  throw refuse('a number in it is longer than 32 bits');
}

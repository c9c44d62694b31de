/**
 * The audit of a module before any of it runs, and what becomes of it: a metered module, compiled.
 * Every refusal tells its author what to do.
 */
import { EngineError } from '../errors.ts';
import { formatSignature, GUEST_EXPORTS, HOST_FUNCTIONS, MANIFEST_SECTION, type Signature, sameSignature } from '../plugin-runtime/abi.ts';
import type { Manifest } from '../plugin-runtime/manifest.ts';
import { readManifest } from '../plugin-runtime/manifest-schema.ts';
import type { Capability } from '../policy/objects.ts';
import { METER_EXPORTS, meter } from './fuel.ts';
import { findSigner, isSigned, type TrustedKey } from './signature.ts';
import { MalformedWasm } from './wasm/binary.ts';
import { customSection, type ModuleView, parseModule } from './wasm/module.ts';

/** Larger than any policy, small enough to hold and compile. */
export const MODULE_BYTES_MAX = 4 * 1024 * 1024;
const FUNCTION_KIND = 0;
const MEMORY_KIND = 2;
const START_SECTION = 8;

/** Rights and limits that a PolicyPlugin grants. */
export interface Grants {
  readonly memoryPages: number;
  /** Units of fuel for one evaluation. */
  readonly fuel: number;
  readonly capabilities: readonly Capability[];
  /** Names of the sets that it fills. */
  readonly sets: readonly string[];
  /** Keys of which one must have signed; empty: a module may be unsigned. */
  readonly trustedKeys: readonly TrustedKey[];
}

export interface AuditedModule {
  /** Metered: it is this that may be instantiated, and nothing else. */
  readonly module: WebAssembly.Module;
  readonly manifest: Manifest;
  /** Id of the trusted key that signed it. */
  readonly signer: string | undefined;
  /** The original, for traps; see fuel.ts and line-table.ts. */
  readonly view: ModuleView;
  readonly offsets: Uint32Array;
}

function refuse(reason: string, cause?: unknown): EngineError {
  return new EngineError('PLUGIN_INVALID', `Cannot load module: ${reason}`, cause);
}

/** Checks, meters and compiles a module. @throws EngineError `PLUGIN_INVALID` */
export async function auditModule(bytes: Uint8Array, grants: Grants): Promise<AuditedModule> {
  if (bytes.length > MODULE_BYTES_MAX) throw refuse(`it has ${bytes.length} bytes; at most ${MODULE_BYTES_MAX} are taken`);
  try {
    const view = parseModule(bytes);
    const signer = checkSignature(bytes, grants.trustedKeys);
    const manifest = checkManifest(view, grants);
    checkMemory(view, grants.memoryPages);
    checkImports(view, manifest);
    checkExports(view);
    checkValid(bytes);
    const { bytes: metered, offsets } = meter(view, 'sluice_eval', grants.fuel);
    return { module: await compile(metered), manifest, signer, view, offsets };
  } catch (error) {
    if (error instanceof MalformedWasm) throw refuse(error.message, error);
    throw error;
  }
}

function checkSignature(bytes: Uint8Array, trusted: readonly TrustedKey[]): string | undefined {
  if (!trusted.length) return undefined;
  const signer = findSigner(bytes, trusted);
  if (signer) return signer;
  throw refuse(
    isSigned(bytes)
      ? `none of the trusted keys (${trusted.map(({ id }) => id).join(', ')}) signed it as it is; sign it again after each build`
      : 'it is not signed, and this engine has trusted keys; run sluice plugin sign',
  );
}

function checkManifest(view: ModuleView, grants: Grants): Manifest {
  const content = customSection(view, MANIFEST_SECTION);
  if (!content)
    throw refuse(`it has no manifest (custom section ${MANIFEST_SECTION}); sluice plugin build writes one, see plugins/README.md`);
  const manifest = readManifest(content);
  for (const capability of manifest.capabilities)
    if (!grants.capabilities.includes(capability))
      throw refuse(
        `it wants capability ${capability}; grant it with capabilities: [${manifest.capabilities.join(', ')}] in its PolicyPlugin`,
      );
  for (const set of manifest.sets)
    if (!grants.sets.includes(set)) throw refuse(`it looks into set ${set}; fill it with sets: { ${set}: … } in its PolicyPlugin`);
  return manifest;
}

function checkMemory(view: ModuleView, memoryPages: number): void {
  const [memory] = view.memories;
  if (!memory || view.memories.length > 1) throw refuse(`it has ${view.memories.length} memories of its own; it needs one`);
  if (!memory.plain) throw refuse('its memory is shared or 64-bit');
  if (memory.maximum === undefined) throw refuse(`its memory declares no maximum; build with --maximumMemory ${memoryPages}`);
  if (memory.maximum > memoryPages)
    throw refuse(`its memory may grow to ${memory.maximum} pages, and its PolicyPlugin grants ${memoryPages} (limits.memoryPages)`);
}

function checkImports(view: ModuleView, manifest: Manifest): void {
  for (const { module, name, type } of view.imports) {
    const found = HOST_FUNCTIONS.get(`${module}.${name}`);
    if (!found)
      throw refuse(`it imports function ${module}.${name}; a plugin gets ${[...HOST_FUNCTIONS.keys()].join(', ')} and nothing else`);
    checkSignatureOf(`its import ${module}.${name}`, view.types[type], found);
    if (found.capability && !manifest.capabilities.includes(found.capability))
      throw refuse(`it imports ${module}.${name} and its manifest does not ask for capability ${found.capability}`);
  }
}

function checkExports(view: ModuleView): void {
  if (view.sections.some(({ id }) => id === START_SECTION))
    throw refuse('it has a start section, which runs before it can be bounded; build with --exportStart _initialize');
  for (const name of METER_EXPORTS) if (view.exports.has(name)) throw refuse(`it exports ${name}, a name that the host uses; rename it`);
  for (const [name, wanted] of GUEST_EXPORTS) {
    const found = view.exports.get(name);
    if (!found && !wanted.required) continue;
    if (found?.kind !== FUNCTION_KIND)
      throw refuse(`it does not export function ${name}: ${formatSignature(wanted)}; see plugins/README.md for all that are needed`);
    const type = view.functions[found.index - view.imports.length];
    checkSignatureOf(`its export ${name}`, type === undefined ? undefined : view.types[type], wanted);
  }
  if (view.exports.get('memory')?.kind !== MEMORY_KIND) throw refuse('it does not export its memory as "memory"');
}

function checkSignatureOf(what: string, found: Signature | undefined, wanted: Signature): void {
  if (!found) throw refuse(`${what} is not a function of its own`);
  if (!sameSignature(found, wanted)) throw refuse(`${what} is ${formatSignature(found)}; must be ${formatSignature(wanted)}`);
}

/** With V8's own words, about the module as its author knows it. */
function checkValid(bytes: Uint8Array): void {
  if (WebAssembly.validate(bytes as Uint8Array<ArrayBuffer>)) return;
  try {
    new WebAssembly.Module(bytes as Uint8Array<ArrayBuffer>);
  } catch (error) {
    throw refuse(`not valid WebAssembly: ${(error as Error).message.replace(/^WebAssembly\.Module\(\): /, '')}`, error);
  }
}

async function compile(metered: Uint8Array): Promise<WebAssembly.Module> {
  try {
    return await WebAssembly.compile(metered as Uint8Array<ArrayBuffer>);
  } catch (error) {
    throw refuse(`it cannot be metered: ${(error as Error).message}`, error);
  }
}

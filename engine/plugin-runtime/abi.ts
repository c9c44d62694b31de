/**
 * The plugin ABI, version 1, but for its records (bpf/plugin-abi.h): what a module exports and may import, and what each import
 * costs and needs. plugins/README.md documents this table; a test compares the two.
 */
import { Context } from '../abi.gen.ts';
import type { Capability } from '../policy/objects.ts';

export const ABI = 1;
/** The custom section in which a module says what it is. */
export const MANIFEST_SECTION = 'sluice.manifest';
/** The questions that a module may answer. */
export const HOOKS: readonly string[] = Object.keys(Context).map((name) => name.toLowerCase());

/** Value types as a type section has them. */
const I32 = 0x7f;
const F64 = 0x7c;

export interface Signature {
  readonly params: readonly number[];
  readonly results: readonly number[];
}

export interface GuestExport extends Signature {
  readonly required: boolean;
}

const POINTER: Signature = { params: [], results: [I32] };

export const GUEST_EXPORTS: ReadonlyMap<string, GuestExport> = new Map([
  ['sluice_abi_v1', { params: [], results: [], required: true }],
  ['sluice_ctx', { ...POINTER, required: true }],
  ['sluice_ctx_cap', { ...POINTER, required: true }],
  ['sluice_res', { ...POINTER, required: true }],
  ['sluice_eval', { params: [I32], results: [I32], required: true }],
  ['sluice_cfg', { ...POINTER, required: false }],
  ['sluice_cfg_cap', { ...POINTER, required: false }],
  ['sluice_init', { params: [I32], results: [I32], required: false }],
  ['_initialize', { params: [], results: [], required: false }],
]);

export interface HostFunction extends Signature {
  /** The right that must be granted for it; absent: every plugin has it. */
  readonly capability?: Capability;
  /** Units of fuel that a call costs besides its instruction: about what it takes, at two units a nanosecond. */
  readonly weight: number;
}

const FUNCTIONS = {
  'env.abort': { params: [I32, I32, I32, I32], results: [], weight: 0 },
  'sluice.log': { params: [I32, I32], results: [], weight: 1000 },
  'sluice.kv_add': { params: [I32, I32, I32, I32], results: [I32], capability: 'counters', weight: 500 },
  'sluice.kv_get': { params: [I32, I32, I32], results: [I32], capability: 'counters', weight: 500 },
  'sluice.set_has': { params: [I32, I32, I32], results: [I32], capability: 'sets', weight: 2000 },
  'sluice.now_ms': { params: [], results: [F64], capability: 'clock', weight: 200 },
} as const satisfies Readonly<Record<string, HostFunction>>;
export type HostFunctionName = keyof typeof FUNCTIONS;
export const HOST_FUNCTIONS: ReadonlyMap<string, HostFunction> = new Map(Object.entries(FUNCTIONS));

export function sameSignature(a: Signature, b: Signature): boolean {
  return a.params.join() === b.params.join() && a.results.join() === b.results.join();
}

/** `(i32, i32) -> i32`, as people write it. */
export function formatSignature({ params, results }: Signature): string {
  const name = (type: number): string =>
    ({ 127: 'i32', 126: 'i64', 125: 'f32', 124: 'f64', 123: 'v128' })[type] ?? `0x${type.toString(16)}`;
  return `(${params.map(name).join(', ')}) -> ${results.length === 1 ? name(results[0] as number) : `(${results.map(name).join(', ')})`}`;
}

/**
 * libsluice as typed functions: the only file that knows its symbols.
 *
 * A call costs ffi-napi 3 to 20 µs and garbage, a prepared one without arguments a quarter of one and none: hot paths name their
 * memory beforehand. Handles are addresses, as numbers; descriptors are plain integers. Both may be passed between threads of
 * this process.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { getSystemErrorName } from 'node:util';
import ref from '@2060.io/ref-napi';
import ffi from 'ffi-napi';
import { EngineError } from '../errors.ts';

const buildDirectory = fileURLToPath(new URL('../../build/', import.meta.url));
const libraryPath = `${buildDirectory}libsluice.so`;

/** The compiled programs. */
export const objectPath = `${buildDirectory}endpoint.bpf.o`;

if (!existsSync(libraryPath) || !existsSync(objectPath))
  throw new EngineError('NOT_BUILT', `Cannot load ${libraryPath}: not built; run npm run build`);

const library = ffi.Library(libraryPath, {
  sluice_log__set: ['void', ['pointer']],
  sluice_kernel__is_bpffs: ['int', ['string']],
  sluice_kernel__cpus: ['int', []],
  sluice_kernel__is_peered: ['int', ['uint32']],
  sluice_kernel__ifindex: ['int', ['string']],
  sluice_kernel__now_ns: ['uint64', []],
  sluice_object__load: ['int', ['string', 'string', 'pointer', 'uint32', 'pointer', 'pointer', 'uint32']],
  sluice_object__commit: ['int', ['size_t']],
  sluice_object__map: ['int', ['size_t', 'string']],
  sluice_object__program: ['int', ['size_t', 'string']],
  sluice_object__close: ['void', ['size_t']],
  sluice_link__attach: ['int', ['int', 'uint32', 'uint32', 'string']],
  sluice_cgroup__attach: ['int', ['int', 'string', 'string']],
  sluice_cgroup__detach: ['int', ['string']],
  sluice_link__detach: ['int', ['uint32', 'uint32', 'string']],
  sluice_map__update: ['int', ['int', 'pointer', 'uint32', 'pointer', 'uint32', 'uint32', 'pointer']],
  sluice_map__delete: ['int', ['int', 'pointer', 'uint32', 'uint32', 'pointer']],
  sluice_map__size: ['int', ['int']],
  sluice_map__lookup: ['int', ['int', 'pointer', 'pointer']],
  sluice_map__dump: ['int', ['int', 'pointer', 'uint32', 'pointer', 'uint32', 'uint32']],
  sluice_map__open: ['int', ['string']],
  sluice_map__close: ['void', ['int']],
  sluice_connections__count: ['int', ['int', 'uint64', 'pointer', 'uint32']],
  sluice_names__collect: ['int', ['int', 'int', 'int', 'int', 'uint64', 'uint32', 'pointer']],
  sluice_ring__open: ['int', ['int', 'int', 'pointer']],
  sluice_ring__drain: ['int', ['size_t', 'pointer', 'uint32', 'int', 'pointer']],
  sluice_ring__wake: ['int', ['size_t']],
  sluice_ring__close: ['void', ['size_t']],
  sluice_release__open: ['int', ['string', 'string', 'int', 'string', 'uint32', 'pointer']],
  sluice_release__close: ['void', ['size_t']],
  sluice_release__remove: ['int', ['string']],
  sluice_proxy__open: ['int', ['pointer', 'pointer']],
  sluice_proxy__close: ['void', []],
  sluice_proxy__connect: ['int', ['pointer', 'pointer', 'uint32']],
  sluice_proxy__join: ['int', []],
  sluice_streams__open: ['int', ['pointer', 'pointer', 'pointer']],
  sluice_streams__connect: ['int', ['pointer', 'pointer', 'uint32']],
  sluice_streams__take: ['int', ['uint32']],
  sluice_streams__wake: ['int', ['size_t']],
  sluice_flow__open: ['int', ['size_t', 'size_t', 'int', 'pointer']],
  sluice_memory__map: ['int', ['string', 'uint64', 'pointer']],
  sluice_program__ask: ['int', ['int', 'pointer', 'uint32', 'uint32', 'uint32', 'pointer']],
  sluice_program__test: ['int', ['int', 'pointer', 'uint32', 'uint32', 'uint32', 'pointer', 'pointer']],
});

type CallByAddress = (signature: Buffer, address: Buffer, result: Buffer, args: Buffer) => void;

/** What ffi-napi's functions end in: called by itself, with everything made beforehand, it is a twelfth of their cost. */
const { ffi_call: callByAddress } = createRequire(import.meta.url)('ffi-napi/lib/bindings') as { ffi_call: CallByAddress };

/** A function without arguments that returns an int, ready to be called often. */
function prepare(name: string): () => number {
  const signature = ffi.CIF('int', []) as unknown as Buffer;
  const address = ffi.DynamicLibrary(libraryPath).get(name) as unknown as Buffer;
  const result = Buffer.alloc(8);
  const args = Buffer.alloc(0);
  const value = new Int32Array(result.buffer, result.byteOffset, 1);
  return () => {
    callByAddress(signature, address, result, args);
    return value[0] as number;
  };
}

/** The library's functions, each as in native/sluice.h. */
export const native = {
  ...library,
  sluice_flow__drain: prepare('sluice_flow__drain'),
  sluice_flow__settle: prepare('sluice_flow__settle'),
  sluice_streams__turn: prepare('sluice_streams__turn'),
  sluice_streams__commit: prepare('sluice_streams__commit'),
};

/** `-ENOENT` → `ENOENT`. */
export function errnoName(result: number): string {
  return getSystemErrorName(result);
}

/**
 * The result of a native call.
 *
 * @throws EngineError `KERNEL_CALL`, or `NOT_ROOT` for EPERM, when it is an error: "Cannot <doing>: <errno>".
 */
export function check(result: number, doing: string): number {
  if (result >= 0) return result;
  const name = errnoName(result);
  if (name === 'EPERM' || name === 'EACCES')
    throw new EngineError('NOT_ROOT', `Cannot ${doing}: ${name}; run as root, or with CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW and CAP_PERFMON`);
  if (name === 'E2BIG') throw new EngineError('MAP_FULL', `Cannot ${doing}: the map is full`);
  throw new EngineError('KERNEL_CALL', `Cannot ${doing}: ${name}`);
}

/** The address that a native function stored for its caller. */
export function readHandle(cell: Buffer): number {
  return Number(cell.readBigUInt64LE(0));
}

/** Where a buffer's bytes are; they must not move or be freed while the address is in use. */
export function addressOf(buffer: Buffer): bigint {
  return BigInt(ref.address(buffer as never));
}

/** Time on the clock that the programs use, in nanoseconds. */
export function kernelNowNs(): bigint {
  return BigInt(native.sluice_kernel__now_ns());
}

/** A callback lives as long as something here refers to it. */
const callbacks: unknown[] = [];

/** Sends libbpf's messages to a function; level is 0 warning, 1 information, 2 debugging. */
export function setNativeLog(sink: (level: number, text: string) => void): void {
  const receive = (level: number, text: string | null): void => sink(level, (text ?? '').trimEnd());
  const callback = ffi.Callback('void', ['int', 'string'], receive as never);
  callbacks.push(callback);
  native.sluice_log__set(callback);
}

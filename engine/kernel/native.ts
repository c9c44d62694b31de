/**
 * libsluice as typed functions, as native/sluice.h declares them.
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
import { FUNCTIONS } from '../native.gen.ts';

const buildDirectory = fileURLToPath(new URL('../../build/', import.meta.url));
const libraryPath = `${buildDirectory}libsluice.so`;

/** The compiled programs. */
export const objectPath = `${buildDirectory}endpoint.bpf.o`;

if (!existsSync(libraryPath) || !existsSync(objectPath))
  throw new EngineError('NOT_BUILT', `Cannot load ${libraryPath}: not built; run npm run build`);

/** How ffi-napi takes and gives what native.gen.ts names: a 64-bit number that is large comes as text. */
interface Types {
  readonly void: undefined;
  readonly int: number;
  readonly uint32: number;
  readonly size_t: number;
  readonly uint64: number | string;
  readonly string: string;
  readonly pointer: Buffer;
}
type Definition = readonly [returns: keyof Types, takes: readonly (keyof Types)[]];
type Arguments<T extends Definition[1]> = { -readonly [I in keyof T]: Types[T[I]] };
type Callable<D extends Definition> = (...args: Arguments<D[1]>) => Types[D[0]];
type Library = { readonly [Name in keyof typeof FUNCTIONS]: Callable<(typeof FUNCTIONS)[Name]> };

const library = ffi.Library(libraryPath, FUNCTIONS as never) as unknown as Library;

type CallByAddress = (signature: Buffer, address: Buffer, result: Buffer, args: Buffer) => void;

/** The call that ffi-napi's functions end in: by itself, with everything made beforehand, it is a twelfth of their cost. */
const { ffi_call: callByAddress } = createRequire(import.meta.url)('ffi-napi/lib/bindings') as { ffi_call: CallByAddress };

/** A function that returns an int, ready to be called often: its only argument, where it has one, is always the same. */
function prepare(name: string, argument?: number): () => number {
  const signature = ffi.CIF('int', argument === undefined ? [] : ['size_t']) as unknown as Buffer;
  const address = ffi.DynamicLibrary(libraryPath).get(name) as unknown as Buffer;
  const result = Buffer.alloc(8);
  const cell = Buffer.alloc(8);
  cell.writeBigUInt64LE(BigInt(argument ?? 0));
  const args = Buffer.alloc(8);
  args.writeBigUInt64LE(addressOf(cell));
  const value = new Int32Array(result.buffer, result.byteOffset, 1);
  const call = (): number => {
    callByAddress(signature, address, result, args);
    return value[0] as number;
  };
  return Object.assign(call, { cell });
}

/** A function of a handle, ready to be called often. */
export function prepareFor(name: 'sluice_sockets__turn' | 'sluice_sockets__commit', handle: number): () => number {
  return prepare(name, handle);
}

/** The library's functions, each as in native/sluice.h. */
export const native = {
  ...library,
  sluice_flow__drain: prepare('sluice_flow__drain'),
  sluice_flow__settle: prepare('sluice_flow__settle'),
};

/** A call that may wait for the kernel, on another thread: buffers among its arguments are its own until it is done. */
export function callElsewhere<Name extends keyof typeof FUNCTIONS>(
  name: Name,
  ...args: Arguments<(typeof FUNCTIONS)[Name][1]>
): Promise<Types[(typeof FUNCTIONS)[Name][0]]> {
  type Result = Types[(typeof FUNCTIONS)[Name][0]];
  const { async: call } = library[name] as unknown as { async(...all: unknown[]): void };
  return new Promise((resolve, reject) =>
    call(...args, (error: unknown, result: Result) => {
      if (error) reject(error);
      else resolve(result);
    }),
  );
}

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
  native.sluice_log__set(callback as unknown as Buffer);
}

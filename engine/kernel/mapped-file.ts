/** Memory that a file keeps, whatever becomes of this process. */
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import ref from '@2060.io/ref-napi';
import { check, native } from './native.ts';

/** Mappings of this thread: each file is mapped once, and stays so until the process ends. */
const mapped = new Map<string, Int32Array>();

/** The words of a file, which is made, or made anew when it has another size: who has that one mapped keeps it. `bytes` is a multiple of 4. @throws EngineError */
export function mapFile(path: string, bytes: number): Int32Array {
  const key = `${bytes} ${path}`;
  const known = mapped.get(key);
  if (known) return known;
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const address = Buffer.alloc(8);
  check(native.sluice_memory__map(path, bytes, address), `map ${path} (${bytes} bytes)`);
  const memory = ref.readPointer(address, 0, bytes);
  const words = new Int32Array(memory.buffer, memory.byteOffset, bytes / 4);
  mapped.set(key, words);
  return words;
}

import { basename, join, resolve } from 'node:path';

/** Where a plugin's module is built to by default. */
export function modulePath(directory: string): string {
  return join(directory, 'build', `${basename(resolve(directory))}.wasm`);
}

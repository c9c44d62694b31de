/** Where a plugin's module is, and how paths are shown. */
import { basename, join, relative, resolve } from 'node:path';

/** Where a plugin's module is built to by default. */
export function modulePath(directory: string): string {
  return join(directory, 'build', `${basename(resolve(directory))}.wasm`);
}

/** As a terminal can open it: from here if it is below here, else the whole path. */
export function shownPath(path: string): string {
  const from = relative(process.cwd(), resolve(path));
  return from.startsWith('..') ? resolve(path) : from || '.';
}

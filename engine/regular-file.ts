/**
 * Reading a file whose path somebody else has named or filled. Only a regular one is read, and only up to a size: a pipe without
 * a writer would have its reader wait for ever, and a device may have no end.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync, type Stats } from 'node:fs';

/** A file as it was found, with its bytes or the reason why it was not read. */
export type RegularFile = { readonly status: Stats } & (
  | { readonly bytes: Buffer }
  | { readonly bytes?: undefined; readonly refused: string }
);

/** @throws Error of the system where it cannot be opened or read. */
export function readRegularFile(path: string, bytesMax: number): RegularFile {
  // A pipe is opened at once then, whether or not it has a writer.
  const descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const status = fstatSync(descriptor);
    if (!status.isFile()) return { status, refused: 'not a regular file' };
    if (status.size > bytesMax) return { status, refused: `larger than ${bytesMax} bytes` };
    return { status, bytes: readFileSync(descriptor) };
  } finally {
    closeSync(descriptor);
  }
}

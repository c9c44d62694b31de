/**
 * Reading a file whose path somebody else has named or filled. Only a regular one is read, and only up to a size: a pipe without
 * a writer would have its reader wait for ever, and a device may have no end.
 */
import { closeSync, constants, fstatSync, openSync, readSync, type Stats, statSync } from 'node:fs';

/** A file as it was found, with its bytes or the reason why it was not read. */
export type RegularFile = { readonly status: Stats } & (
  | { readonly bytes: Buffer }
  | { readonly bytes?: undefined; readonly refused: string }
);

/** One read asks for so much: most files come at once. */
const CHUNK_BYTES = 64 * 1024;

/** @throws Error of the system where it cannot be found, opened or read. */
export function readRegularFile(path: string, bytesMax: number): RegularFile {
  // Some devices act when they are opened.
  const before = statSync(path);
  if (!before.isFile()) return { status: before, refused: 'not a regular file' };
  // It may be another one by now; a pipe is opened at once then, whether or not it has a writer.
  const descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const status = fstatSync(descriptor);
    if (!status.isFile()) return { status, refused: 'not a regular file' };
    const bytes = status.size <= bytesMax ? readUpTo(descriptor, bytesMax) : undefined;
    return bytes ? { status, bytes } : { status, refused: `larger than ${bytesMax} bytes` };
  } finally {
    closeSync(descriptor);
  }
}

/** Everything in a file, undefined where that is more. The size that it is said to have is no bound: it grows, and in /proc it is 0. */
function readUpTo(descriptor: number, bytesMax: number): Buffer | undefined {
  const chunks: Buffer[] = [];
  let length = 0;
  while (length <= bytesMax) {
    const chunk = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, bytesMax + 1 - length));
    const read = readSync(descriptor, chunk);
    if (!read) return Buffer.concat(chunks, length);
    chunks.push(chunk.subarray(0, read));
    length += read;
  }
  return undefined;
}

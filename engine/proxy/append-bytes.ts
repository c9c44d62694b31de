/** Bytes that wait for more, in a buffer with room: the ones before are not copied for each one that comes. */

/** Up to where buffers are filled that append() made. */
const filled = new WeakMap<ArrayBufferLike, number>();
const LEAST = 1024;

/** Copies bytes behind others that append() or copyOf() gave, or anyone: returns both. */
export function append(before: Buffer, bytes: Buffer): Buffer {
  const { buffer, byteOffset, length } = before;
  const end = byteOffset + length;
  let grown: Buffer;
  if (filled.get(buffer) === end && buffer.byteLength - end >= bytes.length) {
    grown = Buffer.from(buffer, byteOffset, length + bytes.length);
  } else {
    grown = Buffer.from(new ArrayBuffer(Math.max(LEAST, 2 * (length + bytes.length))), 0, length + bytes.length);
    before.copy(grown, 0);
  }
  bytes.copy(grown, length);
  filled.set(grown.buffer, grown.byteOffset + grown.length);
  return grown;
}

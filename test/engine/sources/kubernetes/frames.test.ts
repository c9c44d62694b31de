/** Messages of a watch, however the network cuts them. */
import { expect, test } from 'vitest';
import { type Frames, LengthFrames, LineFrames } from '../../../../engine/sources/kubernetes/frames.ts';

const MESSAGES = ['a', 'bc', 'x'.repeat(3000), '{"d":"é"}', 'e'];
const withLength = (text: string): Buffer => {
  const body = Buffer.from(text);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(body.length);
  return Buffer.concat([length, body]);
};

function take(frames: Frames, bytes: Buffer, size: number): string[] {
  const taken: string[] = [];
  for (let at = 0; at < bytes.length; at += size)
    // The bytes of a chunk are used again by whoever gave it: a frame that kept them would change.
    frames.add(Buffer.from(bytes.subarray(at, at + size)), (frame) => taken.push(frame.toString()));
  return taken;
}

test.each([1, 2, 3, 4, 5, 7, 64, 1000, 1_000_000])('in chunks of %i bytes', (size) => {
  const byLength = new LengthFrames();
  expect(take(byLength, Buffer.concat(MESSAGES.map(withLength)), size)).toEqual(MESSAGES);
  expect(byLength.pendingBytes).toBe(0);
  const byLine = new LineFrames();
  expect(take(byLine, Buffer.from(`${MESSAGES.join('\n')}\n`), size)).toEqual(MESSAGES);
  expect(byLine.pendingBytes).toBe(0);
});

test('half a message waits, and is seen to be half', () => {
  const byLength = new LengthFrames();
  expect(take(byLength, withLength('abcdef').subarray(0, 7), 2)).toEqual([]);
  expect(byLength.pendingBytes).toBe(7);
  const byLine = new LineFrames();
  expect(take(byLine, Buffer.from('one\ntw'), 2)).toEqual(['one']);
  expect(byLine.pendingBytes).toBe(2);
});

test('an empty message is one by length, and none by line', () => {
  expect(take(new LengthFrames(), Buffer.concat([withLength(''), withLength('a')]), 3)).toEqual(['', 'a']);
  expect(take(new LineFrames(), Buffer.from('\n\na\n'), 3)).toEqual(['a']);
});

/** Every generated codec reads what it wrote, and writes every byte of its record. */
import { describe, expect, test } from 'vitest';
import * as abi from '../../engine/abi.gen.ts';

interface Codec {
  size: number;
  offsets: Record<string, number>;
  write(target: Buffer, at: number, value: unknown): void;
  read(source: Buffer, at: number): unknown;
}
const codecs = Object.entries(abi).filter((entry): entry is [string, never] => entry[0].endsWith('Codec')) as unknown as [string, Codec][];

describe.each(codecs)('%s', (_name, codec) => {
  test('reads what it wrote, from random bytes, at an offset', () => {
    let seed = 1;
    for (let round = 0; round < 50; round++) {
      const bytes = Buffer.alloc(codec.size);
      for (let i = 0; i < bytes.length; i++) bytes[i] = (seed = (seed * 48_271) % 0x7fffffff) & 0xff;
      const value = codec.read(bytes, 0);
      const written = Buffer.alloc(codec.size + 8, 0xee);
      codec.write(written, 4, value);
      expect(codec.read(written, 4)).toEqual(value);
      expect([...written.subarray(0, 4), ...written.subarray(codec.size + 4)]).toEqual(new Array(8).fill(0xee));
    }
  });

  test('refuses a record that is cut short', () => {
    expect(() => codec.read(Buffer.alloc(codec.size - 1), 0)).toThrow();
  });
});

test('ports are in network order in memory', () => {
  const bytes = Buffer.alloc(abi.connectionKeyCodec.size);
  abi.connectionKeyCodec.write(bytes, 0, { remote: new Uint8Array(16), endpoint: 1, remotePort: 0x1234, localPort: 80, protocol: 6 });
  expect(bytes.readUInt16BE(abi.connectionKeyCodec.offsets.remotePort)).toBe(0x1234);
});

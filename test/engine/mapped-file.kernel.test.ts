/** Memory that a file keeps: what was written is there again, and nobody who has a file mapped loses it. */
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, inject, test } from 'vitest';

describe.skipIf(inject('missing'))('mapFile()', async () => {
  const { mapFile } = await import('../../engine/kernel/mapped-file.ts');
  const directory = mkdtempSync(join(tmpdir(), 'sluice-mapped-'));
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  test('keeps what is written, in a file that nobody else may read', () => {
    const path = join(directory, 'folder', 'a.counters');
    const words = mapFile(path, 8192);
    words[2000] = 42;
    expect(readFileSync(path).readInt32LE(8000)).toBe(42);
    expect(statSync(path).mode & 0o077).toBe(0);
    expect(mapFile(path, 8192)).toBe(words);
  });

  test('makes a file of another size anew, and leaves the one before to those who have it', () => {
    const path = join(directory, 'b.counters');
    const large = mapFile(path, 1 << 20);
    large[200_000] = 7;
    const small = mapFile(path, 4096);
    expect(small.every((word) => word === 0)).toBe(true);
    expect(statSync(path).size).toBe(4096);
    // Would end this process if the file had been cut under it.
    large[250_000] = 8;
    expect([large[200_000], large[250_000]]).toEqual([7, 8]);
  });

  test('takes up what an earlier process left', () => {
    const path = join(directory, 'c.counters');
    const left = Buffer.alloc(4096);
    left.writeInt32LE(99, 16);
    writeFileSync(path, left);
    expect(mapFile(path, 4096)[4]).toBe(99);
  });

  test('says what it cannot map', () => {
    writeFileSync(join(directory, 'file'), '');
    expect(() => mapFile(join(directory, 'file', 'd.counters'), 4096)).toThrow();
  });
});

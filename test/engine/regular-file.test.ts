/** Reading a file that somebody else has named: what is read, what is refused, and that nothing is waited for. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readRegularFile } from '../../engine/regular-file.ts';

describe('readRegularFile()', () => {
  let directory: string;
  let server: Server | undefined;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-file-'));
  });
  afterEach(() => {
    server?.close();
    rmSync(directory, { recursive: true });
  });
  const written = (bytes: Buffer): string => {
    const file = join(directory, 'file');
    writeFileSync(file, bytes);
    return file;
  };

  test.each([0, 1, 65_535, 65_536, 65_537, 200_000])('reads all of %d bytes where as many are allowed, and refuses one more', (size) => {
    const bytes = Buffer.from(Array.from({ length: size }, (_, i) => i % 251));
    const file = written(bytes);
    const { status, ...read } = readRegularFile(file, size);
    expect(read).toEqual({ bytes });
    expect(status.size).toBe(size);
    if (size) expect(readRegularFile(file, size - 1)).toMatchObject({ refused: `larger than ${size - 1} bytes` });
  });

  test('the bound holds for a file that says nothing of its size', () => {
    const file = '/proc/cpuinfo';
    const { length } = readFileSync(file);
    expect(length).toBeGreaterThan(100);
    expect(readRegularFile(file, 100)).toMatchObject({ status: { size: 0 }, refused: 'larger than 100 bytes' });
    expect(readRegularFile('/proc/version', 4096).bytes).toEqual(readFileSync('/proc/version'));
  });

  test.each([
    { name: 'a directory', make: () => '.' },
    { name: 'a device', make: () => '/dev/zero' },
    {
      name: 'a link to a device',
      make: (path: string) => {
        symlinkSync('/dev/zero', path);
        return path;
      },
    },
    {
      name: 'a pipe without a writer',
      make: (path: string) => {
        execFileSync('mkfifo', [path]);
        return path;
      },
    },
  ])('refuses $name', ({ make }) => {
    expect(readRegularFile(make(join(directory, 'none')), 100)).toMatchObject({ refused: 'not a regular file' });
  });

  test('opens nothing but a regular file: a socket, which cannot be opened, is refused as any other', async () => {
    const path = join(directory, 'socket');
    await new Promise<void>((resolve) => {
      server = createServer().listen(path, resolve);
    });
    expect(readRegularFile(path, 100)).toMatchObject({ refused: 'not a regular file' });
  });

  test('throws what the system says of a file that is not there', () => {
    expect(() => readRegularFile(join(directory, 'none'), 100)).toThrow(/ENOENT/);
  });
});

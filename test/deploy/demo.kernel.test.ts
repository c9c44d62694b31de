/** The demo says what it does, measures what it shows, and takes everything away. */
import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { stripVTControlCharacters } from 'node:util';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';

const NAME = `demo-${process.pid}`;
const NETNS = `sluicetest-${NAME}`;

describe.skipIf(inject('missing'))('demo', () => {
  beforeAll(() => {
    execFileSync('ip', ['netns', 'add', NETNS]);
    execFileSync('ip', ['-n', NETNS, 'link', 'set', 'lo', 'up']);
  });
  afterAll(() => {
    execFileSync('ip', ['netns', 'delete', NETNS]);
  });

  /** The cells of the rows of each table, by pod. */
  function tables(text: string): Record<string, string[]>[] {
    return text
      .split('┌')
      .slice(1)
      .map((table) =>
        Object.fromEntries(
          [...table.matchAll(/^│ (frontend|backend|stranger) +│(.*)│$/gm)].map(([, pod, cells]) => [
            pod,
            (cells as string).split('│').map((cell) => cell.trim()),
          ]),
        ),
      );
  }

  function demo(): Promise<{ code: number; text: string }> {
    return new Promise((resolve) => {
      execFile(
        'nsenter',
        [`--net=/run/netns/${NETNS}`, '--', process.execPath, 'deploy/demo/demo.ts', '--name', NAME],
        (error, stdout, stderr) => resolve({ code: error ? 1 : 0, text: stripVTControlCharacters(stdout + stderr) }),
      );
    });
  }

  test('begins nothing where another engine would answer for its own', async () => {
    const script = "require('net').createServer().listen(9470, '127.0.0.1', () => console.log('listens'))";
    const other = spawn('nsenter', [`--net=/run/netns/${NETNS}`, '--', process.execPath, '-e', script]);
    try {
      await once(other.stdout, 'data');
      const { code, text } = await demo();
      expect(text).toContain('somebody listens on 127.0.0.1:9470 already, another engine or demo');
      expect(code).toBe(1);
      expect(readdirSync('/run/netns').filter((name) => name.includes(NAME) && name !== NETNS)).toEqual([]);
    } finally {
      other.kill();
      await once(other, 'exit');
    }
  });

  test('runs to its end', async () => {
    const { code, text } = await demo();
    expect(code, text).toBe(0);
    const [open, policy, plugin, swapped] = tables(text);
    // Columns: frontend, backend, stranger, each on 80 and 8080.
    expect(open).toMatchObject({ frontend: ['·', '·', '✔', '✔', '✔', '✔'], stranger: ['✔', '✔', '✔', '✔', '·', '·'] });
    expect(policy).toMatchObject({ frontend: ['·', '·', '✔', '✘', '✔', '✔'], stranger: ['✔', '✔', '✘', '✘', '·', '·'] });
    expect(plugin).toMatchObject({ frontend: ['·', '·', '✔', '✘', '✘', '✘'] });
    expect(swapped).toMatchObject({ frontend: ['·', '·', '✔', '✘', '✔', '✔'] });
    expect(text).toContain('destination is not listed');
    expect(text).toContain('too many new connections');
    expect(text).toMatch(/before the swap \d+ requests were answered and 0 not/);
    expect(text.trim().split('\n').at(-1)).toContain('The API was at http://127.0.0.1:9470');
    expect(existsSync(`/sys/fs/bpf/sluice-${NAME}`)).toBe(false);
    expect(readdirSync('/run/netns').filter((name) => name.includes(NAME) && name !== NETNS)).toEqual([]);
  });
});

/** The command line as a user meets it: help, exit codes, and one clear sentence for each thing that is missing. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, inject, test } from 'vitest';

const cli = fileURLToPath(new URL('../../engine/cli/sluice.js', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'sluice-cli-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function sluice(...args: string[]): { code: number | null; text: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...args], { encoding: 'utf8', timeout: 15_000 });
  return { code: status, text: stdout + stderr };
}

describe.skipIf(inject('missing'))('sluice', () => {
  test.each([
    { name: 'no command', args: [], code: 2, text: 'Say what to do' },
    { name: 'an unknown command', args: ['nonsense'], code: 2, text: 'Unknown' },
    { name: 'an unknown flag', args: ['status', '--frob'], code: 2, text: 'Unknown argument: frob' },
    { name: 'no source', args: ['run'], code: 2, text: 'Missing required argument: source' },
    { name: 'a source that is none', args: ['run', '--source', 'ftp:x'], code: 2, text: 'Cannot use --source ftp:x: must be dir:PATH' },
    {
      name: 'a directory that does not exist',
      args: ['run', '--source', 'dir:/nowhere'],
      code: 1,
      text: 'Cannot read policy from /nowhere: no such directory',
    },
    {
      name: 'an API for everybody',
      args: ['run', '--source', 'dir:.', '--api', '0.0.0.0:9470'],
      code: 2,
      text: 'whoever reaches it could push plugins; give tokens or clients in the access section of --config',
    },
    {
      name: 'a node’s name that is none',
      args: ['run', '--source', 'dir:.', '--node-name', 'a b'],
      code: 2,
      text: 'Cannot use --node-name a b: must be the name of a Node',
    },
    { name: 'a resolver by name', args: ['run', '--source', 'dir:.', '--resolver', 'dns.local'], code: 2, text: 'must be an IP address' },
    {
      name: 'a DNS setting that is none',
      args: ['run', '--source', 'dir:.', '--dns', 'ttl=3'],
      code: 2,
      text: 'must be minimum-ttl= with',
    },
    { name: 'a refusal that is none', args: ['run', '--source', 'dir:.', '--dns', 'refusal=no'], code: 2, text: 'refusal=refused or' },
    {
      name: 'a cgroup root that is no path below the mount',
      args: ['run', '--source', 'dir:.', '--cgroup-root', 'node-1'],
      code: 2,
      text: 'Cannot use --cgroup-root node-1: must be a path below the cgroup2 mount, such as / or /node-1',
    },
    {
      name: 'a cgroup root that is not there',
      args: [
        'run',
        '--source',
        `dir:${directory}`,
        '--bpffs',
        '/sys/fs/bpf/sluice-test-cli',
        '--api',
        '127.0.0.1:0',
        '--cgroup-root',
        '/nowhere',
      ],
      code: 2,
      text: 'Cannot use --cgroup-root /nowhere: no such cgroup in the unified hierarchy',
    },
    {
      name: 'results of CNI that are no place',
      args: ['run', '--source', 'dir:.', '--cni-results', 'results'],
      code: 2,
      text: 'Cannot use --cni-results results: must be an absolute path, such as /var/lib/cni/results',
    },
    {
      name: 'a number of flows that is none',
      args: ['flows', '--last', 'x'],
      code: 2,
      text: 'Cannot use --last x: must be a whole number',
    },
    { name: 'a port that is none', args: ['status', '--api', 'localhost:99999'], code: 2, text: 'must be HOST:PORT' },
    {
      name: 'a bpffs that is none',
      args: ['run', '--source', `dir:${directory}`, '--bpffs', '/tmp/sluice', '--api', '127.0.0.1:0'],
      code: 1,
      text: '/tmp is not on a BPF file system; mount one with: mount -t bpf bpf /sys/fs/bpf',
    },
    {
      name: 'an engine that does not run',
      args: ['status', '--api', '127.0.0.1:59470'],
      code: 1,
      text: 'Cannot reach http://127.0.0.1:59470: ECONNREFUSED',
    },
    {
      name: 'a wait that is over',
      args: ['wait', '--timeout', '300ms', '--api', '127.0.0.1:59470'],
      code: 1,
      text: 'Cannot put everything in force within 300ms',
    },
    { name: 'a duration that is none', args: ['wait', '--timeout', 'soon'], code: 2, text: 'must be a duration such as 30s' },
    {
      name: 'a lab that is not up',
      args: ['lab', 'exec', 'x', '--name', 'none-such', '--', 'true'],
      code: 1,
      text: 'Cannot find lab none-such',
    },
    { name: 'a lab without pods', args: ['lab', 'up', 'deploy/demo/policy.yaml', '--name', 'no-pods'], code: 1, text: 'no Pod in' },
    { name: 'nothing to run in a pod', args: ['lab', 'exec', 'x'], code: 2, text: 'write the command after --' },
    {
      name: 'a plugin without source',
      args: ['plugin', 'build', directory],
      code: 1,
      text: 'it has neither index.ts nor plugin.wat; sluice plugin new makes one',
    },
    {
      name: 'flows before the plugin’s folder',
      args: ['plugin', 'test', '--flows', '/nowhere.ndjson', directory],
      code: 1,
      text: 'Cannot read /nowhere.ndjson',
    },
    {
      name: 'a module that is not there',
      args: ['plugin', 'push', 'p', '/nowhere.wasm'],
      code: 1,
      text: 'Cannot read /nowhere.wasm: ENOENT',
    },
  ])('$name: exit $code and a sentence', ({ args, code, text }) => {
    const ran = sluice(...args);
    expect(ran.text).toContain(text);
    expect(ran.code).toBe(code);
    expect(ran.text).not.toMatch(/^\s+at /m);
  });

  test('an engine whose API has no place says so and ends', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const bpffs = `/sys/fs/bpf/sluice-test-cli-${process.pid}`;
    try {
      const api = `127.0.0.1:${(taken.address() as AddressInfo).port}`;
      const { code, text } = sluice('run', '--source', `dir:${directory}`, '--bpffs', bpffs, '--state-dir', directory, '--api', api);
      expect(text).toContain(`Cannot listen on ${api}: the address is in use`);
      expect(code).toBe(1);
    } finally {
      taken.close();
      expect(sluice('cleanup', '--bpffs', bpffs).code).toBe(0);
    }
  });

  test('says so when it is not root', () => {
    // Nobody, who may read this checkout wherever it lies.
    const nobody = [
      '--reuid',
      '65534',
      '--regid',
      '65534',
      '--clear-groups',
      '--inh-caps',
      '+dac_read_search',
      '--ambient-caps',
      '+dac_read_search',
    ];
    const { status, stderr } = spawnSync('setpriv', [...nobody, process.execPath, cli, 'run', '--source', 'dir:/tmp'], {
      encoding: 'utf8',
    });
    expect(stderr).toMatch(/not root; run it with sudo \[NOT_ROOT\]/);
    expect(status).toBe(1);
  });

  /** The commands that the help of a command names: those below it, and itself where there are none. */
  function commandsBelow(...path: string[]): string[][] {
    const { text } = sluice(...path, '--help');
    const below = [...text.matchAll(new RegExp(`^  ${['sluice', ...path].join(' ')} (\\w+)`, 'gm'))].map(([, name = '']) => name);
    return below.length ? below.flatMap((name) => (name === 'completion' ? [] : commandsBelow(...path, name))) : [path];
  }

  test('every command has help with an example, says a flag once, and shells complete it', { timeout: 120_000 }, () => {
    const commands = commandsBelow();
    expect(commands.length).toBeGreaterThan(20);
    for (const command of commands) {
      const { code, text } = sluice(...command, '--help');
      const [options = ''] = text.split('Examples:').slice(0, 1);
      expect(code, command.join(' ')).toBe(0);
      expect(text, command.join(' ')).toContain('Examples:');
      expect(options, command.join(' ')).not.toMatch(/-(\w), -\1,|"(\w+)"(, "\w+")*, "\2"/);
      for (const [, flag, described] of options.matchAll(/^ +(?:-\w, )*--([\w-]+)(.*)$/gm))
        expect(described?.trim(), `${command.join(' ')} --${flag}`).toMatch(/^[^[]/);
    }
    expect(sluice('completion').text).toContain('###-begin-sluice-completions-###');
    expect(sluice('--get-yargs-completions', 'sluice', 'pl').text).toContain('plugin');
  });
});

/** The author's loop without an engine: new, build, test, bench, sign; as a user types them. */
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { FIELD_NAMES } from '../../../engine/plugin-runtime/fields.ts';
import { buildPlugin, Compiler } from '../../../engine/plugin-tools/build-plugin.ts';
import { CaseRunner } from '../../../engine/plugin-tools/case-runner.ts';
import { readCases } from '../../../engine/plugin-tools/cases.ts';
import { newPlugin } from '../../../engine/plugin-tools/new-plugin.ts';
import { customSection, parseModule } from '../../../engine/plugins/wasm/module.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const cli = join(root, 'engine/cli/sluice.js');
const directory = mkdtempSync(join(tmpdir(), 'sluice-author-'));
/** Warm: most of a compiler's time is its start. */
const compiler = new Compiler();
afterAll(() => {
  compiler.close();
  rmSync(directory, { recursive: true, force: true });
});

interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function sluice(...args: string[]): Promise<Ran> {
  return new Promise((resolve) =>
    execFile(process.execPath, [cli, ...args], { cwd: root }, (error, stdout, stderr) =>
      resolve({ code: error ? Number(error.code) : 0, stdout, stderr }),
    ),
  );
}

const examples = readdirSync(join(root, 'plugins')).filter((name) => existsSync(join(root, 'plugins', name, 'cases.yaml')));

test('there are five examples with a page each, and one written by hand', () => {
  expect(examples.sort()).toEqual([
    'by-hand',
    'canary',
    'connection-rate',
    'domain-rules',
    'egress-allow-list',
    'generated-names',
    'port-scan',
  ]);
  for (const name of examples) expect(readFileSync(join(root, 'plugins', name, 'README.md'), 'utf8').split('\n').length).toBeLessThan(60);
});

test.each([
  ...examples.map((name) => `plugins/${name}`),
  'test/fixtures/name-reader',
  'test/fixtures/answer-reader',
  'test/fixtures/owner-reader',
])(
  '%s says what its cases expect',
  async (name) => {
    const folder = join(root, name);
    const { path } = await buildPlugin(folder, join(directory, `${basename(name)}.wasm`), compiler);
    const cases = readCases(folder);
    const runner = await CaseRunner.create(readFileSync(path), cases);
    expect(cases.cases.map((one) => runner.run(one)).filter(({ differences }) => differences.length)).toEqual([]);
  },
  30_000,
);

/** A plugin whose source is given; returns its folder. */
let count = 0;
function write(source: string, cases = 'cases: []\n'): string {
  count += 1;
  const folder = join(directory, `p${count}`);
  newPlugin(folder);
  writeFileSync(join(folder, 'index.ts'), source);
  writeFileSync(join(folder, 'cases.yaml'), cases);
  return folder;
}

const policy = (body: string, more = ''): string =>
  `import { allow, clock, Connection, Counters, deny, HttpRequest, key, Policy, route, Verdict } from '@sluice/plugin-sdk';
${more}
@policy({ name: 'p', version: '1.2.3' })
export class P extends Policy {
  @on('connect') onConnect(connection: Connection): Verdict { ${body} }
}
`;

/** The compiler's words about a plugin that it refuses. */
async function refusal(folder: string): Promise<string> {
  const result = await buildPlugin(folder, undefined, compiler).catch((error: Error & { code: string }) => error);
  expect(result).toMatchObject({ code: 'PLUGIN_BUILD' });
  return (result as Error).message;
}

const manifestOf = (folder: string, name: string): Record<string, unknown> => {
  const view = parseModule(readFileSync(join(folder, 'build', `${name}.wasm`)));
  return JSON.parse(Buffer.from(customSection(view, 'sluice.manifest') ?? []).toString());
};

describe('sluice plugin', () => {
  test('new makes a plugin whose cases pass, and never overwrites one', async () => {
    const folder = join(directory, 'my-policy');
    const made = await sluice('plugin', 'new', folder);
    expect(made.stdout).toContain('next: sluice plugin test');
    const tested = await sluice('plugin', 'test', folder);
    expect(tested.stdout).toContain('2 of 2 cases as expected');
    expect(tested.code).toBe(0);
    expect((await sluice('plugin', 'new', folder)).stderr).toContain('it exists already');
    expect((await sluice('plugin', 'new', join(directory, 'Upper_Case'))).stderr).toContain('lower-case letters');
    // Names that the SDK has as well.
    for (const name of ['policy', 'connection', 'verdict']) {
      newPlugin(join(directory, name));
      await buildPlugin(join(directory, name), undefined, compiler);
    }
  }, 60_000);

  test('test shows what differs with file and line, and exits with 1', async () => {
    const folder = write(
      policy('return connection.port == 80 ? allow().perIdentity(1000) : deny("only 80");'),
      'cases:\n  - name: fine\n    flow: { to: { port: 80 } }\n    expect: { verdict: allow, scope: identity }\n  - name: wrong\n    flow: { to: { port: 81 } }\n    expect: { verdict: allow, reason: none }\n',
    );
    const { code, stdout } = await sluice('plugin', 'test', folder);
    expect(code).toBe(1);
    expect(stdout).toContain('✓ fine');
    expect(stdout).toMatch(
      /✗ wrong .*\n\s+\S+cases\.yaml:5\n\s+verdict\n\s+- allow\n\s+\+ deny: only 80\n\s+reason\n\s+- none\n\s+\+ only 80/,
    );
    const json = JSON.parse((await sluice('plugin', 'test', folder, '-o', 'json')).stdout) as { line: number; differences: unknown[] }[];
    expect(json.map(({ line, differences }) => [line, differences.length])).toEqual([
      [2, 0],
      [5, 2],
    ]);
  }, 30_000);

  test('test names the author’s line where the plugin trapped', async () => {
    const folder = write(
      policy(
        'return boom(connection.port);',
        'function boom(port: i32): Verdict {\n  if (port == 80) throw new Error("no such thing");\n  return allow();\n}\n',
      ),
      'cases:\n  - name: traps\n    expect: { trap: "no such thing (at index.ts:3:" }\n',
    );
    const { code, stdout } = await sluice('plugin', 'test', folder);
    expect(stdout).toContain('1 of 1 cases as expected');
    expect(code).toBe(0);
  }, 30_000);

  test.each([
    { what: 'a key that no case has', cases: 'cases:\n  - name: x\n    expects: {}\n', reason: /cases\.yaml:2: .*expects/ },
    {
      what: 'an address that is none',
      cases: 'cases:\n  - name: x\n    flow: { to: { address: 1.2.3 } }\n    expect: {}\n',
      reason: /cases\.yaml:2: .*"1.2.3" is not an address/,
    },
    { what: 'damaged YAML', cases: 'cases:\n - {\n', reason: /cases\.yaml:\d/ },
    { what: 'nothing at all', cases: 'cases: []\n', reason: /it has no cases; write some into/ },
  ])(
    'test refuses $what',
    async ({ cases, reason }) => {
      const { code, stderr } = await sluice('plugin', 'test', write(policy('return allow();'), cases));
      expect(stderr).toMatch(reason);
      expect(code).toBe(1);
    },
    30_000,
  );

  test('build writes what the plugin reads into its manifest: no more, no less', async () => {
    const source = policy(
      'if (seen.add(key().address(connection.source.address)) > 3) return deny("often"); return helper(connection);',
      `const seen = new Counters('seen', 64);
function helper(connection: Connection): Verdict { return connection.destination.label('app').equals('x') ? allow() : deny('other'); }
export function unused(request: HttpRequest): Verdict { return request.path.isEmpty ? route('nowhere') : allow(); }`.replace('export ', ''),
    );
    const folder = write(source);
    expect((await buildPlugin(folder, undefined, compiler)).messages).toBe('');
    expect(manifestOf(folder, `p${count}`)).toMatchObject({
      abi: 1,
      name: 'p',
      version: '1.2.3',
      hooks: ['connect'],
      fields: ['destination-labels', 'source-address'],
      capabilities: ['counters'],
      tables: [{ name: 'seen', slots: 64 }],
      reasons: expect.arrayContaining(['often', 'other']),
    });
  }, 30_000);

  test('build knows every accessor of the SDK: what a plugin uses of it, the host fills in', async () => {
    const party = (side: string): string =>
      `n += f.${side}.identity + f.${side}.namespace.length + f.${side}.label('a').length + f.${side}.pod.length + <i32>f.${side}.address.byte(0);`;
    const folder =
      write(`import { allow, clock, Connection, Counters, deny, DnsAnswer, Flow, HostSet, HttpRequest, key, nxdomain, Policy, route, TlsHello, Verdict } from '@sluice/plugin-sdk';
const table = new Counters('table', 8);
const names = new HostSet('names');
function count(f: Flow): i32 {
  let n: i32 = 0;
  ${party('source')} ${party('destination')}
  n += f.source.serviceAccount.length + f.destination.service.length;
  return n + f.port + f.sourcePort + f.protocol + <i32>f.isEgress + <i32>f.timeMs + <i32>f.isEstablished + <i32>f.id + <i32>f.tag;
}
@policy({ name: 'everything', version: '1.0.0' })
export class Everything extends Policy {
  @on('connect') onConnect(c: Connection): Verdict { return table.add(key().number(count(c))) + clock.weekday() ? allow() : deny('c'); }
  @on('dns') onQuery(q: DnsAnswer): Verdict { return names.hasText(q.name) && q.type == 1 && q.ttlSeconds && q.addresses.length ? allow().atMost(1000) : nxdomain('d'); }
  @on('tls') onHello(h: TlsHello): Verdict { return h.serverName.isEmpty && h.isEncrypted && h.applicationProtocols.isEmpty && h.destinationName.isEmpty ? allow() : deny('t'); }
  @on('http') onRequest(r: HttpRequest): Verdict {
    return r.method.length + r.host.length + r.path.length + r.query.length + r.header('x-a').length + r.cookie('b').length ? route('x') : deny('h');
  }
}
`);
    expect((await buildPlugin(folder, undefined, compiler)).messages).toBe('');
    const manifest = manifestOf(folder, `p${count}`) as { fields: string[] };
    expect([...manifest.fields].sort()).toEqual([...FIELD_NAMES].sort());
    expect(manifest).toMatchObject({
      hooks: ['connect', 'dns', 'tls', 'http'],
      headers: ['x-a'],
      cookies: ['b'],
      capabilities: ['counters', 'sets', 'clock'],
      tables: [{ name: 'table', slots: 8 }],
      sets: ['names'],
      routes: ['x'],
    });
  }, 30_000);

  test.each([
    { what: 'console.log', body: 'console.log("x"); return allow();', hint: 'console.log is not there: use log() of the SDK' },
    {
      what: 'Date.now',
      body: 'return Date.now() > 0 ? allow() : allow();',
      hint: 'use clock.unixMs() of the SDK and grant capability clock',
    },
    { what: 'Math.random', body: 'return Math.random() > 0 ? allow() : allow();', hint: 'a verdict must follow from its inputs' },
    { what: 'a type error', body: 'return 1;', hint: "Type 'i32' is not assignable to type" },
  ])(
    'build refuses $what with file, line, its text and a hint',
    async ({ body, hint }) => {
      const stderr = await refusal(write(policy(body)));
      expect(stderr).toContain(hint);
      expect(stderr).toMatch(/index\.ts\(5,\d+\)/);
      expect(stderr).toContain('onConnect(connection: Connection)');
    },
    30_000,
  );

  test.each([
    {
      what: 'a header whose name is not a literal',
      source: (n: string) =>
        `import { allow, HttpRequest, Policy, Verdict } from '@sluice/plugin-sdk';\n@policy({ name: '${n}', version: '1' })\nexport class P extends Policy {\n  @on('http') onRequest(r: HttpRequest): Verdict { const name = 'x'; return r.header(name).isEmpty ? allow() : allow(); }\n}\n`,
      hint: 'the name of a header must be a literal',
    },
    { what: 'no policy', source: () => `import { allow } from '@sluice/plugin-sdk';\nallow();\n`, hint: 'no class has @policy' },
    {
      what: 'no hook',
      source: () =>
        `import { Policy } from '@sluice/plugin-sdk';\n@policy({ name: 'p', version: '1' })\nexport class P extends Policy {}\n`,
      hint: 'no method says which hook it answers',
    },
    {
      what: 'a hook that does not exist',
      source: () =>
        `import { allow, Connection, Policy, Verdict } from '@sluice/plugin-sdk';\n@policy({ name: 'p', version: '1' })\nexport class P extends Policy {\n  @on('smtp') onMail(c: Connection): Verdict { return allow(); }\n}\n`,
      hint: 'write @on with one of "connect", "dns", "tls", "http"',
    },
  ])(
    'build refuses $what',
    async ({ source, hint }) => {
      expect(await refusal(write(source('p')))).toContain(hint);
    },
    30_000,
  );

  test('bench says what an evaluation takes, and that memory stays as it is', async () => {
    const { stdout } = await sluice('plugin', 'bench', 'plugins/canary', '--evaluations', '20000', '-o', 'json');
    const results = JSON.parse(stdout) as { p50Ns: number; fuel: number; memoryBytes: [number, number] }[];
    expect(results.length).toBe(8);
    for (const { p50Ns, fuel, memoryBytes } of results) {
      expect(p50Ns).toBeGreaterThan(0);
      expect(fuel).toBeGreaterThan(100);
      expect(memoryBytes[0]).toBe(memoryBytes[1]);
    }
  }, 30_000);

  test('keygen and sign: the module is signed in place, and the key stays private', async () => {
    const folder = join(directory, 'my-policy');
    await sluice('plugin', 'build', folder);
    const keyFile = join(directory, 'release.pem');
    const made = await sluice('plugin', 'keygen', keyFile);
    const [, id] = /key ([0-9a-f]{16})/.exec(made.stdout) ?? [];
    expect(statSync(keyFile).mode & 0o777).toBe(0o600);
    expect((await sluice('plugin', 'keygen', keyFile)).stderr).toContain('it exists already');
    expect((await sluice('plugin', 'sign', folder, '--key', keyFile)).stdout).toContain(`is signed by key ${id}`);
    expect(parseModule(readFileSync(join(folder, 'build/my-policy.wasm'))).sections[0]?.name).toBe('signature');
    expect((await sluice('plugin', 'sign', folder, '--key', `${keyFile}.pub`)).stderr).toContain('Cannot read private key');
    expect((await sluice('plugin', 'sign', cli, '--key', keyFile)).stderr).toContain('not a WebAssembly module');
  }, 30_000);
});

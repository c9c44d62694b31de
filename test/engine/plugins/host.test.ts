/** Modules that must be refused, and instances that must not harm: the sandbox without a kernel. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PluginField, Scope, Verdict } from '../../../engine/abi.gen.ts';
import { buildPlugin } from '../../../engine/author/build-plugin.ts';
import { auditModule } from '../../../engine/plugins/audit.ts';
import { type ConnectQuestion, PluginInstance } from '../../../engine/plugins/instance.ts';
import { decodeVerdict } from '../../../engine/plugins/verdict-word.ts';

const directory = mkdtempSync(join(tmpdir(), 'sluice-plugins-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const modules = new Map<string, Buffer>();
beforeAll(async () => {
  for (const source of ['plugins/egress-allow-list', 'plugins/connection-rate', 'test/fixtures/misbehaving'])
    modules.set(source, readFileSync((await buildPlugin(source, join(directory, `${modules.size}.wasm`))).path));
}, 60_000);

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const question = (fields: Partial<ConnectQuestion> = {}): ConnectQuestion => ({
  addresses: new Uint8Array(32),
  sourceIdentity: 300,
  destinationIdentity: 301,
  sourcePort: 40_000,
  destinationPort: 80,
  protocol: 6,
  direction: 1,
  rule: 9,
  established: false,
  timeMs: 1000,
  source: { namespace: bytes('shop'), labels: bytes('app=frontend') },
  destination: { namespace: bytes('shop'), labels: bytes('tier=x\napp=backend\nlast=') },
  sourcePod: bytes('frontend'),
  destinationPod: undefined,
  ...fields,
});

/** A module from sections: [id, ...body]. */
function wasm(...sections: readonly number[][]): Uint8Array {
  return Uint8Array.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, ...sections.flatMap(([id, ...body]) => [id as number, body.length, ...body])]);
}
const name = (text: string): number[] => [text.length, ...bytes(text)];
const TYPE = [1, 1, 0x60, 0, 0];
const FUNCTION = [3, 1, 0];
const CODE = [10, 1, 2, 0, 0x0b];

describe('auditModule()', () => {
  test.each([
    { what: 'text', module: bytes('not wasm'), reason: 'not a WebAssembly module' },
    { what: 'nothing', module: new Uint8Array(), reason: 'not a WebAssembly module' },
    { what: 'a component', module: Uint8Array.from([0, 0x61, 0x73, 0x6d, 0x0d, 0, 1, 0]), reason: 'not a WebAssembly module of version 1' },
    { what: 'a section beyond the end', module: Uint8Array.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 100]), reason: 'truncated' },
    {
      what: 'a size that never ends',
      module: Uint8Array.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]),
      reason: 'longer than 32 bits',
    },
    { what: 'a module that is too large', module: new Uint8Array(5 * 1024 * 1024), reason: 'at most' },
    { what: 'a start section', module: wasm(TYPE, FUNCTION, [5, 1, 1, 1, 1], [8, 0], CODE), reason: 'start section' },
    { what: 'no memory', module: wasm(TYPE, FUNCTION, CODE), reason: 'no memory' },
    { what: 'a memory without a maximum', module: wasm(TYPE, FUNCTION, [5, 1, 0, 1], CODE), reason: 'no maximum' },
    { what: 'a memory with too large a maximum', module: wasm(TYPE, FUNCTION, [5, 1, 1, 1, 65], CODE), reason: 'may grow to 65 pages' },
    {
      what: 'an import of eval',
      module: wasm(TYPE, [2, 1, ...name('env'), ...name('eval'), 0, 0], [5, 1, 1, 1, 1]),
      reason: 'imports function env.eval',
    },
    {
      what: 'an import called constructor',
      module: wasm(TYPE, [2, 1, ...name('constructor'), ...name('constructor'), 0, 0], [5, 1, 1, 1, 1]),
      reason: 'constructor.constructor',
    },
    {
      what: 'an import called __proto__',
      module: wasm(TYPE, [2, 1, ...name('__proto__'), ...name('abort'), 0, 0], [5, 1, 1, 1, 1]),
      reason: '__proto__.abort',
    },
    {
      what: 'a module that is no plugin',
      module: wasm(TYPE, FUNCTION, [5, 1, 1, 1, 1], CODE),
      reason: 'does not export function sluice_abi_v1',
    },
  ])('refuses $what', async ({ module, reason }) => {
    await expect(auditModule(module, 64)).rejects.toThrow(reason);
  });

  test('neither crashes nor hangs on damaged modules, and refuses or compiles each', async () => {
    const good = modules.get('plugins/connection-rate') as Buffer;
    let seed = 7;
    for (let i = 0; i < 300; i++) {
      const damaged = Uint8Array.from(good);
      for (let n = 0; n < 4; n++) damaged[(seed = (seed * 48_271) % 0x7fffffff) % damaged.length] = seed & 0xff;
      const cut = i % 3 ? damaged : damaged.subarray(0, seed % damaged.length);
      const result = await auditModule(cut, 64).catch((error: Error & { code?: string }) => error.code);
      expect(result === 'PLUGIN_INVALID' || result instanceof WebAssembly.Module, `seed 7, module ${i}`).toBe(true);
    }
  });
});

describe('PluginInstance', () => {
  const start = async (source: string, config = ''): Promise<PluginInstance> =>
    new PluginInstance(await auditModule(modules.get(source) as Buffer, 64), config);

  test('the allow-list allows what is listed by label and port, for the identity, and denies the rest with a reason', async () => {
    const plugin = await start('plugins/egress-allow-list', 'ttlSeconds = 5\nallow.0.label = app=backend\nallow.0.port = 80\n');
    expect(decodeVerdict(plugin.evaluateConnect(question()))).toEqual({
      verdict: Verdict.ALLOW,
      scope: Scope.IDENTITY,
      ttlMs: expect.closeTo(5000, -2),
    });
    expect(plugin.fieldsRead).toBe(PluginField.IDENTITY);
    for (const other of [
      question({ destinationPort: 81 }),
      question({ destination: undefined }),
      question({ destination: { namespace: bytes('shop'), labels: bytes('app=backen\nxapp=backend') } }),
    ]) {
      expect(decodeVerdict(plugin.evaluateConnect(other))?.verdict).toBe(Verdict.DENY);
      expect(plugin.message).toBe('destination is not listed');
    }
  });

  test('refuses a configuration with the reason that the plugin gives', async () => {
    await expect(start('plugins/egress-allow-list', 'allow.0.label = nonsense\n')).rejects.toThrow('allow.0.label must be key=value');
    await expect(start('plugins/connection-rate', 'perSecond = many\n')).rejects.toThrow('perSecond must be a number, not "many"');
    await expect(start('plugins/connection-rate', `x = ${'y'.repeat(20_000)}\n`)).rejects.toThrow('it takes 16384');
  });

  test('the rate limit lets a burst through, then as many as it gives back, for each source alone', async () => {
    const plugin = await start('plugins/connection-rate', 'perSecond = 2\nburst = 3\n');
    const from = (last: number): Uint8Array => Uint8Array.from([...new Array(15).fill(0), last, ...new Array(16).fill(1)]);
    const allowed = (last: number, timeMs: number): boolean =>
      decodeVerdict(plugin.evaluateConnect(question({ addresses: from(last), timeMs })))?.verdict === Verdict.ALLOW;
    expect([1, 2, 3, 4].map(() => allowed(1, 1000))).toEqual([true, true, true, false]);
    expect(allowed(2, 1000)).toBe(true);
    expect(allowed(1, 1499)).toBe(false);
    expect(allowed(1, 1500)).toBe(true);
    expect(allowed(1, 1500)).toBe(false);
    expect(plugin.fieldsRead & PluginField.MOMENT).toBeTruthy();
  });

  test('evaluates a million times in the memory that it started with', async () => {
    const plugin = await start('plugins/connection-rate', 'perSecond = 1\nburst = 1\n');
    const asked = question();
    const before = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < 1_000_000; i++) plugin.evaluateConnect(asked);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1 << 20);
  });

  test.each([
    { what: 'a trap', port: 7001, reason: 'unreachable' },
    { what: 'memory that grows without bound', port: 7003, reason: 'unreachable' },
    { what: 'an error that it throws', port: 7005, reason: 'thrown on purpose' },
  ])('turns $what into a PluginTrap', async ({ port, reason }) => {
    const plugin = await start('test/fixtures/misbehaving');
    expect(() => plugin.evaluateConnect(question({ destinationPort: port }))).toThrow(reason);
  });

  test('shows no control characters of a message, and no more of it than fits', async () => {
    const plugin = await start('test/fixtures/misbehaving');
    plugin.evaluateConnect(question({ destinationPort: 7006 }));
    expect(plugin.message).toMatch(/^\?\[31mred\?x+$/);
    expect(plugin.message.length).toBeLessThan(300);
  });

  test('does not know a word of nonsense', async () => {
    const plugin = await start('test/fixtures/misbehaving');
    expect(decodeVerdict(plugin.evaluateConnect(question({ destinationPort: 7004 })))).toBeUndefined();
  });

  test('refuses a question that does not fit rather than cut it', async () => {
    const plugin = await start('test/fixtures/misbehaving');
    const long = { namespace: bytes('n'), labels: bytes('x'.repeat(10_000)) };
    expect(() => plugin.evaluateConnect(question({ source: long, destination: long }))).toThrow('does not fit');
  });
});

/** Instances that must not harm: what hostile guests answer, and what they get to see. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Context, PluginAction, PluginField, pluginContextCodec, Scope } from '../../../engine/abi.gen.ts';
import { NONSENSE } from '../../../engine/plugin-runtime/instance.ts';
import { scopeOf } from '../../../engine/plugin-runtime/verdict-word.ts';
import { BuiltPlugins, plugin, question, start } from '../../support/plugin-modules.ts';

const built = new BuiltPlugins();
beforeAll(
  () => built.build(['test/fixtures/misbehaving', 'plugins/egress-allow-list', 'plugins/connection-rate', 'plugins/canary']),
  60_000,
);
afterAll(() => built.remove());

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const LOG = '(import "sluice" "log" (func $log (param i32 i32)))';

describe('a guest that', () => {
  test.each([
    { what: 'traps', port: 7001, reason: 'unreachable' },
    { what: 'loops', port: 7002, reason: 'ran out of fuel' },
    { what: 'grows its memory without bound', port: 7003, reason: 'unreachable' },
    { what: 'throws', port: 7005, reason: 'thrown on purpose (at index.ts:17:23)' },
    { what: 'overflows the stack', port: 7007, reason: /stack overflowed|ran out of fuel/ },
  ])('$what ends in a PluginTrap', async ({ port, reason }) => {
    const instance = await start(built.bytes('test/fixtures/misbehaving'));
    expect(() => instance.evaluate(question({ destinationPort: port }))).toThrow(reason);
  });

  test('recurses without an end overflows its own stack and nobody else’s', async () => {
    const deep = await start(plugin({ evaluate: '(call $r)', more: '(func $r (result i32) (i32.add (call $r) (i32.const 1)))' }), {
      grants: { fuel: 1_000_000_000 },
    });
    expect(() => deep.evaluate(question())).toThrow('its stack overflowed: recursion without an end?');
  });

  test.each([
    { what: 'all bits', word: '-1' },
    { what: 'an action that does not exist', word: '5' },
    { what: 'two scopes at once', word: '0x31' },
    { what: 'a reason that its manifest does not have', word: '0x200002' },
    { what: 'a route where nothing can be routed', word: '3' },
  ])('answers $what answers nonsense', async ({ word }) => {
    const instance = await start(plugin({ evaluate: `(i32.const ${word})` }, { reasons: ['one'], routes: ['a'] }));
    expect(instance.evaluate(question())).toBe(NONSENSE);
  });

  test('routes to what its manifest does not name answers nonsense', async () => {
    const to = (number: number): Uint8Array =>
      plugin(
        { evaluate: `(i32.store offset=4 (i32.const 0) (i32.const ${number})) (i32.const 3)` },
        { hooks: ['http'], routes: ['stable'] },
      );
    const http = question({ hook: Context.HTTP });
    expect((await start(to(0))).evaluate(http)).toBe(NONSENSE);
    expect((await start(to(-1))).evaluate(http)).toBe(NONSENSE);
    const good = await start(to(1));
    expect(good.evaluate(http)).toBe(PluginAction.ROUTE);
    expect(good.route).toBe('stable');
  });

  test('says that it read what its manifest does not name answers nonsense', async () => {
    const says = (bits: number): Uint8Array =>
      plugin({ evaluate: `(i32.store (i32.const 0) (i32.const ${bits})) (i32.const 1)` }, { fields: ['source-port'] });
    expect((await start(says(PluginField.SOURCE_ADDRESS))).evaluate(question())).toBe(NONSENSE);
    expect((await start(says(PluginField.SOURCE_PORT))).evaluate(question())).toBe(1);
  });

  test('writes wild pointers into its result shows nothing of what they point at', async () => {
    for (const [at, length] of [
      [0xffffffff, 16],
      [65_530, 100],
      [0, 0xffffffff],
      [0x7fffffff, 0x7fffffff],
    ] as const) {
      const wild = await start(
        plugin({
          evaluate: `(i32.store offset=8 (i32.const 0) (i32.const ${at | 0})) (i32.store offset=12 (i32.const 0) (i32.const ${length | 0})) (i32.const 2)`,
        }),
      );
      const word = wild.evaluate(question());
      expect(wild.reason(word).length).toBeLessThanOrEqual(513);
    }
  });

  test('shows no control characters in a reason, and no more of it than fits', async () => {
    const instance = await start(built.bytes('test/fixtures/misbehaving'));
    const word = instance.evaluate(question({ destinationPort: 7006 }));
    expect(instance.reason(word)).toMatch(/^\?\[31mred\?x+$/);
    expect(instance.reason(word).length).toBeLessThan(300);
  });

  test('logs a megabyte gets one short line, and few of them a second', async () => {
    const lines: string[] = [];
    const lender = { log: (_plugin: string, text: string) => void lines.push(text) };
    const fill = '(memory.fill (i32.const 65536) (i32.const 121) (i32.const 1048576))';
    const once = plugin({
      imports: LOG,
      memory: '17 17',
      evaluate: `${fill} (call $log (i32.const 65536) (i32.const 1048576)) (i32.const 1)`,
    });
    (await start(once, { lender })).evaluate(question());
    expect(lines).toEqual([`${'y'.repeat(512)}…`]);
    const flood = await start(
      plugin({
        imports: LOG,
        evaluate:
          '(local.set $n (i32.const 500)) (loop $l (call $log (i32.const 4096) (i32.const 4)) (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))) (i32.const 1)',
      }),
      { lender },
    );
    lines.length = 0;
    flood.evaluate(question());
    expect(lines.length).toBeLessThanOrEqual(21);
  });

  test.each([
    { what: 'logs what is not in its memory', call: '(call $log (i32.const -5) (i32.const 100))' },
    { what: 'logs from the end of its memory', call: '(call $log (i32.const 65530) (i32.const 100))' },
  ])('$what logs nothing of it', async ({ call }) => {
    const lines: string[] = [];
    const instance = await start(plugin({ imports: LOG, evaluate: `${call} (i32.const 1)` }), {
      lender: { log: (_plugin, text) => void lines.push(text) },
    });
    instance.evaluate(question());
    expect(lines).toEqual(['…'.slice(0, 0)]);
  });
});

describe('the start of a guest', () => {
  test.each([
    {
      what: 'a context outside its memory',
      find: '(i32.const 1024))',
      put: '(i32.const 65000))',
      reason: 'context buffer (8192 bytes at 65000) must be inside its memory',
    },
    { what: 'a context that is not aligned', find: '(i32.const 1024))', put: '(i32.const 1025))', reason: 'at a multiple of 16' },
    { what: 'a context that is too small', find: '(i32.const 8192))', put: '(i32.const 100))', reason: 'at least 4096 bytes' },
    {
      what: 'a result outside its memory',
      find: '(i32.const 0))',
      put: '(i32.const 65532))',
      reason: 'result record (at 65532) must be inside',
    },
  ])('is refused with $what', async ({ find, put, reason }) => {
    const { assemble, pluginText, withManifest } = await import('../../support/plugin-modules.ts');
    await expect(start(withManifest(assemble(pluginText().replace(find, put))))).rejects.toThrow(reason);
  });

  test.each([
    { what: 'traps', body: '(unreachable)', reason: 'unreachable' },
    { what: 'loops', body: '(loop $l (br $l))', reason: 'ran out of fuel' },
  ])('is refused when it $what', async ({ body, reason }) => {
    await expect(start(plugin({ more: `(func (export "_initialize") ${body})` }))).rejects.toThrow(
      `Cannot start module: ${reason === 'unreachable' ? '' : 'it '}${reason}`,
    );
    await expect(start(plugin({ more: `(func (export "sluice_init") (param i32) (result i32) ${body} (i32.const 0))` }))).rejects.toThrow(
      reason,
    );
  });

  test('is refused with a configuration buffer outside its memory, also when there is nothing to configure', async () => {
    const wild = '(func (export "sluice_cfg") (result i32) (i32.const -8)) (func (export "sluice_cfg_cap") (result i32) (i32.const 100))';
    const more = `${wild} (func (export "sluice_init") (param i32) (result i32) (i32.const 0))`;
    await expect(start(plugin({ more }))).rejects.toThrow('its configuration has 0 bytes');
    await expect(start(plugin({ more }), { config: 'a = b\n' })).rejects.toThrow('its configuration has 6 bytes');
  });

  test('is refused when it refuses its configuration, with its reason', async () => {
    const start2 = (config: string): Promise<unknown> => start(built.bytes('plugins/egress-allow-list'), { config });
    await expect(start2('allow.0.label = nonsense\n')).rejects.toThrow('allow.0.label must be key=value');
    await expect(start2(`x = ${'y'.repeat(20_000)}\n`)).rejects.toThrow('it takes 16384');
    await expect(start(built.bytes('plugins/connection-rate'), { config: 'connections = many\n' })).rejects.toThrow(
      'connections must be a number, not "many"',
    );
    await expect(start(plugin({ more: '(func (export "sluice_init") (param i32) (result i32) (i32.const 3))' }))).rejects.toThrow(
      'refused its configuration with 3',
    );
  });
});

describe('what a guest sees', () => {
  /** Sums up every byte of the context record but the hook. */
  const SUM =
    '(local.set $i (i32.const 1024)) (loop $l (local.set $n (i32.add (local.get $n) (i32.load8_u (local.get $i)))) (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 9216)))) (if (i32.ne (local.get $n) (i32.load8_u (i32.const 1092))) (then (return (i32.const 2)))) (i32.const 1)';
  const full = () =>
    question({
      established: true,
      source: { namespace: bytes('shop'), labels: bytes('app=frontend') },
      destination: { namespace: bytes('shop'), labels: bytes('app=backend') },
      sourcePod: { name: bytes('frontend'), serviceAccount: bytes('reader') },
      destinationPod: { name: bytes('backend'), serviceAccount: undefined },
      destinationService: bytes('shop/backend'),
      serverName: 'secret.example',
      dnsName: 'secret.example',
      method: 'GET',
      host: 'h',
      path: '/p',
      query: 'q=1',
      headers: ['authorization', 'Bearer x', 'cookie', 'session=1'],
    });

  test('is nothing at all when its manifest names nothing', async () => {
    const instance = await start(plugin({ evaluate: SUM }));
    expect(instance.evaluate(full())).toBe(1);
  });

  test('is what was there, but for what the manifest names, is not left over from another question', async () => {
    const instance = await start(plugin({ evaluate: SUM }, { fields: ['path'] }));
    expect(instance.evaluate(full())).toBe(2);
    const empty = await start(plugin({ evaluate: '(i32.load offset=1104 (i32.const 0))' }, { fields: ['path'] }));
    empty.evaluate(full());
    expect(empty.evaluate(question())).toBe(0);
  });

  test('is the head as bpf/plugin-abi.h lays it out', async () => {
    const offsets = pluginContextCodec.offsets;
    const port = await start(
      plugin({ evaluate: `(i32.load16_u (i32.const ${1024 + offsets.destinationPort}))` }, { fields: ['destination-port'] }),
    );
    expect(port.evaluate(question({ destinationPort: 4 }))).toBe(4);
    const address = await start(
      plugin({ evaluate: `(i32.load8_u (i32.const ${1024 + offsets.source + 15}))` }, { fields: ['source-address'] }),
    );
    expect(address.evaluate(question())).toBe(1);
  });

  test('is each named header once, joined where there are several, and each named cookie', async () => {
    const instance = await start(built.bytes('plugins/canary'));
    const ask = (headers: string[]): string => {
      instance.evaluate(question({ hook: Context.HTTP, path: '/', headers }));
      return instance.route;
    };
    expect(ask(['x-canary', 'yes'])).toBe('canary');
    expect(ask(['x-canary', 'yes', 'x-canary', 'yes'])).toBe('stable');
    expect(ask(['cookie', 'a=1', 'cookie', 'canary=v2'])).toBe('canary');
    expect(ask(['cookie', 'a=1;canary=v2'])).toBe('canary');
    expect(ask(['cookie', 'canary=v22'])).toBe('stable');
    expect(ask([])).toBe('stable');
  });

  test('refuses a question that does not fit rather than cut it', async () => {
    const instance = await start(plugin({}, { fields: ['path'] }));
    expect(() => instance.evaluate(question({ path: 'x'.repeat(9000) }))).toThrow('the context does not fit into 8192 bytes');
  });
});

describe('evaluate()', () => {
  test('narrows the scope to what an unsigned plugin declares, and to what a signed one says it read', async () => {
    const module = plugin({ evaluate: '(i32.const 0x141)' }, { fields: ['source-labels', 'source-address'] });
    expect(scopeOf((await start(module, { trusted: false })).evaluate(question()))).toBe(Scope.ADDRESS);
    expect(scopeOf((await start(module, { trusted: true })).evaluate(question()))).toBe(Scope.IDENTITY);
  });

  test('a verdict that used a counter or the clock answers nothing else, whatever the guest says', async () => {
    const instance = await start(
      plugin(
        { imports: '(import "sluice" "now_ms" (func $now (result f64)))', evaluate: '(drop (call $now)) (i32.const 0x141)' },
        { capabilities: ['clock'] },
      ),
    );
    expect(scopeOf(instance.evaluate(question()))).toBe(Scope.NONE);
    expect(instance.fieldsRead).toBe(PluginField.HOST_STATE);
  });

  test('evaluates a million times in the memory that it started with', async () => {
    const instance = await start(built.bytes('plugins/egress-allow-list'), { config: 'allow.0.label = app=backend\nallow.0.port = 80\n' });
    const asked = question({ destination: { namespace: bytes('shop'), labels: bytes('app=backend') } });
    instance.evaluate(asked);
    const before = [process.memoryUsage().arrayBuffers, instance.memoryBytes];
    for (let i = 0; i < 1_000_000; i++) instance.evaluate(asked);
    expect(process.memoryUsage().arrayBuffers - (before[0] as number)).toBeLessThan(1 << 20);
    expect(instance.memoryBytes).toBe(before[1]);
  });

  test('goes on with a guest that grows its memory while it is asked', async () => {
    const instance = await start(
      plugin(
        { evaluate: '(drop (memory.grow (i32.const 1))) (i32.load16_u (i32.const 1090))', memory: '1 4' },
        { fields: ['destination-port'] },
      ),
    );
    for (const port of [1, 2, 1, 2, 4]) expect(instance.evaluate(question({ destinationPort: port }))).toBe(port);
  });
});

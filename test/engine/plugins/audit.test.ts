/** Modules that must be refused, each with words that tell its author what to do. */
import { describe, expect, test } from 'vitest';
import { auditModule, MODULE_BYTES_MAX } from '../../../engine/plugins/audit.ts';
import { withCustomSection } from '../../../engine/plugins/wasm/module.ts';
import { assemble, GRANTS, MANIFEST, plugin, pluginText, random, withManifest } from '../../support/plugin-modules.ts';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** A module from sections: [id, ...body]. */
function wasm(...sections: readonly (readonly number[])[]): Uint8Array {
  return Uint8Array.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, ...sections.flatMap(([id, ...body]) => [id as number, body.length, ...body])]);
}
const name = (text: string): number[] => [text.length, ...bytes(text)];
const TYPE = [1, 1, 0x60, 0, 0];
const FUNCTION = [3, 1, 0];
const MEMORY = [5, 1, 1, 1, 1];
const CODE = [10, 1, 2, 0, 0x0b];
const DECLARED = [0, ...name('sluice.manifest'), ...bytes(JSON.stringify({ ...MANIFEST, name: 'x', version: '1' }))];
const importing = (module: string, item: string): Uint8Array =>
  withManifest(wasm(TYPE, [2, 1, ...name(module), ...name(item), 0, 0], MEMORY));

describe('auditModule() refuses', () => {
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
    { what: 'a module that is too large', module: new Uint8Array(MODULE_BYTES_MAX + 1), reason: `at most ${MODULE_BYTES_MAX}` },
    { what: 'sections out of order', module: wasm(FUNCTION, TYPE, DECLARED), reason: 'section 1 is there twice, or out of order' },
    { what: 'a section twice', module: wasm(TYPE, TYPE, DECLARED), reason: 'twice, or out of order' },
    { what: 'a section of the future', module: wasm(TYPE, [13, 0], DECLARED), reason: 'section 13, which is newer than WebAssembly 2.0' },
    { what: 'no manifest', module: assemble(pluginText()), reason: 'no manifest (custom section sluice.manifest); sluice plugin build' },
    { what: 'no memory', module: wasm(TYPE, FUNCTION, CODE, DECLARED), reason: '0 memories of its own; it needs one' },
    { what: 'a memory without a maximum', module: plugin({ memory: '1' }), reason: 'no maximum; build with --maximumMemory 64' },
    { what: 'a memory with too large a maximum', module: plugin({ memory: '1 65' }), reason: 'may grow to 65 pages, and its PolicyPlugin' },
    { what: 'a shared memory', module: plugin({ memory: '1 4 shared' }), reason: 'shared or 64-bit' },
    { what: 'two memories', module: plugin({ more: '(memory 1 1)' }), reason: 'it has 2 memories' },
    {
      what: 'an imported memory',
      module: plugin({ imports: '(import "env" "memory2" (memory 1 1))' }),
      reason: 'imports memory env.memory2; a plugin imports functions only',
    },
    {
      what: 'an import of eval',
      module: importing('env', 'eval'),
      reason: 'imports function env.eval; a plugin gets env.abort, sluice.log',
    },
    { what: 'an import called constructor', module: importing('constructor', 'constructor'), reason: 'constructor.constructor' },
    { what: 'an import called __proto__', module: importing('__proto__', 'abort'), reason: '__proto__.abort' },
    { what: 'an import called env.__proto__', module: importing('env', '__proto__'), reason: 'env.__proto__' },
    {
      what: 'an import of another type',
      module: plugin({ imports: '(import "sluice" "log" (func (param i64)))' }),
      reason: 'its import sluice.log is (i64) -> (); must be (i32, i32) -> ()',
    },
    {
      what: 'a host function that its manifest hides',
      module: plugin({ imports: '(import "sluice" "now_ms" (func (result f64)))' }),
      reason: 'imports sluice.now_ms and its manifest does not ask for capability clock',
    },
    {
      what: 'an imported function in a table',
      module: plugin({
        imports: '(import "sluice" "log" (func $log (param i32 i32)))',
        more: '(table 1 1 funcref) (elem (i32.const 0) $log)',
      }),
      reason: 'puts an imported function into a table; call it from a function of your own',
    },
    {
      what: 'a table that grows at run time',
      module: plugin({
        evaluate: '(drop (table.grow $t (ref.func $f) (i32.const 9))) (i32.const 1)',
        more: '(table $t 1 funcref) (func $f) (elem declare func $f)',
      }),
      reason: 'changes a table at run time',
    },
    { what: 'a huge table', module: plugin({ more: '(table 10000000 funcref)' }), reason: '65536 are the most' },
    { what: 'a start section', module: plugin({ more: '(func $s) (start $s)' }), reason: 'start section, which runs before it can be' },
    {
      what: 'an export of the host’s',
      module: plugin({ more: '(func (export "sluice_run"))' }),
      reason: 'exports sluice_run, a name that',
    },
    {
      what: 'a module that is no plugin',
      module: withManifest(assemble('(module (memory (export "memory") 1 1))')),
      reason: 'does not export function sluice_abi_v1: () -> ()',
    },
    {
      what: 'an entry of another type',
      module: withManifest(assemble(pluginText().replace('(param $hook i32)', '(param $hook i64)'))),
      reason: 'its export sluice_eval is (i64) -> i32; must be (i32) -> i32',
    },
    { what: 'tail calls', module: plugin({ more: '(func $f (return_call $f))' }), reason: 'tail calls' },
    { what: 'threads', module: plugin({ evaluate: '(atomic.fence) (i32.const 1)' }), reason: 'threads' },
    {
      what: 'relaxed SIMD',
      module: plugin({
        evaluate: '(drop (i8x16.relaxed_swizzle (v128.const i64x2 0 0) (v128.const i64x2 0 0))) (i32.const 1)',
      }),
      reason: 'relaxed SIMD',
    },
    {
      what: 'garbage collection',
      module: plugin({ more: '(type $s (struct (field i32))) (func (drop (struct.new $s (i32.const 1))))' }),
      reason: 'newer than WebAssembly 2.0',
    },
  ])('$what', async ({ module, reason }) => {
    await expect(auditModule(module, GRANTS)).rejects.toThrow(reason);
    await expect(auditModule(module, GRANTS)).rejects.toMatchObject({ code: 'PLUGIN_INVALID' });
  });

  test.each([
    { what: 'another ABI', manifest: { abi: 2 }, reason: 'abi: must be 1' },
    { what: 'no hooks', manifest: { hooks: [] }, reason: 'hooks' },
    { what: 'a hook that does not exist', manifest: { hooks: ['smtp'] }, reason: 'hooks.0' },
    { what: 'a field that does not exist', manifest: { fields: ['source-secrets'] }, reason: 'fields.0: must be of source-identity' },
    { what: 'a field that only the host sets', manifest: { fields: ['host-state'] }, reason: 'fields.0' },
    { what: 'a header that is none', manifest: { headers: ['a b'] }, reason: 'headers.0: must be a header name in lower case' },
    { what: 'a key that does not exist', manifest: { trusted: true }, reason: 'trusted' },
    { what: 'a table without an end', manifest: { tables: [{ name: 't', slots: 1e9 }] }, reason: 'tables.0.slots' },
    { what: 'a name that leads elsewhere', manifest: { tables: [{ name: '../x', slots: 8 }] }, reason: 'tables.0.name' },
    { what: 'control characters', manifest: { reasons: ['\u001b[31m'] }, reason: 'reasons.0: must have no control characters' },
  ])('a manifest with $what', async ({ manifest, reason }) => {
    await expect(auditModule(plugin({}, manifest), GRANTS)).rejects.toThrow(reason);
  });

  test('what a PolicyPlugin does not grant, and says how to grant it', async () => {
    const wants = plugin({}, { capabilities: ['clock'] });
    await expect(auditModule(wants, { ...GRANTS, capabilities: [] })).rejects.toThrow(
      'wants capability clock; grant it with capabilities: [clock] in its PolicyPlugin',
    );
    await expect(auditModule(plugin({}, { sets: ['other'] }), GRANTS)).rejects.toThrow(
      'looks into set other; fill it with sets: { other: … }',
    );
  });

  test('a manifest that is no JSON, or too long', async () => {
    const module = assemble(pluginText());
    await expect(auditModule(withCustomSection(module, 'sluice.manifest', bytes('{')), GRANTS)).rejects.toThrow('not JSON');
    await expect(auditModule(withCustomSection(module, 'sluice.manifest', new Uint8Array(70_000)), GRANTS)).rejects.toThrow(
      'at most 65536',
    );
  });
});

describe('auditModule()', () => {
  test('says in V8’s words why code is not valid, at the offset that the author knows', async () => {
    const bad = Uint8Array.from(plugin({ evaluate: '(i32.const 1234567)' }));
    const at = Buffer.from(bad).indexOf(Buffer.from([0x41, 0x87, 0xad, 0xcb, 0x00]));
    // A constant of 64 bits where one of 32 is wanted.
    bad[at] = 0x42;
    await expect(auditModule(bad, GRANTS)).rejects.toThrow(new RegExp(`not valid WebAssembly: .*@\\+${at + 5}`));
  });

  test('neither crashes nor hangs on damaged modules, and refuses or compiles each', async () => {
    const good = plugin(
      {
        evaluate:
          '(loop $l (br_if $l (i32.const 0))) (memory.fill (i32.const 9) (i32.const 0) (i32.const 9)) (drop (global.get $g)) (i32.const 1)',
        more: '(table 2 2 funcref) (elem (i32.const 0) $f $f) (func $f) (global $g i32 (i32.const 3))',
      },
      { fields: ['destination-port'], reasons: ['no'] },
    );
    await auditModule(good, GRANTS);
    const next = random(7);
    let compiled = 0;
    for (let i = 0; i < 4000; i++) {
      const damaged = Uint8Array.from(good);
      for (let n = i % 4; n >= 0; n--) damaged[next(damaged.length)] = next(256);
      const cut = i % 3 ? damaged : damaged.subarray(0, next(damaged.length));
      const result = await auditModule(cut, GRANTS).catch((error: Error & { code?: string }) => error.code ?? error.stack);
      if (result !== 'PLUGIN_INVALID') compiled += 1;
      expect(result === 'PLUGIN_INVALID' || typeof result === 'object', `seed 7, module ${i}: ${String(result)}`).toBe(true);
    }
    // Some damage is harmless: constants, names. If none were, nothing would have been tried behind the first check.
    expect(compiled).toBeGreaterThan(20);
  });
});

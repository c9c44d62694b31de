/** The meter: it stops what does not end, charges for what takes long, and changes nothing else. */
import { describe, expect, test } from 'vitest';
import { auditModule } from '../../../engine/plugins/audit.ts';
import { meter, originalOffset } from '../../../engine/plugins/fuel.ts';
import { parseModule } from '../../../engine/plugins/wasm/module.ts';
import { assemble, FUEL, GRANTS, plugin, pluginText, question, start } from '../../support/plugin-modules.ts';

describe('fuel', () => {
  test.each([
    { what: 'a tight loop', evaluate: '(loop $l (br $l)) (i32.const 1)' },
    { what: 'a loop in a loop', evaluate: '(loop $a (loop $b (br_if $b (i32.const 1))) (br $a)) (i32.const 1)' },
    {
      what: 'recursion that calls often',
      evaluate: '(call $r (i32.const 30)) (i32.const 1)',
      more: '(func $r (param i32) (if (local.get 0) (then (call $r (i32.sub (local.get 0) (i32.const 1))) (call $r (i32.sub (local.get 0) (i32.const 1))))))',
    },
    { what: 'memory.grow without an end', evaluate: '(loop $l (drop (memory.grow (i32.const 0))) (br $l)) (i32.const 1)' },
    {
      what: 'memory.fill without an end',
      evaluate: '(loop $l (memory.fill (i32.const 8192) (i32.const 0) (i32.const 50000)) (br $l)) (i32.const 1)',
    },
    {
      what: 'host calls without an end',
      imports: '(import "sluice" "log" (func $log (param i32 i32)))',
      evaluate: '(loop $l (call $log (i32.const 0) (i32.const 9)) (br $l)) (i32.const 1)',
    },
  ])('stops $what within milliseconds', async ({ evaluate, more = '', imports = '' }) => {
    const instance = await start(plugin({ evaluate, more, imports }));
    const began = performance.now();
    expect(() => instance.evaluate(question())).toThrow('it ran out of fuel: a loop without an end?');
    // Not a measurement (see npm run bench): a loop that is not stopped never comes here.
    expect(performance.now() - began).toBeLessThan(2000);
  });

  test('counts the same for the same work, and gives each evaluation the whole budget', async () => {
    const instance = await start(
      plugin({
        evaluate:
          '(local.set $n (i32.const 1000)) (loop $l (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))) (i32.const 1)',
      }),
    );
    instance.evaluate(question());
    const once = instance.fuelUsed;
    for (let i = 0; i < 1000; i++) instance.evaluate(question());
    expect(instance.fuelUsed).toBe(once);
    // Five instructions and the loop's own, a thousand times.
    expect(once).toBeGreaterThan(5000);
    expect(once).toBeLessThan(8000);
  });

  test.each([
    {
      what: 'memory.fill by the bytes',
      evaluate: '(memory.fill (i32.const 8192) (i32.const 0) (i32.const 32000)) (i32.const 1)',
      least: 32_000 >> 4,
    },
    {
      what: 'memory.copy by the bytes',
      evaluate: '(memory.copy (i32.const 8192) (i32.const 30000) (i32.const 32000)) (i32.const 1)',
      least: 32_000 >> 4,
    },
    { what: 'locals', evaluate: '(call $f) (i32.const 1)', more: `(func $f (local ${'i64 '.repeat(5000)}))`, least: 5000 },
    {
      what: 'a host call',
      evaluate: '(call $log (i32.const 0) (i32.const 1)) (i32.const 1)',
      imports: '(import "sluice" "log" (func $log (param i32 i32)))',
      least: 1000,
    },
  ])('charges $what', async ({ evaluate, least, more = '', imports = '' }) => {
    const instance = await start(plugin({ evaluate, more, imports }));
    instance.evaluate(question());
    expect(instance.fuelUsed).toBeGreaterThanOrEqual(least);
    expect(instance.fuelUsed).toBeLessThan(least + 100);
  });

  test('a region that weighs more than any budget traps, and gives no fuel back', async () => {
    const calls = '(call $log (i32.const 0) (i32.const 1))'.repeat(3000);
    const instance = await start(
      plugin({
        evaluate: `(if (i32.eqz (local.get $hook)) (then ${calls})) (i32.const 1)`,
        imports: '(import "sluice" "log" (func $log (param i32 i32)))',
      }),
    );
    expect(() => instance.evaluate(question())).toThrow('ran out of fuel');
  });

  test('the module cannot name its own meter', async () => {
    const { view } = await auditModule(plugin({ more: '(global $mine (mut i32) (i32.const 5))' }), GRANTS);
    const metered = parseModule(meter(view, 'sluice_eval', FUEL).bytes);
    expect(metered.exports.get('sluice_fuel')).toEqual({ kind: 3, index: view.globals });
    expect(metered.globals).toBe(view.globals + 1);
  });

  test('finds the instruction of a trap in the module as its author knows it', async () => {
    const text = pluginText({
      evaluate: '(loop $l (br_if $l (i32.const 0))) (call $deep) (i32.const 1)',
      more: '(func $deep (memory.fill (i32.const 9) (i32.const 0) (i32.const 1)) (drop (i32.div_s (i32.const 1) (i32.load (i32.const 4096)))))',
    });
    const original = assemble(text);
    const view = parseModule(original);
    const { bytes, offsets } = meter(view, 'sluice_eval', FUEL);
    const trapAt = (code: Uint8Array, entry: string): number[] => {
      const { exports } = new WebAssembly.Instance(new WebAssembly.Module(code as Uint8Array<ArrayBuffer>));
      try {
        (exports[entry] as (hook: number) => number)(0);
      } catch (error) {
        return [...((error as Error).stack ?? '').matchAll(/wasm-function\[\d+\]:0x([0-9a-f]+)/g)].map(([, hex]) =>
          Number.parseInt(hex as string, 16),
        );
      }
      throw new Error('it did not trap');
    };
    const wanted = trapAt(original, 'sluice_eval');
    const found = trapAt(bytes, 'sluice_run').map((offset) => originalOffset(offsets, offset));
    expect(wanted.length).toBe(2);
    expect(found.slice(0, 2)).toEqual(wanted);
  });
});

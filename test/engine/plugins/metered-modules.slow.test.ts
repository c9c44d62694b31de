/** The meter changes nothing of what a module answers: generated modules, and every case of every example. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { CaseRunner } from '../../../engine/plugin-tools/case-runner.ts';
import { readCases } from '../../../engine/plugin-tools/cases.ts';
import { meter } from '../../../engine/plugins/fuel.ts';
import { ByteReader, ByteWriter } from '../../../engine/plugins/wasm/binary.ts';
import { HEADER, parseModule, Section } from '../../../engine/plugins/wasm/module.ts';
import { assemble, BuiltPlugins, random } from '../../support/plugin-modules.ts';

/** Random functions over three locals and a page of memory: loops that end, branches, calls, tables, bulk memory, floats. */
class Generator {
  readonly #next: (below: number) => number;
  #loops = 0;

  constructor(seed: number) {
    this.#next = random(seed);
  }

  module(): string {
    const functions = Array.from(
      { length: 4 },
      (_, i) =>
        `(func $f${i} (type $t) (param $p i32) (result i32) (local $x i32) (local $y i64) (local $z f64) ${this.#declared(() => this.#block(3, i))} ${this.#value(3, i)})`,
    );
    return `(module (type $t (func (param $p i32) (result i32)))
      (memory (export "memory") 1 1) (global $g (mut i32) (i32.const ${this.#next(100)})) (data "some data of a passive segment")
      (table 4 funcref) (elem (i32.const 0) $f0 $f1 $f2 $f3)
      ${functions.join('\n')}
      (func (export "sluice_eval") (type $t) (param $p i32) (result i32) (call $f3 (local.get $p))))`;
  }

  /** A body, with a counter for each loop in it declared before. */
  #declared(body: () => string): string {
    this.#loops = 0;
    const text = body();
    return Array.from({ length: this.#loops }, (_, i) => `(local $c${i} i32)`).join(' ') + text;
  }

  #block(depth: number, own: number): string {
    return Array.from({ length: 1 + this.#next(3) }, () => this.#statement(depth, own)).join(' ');
  }

  #statement(depth: number, own: number): string {
    const value = (): string => this.#value(depth, own);
    const inner = (): string => (depth ? this.#block(depth - 1, own) : '');
    switch (this.#next(depth ? 11 : 7)) {
      case 0:
        return `(local.set $x ${value()})`;
      case 1:
        return `(local.set $p ${value()})`;
      case 2:
        return `(i32.store16 (i32.and ${value()} (i32.const 65000)) ${value()})`;
      case 3:
        return `(local.set $y (i64.add (local.get $y) (i64.extend_i32_s ${value()})))`;
      case 4:
        return `(global.set $g ${value()})`;
      case 5:
        return `(memory.fill (i32.and ${value()} (i32.const 32767)) ${value()} (i32.and ${value()} (i32.const 255)))`;
      case 6:
        return `(local.set $z (f64.add (local.get $z) (f64.convert_i32_s ${value()})))`;
      case 7:
        return `(if ${value()} (then ${inner()}) (else ${inner()}))`;
      case 8: {
        const counter = this.#loops++;
        return `(local.set $c${counter} (i32.const ${1 + this.#next(5)})) (loop $l${counter} ${inner()} (br_if $l${counter} (local.tee $c${counter} (i32.sub (local.get $c${counter}) (i32.const 1)))))`;
      }
      case 9:
        return `(block $out${depth} (block $in${depth} (br_table $in${depth} $out${depth} (i32.and ${value()} (i32.const 3)))) ${inner()})`;
      default:
        return `(memory.copy (i32.and ${value()} (i32.const 16383)) (i32.and ${value()} (i32.const 16383)) (i32.and ${value()} (i32.const 127)))`;
    }
  }

  #value(depth: number, own: number): string {
    const inner = (): string => this.#value(depth - 1, own);
    switch (this.#next(depth > 0 ? 12 : 4)) {
      case 0:
        return `(i32.const ${this.#next(1 << 30) - (1 << 29)})`;
      case 1:
        return '(local.get $p)';
      case 2:
        return '(local.get $x)';
      case 3:
        return '(global.get $g)';
      case 4:
        return `(i32.add ${inner()} ${inner()})`;
      case 5:
        return `(i32.mul ${inner()} ${inner()})`;
      case 6:
        return `(i32.rem_u ${inner()} (i32.or ${inner()} (i32.const 1)))`;
      case 7:
        return `(i32.load8_u (i32.and ${inner()} (i32.const 65000)))`;
      case 8:
        return `(select ${inner()} ${inner()} ${inner()})`;
      case 9:
        return own ? `(call $f${this.#next(own)} ${inner()})` : '(i32.wrap_i64 (local.get $y))';
      case 10:
        // A function above this one would be a recursion without an end.
        return own ? `(call_indirect (type $t) ${inner()} (i32.const ${this.#next(own)}))` : '(i32.trunc_sat_f64_s (local.get $z))';
      default:
        return `(i32.rotl ${inner()} (i32x4.extract_lane 1 (i32x4.splat ${inner()})))`;
    }
  }
}

describe('a metered module', () => {
  test('answers as the original does, with the same memory behind it: 300 generated modules', () => {
    let answered = 0;
    for (let seed = 1; seed <= 300; seed++) {
      const original = assemble(new Generator(seed).module());
      const { bytes } = meter(parseModule(original), 'sluice_eval', 100_000_000);
      const run = (code: Uint8Array, entry: string): unknown[] => {
        const { exports } = new WebAssembly.Instance(new WebAssembly.Module(code as Uint8Array<ArrayBuffer>));
        const entered = exports[entry] as (value: number) => number;
        const results = [0, 1, -7, 123_456].map((value) => {
          try {
            return entered(value);
          } catch (error) {
            return (error as Error).message;
          }
        });
        const memory = Buffer.from((exports.memory as WebAssembly.Memory).buffer);
        return [results, Buffer.from(memory).toString('base64')];
      };
      const wanted = run(original, 'sluice_eval');
      expect(run(bytes, 'sluice_run'), `seed ${seed}`).toEqual(wanted);
      if ((wanted[0] as unknown[]).some((result) => typeof result === 'number')) answered += 1;
    }
    expect(answered).toBeGreaterThan(250);
  });

  test('answers every case of every example as the original does', async () => {
    const root = fileURLToPath(new URL('../../../plugins', import.meta.url));
    const examples = readdirSync(root).filter((name) => existsSync(join(root, name, 'cases.yaml')));
    const built = new BuiltPlugins();
    let compared = 0;
    try {
      await built.build(examples.map((name) => join(root, name)));
      for (const name of examples) {
        const bytes = built.bytes(join(root, name));
        const cases = readCases(join(root, name));
        const metered = await CaseRunner.create(bytes, cases);
        const original = await CaseRunner.create(bytes, cases);
        Object.assign(original.audited, { module: new WebAssembly.Module(unmetered(bytes) as Uint8Array<ArrayBuffer>) });
        for (const one of cases.cases) {
          const { fuel: _paid, ...wanted } = original.run(one).answer;
          const { fuel, ...found } = metered.run(one).answer;
          expect(found, `${name}: ${one.name}`).toEqual(wanted);
          expect(fuel).toBeGreaterThan(0);
          compared += 1;
        }
      }
    } finally {
      built.remove();
    }
    expect(compared).toBeGreaterThan(40);
  }, 60_000);
});

/** The module as it is, with the exports that the host calls: an entry that pays nothing, and a fuel that never ends. */
function unmetered(bytes: Uint8Array): Uint8Array {
  const view = parseModule(bytes);
  const out = new ByteWriter(bytes.length + 100).raw(HEADER);
  const more = (id: number, count: number, items: Uint8Array): void => {
    const section = view.sections.find((candidate) => candidate.id === id);
    const reader = new ByteReader(bytes, section?.from ?? 0, section?.end ?? 0);
    const before = section ? reader.u32() : 0;
    out.section(
      id,
      new ByteWriter()
        .u32(before + count)
        .raw(bytes.subarray(reader.at, reader.end))
        .raw(items)
        .take(),
    );
  };
  for (const section of view.sections) {
    if (section.id === Section.EXPORT) {
      if (!view.globals) more(Section.GLOBAL, 1, Uint8Array.of(0x7f, 1, 0x41, 1, 0x0b));
      const entry = view.exports.get('sluice_eval')?.index ?? 0;
      more(Section.EXPORT, 2, new ByteWriter().text('sluice_run').byte(0).u32(entry).text('sluice_fuel').byte(3).u32(view.globals).take());
    } else if (section.id === Section.GLOBAL) more(Section.GLOBAL, 1, Uint8Array.of(0x7f, 1, 0x41, 1, 0x0b));
    else out.raw(bytes.subarray(section.start, section.end));
  }
  return out.take();
}

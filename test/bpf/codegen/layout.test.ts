/** Layouts that are read of a header, and the code that is written of them: compiled as the programs are, and used as the engine does. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { writeAssemblyScript } from '../../../bpf/codegen/assemblyscript.ts';
import { type Layouts, readLayouts } from '../../../bpf/codegen/layout.ts';
import { writeTypeScript } from '../../../bpf/codegen/typescript.ts';

const directory = mkdtempSync(join(tmpdir(), 'sluice-layout-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function layoutsOf(declarations: string): Layouts {
  const path = join(directory, 'declared.o');
  execFileSync('clang', ['-g', '-O2', '-target', 'bpf', '-x', 'c', '-c', '-', '-o', path], { input: declarations });
  return readLayouts(path);
}

describe('an enum', () => {
  const declared = (top: string, name = 'plugin_field'): string =>
    `enum ${name} { ${name.toUpperCase()}_LOW = 1 << 0, ${name.toUpperCase()}_TOP = ${top} }; enum ${name} exported;`;

  test.each([
    { name: '1u << 31', value: 2 ** 31 },
    { name: '1 << 31', value: 2 ** 31 },
    { name: '0xffffffff', value: 2 ** 32 - 1 },
    { name: '-1', value: 2 ** 32 - 1 },
    { name: '1 << 30', value: 2 ** 30 },
  ])('has $name as an unsigned number of 32 bits, in both languages', ({ name, value }) => {
    const layouts = layoutsOf(declared(name));
    expect(layouts.enums).toMatchObject([{ values: [{ value: 1 }, { value }] }]);
    expect(writeTypeScript(layouts)).toContain(`  TOP: ${value},\n`);
    expect(writeAssemblyScript(layouts)).toContain(`  TOP = ${value},\n`);
  });

  test('whose value has the last bit is found in a mask, and comes back from a record as it was written', async () => {
    const path = join(directory, 'declared.gen.ts');
    const record = 'struct holder { unsigned int fields; }; struct holder held;';
    writeFileSync(path, writeTypeScript(layoutsOf(`${declared('1u << 31')} ${record}`)));
    const { PluginField: Field, holderCodec } = await import(/* @vite-ignore */ path);
    const bytes = Buffer.alloc(4);
    holderCodec.write(bytes, 0, { fields: Field.TOP });
    expect(holderCodec.read(bytes, 0)).toEqual({ fields: Field.TOP });
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    expect([view.getUint32(0, true) === Field.TOP, view.getInt32(0, true) & Field.TOP, Field.LOW & Field.TOP]).toEqual([
      true,
      -(2 ** 31),
      0,
    ]);
    view.setUint32(0, Field.LOW | Field.TOP, true);
    expect(holderCodec.read(bytes, 0)).toEqual({ fields: Field.LOW + Field.TOP });
  });

  test('with a value that 32 bits do not hold is refused', () => {
    expect(() => layoutsOf(declared('1ull << 40'))).toThrow('Cannot generate enum plugin_field: it does not fit into 32 bits');
  });
});

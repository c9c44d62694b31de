/** Writes the engine's codecs: an interface, a reader and a writer for each struct, a frozen object for each enum. */
import { camelCase, type EnumLayout, type FieldLayout, type Layouts, memberName, pascalCase, type StructLayout } from './layout.ts';

const HEADER = `// Generated from bpf/abi.h and bpf/plugin-abi.h by \`npm run generate\`; do not edit.
//
// Layouts that cross a boundary. Addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d; ports and other numbers are in host
// order here whatever they are in memory; *Ns is the kernel's monotonic clock.
`;

export function writeTypeScript(layouts: Layouts, header = HEADER): string {
  return [header, ...layouts.enums.map(writeEnum), ...layouts.structs.map(writeStruct)].join('\n');
}

function writeEnum(layout: EnumLayout): string {
  const name = pascalCase(layout.name);
  const members = layout.values.map((v) => `  ${memberName(layout, v.name)}: ${v.value},`);
  return [
    `/** enum ${layout.name} */`,
    `export const ${name} = {`,
    ...members,
    '} as const;',
    `export type ${name} = (typeof ${name})[keyof typeof ${name}];`,
    '',
  ].join('\n');
}

function writeStruct(layout: StructLayout): string {
  const fields = layout.fields.filter((field) => field.name !== 'pad');
  const name = pascalCase(layout.name);
  return [
    `/** struct ${layout.name}, ${layout.size} bytes. */`,
    `export interface ${name} {`,
    ...fields.map((field) => `  ${camelCase(field.name)}: ${typeOf(field)};`),
    '}',
    '',
    `export const ${camelCase(layout.name)}Codec = {`,
    `  size: ${layout.size},`,
    `  offsets: { ${fields.map((field) => `${camelCase(field.name)}: ${field.offset}`).join(', ')} },`,
    `  write(target: Buffer, at: number, value: ${name}): void {`,
    `    target.fill(0, at, at + ${layout.size});`,
    ...fields.flatMap((field) => writeOf(field)),
    '  },',
    `  read(source: Buffer, at: number): ${name} {`,
    `    if (source.length < at + ${layout.size}) throw new RangeError('struct ${layout.name} is cut short');`,
    '    return {',
    ...fields.map((field) => `      ${camelCase(field.name)}: ${readOf(field)},`),
    '    };',
    '  },',
    '} as const;',
    '',
  ].join('\n');
}

function typeOf({ type }: FieldLayout): string {
  switch (type.kind) {
    case 'integer':
      return type.bits === 64 ? 'bigint' : 'number';
    case 'bytes':
      return 'Uint8Array';
    case 'integers':
      return 'readonly number[]';
    case 'struct':
      return pascalCase(type.name);
    case 'structs':
      return `readonly ${pascalCase(type.name)}[]`;
  }
}

function accessor(bits: number, bigEndian: boolean): string {
  if (bits === 8) return 'UInt8';
  return `${bits === 64 ? 'BigUInt64' : `UInt${bits}`}${bigEndian ? 'BE' : 'LE'}`;
}

function writeOf(field: FieldLayout): string[] {
  const value = `value.${camelCase(field.name)}`;
  const { type, offset } = field;
  switch (type.kind) {
    case 'integer':
      return [`    target.write${accessor(type.bits, type.bigEndian)}(${value}, at + ${offset});`];
    case 'bytes':
      return [`    target.set(${value}.subarray(0, ${type.length}), at + ${offset});`];
    case 'integers':
      return Array.from(
        { length: type.length },
        (_, i) => `    target.write${accessor(type.bits, false)}(${value}[${i}] ?? 0, at + ${offset + (i * type.bits) / 8});`,
      );
    case 'struct':
      return [`    ${camelCase(type.name)}Codec.write(target, at + ${offset}, ${value});`];
    case 'structs':
      return [
        `    ${value}.forEach((each, i) => void ${camelCase(type.name)}Codec.write(target, at + ${offset} + i * ${type.size}, each));`,
      ];
  }
}

function readOf({ type, offset }: FieldLayout): string {
  switch (type.kind) {
    case 'integer':
      return `source.read${accessor(type.bits, type.bigEndian)}(at + ${offset})`;
    case 'bytes':
      return `Uint8Array.prototype.slice.call(source, at + ${offset}, at + ${offset + type.length})`;
    case 'integers':
      return `[${Array.from({ length: type.length }, (_, i) => `source.read${accessor(type.bits, false)}(at + ${offset + (i * type.bits) / 8})`).join(', ')}]`;
    case 'struct':
      return `${camelCase(type.name)}Codec.read(source, at + ${offset})`;
    case 'structs':
      return `Array.from({ length: ${type.length} }, (_, i) => ${camelCase(type.name)}Codec.read(source, at + ${offset} + i * ${type.size}))`;
  }
}

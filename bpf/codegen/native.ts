/** Writes what native/sluice.h declares: records and numbers, whose names go without the library's prefix, and functions. */
import { readFunctions, writeFunctions } from './functions.ts';
import { type EnumLayout, type FieldType, type Layouts, readLayouts, type StructLayout } from './layout.ts';
import { writeTypeScript } from './typescript.ts';

const HEADER = `// Generated from native/sluice.h by \`npm run generate\`; do not edit.
//
// Everything that crosses between the engine and libsluice. Addresses of memory are bigints; everything is in host order.
`;

/** `objectPath`: of abi.bpf.c, compiled. */
export function writeNative(objectPath: string, headerPath: string): string {
  const { enums, structs } = readLayouts(objectPath, 'addresses');
  const layouts: Layouts = { enums: enums.map(unprefixedEnum), structs: structs.map(unprefixedStruct) };
  return [writeTypeScript(layouts, HEADER), writeFunctions(readFunctions(headerPath))].join('\n');
}

function unprefixed(name: string): string {
  if (!/^sluice_/i.test(name)) throw new Error(`Cannot generate ${name}: names of the library begin with its own`);
  return name.slice('sluice_'.length);
}

function unprefixedEnum({ name, values }: EnumLayout): EnumLayout {
  return { name: unprefixed(name), values: values.map((each) => ({ ...each, name: unprefixed(each.name) })) };
}

function unprefixedStruct({ name, fields, size }: StructLayout): StructLayout {
  return { name: unprefixed(name), size, fields: fields.map((field) => ({ ...field, type: unprefixedType(field.type) })) };
}

function unprefixedType(type: FieldType): FieldType {
  return type.kind === 'struct' || type.kind === 'structs' ? { ...type, name: unprefixed(type.name) } : type;
}

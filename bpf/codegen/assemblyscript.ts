/** Writes the guest's views: the enums a plugin meets, and a reader and a writer for each field of the plugin structs. */
import { camelCase, type EnumLayout, type FieldLayout, type Layouts, memberName, pascalCase, type StructLayout } from './layout.ts';

const HEADER = `// Generated from bpf/abi.h and bpf/plugin-abi.h by \`npm run generate\`; do not edit.
//
// Views of the records that host and plugin share: \`at\` is where the record begins in this module's memory.
`;

const GUEST_ENUMS = new Set([
  'direction',
  'identity',
  'context',
  'verdict',
  'scope',
  'plugin_field',
  'plugin_slot',
  'plugin_context_flag',
  'plugin_action',
  'verdict_word',
]);

export function writeAssemblyScript(layouts: Layouts): string {
  const structs = layouts.structs.filter(({ name }) => ['plugin_context', 'plugin_header', 'plugin_result'].includes(name));
  const enums = layouts.enums.filter((layout) => GUEST_ENUMS.has(layout.name));
  return [HEADER, ...enums.map(writeEnum), ...structs.flatMap(writeStruct)].join('\n');
}

/** Names carry a suffix where a class of the SDK has the better claim to the plain one. */
function writeEnum(layout: EnumLayout): string {
  const members = layout.values.map((v) => `  ${memberName(layout, v.name)} = ${v.value},`);
  return [`export const enum ${pascalCase(layout.name)}Value {`, ...members, '}', ''].join('\n');
}

function writeStruct(layout: StructLayout): string[] {
  const name = pascalCase(layout.name);
  return [
    `export const ${layout.name.toUpperCase()}_SIZE: i32 = ${layout.size};`,
    ...layout.fields.filter((field) => field.name !== 'pad').map((field) => writeField(name, field)),
    '',
  ];
}

function writeField(struct: string, field: FieldLayout): string {
  const name = `${camelCase(struct.charAt(0).toLowerCase() + struct.slice(1))}${pascalCase(field.name)}`;
  const { type, offset } = field;
  const inline = '// @ts-ignore: decorator\n@inline';
  if (type.kind === 'integer') {
    const scalar = `u${type.bits}`;
    return [
      `${inline} export function ${name}(at: usize): ${scalar} { return load<${scalar}>(at, ${offset}); }`,
      `${inline} export function set${name.charAt(0).toUpperCase()}${name.slice(1)}(at: usize, value: ${scalar}): void { store<${scalar}>(at, value, ${offset}); }`,
    ].join('\n');
  }
  if (type.kind === 'integers') {
    const scalar = `u${type.bits}`;
    return `${inline} export function ${name}(at: usize, index: i32): ${scalar} { return load<${scalar}>(at + (<usize>index << ${type.bits === 32 ? 2 : 1}), ${offset}); }`;
  }
  return `${inline} export function ${name}(at: usize): usize { return at + ${offset}; }`;
}

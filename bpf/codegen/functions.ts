/** Writes the functions of native/sluice.h as ffi-napi wants them named: what each returns, and what it takes. */
import { readFileSync } from 'node:fs';

const NUMBERS: Readonly<Record<string, string>> = { int: 'int', int32_t: 'int', uint32_t: 'uint32', uint64_t: 'uint64' };

export interface NativeFunction {
  readonly name: string;
  readonly returns: string;
  readonly takes: readonly string[];
}

/** Every function that the header declares for others. @throws Error where a type has no name for ffi-napi */
export function readFunctions(headerPath: string): NativeFunction[] {
  const text = readFileSync(headerPath, 'utf8').replace(/\/\*[\s\S]*?\*\//g, '');
  const handles = new Set([...text.matchAll(/^struct (sluice_\w+);/gm)].map(([, name]) => name as string));
  const pointers = new Set([...text.matchAll(/^typedef .*\(\*(\w+)\)/gm)].map(([, name]) => name as string));
  const typeOf = (parameter: string): string => {
    const [, type = '', stars = '', array = ''] = /^(?:const )?(?:struct )?(\w+) ?(\**)\w+(\[\d+\])?$/.exec(parameter) ?? [];
    if (stars === '*' && parameter.startsWith('const char ')) return 'string';
    if (stars === '*' && handles.has(type)) return 'size_t';
    if (stars || array || pointers.has(type)) return 'pointer';
    const number = NUMBERS[type];
    if (!number) throw new Error(`Cannot generate a function that takes ${parameter}`);
    return number;
  };
  const declared = [...text.matchAll(/^SLUICE_API (\w+) (sluice_\w+)\(([^)]*)\);/gm)];
  return declared.map(([, returned = '', name = '', parameters = '']) => {
    const returns = returned === 'void' ? 'void' : NUMBERS[returned];
    if (!returns) throw new Error(`Cannot generate ${name}: it returns ${returned}`);
    const takes = parameters === 'void' ? [] : parameters.split(',').map((each) => typeOf(each.trim().replace(/\s+/g, ' ')));
    return { name, returns, takes };
  });
}

export function writeFunctions(functions: readonly NativeFunction[]): string {
  const quoted = (names: readonly string[]): string => names.map((name) => `'${name}'`).join(', ');
  return [
    '/** Handles are addresses, as numbers: size_t. */',
    'export const FUNCTIONS = {',
    ...functions.map(({ name, returns, takes }) => `  ${name}: ['${returns}', [${quoted(takes)}]],`),
    '} as const;',
    '',
  ].join('\n');
}

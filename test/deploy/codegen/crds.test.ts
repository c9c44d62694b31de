/** The CRDs are fresh, and structural as an API server wants it; which objects they take a real one says (crds.cluster.test.ts). */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { schemaOf, writeCrds } from '../../../deploy/codegen/crds.ts';
import { type Structural, structural } from '../../../deploy/codegen/structural.ts';
import { note } from '../../../engine/sources/note.ts';
import { otherwise } from '../../../engine/sources/schema.ts';

const folder = fileURLToPath(new URL('../../../deploy/crds/', import.meta.url));
const KINDS = ['PluginPolicy', 'PolicyPlugin', 'HostPolicy', 'NodeReport'];

/** Every part of a schema, by its path. */
function* parts(schema: Structural, path: string): Generator<[string, Structural]> {
  yield [path, schema];
  for (const [name, each] of Object.entries(schema.properties ?? {})) yield* parts(each, `${path}.${name}`);
  if (schema.items) yield* parts(schema.items, `${path}[]`);
  if (schema.additionalProperties) yield* parts(schema.additionalProperties, `${path}.*`);
}

test('what stands in deploy/crds is what the schemas declare', () => {
  const written = new Map(
    readdirSync(folder)
      .filter((name) => name.endsWith('.yaml'))
      .map((name) => [name, readFileSync(folder + name, 'utf8')]),
  );
  expect(written).toEqual(new Map([...writeCrds()].sort()));
  for (const text of written.values()) expect(parse(text).kind).toBe('CustomResourceDefinition');
});

describe.each(KINDS)('%s', (kind) => {
  const all = [...parts(schemaOf(kind), kind)];

  test('is structural: each part has a type, or takes anything, or integers and texts', () => {
    const wrong = all.filter(
      ([, part]) =>
        !['object', 'array', 'string', 'integer', 'number', 'boolean'].includes(part.type ?? '') &&
        !part['x-kubernetes-int-or-string'] &&
        !part['x-kubernetes-preserve-unknown-fields'],
    );
    expect(wrong).toEqual([]);
    const keywords = new Set(all.flatMap(([, part]) => Object.keys(part)));
    for (const forbidden of ['$ref', '$schema', 'anyOf', 'oneOf', 'allOf', 'const', 'otherwise', 'fileOnly', 'patterns'])
      expect(keywords).not.toContain(forbidden);
    for (const [path, part] of all) expect(part.properties && part.additionalProperties, path).toBeFalsy();
  });

  test('every list has a type and a bound, and every text and map that a rule can be about has a bound', () => {
    const lists = all.filter(([, part]) => part.type === 'array');
    expect(lists.filter(([, part]) => !part['x-kubernetes-list-type'] || part.maxItems === undefined).map(([path]) => path)).toEqual([]);
    const texts = all.filter(([, part]) => part.type === 'string' && part['x-kubernetes-validations'] && part.maxLength === undefined);
    expect(texts.map(([path]) => path)).toEqual([]);
    const maps = all.filter(([, part]) => part.additionalProperties && part.maxProperties === undefined);
    expect(maps.map(([path]) => path)).toEqual([]);
  });

  test('every field that people write says what it is for', () => {
    const silent = all.filter(
      ([path, part]) => !part.description && /\.[a-zA-Z]+$/.test(path) && !/^[A-Za-z]+\.(apiVersion|kind|metadata)$/.test(path),
    );
    expect(silent.map(([path]) => path)).toEqual([]);
  });

  test('patterns are written as an API server reads them: without looking ahead or behind', () => {
    const patterns = all.flatMap(([, part]) => [part.pattern, ...(part['x-kubernetes-validations'] ?? []).map(({ rule }) => rule)]);
    for (const pattern of patterns) expect(String(pattern)).not.toMatch(/\(\?[=!<]/);
  });

  test('a default is a value that its own part takes', () => {
    for (const [path, part] of all) if (part.enum && part.default !== undefined) expect(part.enum, path).toContain(part.default);
  });
});

describe('structural()', () => {
  test.each([
    {
      name: 'what may be null is what it may be else',
      schema: z.string().nullish(),
      want: { type: 'string' },
    },
    { name: 'a transformation is what it reads', schema: z.string().transform(Number), want: { type: 'string' } },
    {
      name: 'a value for who says nothing is a default',
      schema: otherwise(z.enum(['a', 'b']), 'a'),
      want: { type: 'string', enum: ['a', 'b'], default: 'a' },
    },
    {
      name: 'numbers or texts',
      schema: z.union([z.int().min(1).max(9), z.string().max(3).regex(/^x*$/, 'x')]),
      want: { 'x-kubernetes-int-or-string': true, minimum: 1, maximum: 9, maxLength: 3, pattern: '^x*$' },
    },
    {
      name: 'a pattern with a sentence is a rule with that sentence',
      schema: z
        .string()
        .max(9)
        .regex(/^a\.b$/, 'must be a.b'),
      want: { type: 'string', maxLength: 9, 'x-kubernetes-validations': [{ rule: "self.matches('^a\\\\.b$')", message: 'must be a.b' }] },
    },
    {
      name: 'a pattern of so many texts that a rule would cost too much stays a pattern',
      schema: z
        .array(
          z
            .string()
            .max(253)
            .regex(/^(a|b|c|d)*$/, 'must be of a, b, c and d'),
        )
        .max(100_000),
      want: {
        type: 'array',
        maxItems: 100_000,
        'x-kubernetes-list-type': 'atomic',
        items: { type: 'string', maxLength: 253, pattern: '^(a|b|c|d)*$' },
      },
    },
    {
      name: 'a field for files only is left out, and so is one that has only such',
      schema: z.strictObject({ a: z.string(), b: z.strictObject({ file: z.string().meta({ fileOnly: true }) }) }),
      want: { type: 'object', properties: { a: { type: 'string' } }, required: ['a'] },
    },
    {
      name: 'keys of a map are a rule',
      schema: z.record(z.string().regex(/^a$/, 'must be a'), z.boolean()).meta({ maxProperties: 2 }),
      want: {
        type: 'object',
        maxProperties: 2,
        additionalProperties: { type: 'boolean' },
        'x-kubernetes-validations': [{ rule: "self.all(key, key.matches('^a$'))", message: 'each key must be a' }],
      },
    },
    {
      name: 'anything is anything',
      schema: z.record(z.string(), z.unknown()),
      want: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
    },
    {
      name: 'a note has its rules',
      schema: z.boolean().meta(note('Why.', { rules: { 'must be so': 'self' } })),
      want: { type: 'boolean', description: 'Why.', 'x-kubernetes-validations': [{ rule: 'self', message: 'must be so' }] },
    },
  ])('$name', ({ schema, want }) => {
    expect(structural(schema)).toEqual(want);
  });

  test.each([
    { name: 'a choice of two objects', schema: z.union([z.strictObject({ a: z.string() }), z.strictObject({ b: z.string() })]) },
    { name: 'two patterns of one text', schema: z.string().regex(/a/, 'a').regex(/b/, 'b') },
  ])('refuses $name, which no structural schema can say', ({ schema }) => {
    expect(() => structural(z.strictObject({ field: schema }))).toThrow('Cannot write a structural schema');
  });
});

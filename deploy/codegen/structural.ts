/**
 * From a schema that reads objects to one that an API server takes: structural, in OpenAPI v3. It is of the text that the schema
 * reads, so of the input of every transformation.
 *
 * A text's pattern becomes a rule in CEL, whose message is the schema's own; where that would cost too much, because there may be
 * so many of these texts in one object, it stays a pattern, which costs nothing there and explains nothing.
 */
import { z } from 'zod';
import { matches } from '../../engine/sources/note.ts';

export interface Structural {
  type?: string;
  properties?: Record<string, Structural>;
  required?: string[];
  items?: Structural;
  additionalProperties?: Structural;
  maxItems?: number;
  maxProperties?: number;
  maxLength?: number;
  default?: unknown;
  'x-kubernetes-validations'?: { rule: string; message: string }[];
  [keyword: string]: unknown;
}

/** A schema as zod writes it: with all that is converted here. */
interface Json {
  type?: string | string[];
  properties?: Record<string, Json>;
  required?: string[];
  items?: Json;
  additionalProperties?: Json | boolean;
  anyOf?: Json[];
  minimum?: number;
  maximum?: number;
  maxItems?: number;
  maxProperties?: number;
  maxLength?: number;
  pattern?: string;
  patterns?: readonly TextPattern[];
  /** Of the keys of a map. */
  propertyNames?: Json;
  description?: string;
  /** See `otherwise` in engine/sources/schema.ts. */
  otherwise?: unknown;
  fileOnly?: boolean;
}
interface TextPattern {
  readonly source: string;
  readonly message: string | undefined;
}

/** The share of one pattern in the 10,000,000 that a rule may cost: the estimate here is rougher than the API server’s. */
const RULE_COST = 2_000_000;
/** Keywords that are converted, and those that say nothing to an API server. */
const CONVERTED = new Set(
  'type properties additionalProperties items anyOf minimum maximum pattern patterns description otherwise'.split(' '),
);
const LEFT_OUT = new Set(['$schema', 'allOf', 'propertyNames', 'fileOnly']);

/** @throws Error when the schema cannot be written as a structural one. */
export function structural(schema: z.ZodType): Structural {
  const json = z.toJSONSchema(schema, {
    io: 'input',
    unrepresentable: 'any',
    reused: 'inline',
    override: ({ zodSchema, jsonSchema }) => {
      const patterns = patternsOf(zodSchema);
      if (patterns.length) Object.assign(jsonSchema, { patterns });
    },
  });
  return convert(json as Json, '', 1);
}

function patternsOf(schema: z.core.$ZodTypes): TextPattern[] {
  return (schema._zod.def.checks ?? []).flatMap((check) => {
    const { pattern, error } = check._zod.def as unknown as { pattern?: RegExp; error?: (issue: object) => string };
    return pattern ? [{ source: pattern.source, message: error?.({}) }] : [];
  });
}

/** `times`: how often this part can stand in an object. */
function convert(written: Json, path: string, times: number): Structural {
  const json = withoutNull(written);
  const rest: Structural = {
    ...(typeof json.type === 'string' && { type: json.type }),
    ...(json.description && { description: json.description }),
    ...Object.fromEntries(Object.entries(json).filter(([key]) => !CONVERTED.has(key) && !LEFT_OUT.has(key))),
    ...(json.otherwise !== undefined && { default: json.otherwise }),
  };
  if (json.anyOf) return { ...rest, ...intOrString(json.anyOf, path) };
  switch (json.type) {
    case 'object':
      return { ...rest, ...convertObject(json, path, times) };
    case 'array':
      return {
        ...rest,
        'x-kubernetes-list-type': rest['x-kubernetes-list-type'] ?? 'atomic',
        items: convert(json.items as Json, `${path}[]`, times * (json.maxItems ?? 1000)),
      };
    case 'integer':
      return { ...rest, ...integerBounds(json) };
    case 'string':
      return withPatterns(json.pattern && !json.patterns ? { ...rest, pattern: json.pattern } : rest, json.patterns ?? [], times);
    case 'boolean':
    case 'number':
      return rest;
    case undefined:
      return { ...rest, 'x-kubernetes-preserve-unknown-fields': true };
    default:
      throw new Error(`Cannot write a structural schema of ${path}: it has type ${json.type}`);
  }
}

function convertObject(json: Json, path: string, times: number): Partial<Structural> {
  const { properties, additionalProperties } = json;
  if (properties) {
    const served = Object.entries(properties).filter(([, each]) => !isForFiles(each));
    return {
      properties: Object.fromEntries(served.map(([name, each]) => [name, convert(each, `${path}.${name}`, times)])),
      ...(json.required && { required: json.required.filter((name) => served.some(([each]) => each === name)) }),
    };
  }
  if (typeof additionalProperties !== 'object') throw new Error(`Cannot write a structural schema of ${path}: it has no fields`);
  const inner = convert(additionalProperties, `${path}.*`, times * (json.maxProperties ?? 100));
  // Anything at all.
  if (!inner.type && inner['x-kubernetes-preserve-unknown-fields']) return { 'x-kubernetes-preserve-unknown-fields': true };
  const [name] = json.propertyNames?.patterns ?? [];
  const rule = name?.message && { rule: `self.all(key, ${matches('key', name.source)})`, message: `each key ${name.message}` };
  return { additionalProperties: inner, ...(rule && { 'x-kubernetes-validations': [rule] }) };
}

/** A field of files only, or one that has no others. */
function isForFiles(json: Json): boolean {
  if (json.fileOnly) return true;
  const { properties } = withoutNull(json);
  return !!properties && Object.values(properties).length > 0 && Object.values(properties).every(isForFiles);
}

/** Of a value or null, the value: the API server takes null for absent. */
function withoutNull(json: Json): Json {
  if (Array.isArray(json.type)) return { ...json, type: json.type.filter((type) => type !== 'null')[0] as string };
  const choices = json.anyOf?.filter(({ type }) => type !== 'null');
  if (!choices || choices.length === json.anyOf?.length) return json;
  const { anyOf: _, ...outer } = json;
  const inner: Json = choices.length === 1 ? (choices[0] as Json) : { anyOf: choices };
  return withoutNull({ ...inner, ...outer });
}

/** Bounds of numbers are about those of the values that are numbers, and patterns about those that are texts. */
function intOrString(choices: readonly Json[], path: string): Structural {
  const integer = choices.find(({ type }) => type === 'integer');
  const text = choices.find(({ type }) => type === 'string');
  if (choices.length !== 2 || !integer || !text) throw new Error(`Cannot write a structural schema of ${path}: it is a choice of types`);
  const [pattern] = text.patterns ?? [];
  return {
    'x-kubernetes-int-or-string': true,
    ...integerBounds(integer),
    ...(text.maxLength !== undefined && { maxLength: text.maxLength }),
    ...(pattern && { pattern: pattern.source }),
  };
}

function integerBounds({ minimum, maximum }: Json): Structural {
  return {
    ...(minimum !== Number.MIN_SAFE_INTEGER && { minimum }),
    ...(maximum !== Number.MAX_SAFE_INTEGER && { maximum }),
  };
}

function withPatterns(rest: Structural, patterns: readonly TextPattern[], times: number): Structural {
  const [only] = patterns;
  if (!only) return rest;
  if (patterns.length > 1) throw new Error(`Cannot write a structural schema: a text has several patterns, ${only.source} and others`);
  const cost = times * Math.ceil((rest.maxLength ?? Number.POSITIVE_INFINITY) / 10) * Math.ceil(only.source.length / 4);
  if (only.message === undefined || cost > RULE_COST) return { ...rest, pattern: only.source };
  const rule = { rule: matches('self', only.source), message: only.message };
  return { ...rest, 'x-kubernetes-validations': [...(rest['x-kubernetes-validations'] ?? []), rule] };
}

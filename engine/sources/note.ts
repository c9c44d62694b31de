/**
 * Notes on a schema, for who reads `kubectl explain` and for the API server that checks objects before an engine sees them: what
 * a field is for, bounds, and rules in CEL for what the schemas of an API server cannot say. A reader of files goes by none of
 * it: each rule says again, there, what a refinement beside it says here. deploy/codegen/ makes CRDs of both.
 */

interface Bounds {
  readonly maxItems?: number;
  readonly maxProperties?: number;
  readonly maxLength?: number;
}

interface Note extends Bounds {
  /** The sentence for who broke it → the rule in CEL. The bounds are there so that its cost is known. */
  readonly rules?: Readonly<Record<string, string>>;
  /** Only a manifest in a file can have it. */
  readonly fileOnly?: true;
  readonly [keyword: string]: unknown;
}

/** The note in the form that `.meta()` takes. */
export function note(description: string, { rules, ...keywords }: Note = {}): Record<string, unknown> {
  const validations = Object.entries(rules ?? {}).map(([message, rule]) => ({ rule, message }));
  return { description, ...(validations.length && { 'x-kubernetes-validations': validations }), ...keywords };
}

/** Whether a text has a pattern, as a rule says it. */
export function matches(subject: string, pattern: string): string {
  return `${subject}.matches('${pattern.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}')`;
}

/** Entries that lists of our own kinds have at most, through an API server. */
export const MOST = { rules: 64, peers: 64, ports: 64, names: 256, excepts: 16, requirements: 12, labels: 32, values: 64 } as const;

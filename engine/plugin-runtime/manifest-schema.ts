/**
 * A module's manifest, in its custom section `sluice.manifest`: JSON of at most 64 KiB.
 *
 * It bounds the module: the host writes no field into the context record that the manifest does not name, and links no
 * host function whose capability it does not ask for. A module cannot gain by lying here.
 */
import { z } from 'zod';
import { EngineError } from '../errors.ts';
import { CAPABILITIES } from '../policy/objects.ts';
import { ABI, HOOKS, MANIFEST_SECTION } from './abi.ts';
import { FIELD_NAMES } from './fields.ts';

const MANIFEST_BYTES_MAX = 65_536;
/** The reason's index has 12 bits in the verdict word. */
const REASONS_MAX = 4095;
export const TABLE_SLOTS_MAX = 65_536;

/** RFC 9110 tokens; cookies are alike (RFC 6265). */
const token = z.string().regex(/^[!#$%&'*+.^_`|~0-9a-z-]{1,128}$/, 'must be a header name in lower case');
const cookie = z.string().regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$/, 'must be a cookie name');
const short = z
  .string()
  .min(1)
  .max(256)
  .regex(/^\P{Cc}*$/u, 'must have no control characters');
const label = z.string().regex(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/, 'must have lower-case letters, digits and dashes');

const schema = z.strictObject({
  abi: z.literal(ABI, `must be ${ABI}`),
  name: label,
  version: short,
  hooks: z.array(z.enum(HOOKS as [string, ...string[]])).min(1),
  fields: z.array(z.enum(FIELD_NAMES as [string, ...string[]], { error: `must be of ${FIELD_NAMES.join(', ')}` })).default([]),
  headers: z.array(token).max(64).default([]),
  cookies: z.array(cookie).max(64).default([]),
  capabilities: z.array(z.enum(CAPABILITIES)).default([]),
  tables: z
    .array(z.strictObject({ name: label, slots: z.int().min(8).max(TABLE_SLOTS_MAX) }))
    .max(16)
    .default([]),
  sets: z.array(label).max(16).default([]),
  reasons: z.array(short).max(REASONS_MAX).default([]),
  routes: z.array(short).max(256).default([]),
});

export type Manifest = z.infer<typeof schema>;

/** Reads a manifest's bytes. @throws EngineError `PLUGIN_INVALID` with the first thing that is wrong. */
export function readManifest(bytes: Uint8Array): Manifest {
  const refuse = (reason: string, cause?: unknown): EngineError =>
    new EngineError('PLUGIN_INVALID', `Cannot read the manifest (custom section ${MANIFEST_SECTION}): ${reason}`, cause);
  if (bytes.length > MANIFEST_BYTES_MAX) throw refuse(`it has ${bytes.length} bytes; at most ${MANIFEST_BYTES_MAX} are taken`);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw refuse('it is not JSON in UTF-8', error);
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw refuse(`${issue?.path.join('.') || 'it'}: ${issue?.message}`);
}

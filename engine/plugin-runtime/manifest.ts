/** The host's use of a manifest; what one may say is in manifest-schema.ts. Loaded by every flow worker: no schema here. */
import { PluginField } from '../abi.gen.ts';
import { HOOKS } from './abi.ts';
import { FIELD_BITS } from './fields.ts';
import type { Manifest } from './manifest-schema.ts';

export type { Manifest } from './manifest-schema.ts';

/** The PluginField bits that the host fills in for a manifest. */
export function declaredFields(manifest: Manifest): number {
  let bits = 0;
  for (const name of manifest.fields) bits |= FIELD_BITS.get(name) ?? 0;
  if (manifest.headers.length) bits |= PluginField.HEADER;
  if (manifest.cookies.length) bits |= PluginField.COOKIE;
  return bits;
}

/** Of a set of names, as a bit mask of hooks. */
export function hookMask(manifest: Manifest): number {
  return manifest.hooks.reduce((mask, hook) => mask | (1 << HOOKS.indexOf(hook)), 0);
}

/** The differences between two manifests, as people read them; empty when there are none. */
export function manifestChanges(before: Manifest, after: Manifest): string[] {
  const changes: string[] = [];
  if (before.version !== after.version) changes.push(`version ${before.version} → ${after.version}`);
  const lists = (manifest: Manifest): Record<string, readonly string[]> => ({
    hook: manifest.hooks,
    field: manifest.fields,
    header: manifest.headers,
    cookie: manifest.cookies,
    capability: manifest.capabilities,
    table: manifest.tables.map(({ name, slots }) => `${name} (${slots} slots)`),
    set: manifest.sets,
    reason: manifest.reasons,
    route: manifest.routes,
  });
  const [old, now] = [lists(before), lists(after)];
  for (const [kind, names] of Object.entries(now)) {
    for (const name of names) if (!old[kind]?.includes(name)) changes.push(`+ ${kind} ${name}`);
    for (const name of old[kind] ?? []) if (!names.includes(name)) changes.push(`- ${kind} ${name}`);
  }
  return changes;
}

/** One version of a plugin: a module under the settings of its PolicyPlugin, audited, and what it has done so far. */
import { createHash } from 'node:crypto';
import { emptyCounts, type VersionCounts } from '../plugin-runtime/counts.ts';
import { manifestChanges } from '../plugin-runtime/manifest.ts';
import type { VersionParts } from '../plugin-runtime/version-parts.ts';
import type { PluginSet, PolicyPlugin } from '../policy/objects.ts';
import { type AuditedModule, auditModule } from './audit.ts';
import { trapLines } from './line-table.ts';
import type { TrustedKey } from './signature.ts';
import { hashOf, type Origin } from './version-store.ts';

/** A plugin as the source declares it. */
export type Declaration = PolicyPlugin;

export interface Version {
  /** Counts versions of all plugins in this process. */
  readonly serial: number;
  readonly sha256: string;
  readonly origin: Origin;
  /** Of module and settings: everything that its verdicts may depend on. */
  readonly hash: string;
  readonly audited: AuditedModule;
  readonly parts: VersionParts;
  readonly counts: VersionCounts;
  /** Of a shadow: `allow → deny` → how many. */
  readonly changed: Map<string, number>;
  lastTrap: string;
}

let serials = 0;

/** Audits a module under a declaration. @throws EngineError `PLUGIN_INVALID` */
export async function makeVersion(
  bytes: Uint8Array,
  from: { declaration: Declaration; origin: Origin; trustedKeys: readonly TrustedKey[]; tablesDirectory: string },
): Promise<Version> {
  const { declaration, origin, trustedKeys, tablesDirectory } = from;
  const { memoryPages, fuel, capabilities, sets, config } = declaration;
  const audited = await auditModule(bytes, { memoryPages, fuel, capabilities, sets: Object.keys(sets), trustedKeys });
  const { module, manifest, signer } = audited;
  serials += 1;
  return {
    serial: serials,
    sha256: hashOf(bytes),
    origin,
    hash: versionHash(bytes, declaration),
    audited,
    parts: {
      plugin: declaration.name,
      module,
      manifest,
      trusted: signer !== undefined,
      config,
      fuel,
      sets: manifest.sets.map((name) => sets[name] as PluginSet),
      tablesDirectory,
    },
    counts: emptyCounts(),
    changed: new Map(),
    lastTrap: '',
  };
}

/** Of a module under the settings that its verdicts may depend on. */
export function versionHash(bytes: Uint8Array, declaration: Declaration): string {
  const { config, evaluateMs, memoryPages, fuel, capabilities, sets } = declaration;
  return createHash('sha256')
    .update(JSON.stringify([config, evaluateMs, memoryPages, fuel, capabilities, sets]))
    .update(bytes)
    .digest('hex');
}

/** `1.2.0 (8c1f…)`, for people. */
export function versionName({ audited, sha256 }: Version): string {
  return `${audited.manifest.version} (${sha256.slice(0, 12)})`;
}

/** A trap's message with the author's file and line, where the module says them. */
export function describeTrap({ audited }: Version, message: string, offsets: readonly number[]): string {
  const [first] = trapLines(audited, offsets);
  return first ? `${message} at ${first}` : message;
}

/** The answer to a push: fields that the module reads, capabilities that it wants, differences to the version in force. */
export function auditView(version: Version, live: Version | undefined) {
  const { manifest, signer } = version.audited;
  return {
    version: manifest.version,
    sha256: version.sha256,
    signer: signer ?? '',
    hooks: manifest.hooks,
    fields: manifest.fields,
    headers: manifest.headers,
    cookies: manifest.cookies,
    capabilities: manifest.capabilities,
    changes: live ? manifestChanges(live.audited.manifest, manifest) : [],
  };
}

/** One version of a plugin: a module under the settings of its PolicyPlugin, audited, and what it has done so far. */
import { createHash } from 'node:crypto';
import type { Capability } from '../plugin-runtime/abi.ts';
import { manifestChanges } from '../plugin-runtime/manifest.ts';
import type { SetContent } from '../plugin-runtime/named-set.ts';
import type { VersionParts } from '../plugin-runtime/version-parts.ts';
import { type AuditedModule, auditModule } from './audit.ts';
import { trapLines } from './line-table.ts';
import type { TrustedKey } from './signature.ts';
import { hashOf, type Origin } from './version-store.ts';

/** What the source says about a plugin. */
export interface Declaration {
  readonly name: string;
  readonly file?: string;
  readonly failurePolicy: 'Allow' | 'Deny';
  readonly mode: 'Enforce' | 'Shadow';
  readonly evaluateMs: number;
  readonly memoryPages: number;
  /** Units for one evaluation. */
  readonly fuel: number;
  readonly capabilities: readonly Capability[];
  readonly sets: Readonly<Record<string, SetContent>>;
  /** One `path = value` a line. */
  readonly config: string;
}

/** What a version did, added up; see flow/messages.ts. */
export interface Counts {
  evaluations: number;
  traps: number;
  nonsense: number;
  skipped: number;
  readonly actions: number[];
  readonly reasons: number[];
  readonly fuel: Histogram;
  readonly latency: Histogram;
}

export interface Histogram {
  sum: number;
  readonly buckets: number[];
}

export interface Version {
  /** Counts versions of all plugins in this process. */
  readonly serial: number;
  readonly sha256: string;
  readonly origin: Origin;
  /** Of module and settings: everything that its verdicts may depend on. */
  readonly hash: string;
  readonly audited: AuditedModule;
  readonly parts: VersionParts;
  readonly counts: Counts;
  /** Of a shadow: `allow → deny` → how many. */
  readonly changed: Map<string, number>;
  lastTrap: string;
}

let serials = 0;

/** Audits a module under a declaration. @throws EngineError `PLUGIN_INVALID` */
export async function makeVersion(
  bytes: Uint8Array,
  from: { declaration: Declaration; origin: Origin; trustedKeys: readonly TrustedKey[]; tablesDirectory: string; counts: Counts },
): Promise<Version> {
  const { declaration, origin, trustedKeys, tablesDirectory, counts } = from;
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
      sets: manifest.sets.map((name) => sets[name] as SetContent),
      tablesDirectory,
    },
    counts,
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

/** What a push tells its author: what the module reads and wants, and what differs from the version in force. */
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

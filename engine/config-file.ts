/**
 * The engine's configuration file, YAML or JSON: any flag of `sluice run` by its name, and what has no flag: who may use
 * the API (`access`), whose plugins are trusted (`trustedKeys`), and from where their modules may come (`modules`).
 *
 * Nothing has a default that lets anybody in. Paths are relative to the file; the files that it names are read once, at
 * the start.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { parseDocument } from 'yaml';
import { z } from 'zod';
import { EngineError, messageOf } from './errors.ts';

/** `read`: everything that only looks. `push`: everything. */
export type Role = 'read' | 'push';

export interface ApiAccess {
  /** SHA-256 of each bearer token. */
  readonly tokens: readonly { readonly name: string; readonly role: Role; readonly sha256: Buffer }[];
  /** Roles of client certificates, by the common name of their subject. */
  readonly clients: ReadonlyMap<string, Role>;
  readonly tls?: { readonly cert: string; readonly key: string; readonly ca?: string };
  /** Tokens may cross a network in clear. */
  readonly plainText: boolean;
}

/** From where the modules of plugins may come, beside URLs and registries with certificates that the system trusts. */
export interface ModuleAccess {
  /** Whose ConfigMaps and Secrets a PolicyPlugin may name: who writes there writes plugins. Absent: the engine's own namespace. */
  readonly namespaces?: readonly string[] | undefined;
  /** PEM: whose certificates count beside those that the system trusts. */
  readonly authority?: string | undefined;
  /** Registries, `host` or `host:port`, that are asked without TLS. */
  readonly plainText: readonly string[];
  /** Hosts from which tokens for a registry come, by the registry. */
  readonly tokenHosts: Readonly<Record<string, readonly string[]>>;
  /** Modules may come from this machine's own addresses. */
  readonly loopback: boolean;
}

export interface ConfigFile {
  readonly access: ApiAccess;
  /** PEM, and where it was found. */
  readonly trustedKeys: readonly { readonly pem: string; readonly from: string }[];
  readonly modules: ModuleAccess;
}

export const NO_CONFIG_FILE: ConfigFile = {
  access: { tokens: [], clients: new Map(), plainText: false },
  trustedKeys: [],
  modules: { plainText: [], tokenHosts: {}, loopback: false },
};

/** A token that can be guessed is none: 32 characters are what 24 random bytes make. */
const TOKEN_CHARACTERS_MIN = 32;

const role = z.enum(['read', 'push']);
const name = z.string().min(1).max(128);
const path = z.string().min(1);
const schema = z.strictObject({
  access: z
    .strictObject({
      tls: z.strictObject({ certificate: path, key: path, clientAuthority: path.optional() }).optional(),
      tokens: z
        .array(
          z.union([
            z.strictObject({ name, role, file: path }),
            z.strictObject({ name, role, sha256: z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 hex digits') }),
          ]),
        )
        .default([]),
      clients: z.array(z.strictObject({ commonName: name, role })).default([]),
      plainText: z.boolean().default(false),
    })
    .prefault({}),
  trustedKeys: z.array(path).default([]),
  modules: z
    .strictObject({
      namespaces: z.array(name).optional(),
      authority: path.optional(),
      plainText: z.array(name).default([]),
      tokenHosts: z.record(name, z.array(name)).default({}),
      loopback: z.boolean().default(false),
    })
    .prefault({}),
});

/** The settings of the file that stand in place of flags. @throws EngineError `CONFIG_INVALID` */
export function readConfigFlags(file: string): Record<string, unknown> {
  const { access: _access, trustedKeys: _trustedKeys, modules: _modules, ...flags } = readDocument(file);
  return flags;
}

/** The settings of the file that have no flag. @throws EngineError `CONFIG_INVALID` with the file, the field and what to write instead. */
export function readConfigFile(file: string): ConfigFile {
  const { access: rawAccess, trustedKeys: rawKeys, modules: rawModules } = readDocument(file);
  const read = (what: string): string => readText(file, resolve(dirname(file), what));
  const parsed = schema.safeParse({
    ...(rawAccess !== undefined && { access: rawAccess }),
    ...(rawKeys !== undefined && { trustedKeys: rawKeys }),
    ...(rawModules !== undefined && { modules: rawModules }),
  });
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw refusal(file, `${issue?.path.join('.') || 'it'}: ${issue?.message}`);
  }
  const { access, trustedKeys, modules } = parsed.data;
  const { tls } = access;
  if (access.clients.length && !tls?.clientAuthority)
    throw refusal(file, 'access.clients needs access.tls.clientAuthority: who signed their certificates');
  return {
    access: {
      tokens: access.tokens.map((token) => ({
        name: token.name,
        role: token.role,
        sha256: 'sha256' in token ? Buffer.from(token.sha256, 'hex') : hashToken(file, token.name, read(token.file).trim()),
      })),
      clients: new Map(access.clients.map((client) => [client.commonName, client.role])),
      ...(tls && {
        tls: { cert: read(tls.certificate), key: read(tls.key), ...(tls.clientAuthority && { ca: read(tls.clientAuthority) }) },
      }),
      plainText: access.plainText,
    },
    trustedKeys: trustedKeys.map((key) => ({ pem: read(key), from: key })),
    modules: { ...modules, authority: modules.authority && read(modules.authority) },
  };
}

function refusal(file: string, reason: string, cause?: unknown): EngineError {
  return new EngineError('CONFIG_INVALID', `Cannot use configuration ${file}: ${reason}`, cause);
}

function readText(file: string, path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw refusal(file, `cannot read ${path}: ${(error as NodeJS.ErrnoException).code ?? messageOf(error)}`, error);
  }
}

function readDocument(file: string): Record<string, unknown> {
  const document = parseDocument(readText(file, resolve(file)));
  if (document.errors[0]) throw refusal(file, document.errors[0].message.split('\n')[0] ?? 'it is not YAML');
  const value: unknown = document.toJS() ?? {};
  if (typeof value !== 'object' || Array.isArray(value)) throw refusal(file, 'it must be a map, such as source: dir:/etc/sluice');
  return value as Record<string, unknown>;
}

function hashToken(file: string, name: string, token: string): Buffer {
  if (token.length < TOKEN_CHARACTERS_MIN)
    throw refusal(
      file,
      `token ${name} has ${token.length} characters; at least ${TOKEN_CHARACTERS_MIN} are needed, such as openssl rand -hex 24 makes`,
    );
  return createHash('sha256').update(token).digest();
}

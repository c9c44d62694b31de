/** One attempt to get a module from where a PolicyPlugin says that it is: a URL, a registry, or a ConfigMap of the cluster. */
import { EngineError, messageOf } from '../../errors.ts';
import type { ModuleReference } from '../../policy/objects.ts';
import { formatObjectName } from '../../policy/problem.ts';
import { readRegularFile } from '../../regular-file.ts';
import { MODULE_BYTES_MAX } from '../audit.ts';
import { hashOf } from '../version-store.ts';
import { Downloader, type DownloadLimits } from './download.ts';
import { type Artifact, manifestDigest, moduleOfManifest, OciRegistry } from './oci-registry.ts';
import { type Credentials, findCredentials } from './registry-credentials.ts';

/** Single objects of the cluster, read with the engine's own rights, when a module needs them. */
export interface ClusterObjects {
  /** The value of a key of binaryData, or of data; undefined where the object, or the key, is not there. @throws EngineError `MODULE_UNAVAILABLE` */
  configMapValue(namespace: string, name: string, key: string, signal: AbortSignal): Promise<Uint8Array | undefined>;
  /** Undefined where it is not there. @throws EngineError `MODULE_UNAVAILABLE` */
  secret(
    namespace: string,
    name: string,
    signal: AbortSignal,
  ): Promise<{ readonly type: string; readonly data: ReadonlyMap<string, Uint8Array> } | undefined>;
}

/** The engine's configuration about fetching. */
export interface ModuleSettings {
  /** Whose ConfigMaps and Secrets a PolicyPlugin may name: who writes there writes plugins. */
  readonly namespaces: readonly string[];
  /** Credentials for registries where no Secret is named: a file as docker login writes. */
  readonly registryAuth?: string | undefined;
  /** PEM: whose certificates count beside those that the system trusts. */
  readonly authority?: string | undefined;
  /** Registries, `host` or `host:port`, that are asked without TLS. */
  readonly plainText: readonly string[];
  /** Hosts from which tokens for a registry come, by the registry. */
  readonly tokenHosts: Readonly<Record<string, readonly string[]>>;
  /** Modules may come from this machine's own addresses. */
  readonly loopback: boolean;
}

/** As `docker login` writes with many registries. */
const AUTH_BYTES_MAX = 1024 * 1024;
const PULL_SECRET = 'kubernetes.io/dockerconfigjson';

export interface Fetched {
  readonly bytes: Uint8Array;
  /** The manifest that names it for ever, by its own digest. */
  readonly manifest?: Uint8Array;
}

export interface FetcherParts {
  readonly settings: ModuleSettings;
  /** Absent where no source is a cluster. */
  readonly cluster?: ClusterObjects | undefined;
  readonly limits?: DownloadLimits;
}

export class ModuleFetcher {
  readonly #parts: FetcherParts;
  readonly #downloader: Downloader;

  constructor(parts: FetcherParts) {
    this.#parts = parts;
    const { loopback, authority } = parts.settings;
    this.#downloader = new Downloader({ loopback, authority, ...(parts.limits && { limits: parts.limits }) });
  }

  /**
   * The module, with the SHA-256 that is wanted where one is.
   *
   * @throws EngineError `PLUGIN_INVALID` when it is not there as it was named, or may not be had; `MODULE_UNAVAILABLE` when another attempt may do.
   */
  async fetch(module: ModuleReference, signal: AbortSignal): Promise<Fetched> {
    switch (module.kind) {
      case 'url':
        return this.#downloader.get({ url: new URL(module.url), bytesMax: MODULE_BYTES_MAX, sha256: module.sha256, signal });
      case 'oci':
        return this.#fetchArtifact(module, signal);
      case 'configMap':
        return { bytes: await this.#readConfigMap(module, signal) };
      default:
        throw new Error(`a module of ${module.kind} is not fetched`);
    }
  }

  close(): Promise<void> {
    return this.#downloader.close();
  }

  async #fetchArtifact(module: ModuleReference & Artifact, signal: AbortSignal): Promise<Fetched> {
    const { settings } = this.#parts;
    const registry = new OciRegistry(
      { ...settings, downloader: this.#downloader },
      module,
      await this.#credentials(module, signal),
      signal,
    );
    const manifest = await registry.manifest();
    const sha256 = moduleOfManifest(manifest.bytes, manifest.contentType);
    if (module.sha256 !== undefined && sha256 !== module.sha256)
      throw new EngineError('PLUGIN_INVALID', `its module’s SHA-256 is ${sha256}, and not ${module.sha256}`);
    const bytes = await registry.module(sha256);
    return { bytes, ...(manifestDigest(module) !== undefined && { manifest: manifest.bytes }) };
  }

  async #credentials(
    { registry, repository, pullSecret }: ModuleReference & Artifact,
    signal: AbortSignal,
  ): Promise<Credentials | undefined> {
    const { registryAuth } = this.#parts.settings;
    if (!pullSecret)
      return registryAuth === undefined ? undefined : findCredentials(readAuth(registryAuth), registryAuth, registry, repository);
    const { namespace, name } = pullSecret;
    const title = formatObjectName({ kind: 'Secret', namespace, name });
    const secret = await this.#objects(title, namespace).secret(namespace, name, signal);
    if (!secret) throw new EngineError('PLUGIN_INVALID', `${title}: there is none`);
    const json = secret.type === PULL_SECRET ? secret.data.get('.dockerconfigjson') : undefined;
    if (!json) throw new EngineError('PLUGIN_INVALID', `${title}: must be of type ${PULL_SECRET}`);
    return findCredentials(Buffer.from(json).toString('utf8'), title, registry, repository);
  }

  async #readConfigMap(module: Extract<ModuleReference, { kind: 'configMap' }>, signal: AbortSignal): Promise<Uint8Array> {
    const { namespace, name, key, sha256 } = module;
    const title = formatObjectName({ kind: 'ConfigMap', namespace, name });
    const bytes = await this.#objects(title, namespace).configMapValue(namespace, name, key, signal);
    if (!bytes) throw new EngineError('PLUGIN_INVALID', `${title} has no ${key}, or is not there`);
    const found = hashOf(bytes);
    if (sha256 !== undefined && found !== sha256)
      throw new EngineError('PLUGIN_INVALID', `${title}: the SHA-256 of ${key} is ${found}, and not ${sha256}`);
    return bytes;
  }

  #objects(title: string, namespace: string): ClusterObjects {
    const { cluster, settings } = this.#parts;
    if (!settings.namespaces.includes(namespace))
      throw new EngineError(
        'PLUGIN_INVALID',
        `${title}: modules and their credentials come from ${settings.namespaces.join(', ')} only; modules.namespaces of --config says so`,
      );
    if (!cluster) throw new EngineError('PLUGIN_INVALID', `${title}: this version reads none of a cluster; use inline, url or oci`);
    return cluster;
  }
}

/** Read anew each time: passwords change. */
function readAuth(path: string): string {
  try {
    const file = readRegularFile(path, AUTH_BYTES_MAX);
    if (file.bytes) return file.bytes.toString('utf8');
    throw new EngineError('PLUGIN_INVALID', `${path}: ${file.refused}`);
  } catch (error) {
    if (error instanceof EngineError) throw error;
    throw new EngineError('MODULE_UNAVAILABLE', `${path}: ${(error as NodeJS.ErrnoException).code ?? messageOf(error)}`, error);
  }
}

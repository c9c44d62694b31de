/**
 * An artifact of a registry, by the OCI distribution API: its manifest, and the one layer that is the module.
 *
 * Written here because npm has no library for it that is alive, typed and small: `@sigstore/oci` attaches signatures, `docker-registry-client` and
 * `@snyk/docker-registry-v2-client` follow any realm with the password. Two GETs and a token are all that is needed.
 */
import { z } from 'zod';
import { EngineError } from '../../errors.ts';
import type { ModulePlace } from '../../policy/objects.ts';
import { MODULE_BYTES_MAX } from '../audit.ts';
import type { Downloaded, Downloader } from './download.ts';
import { readChallenges, tokenUrl } from './oci-challenge.ts';
import type { Credentials } from './registry-credentials.ts';

export type Artifact = Extract<ModulePlace, { kind: 'oci' }>;

/** A manifest of one layer has a few hundred bytes; annotations may be long. */
const MANIFEST_BYTES_MAX = 256 * 1024;
const TOKEN_BYTES_MAX = 64 * 1024;
const DIGEST_KIND = 'sha256:';

const MANIFESTS = ['application/vnd.oci.image.manifest.v1+json', 'application/vnd.docker.distribution.manifest.v2+json'];
/** Asked for, so that the answer is this one and can be told, and not that there is none. */
const INDEXES = ['application/vnd.oci.image.index.v1+json', 'application/vnd.docker.distribution.manifest.list.v2+json'];
const LAYERS = ['application/wasm', 'application/vnd.wasm.content.layer.v1+wasm'];

const manifestSchema = z.looseObject({
  schemaVersion: z.literal(2),
  mediaType: z.string().optional(),
  layers: z.array(z.looseObject({ mediaType: z.string(), digest: z.string(), size: z.int().min(0) })).max(1000),
});
const tokenSchema = z.looseObject({ token: z.string().optional(), access_token: z.string().optional() });

export interface RegistryParts {
  readonly downloader: Downloader;
  /** Hosts, with their ports, that are asked without TLS. */
  readonly plainText: readonly string[];
  /** Hosts from which tokens for a registry come, by the registry. */
  readonly tokenHosts: Readonly<Record<string, readonly string[]>>;
}

/** The SHA-256 of the module that a manifest names. @throws EngineError `PLUGIN_INVALID` when it is no artifact of one module */
export function moduleOfManifest(bytes: Uint8Array, contentType = ''): string {
  const refuse = (why: string): EngineError => new EngineError('PLUGIN_INVALID', `its manifest ${why}`);
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch (error) {
    throw new EngineError('PLUGIN_INVALID', 'its manifest is not JSON', error);
  }
  const own = (json as { mediaType?: unknown; manifests?: unknown } | null) ?? {};
  const type = typeof own.mediaType === 'string' ? own.mediaType : (contentType.split(';')[0]?.trim() ?? '');
  // One with both could be read as either.
  if (INDEXES.includes(type) || own.manifests !== undefined)
    throw refuse('is an index of several manifests: name the digest of one of them, which oras manifest fetch shows');
  if (type && !MANIFESTS.includes(type)) throw refuse(`is of type ${printable(type)}, and not ${MANIFESTS[0]}`);
  const parsed = manifestSchema.safeParse(json);
  if (!parsed.success) throw refuse(`cannot be read: ${parsed.error.issues[0]?.path.join('.')}: ${parsed.error.issues[0]?.message}`);
  const [layer, ...others] = parsed.data.layers;
  if (!layer || others.length) throw refuse(`has ${parsed.data.layers.length} layers, and not one: push the module alone`);
  if (!LAYERS.includes(layer.mediaType))
    throw refuse(
      `has a layer of type ${printable(layer.mediaType)}, and not ${LAYERS.join(' or ')}: oras push … plugin.wasm:application/wasm`,
    );
  if (!/^sha256:[0-9a-f]{64}$/.test(layer.digest)) throw refuse('names its layer by another digest than sha256');
  if (layer.size > MODULE_BYTES_MAX) throw refuse(`has a module of ${layer.size} bytes; at most ${MODULE_BYTES_MAX} are taken`);
  return layer.digest.slice(DIGEST_KIND.length);
}

/** The digest of an artifact's manifest, as 64 hex digits; undefined where it has a tag. */
export function manifestDigest({ reference }: Artifact): string | undefined {
  return reference.startsWith(DIGEST_KIND) ? reference.slice(DIGEST_KIND.length) : undefined;
}

/** One visit to a registry for one repository: who it was let in as is forgotten after it. */
export class OciRegistry {
  readonly #parts: RegistryParts;
  readonly #artifact: Artifact;
  readonly #credentials: Credentials | undefined;
  readonly #signal: AbortSignal;
  readonly #base: URL;
  #authorization: string | undefined;

  constructor(parts: RegistryParts, artifact: Artifact, credentials: Credentials | undefined, signal: AbortSignal) {
    this.#parts = parts;
    this.#artifact = artifact;
    this.#credentials = credentials;
    this.#signal = signal;
    const { registry, repository } = artifact;
    const scheme = parts.plainText.includes(registry) ? 'http' : 'https';
    // Docker Hub is reached under another name.
    this.#base = new URL(`${scheme}://${registry === 'docker.io' ? 'registry-1.docker.io' : registry}/v2/${repository}/`);
  }

  /** Checked against the digest where the artifact is named by it. @throws EngineError as Downloader.get(), and `PLUGIN_INVALID` */
  async manifest(): Promise<{ bytes: Uint8Array; contentType: string }> {
    const { headers, bytes } = await this.#get(`manifests/${this.#artifact.reference}`, {
      headers: { accept: [...MANIFESTS, ...INDEXES].join(', ') },
      bytesMax: MANIFEST_BYTES_MAX,
      sha256: manifestDigest(this.#artifact),
    });
    return { bytes, contentType: String(headers['content-type'] ?? '') };
  }

  /** @throws EngineError as Downloader.get() */
  async module(sha256: string): Promise<Uint8Array> {
    const { bytes } = await this.#get(`blobs/${DIGEST_KIND}${sha256}`, { headers: {}, bytesMax: MODULE_BYTES_MAX, sha256 });
    return bytes;
  }

  async #get(path: string, wanted: { headers: Record<string, string>; bytesMax: number; sha256: string | undefined }): Promise<Downloaded> {
    const ask = (): Promise<Downloaded> =>
      this.#parts.downloader.get({
        ...wanted,
        url: new URL(path, this.#base),
        headers: { ...wanted.headers, ...(this.#authorization && { authorization: this.#authorization }) },
        also: [401],
        signal: this.#signal,
      });
    const first = await ask();
    if (first.status === 200) return first;
    this.#authorization = await this.#authorize(first.headers['www-authenticate']);
    const second = await ask();
    if (second.status === 200) return second;
    throw this.#refusal(
      this.#credentials ? 'does not let these credentials read it' : 'wants credentials: name a pullSecret, or --registry-auth',
    );
  }

  async #authorize(header: string | string[] | undefined): Promise<string> {
    const challenges = readChallenges(header);
    const bearer = challenges.find(({ scheme }) => scheme === 'bearer');
    if (bearer) return `Bearer ${await this.#token(tokenUrl(bearer, this.#site))}`;
    if (!challenges.length) throw this.#refusal('does not say how it wants to be asked');
    if (!this.#credentials) throw this.#refusal('wants credentials: name a pullSecret, or --registry-auth');
    return this.#basic(this.#base, this.#credentials);
  }

  get #site() {
    const { registry, repository } = this.#artifact;
    const own = this.#parts.tokenHosts;
    return { name: registry, url: this.#base, repository, tokenHosts: (Object.hasOwn(own, registry) && own[registry]) || [] };
  }

  async #token(url: URL): Promise<string> {
    const headers: Record<string, string> = this.#credentials ? { authorization: this.#basic(url, this.#credentials) } : {};
    const { status, bytes } = await this.#parts.downloader.get({
      url,
      headers,
      bytesMax: TOKEN_BYTES_MAX,
      also: [401, 403],
      signal: this.#signal,
    });
    if (status !== 200)
      throw this.#refusal(
        this.#credentials ? 'does not take these credentials' : 'wants credentials: name a pullSecret, or --registry-auth',
      );
    let parsed: z.infer<typeof tokenSchema> = {};
    try {
      parsed = tokenSchema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')));
    } catch {
      // As one without a token; the answer may have a secret in it.
    }
    const token = parsed.token ?? parsed.access_token ?? '';
    if (!/^[\x21-\x7e]+$/.test(token)) throw this.#refusal('gives no token');
    return token;
  }

  /** A password goes over TLS, or to this machine. */
  #basic(to: URL, { user, password }: Credentials): string {
    if (to.protocol !== 'https:' && !['localhost', '127.0.0.1', '[::1]'].includes(to.hostname))
      throw this.#refusal('is asked without TLS, and gets no password so');
    return `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
  }

  #refusal(why: string): EngineError {
    return new EngineError('PLUGIN_INVALID', `registry ${this.#artifact.registry} ${why}`);
  }
}

function printable(text: string): string {
  return text.slice(0, 100).replace(/\p{Cc}/gu, '?');
}

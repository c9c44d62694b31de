/**
 * Where the module of a PolicyPlugin is: exactly one of `file`, `inline`, `configMap`, `url` and `oci`.
 *
 * Nothing is fetched that was not named by its content: a URL has the SHA-256 beside it, an artifact is named by its digest or has it.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { ModulePlace, ModuleReference } from '../policy/objects.ts';
import { note } from './note.ts';
import { absent, dnsLabel, dnsSubdomain, otherwise } from './schema.ts';

/** etcd takes objects of 1.5 MiB, and an inline module is a third longer as base64. */
export const INLINE_BYTES_MAX = 1024 * 1024;

const PLACES = ['file', 'inline', 'configMap', 'url', 'oci'] as const;
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
/** Keys of a ConfigMap, as Kubernetes checks them (IsConfigMapKey). */
const CONFIG_MAP_KEY = /^\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*$/;
const DIGEST = /^sha256:[0-9a-f]{64}$/;
/** OCI distribution specification, "Pulling manifests". */
const REPOSITORY = /^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$/;
const TAG = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/;
const REGISTRY =
  /^(?=.{1,260}$)([a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)*|\[[0-9a-f:.]+\])(:\d{1,5})?$/;

const namespace = dnsLabel('must be the name of a namespace').describe('Its namespace.');
const objectName = dnsSubdomain('must be a lower-case DNS name').describe('Its name.');

const inline = z
  .string()
  .meta({ maxLength: Math.ceil(INLINE_BYTES_MAX / 3) * 4, minLength: 4, format: 'byte' })
  .transform((text, context): Uint8Array => {
    const compact = text.replace(/\s+/g, '');
    const refuse = (message: string): never => {
      context.addIssue({ code: 'custom', message });
      return z.NEVER;
    };
    if (compact.length > Math.ceil(INLINE_BYTES_MAX / 3) * 4)
      return refuse(`holds more than ${INLINE_BYTES_MAX} bytes: use oci, url or configMap`);
    if (!compact || !BASE64.test(compact)) return refuse('must be the module in base64');
    return new Uint8Array(Buffer.from(compact, 'base64'));
  });

const url = z
  .string()
  .meta({ maxLength: 2048, pattern: '^https?://[^@]*$' })
  .superRefine((text, context) => {
    const parsed = URL.canParse(text) ? new URL(text) : undefined;
    if (parsed?.protocol !== 'https:' && parsed?.protocol !== 'http:')
      context.addIssue({ code: 'custom', message: 'must be a URL that begins with https:// or http://' });
    // Who may read PolicyPlugins is not who may know a password.
    else if (parsed.username || parsed.password) context.addIssue({ code: 'custom', message: 'must not have a user or a password in it' });
  });

/**
 * The parts of an artifact's name: `ghcr.io/acme/limit@sha256:…`, `registry:5000/limit:1.2`. Undefined when it is none: the registry has to be
 * named, there is none by default.
 */
export function parseOciReference(text: string): Extract<ModulePlace, { kind: 'oci' }> | undefined {
  const [named = '', digest] = text.split('@', 2);
  const slash = named.indexOf('/');
  const registry = named.slice(0, Math.max(0, slash));
  const path = named.slice(slash + 1);
  const colon = path.lastIndexOf(':');
  const [repository, tag] = colon < 0 ? [path, undefined] : [path.slice(0, colon), path.slice(colon + 1)];
  const isHost = /[.:]/.test(registry) || registry === 'localhost';
  if (!isHost || !REGISTRY.test(registry) || repository.length > 255 || !REPOSITORY.test(repository)) return undefined;
  if (text.split('@').length > 2 || (digest !== undefined && !DIGEST.test(digest))) return undefined;
  if (tag !== undefined && !TAG.test(tag)) return undefined;
  const reference = digest ?? tag;
  return reference === undefined ? undefined : { kind: 'oci', registry: registry.toLowerCase(), repository, reference };
}

const oci = z
  .string()
  .meta({ maxLength: 700, pattern: '^[-.:a-zA-Z0-9\\[\\]]+/[a-z0-9][-._/:a-zA-Z0-9]*(@sha256:[0-9a-f]{64})?$' })
  .transform((text, context): Extract<ModulePlace, { kind: 'oci' }> => {
    const parsed = parseOciReference(text);
    if (!parsed)
      context.addIssue({
        code: 'custom',
        message: `"${text.slice(0, 300)}" is no artifact such as registry.example.com/team/plugin@sha256:… with 64 hex digits`,
      });
    return parsed ?? z.NEVER;
  });

/** The module of a PolicyPlugin. A path is as it was written; of an inline module the SHA-256 is there in any case. */
export const moduleSpec = z
  .strictObject({
    file: absent(z.string().min(1)).meta({ fileOnly: true, description: 'Path of the module, from the manifest.' }),
    inline: absent(inline).describe('The module itself, in base64: at most 1 MiB.'),
    configMap: absent(
      z.strictObject({
        namespace,
        name: objectName,
        key: z
          .string()
          .max(253)
          .regex(CONFIG_MAP_KEY, 'must be a key of binaryData, such as plugin.wasm')
          .describe('The key in binaryData under which the module is.'),
      }),
    ).describe('The ConfigMap that has the module, of a namespace that the engine takes modules from.'),
    url: absent(url).describe('Where the module can be fetched, over HTTP or HTTPS; it needs sha256.'),
    oci: absent(oci).describe('An artifact in a registry, by its digest: registry.example.com/team/plugin@sha256:…'),
    sha256: absent(
      z
        .string()
        .max(64)
        .regex(/^[0-9a-f]{64}$/, 'must be 64 hex digits in lower case, as sha256sum prints'),
    ).describe('The SHA-256 of the module: another one is refused.'),
    pullSecret: absent(z.strictObject({ namespace, name: objectName })).describe(
      'The Secret, of type kubernetes.io/dockerconfigjson, with what the registry asks for.',
    ),
  })
  .meta(
    note('Where the module is: exactly one of its places.', {
      rules: {
        'must have exactly one of inline, configMap, url, oci':
          '(has(self.inline) ? 1 : 0) + (has(self.configMap) ? 1 : 0) + (has(self.url) ? 1 : 0) + (has(self.oci) ? 1 : 0) == 1',
        'sha256 is needed beside url: what else says that the right module came': '!has(self.url) || has(self.sha256)',
        'oci must end with @sha256:…, or have sha256 beside it: a tag may be another module tomorrow':
          "!has(self.oci) || has(self.sha256) || self.oci.matches('@sha256:[0-9a-f]{64}$')",
        'pullSecret is for oci only': '!has(self.pullSecret) || has(self.oci)',
      },
    }),
  )
  .superRefine((value, context) => {
    const report = (path: string[], message: string): void => context.addIssue({ code: 'custom', path, message });
    const named = PLACES.filter((place) => value[place] !== undefined);
    if (named.length !== 1)
      report([], `must have exactly one of ${PLACES.join(', ')}${named.length ? `; it has ${named.join(' and ')}` : ''}`);
    if (value.url !== undefined && !value.sha256) report(['sha256'], 'is needed beside url: what else says that the right module came');
    if (value.oci && !value.sha256 && !DIGEST.test(value.oci.reference ?? ''))
      report(['oci'], 'must end with @sha256:…, or have the module’s sha256 beside it: a tag may be another module tomorrow');
    if (value.pullSecret && !value.oci) report(['pullSecret'], 'is for oci only');
    if (value.inline instanceof Uint8Array && value.sha256 && sha256(value.inline) !== value.sha256)
      report(['sha256'], 'is another one than that of the inline module');
  })
  .transform(({ file, inline: bytes, configMap, url: address, oci: artifact, sha256: pinned, pullSecret }): ModuleReference => {
    const rest = { ...(pinned && { sha256: pinned }), ...(pullSecret && { pullSecret }) };
    if (file !== undefined) return { kind: 'file', path: file, ...rest };
    if (bytes) return { kind: 'inline', bytes, ...rest, sha256: pinned ?? sha256(bytes) };
    if (configMap) return { kind: 'configMap', ...configMap, ...rest };
    if (address !== undefined) return { kind: 'url', url: address, ...rest };
    return { ...(artifact as Extract<ModulePlace, { kind: 'oci' }>), ...rest };
  });

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

const percentage = z
  .string()
  .max(4)
  .regex(/^(100|[1-9]?[0-9])%$/, 'must be a share such as 10%');

/** The module that only some nodes run, and which. The object's status about it is not in here. */
export const canarySpec = z
  .strictObject({
    module: moduleSpec,
    nodes: absent(percentage).describe(
      'The share of the nodes that try it, such as 10%: chosen by their names, other ones for each module.',
    ),
    nodeNames: absent(z.array(dnsSubdomain('must be the name of a node')).max(256)).meta({
      description: 'Nodes that try it in any case.',
      maxItems: 256,
    }),
    mode: otherwise(z.enum(['Enforce', 'Shadow']), 'Enforce').describe('Enforce: it decides there. Shadow: it is only compared there.'),
  })
  .meta(
    note('A module that some nodes try before it becomes that of all; one that fails on a node is used on none.', {
      rules: {
        'must have nodes or nodeNames': 'has(self.nodes) || has(self.nodeNames)',
        'module needs sha256 beside configMap: a canary is one module': '!has(self.module.configMap) || has(self.module.sha256)',
      },
    }),
  )
  .superRefine(({ module, nodes, nodeNames }, context) => {
    if (nodes === undefined && nodeNames === undefined) context.addIssue({ code: 'custom', message: 'must have nodes or nodeNames' });
    const report = (message: string): void => context.addIssue({ code: 'custom', path: ['module'], message });
    if (module?.kind === 'file') report('cannot be a file: a canary is the same on every node');
    if (module?.kind === 'configMap' && !module.sha256) report('needs sha256 beside configMap: a canary is one module');
  })
  .transform(({ module, nodes, nodeNames, mode }) => ({
    module,
    percent: Number.parseInt(nodes ?? '0', 10),
    nodeNames: nodeNames ?? [],
    mode,
  }));

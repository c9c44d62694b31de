/** The version of an object that an API counts, of the kinds whose problems are told there. */
import type { ObjectVersion } from '../policy/object-versions.ts';
import { isRecord } from './raw-object.ts';

const POLICY_KINDS = new Set(['NetworkPolicy', 'ClusterNetworkPolicy', 'PluginPolicy', 'PolicyPlugin', 'HostPolicy', 'HTTPRoute']);

/** undefined: of another kind, or not of an API. */
export function readVersion({ apiVersion, kind, metadata }: Readonly<Record<string, unknown>>): ObjectVersion | undefined {
  if (typeof kind !== 'string' || !POLICY_KINDS.has(kind) || typeof apiVersion !== 'string' || !isRecord(metadata)) return undefined;
  const { name, namespace, uid, generation } = metadata;
  if (typeof name !== 'string' || typeof uid !== 'string' || !uid) return undefined;
  return {
    apiVersion,
    kind,
    ...(typeof namespace === 'string' && namespace && { namespace }),
    name,
    uid,
    ...(typeof generation === 'number' && { generation }),
  };
}

/** How objects of the cluster are written for people: the one spelling that flags, records, errors and answers share. */
import type { Pod } from './snapshot.ts';

/**
 * `namespace/name`.
 *
 * @example
 * objectName({ namespace: 'shop', name: 'web' }) // 'shop/web'
 */
export function objectName({ namespace, name }: { readonly namespace: string; readonly name: string }): string {
  return `${namespace}/${name}`;
}

/** An endpoint by its pod; the host firewall's own endpoints are in no namespace. */
export function endpointName(pod: Pick<Pod, 'namespace' | 'name' | 'hostPolicies'>): string {
  return pod.hostPolicies ? pod.name : objectName(pod);
}

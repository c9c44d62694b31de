/** How objects of the cluster are named: the one spelling that keys, flags, records, errors and answers share. */

/**
 * `namespace/name`; of what is in no namespace its name alone. Unique among objects of a kind.
 *
 * @example
 * objectName({ namespace: 'shop', name: 'web' }) // 'shop/web'
 * objectName({ name: 'canary' }) // 'canary'
 */
export function objectName({ namespace, name }: { readonly namespace?: string | undefined; readonly name: string }): string {
  return namespace ? `${namespace}/${name}` : name;
}

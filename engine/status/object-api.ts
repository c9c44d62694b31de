/** Objects of an API server, as far as statuses are read and written: whoever has a connection gives this. Paths begin with `/api`. */

/** An object as it came; nothing of it is believed. */
export type AnyObject = Readonly<Record<string, unknown>>;

/** A kind, as paths and RBAC name it. */
export interface KindName {
  readonly kind: string;
  readonly apiVersion: string;
  readonly plural: string;
}

export interface ObjectApi {
  /** undefined: it is not there. @throws Error */
  get(path: string): Promise<AnyObject | undefined>;
  /** Puts an object into a collection. @throws Error */
  create(path: string, object: AnyObject): Promise<'done' | 'exists'>;
  /** Server-side apply, by force, of what the engines are the managers of. `absent`: also where it is another object than the uid says. @throws Error */
  apply(path: string, object: AnyObject): Promise<'done' | 'absent'>;
  /** A merge patch; with a resourceVersion in it only of that version, else it is a conflict. @throws Error */
  merge(path: string, patch: AnyObject): Promise<'done' | 'conflict' | 'absent'>;
  /** Calls back for each object of a kind. Returns the version that this was. @throws Error */
  list(kind: KindName, each: (object: AnyObject) => void): Promise<number>;
  /** Tells what happens to objects of a kind after a version, until the server or the signal ends it. @throws Error */
  watch(
    kind: KindName,
    resourceVersion: number,
    tell: (type: 'changed' | 'deleted', object: AnyObject) => void,
    signal: AbortSignal,
  ): Promise<void>;
}

/** Kinds whose objects have a status of ours. */
export const STATUS_KINDS: Readonly<Record<string, string>> = {
  PluginPolicy: 'pluginpolicies',
  PolicyPlugin: 'policyplugins',
  HostPolicy: 'hostpolicies',
  // Of the network-policy-api: only conditions.
  ClusterNetworkPolicy: 'clusternetworkpolicies',
};
export const OWN_API = 'sluice.dev/v1alpha1';
export const LEASES = { apiVersion: 'coordination.k8s.io/v1', plural: 'leases' } as const;
export const EVENTS = { apiVersion: 'events.k8s.io/v1', plural: 'events' } as const;
export const REPORTS: KindName = { kind: 'NodeReport', apiVersion: OWN_API, plural: 'nodereports' };

/** The present time as a MicroTime. */
export function microTime(): string {
  return new Date().toISOString().replace('Z', '000Z');
}

export function hasStatus({ kind }: { readonly kind: string }): boolean {
  return Object.hasOwn(STATUS_KINDS, kind);
}

/** The kind of an object with a status. */
export function kindOf({ apiVersion, kind }: { readonly apiVersion: string; readonly kind: string }): KindName {
  return { kind, apiVersion, plural: STATUS_KINDS[kind] as string };
}

/** A kind's objects; of a namespace where one is named. */
export function collectionPath({ apiVersion, plural }: Pick<KindName, 'apiVersion' | 'plural'>, namespace?: string): string {
  return ['/apis', apiVersion, ...(namespace ? ['namespaces', namespace] : []), plural].join('/');
}

/** One of them, or a part of it. */
export function objectPath(
  kind: Pick<KindName, 'apiVersion' | 'plural'>,
  { namespace, name }: { readonly namespace?: string | undefined; readonly name: string },
  part?: 'status',
): string {
  return [collectionPath(kind, namespace), name, ...(part ? [part] : [])].join('/');
}

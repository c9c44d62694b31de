/** The kinds of the API that are followed: where they are, and how they are written. */

export interface Resource {
  readonly kind: string;
  readonly apiVersion: string;
  /** As its path and RBAC name it. */
  readonly plural: string;
  /** JSON: of a CRD, which may not be there. */
  readonly encoding: 'protobuf' | 'json';
  /** Says the same, and is followed where the server does not have the other. */
  readonly otherVersion?: string;
}

const builtIn = (kind: string, apiVersion: string, plural: string): Resource => ({ kind, apiVersion, plural, encoding: 'protobuf' });
const custom = (kind: string, apiVersion: string, plural: string): Resource => ({ kind, apiVersion, plural, encoding: 'json' });

export const RESOURCES: readonly Resource[] = [
  builtIn('Namespace', 'v1', 'namespaces'),
  builtIn('Node', 'v1', 'nodes'),
  builtIn('Pod', 'v1', 'pods'),
  builtIn('Service', 'v1', 'services'),
  builtIn('EndpointSlice', 'discovery.k8s.io/v1', 'endpointslices'),
  builtIn('NetworkPolicy', 'networking.k8s.io/v1', 'networkpolicies'),
  {
    ...custom('ClusterNetworkPolicy', 'policy.networking.k8s.io/v1alpha2', 'clusternetworkpolicies'),
    otherVersion: 'policy.networking.k8s.io/v1beta1',
  },
  custom('HTTPRoute', 'gateway.networking.k8s.io/v1', 'httproutes'),
  custom('PluginPolicy', 'sluice.dev/v1alpha1', 'pluginpolicies'),
  custom('PolicyPlugin', 'sluice.dev/v1alpha1', 'policyplugins'),
  custom('HostPolicy', 'sluice.dev/v1alpha1', 'hostpolicies'),
];

/** The same kind in its other version, if it has one. */
export function inOtherVersion(resource: Resource): Resource | undefined {
  const { apiVersion, otherVersion } = resource;
  return otherVersion === undefined ? undefined : { ...resource, apiVersion: otherVersion, otherVersion: apiVersion };
}

/** `/api/v1`, `/apis/networking.k8s.io/v1` */
export function groupPath({ apiVersion }: Resource): string {
  return apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
}

/** Of all namespaces. */
export function resourcePath(resource: Resource): string {
  return `${groupPath(resource)}/${resource.plural}`;
}

/** As RBAC and kubectl name it: `pods`, `networkpolicies.networking.k8s.io`. */
export function resourceName({ apiVersion, plural }: Resource): string {
  const [group, version] = apiVersion.split('/');
  return version ? `${plural}.${group}` : plural;
}

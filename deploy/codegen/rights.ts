/** The rights of an engine in a cluster, each with its reason: the kinds that the sources follow, and what statuses need. */
import { RESOURCES } from '../../engine/sources/kubernetes/resources.ts';
import { LEASE_NAME } from '../../engine/status/election.ts';
import { EVENTS, LEASES, REPORTS, STATUS_KINDS } from '../../engine/status/object-api.ts';

export interface Right {
  /** Empty: of the core. */
  readonly group: string;
  readonly resource: string;
  /** Absent: every one. */
  readonly names?: readonly string[];
  readonly verbs: readonly Verb[];
  readonly why: string;
}
export type Verb = 'get' | 'list' | 'watch' | 'create' | 'patch';

export const NAMESPACE = 'sluice-system';
const FOLLOW: readonly Verb[] = ['list', 'watch'];

const WHY_FOLLOWED: Readonly<Record<string, string>> = {
  Namespace: 'Policies select pods by the labels of their namespaces.',
  Node: 'Nodes are peers of policies; which of them this one is says which pods and HostPolicies are its own.',
  Pod: 'Pods are what policies select, and peers by their addresses.',
  Service: 'Policy is judged at the backends of a Service; the DNS Service of the cluster is believed.',
  EndpointSlice: 'The backends of Services.',
  NetworkPolicy: 'Policies of Kubernetes.',
  ClusterNetworkPolicy: 'Policies of administrators.',
  HTTPRoute: 'Routes of requests to Services.',
  PluginPolicy: 'Policies that ask plugins.',
  PolicyPlugin: 'Plugins, and how they are treated.',
  HostPolicy: 'Policies of the node itself.',
};

const followed = RESOURCES.map(({ kind, apiVersion, plural }): Right => {
  const why = WHY_FOLLOWED[kind];
  if (!why) throw new Error(`Cannot write the rights of an engine: nobody says why it follows ${kind}`);
  return { group: groupOf(apiVersion), resource: plural, verbs: FOLLOW, why };
});

const statuses = RESOURCES.flatMap(({ kind, apiVersion, plural }): Right[] =>
  Object.hasOwn(STATUS_KINDS, kind)
    ? [{ group: groupOf(apiVersion), resource: `${plural}/status`, verbs: ['patch'], why: 'The one that leads says what became of it.' }]
    : [],
);

/** In the whole cluster. */
export const CLUSTER_RIGHTS: readonly Right[] = [
  ...followed,
  { group: '', resource: 'nodes', verbs: ['get'], why: 'The report of a node belongs to its Node, and goes with it.' },
  {
    group: groupOf(REPORTS.apiVersion),
    resource: REPORTS.plural,
    verbs: ['create', 'patch', ...FOLLOW],
    why: 'Each engine writes the report of its node; the one that leads reads all of them.',
  },
  ...statuses,
  {
    group: groupOf(EVENTS.apiVersion),
    resource: EVENTS.plural,
    verbs: ['create', 'patch'],
    why: 'Events on objects that cannot be enforced; one that lasts is told again.',
  },
];

/** In the namespace of the engines. */
export const OWN_RIGHTS: readonly Right[] = [
  {
    group: groupOf(LEASES.apiVersion),
    resource: LEASES.plural,
    verbs: ['create'],
    why: 'The first engine makes the Lease of who writes statuses.',
  },
  {
    group: groupOf(LEASES.apiVersion),
    resource: LEASES.plural,
    names: [LEASE_NAME],
    verbs: ['get', 'patch'],
    why: 'It is looked at, renewed, taken when it is over, and given up.',
  },
];

function groupOf(apiVersion: string): string {
  return apiVersion.includes('/') ? (apiVersion.split('/')[0] as string) : '';
}

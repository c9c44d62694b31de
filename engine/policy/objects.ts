/**
 * The objects of a cluster in the form that policy is compiled from: validated, defaulted, canonical. What an object was
 * written in, and where, is not known here.
 *
 * Labels are Maps, never plain objects: a label may be called `constructor`.
 */
import { Context, type Direction } from '../abi.gen.ts';
import type { Network } from './address.ts';

export type Labels = ReadonlyMap<string, string>;

/** The requirements of a label selector: each must hold; none at all selects everything. */
export type Selector = readonly Requirement[];

export interface Requirement {
  readonly key: string;
  readonly operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';
  readonly values: readonly string[];
}

export interface Namespace {
  readonly name: string;
  /** With `kubernetes.io/metadata.name`. */
  readonly labels: Labels;
  /** Not all of its labels can be read: nobody knows which policies are about its pods, so they are closed. */
  readonly quarantined?: boolean;
}

export interface NamedPort {
  readonly name: string;
  /** IP protocol number. */
  readonly protocol: number;
  readonly port: number;
}

export interface Pod {
  readonly namespace: string;
  readonly name: string;
  /** Another pod of the same name has another one. Absent in files. */
  readonly uid?: string;
  /** The node that it runs on (`spec.nodeName`); absent where nobody says so. */
  readonly node?: string;
  readonly labels: Labels;
  /** The ServiceAccount that it runs as, of its own namespace; absent where its manifest names none, which is `default`. */
  readonly serviceAccount?: string;
  /** 16 bytes each, as `status.podIPs` has them. */
  readonly addresses: readonly Uint8Array[];
  readonly ports: readonly NamedPort[];
  /** Shares the node's addresses, and so has no identity of its own. */
  readonly hostNetwork: boolean;
  /** Completed or failed: its addresses may be somebody else's by now. */
  readonly ended: boolean;
  /**
   * It runs on this node, as an API says that names no place: one in a network of its own is looked for there, by what the container
   * runtime noted and by its addresses. One in the host's network is the node, and has no place of its own.
   */
  readonly local?: true;
  /** Host side of its veth (`sluice.dev/interface`), of a pod of this node that a file describes. */
  readonly interface?: string;
  /** Path of its cgroup (`sluice.dev/cgroup`), for a pod in the host's network and for chosen processes of the host. */
  readonly cgroup?: string;
  /** The node itself, judged by these and nothing else. */
  readonly hostPolicies?: readonly HostPolicy[];
  /** It answers DNS queries for others, and is believed (`sluice.dev/resolver`). */
  readonly resolver?: boolean;
  /** Its manifest is damaged: nothing that policy says of it can be trusted, so it reaches nobody and nobody reaches it. */
  readonly quarantined?: boolean;
}

/** A node of the cluster. */
export interface Node {
  readonly name: string;
  readonly labels: Labels;
  /** 16 bytes each: those of `status.addresses` that it has inside the cluster and outside. */
  readonly addresses: readonly Uint8Array[];
  /** The addresses of its pods are of these. */
  readonly podCidrs: readonly Network[];
}

/** A port, a range of ports, or the port that the destination pod gives a name to. */
export type PortSpec =
  | { readonly protocol: number; readonly first: number; readonly last: number }
  | { readonly protocol: number; readonly name: string };

export type Peer =
  | { readonly kind: 'pods'; readonly namespaces: Selector | 'own'; readonly pods: Selector }
  | { readonly kind: 'network'; readonly network: Network; readonly except: readonly Network[] }
  /** The addresses of nodes. */
  | { readonly kind: 'nodes'; readonly nodes: Selector }
  /** Pods that run as one of these. */
  | { readonly kind: 'serviceAccounts'; readonly accounts: readonly AccountRef[] }
  /** Whatever a trusted resolver gave these names: canonical, see policy/domain-name.ts. Only of what an endpoint sends. */
  | { readonly kind: 'names'; readonly patterns: readonly string[] };

/** A ServiceAccount, of the policy's own namespace where none is named. */
export interface AccountRef {
  readonly namespace?: string;
  readonly name: string;
}

/** A Service as a peer of what an endpoint sends: its cluster addresses. */
export interface ServicePeer {
  readonly kind: 'service';
  /** `namespace/name` */
  readonly service: string;
}

export interface PolicyRule {
  /** Absent: anyone. Empty: nobody. */
  readonly peers?: readonly Peer[];
  /** Absent: every protocol and port. Empty: none. */
  readonly ports?: readonly PortSpec[];
}

/** A NetworkPolicy; a direction that it does not isolate is absent. */
export interface Policy {
  readonly namespace: string;
  readonly name: string;
  readonly selector: Selector;
  readonly rules: Readonly<Partial<Record<Direction, readonly PolicyRule[]>>>;
}

/** The rules for the node's own processes; a direction that it does not isolate is absent. */
export interface HostPolicy {
  /** With its version, `ssh@1a2b3c4d`: another text, another name. */
  readonly name: string;
  /** The nodes that it is for; absent: every one. */
  readonly nodes?: Selector;
  readonly rules: Readonly<Partial<Record<Direction, readonly PolicyRule[]>>>;
  /** Its text cannot be understood. */
  readonly invalid?: boolean;
}

export type Tier = 'Admin' | 'Baseline';

/** A rule of a ClusterNetworkPolicy; `pass` leaves the flow to the next tier. */
export interface TierRule extends PolicyRule {
  readonly action: 'accept' | 'deny' | 'pass';
  /** Its author's name for it, or empty. */
  readonly name: string;
}

/** A ClusterNetworkPolicy; its rules are asked in their order, the first that matches decides. */
export interface ClusterPolicy {
  readonly name: string;
  readonly tier: Tier;
  /** 0 to 1000; lower is asked first. */
  readonly priority: number;
  readonly subject: { readonly namespaces: Selector; readonly pods: Selector };
  readonly rules: Readonly<Partial<Record<Direction, readonly TierRule[]>>>;
}

/** Which servers TLS clients may name. */
export interface ServerNames {
  /** Canonical, see policy/domain-name.ts. */
  readonly patterns: readonly string[];
  /** Whether a client may name none. */
  readonly allowMissing: boolean;
  /** Whether the true name may be another one, encrypted. */
  readonly allowEncrypted: boolean;
}

/** A Service, one of whose endpoints takes a request. */
export interface BackendRef {
  /** `namespace/name` */
  readonly service: string;
  readonly port: number;
  /** Its part of the connections, beside the others'. 0 takes none. */
  readonly weight: number;
}

/** A header or parameter with exactly this value. */
export interface TextMatch {
  readonly name: string;
  readonly value: string;
}

/** Conditions on a request: all of them must hold. */
export interface RequestMatch {
  readonly path?: { readonly type: 'Exact' | 'PathPrefix'; readonly value: string };
  readonly method?: string;
  readonly headers: readonly TextMatch[];
  readonly query: readonly TextMatch[];
}

/** The fate of requests that match. */
export interface RequestRule {
  /** One of these; none at all matches everything. */
  readonly matches: readonly RequestMatch[];
  /** That decides; empty where the rule itself does. */
  readonly plugin: string;
  /** By the names that the plugin says. */
  readonly routes: Readonly<Record<string, readonly BackendRef[]>>;
  /** Where a request goes that is allowed and not routed, and every connection when nobody decides; absent: where it was sent to. */
  readonly fallback?: readonly BackendRef[];
  readonly deny: { readonly status: number; readonly body: string };
}

/** Decisions about each request of tagged connections: the first rule that matches. */
export interface Requests {
  readonly rules: readonly RequestRule[];
}

/** The tag of a flow: a plugin to ask, or a list that the engine itself goes by. */
export interface AskRule extends PolicyRule {
  /** Empty with a list. */
  readonly plugin: string;
  readonly context: Context;
  readonly serverNames?: ServerNames | undefined;
  readonly requests?: Requests | undefined;
  /** Of the peers of the rule: whose cluster addresses it is about. */
  readonly services?: readonly string[] | undefined;
  /** The rule that it was made of, where one can become two: its position, and whether this is what it comes to for damaged Services. */
  readonly written?: { readonly index: number; readonly damaged?: boolean };
}

/** Asks a plugin that cannot exist: whatever the tiers allow is denied. */
export const ASK_NOBODY: AskRule = { plugin: '', context: Context.CONNECT };

/** Which flows ask which plugin, or are decided request by request. */
export interface PluginPolicy {
  /** The kind that it was written as. */
  readonly kind: 'PluginPolicy' | 'HTTPRoute';
  /** It is about the endpoints of every namespace. */
  readonly everywhere?: boolean;
  readonly namespace: string;
  readonly name: string;
  readonly selector: Selector;
  readonly rules: Readonly<Partial<Record<Direction, readonly AskRule[]>>>;
  /** Its verdict replaces the other tiers' instead of narrowing what they allow. */
  readonly overrides: boolean;
}

export interface ServicePort {
  readonly name: string;
  readonly protocol: number;
  readonly port: number;
  /** Of the pods behind it: a number, or the name of one of their ports. */
  readonly target: number | string;
}

export interface Service {
  readonly namespace: string;
  readonly name: string;
  /** 16 bytes each; none of a headless service. */
  readonly addresses: readonly Uint8Array[];
  readonly ports: readonly ServicePort[];
  /** Absent where somebody else says which endpoints it has. */
  readonly selector?: Selector;
  /** Its manifest is damaged: it has no ports here, and of its addresses those that can be read. */
  readonly damaged?: boolean;
}

export interface EndpointSlice {
  readonly namespace: string;
  readonly name: string;
  /** The Service that it is of. */
  readonly service: string;
  readonly ports: readonly { readonly name: string; readonly protocol: number; readonly port: number }[];
  /** Those that take connections. */
  readonly addresses: readonly Uint8Array[];
}

/** Rules about requests, of one author, for a Service. */
export interface HttpRoute {
  readonly namespace: string;
  readonly name: string;
  /** Absent port: every one that the Service has for TCP. */
  readonly parents: readonly { readonly service: string; readonly port?: number }[];
  /** Each with one match at most. */
  readonly rules: readonly RequestRule[];
  /** Its manifest is damaged, or another one has its name: what is sent to its Services is refused, whatever other routes say. */
  readonly closed?: boolean;
}

/** Rights that a PolicyPlugin grants, and a plugin's manifest asks for: what of the host's a plugin may use. */
export const CAPABILITIES = ['counters', 'sets', 'clock'] as const;
export type Capability = (typeof CAPABILITIES)[number];

/** Where a plugin's module is to be had. */
export type ModulePlace =
  /** Another stamp: the file may have another content. */
  | { readonly kind: 'file'; readonly path: string; readonly stamp?: string }
  | { readonly kind: 'inline'; readonly bytes: Uint8Array }
  | { readonly kind: 'configMap'; readonly namespace: string; readonly name: string; readonly key: string }
  | { readonly kind: 'url'; readonly url: string }
  /** A tag or `sha256:…` of an artifact's manifest. */
  | { readonly kind: 'oci'; readonly registry: string; readonly repository: string; readonly reference: string };

/** A module as a PolicyPlugin names it. */
export type ModuleReference = ModulePlace & {
  /** Of its bytes, 64 hex digits; absent: whatever is there. */
  readonly sha256?: string;
  /** A Secret with credentials for the registry. */
  readonly pullSecret?: { readonly namespace: string; readonly name: string };
};

/** A plugin and how to treat it. */
export interface PolicyPlugin {
  readonly name: string;
  /** Absent when it comes over HTTP only. */
  readonly module?: ModuleReference;
  readonly failurePolicy: 'Allow' | 'Deny';
  readonly mode: 'Enforce' | 'Shadow';
  readonly evaluateMs: number;
  readonly memoryPages: number;
  /** Units for one evaluation. */
  readonly fuel: number;
  readonly capabilities: readonly Capability[];
  /** The sets that the plugin may look into, by name. */
  readonly sets: Readonly<Record<string, PluginSet>>;
  /** One `path = value` a line. */
  readonly config: string;
}

/** Networks are 16 bytes as a latin1 string, IPv4 mapped, with the prefix's bits of 128. */
export type PluginSet =
  | { readonly kind: 'domains' | 'strings'; readonly items: readonly string[] }
  | { readonly kind: 'networks'; readonly items: readonly { readonly address: string; readonly prefixBits: number }[] };

/** Every kind of object that something depends on. */
export interface ObjectsByKind {
  readonly Namespace: Namespace;
  readonly Node: Node;
  readonly Pod: Pod;
  readonly NetworkPolicy: Policy;
  readonly ClusterNetworkPolicy: ClusterPolicy;
  readonly PluginPolicy: PluginPolicy;
  readonly PolicyPlugin: PolicyPlugin;
  readonly HostPolicy: HostPolicy;
  readonly Service: Service;
  readonly EndpointSlice: EndpointSlice;
  readonly HTTPRoute: HttpRoute;
}
export type Kind = keyof ObjectsByKind;
export const KINDS = [
  'Namespace',
  'Node',
  'Pod',
  'NetworkPolicy',
  'ClusterNetworkPolicy',
  'PluginPolicy',
  'PolicyPlugin',
  'HostPolicy',
  'Service',
  'EndpointSlice',
  'HTTPRoute',
] as const satisfies readonly Kind[];

/** An object of any kind. */
export type ClusterObject = { [K in Kind]: { readonly kind: K; readonly value: ObjectsByKind[K] } }[Kind];

/** An object as it is now; an absent value: it is gone. Its key is objectName(), or another one that no name is. */
export type ObjectChange = { [K in Kind]: { readonly kind: K; readonly key: string; readonly value: ObjectsByKind[K] | undefined } }[Kind];

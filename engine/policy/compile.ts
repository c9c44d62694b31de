/**
 * From the objects of a cluster to map entries: who everybody is, what each rule set says about them, which endpoint uses which.
 *
 * The compiler keeps what it made, and takes changes by object: each changes the entries that depend on it, at a cost that
 * does not grow with what does not. What the entries come to is the same in whatever order the changes came.
 */
import type { Direction } from '../abi.gen.ts';
import { BackendSets } from './backend-sets.ts';
import { Cluster, type Replaced } from './cluster.ts';
import { ClusterResolver } from './cluster-resolver.ts';
import { type CompiledEndpoint, Endpoints } from './endpoints.ts';
import { EntryMap } from './entry-map.ts';
import { Identities, type IdentityInfo } from './identities.ts';
import { NamedRules } from './named-rules.ts';
import { NetworkIdentities } from './network-identities.ts';
import { NetworkIndex } from './network-index.ts';
import { NodePeers } from './node-peers.ts';
import type { AskRule, Node, ObjectChange, PluginPolicy, Pod, ServerNames } from './objects.ts';
import { PeerIndex } from './peer-index.ts';
import { PodAddresses } from './pod-addresses.ts';
import { PortTables } from './port-table.ts';
import { engineProblem, objectProblem, ProblemLedger } from './problem.ts';
import { RequestPolicies } from './request-policies.ts';
import type { Membership } from './rule-set.ts';
import { RuleSets } from './rule-sets.ts';
import { RuleBook, type RuleOrigin } from './rules.ts';
import { Selection } from './selection.ts';
import { ServiceAddresses } from './service-addresses.ts';
import { Services } from './services.ts';
import { StableIds } from './stable-id.ts';

export type { CompiledEndpoint } from './endpoints.ts';

/** Who is behind identities and addresses, as far as it changed. */
export interface ClusterChanges {
  readonly identities: readonly IdentityInfo[];
  readonly identitiesGone: readonly number[];
  /** Address key → pod; undefined: nobody's any more. */
  readonly pods: ReadonlyMap<string, Pod | undefined>;
  /** Address key → `namespace/name` of the Service; undefined: none has it any more. */
  readonly services: ReadonlyMap<string, string | undefined>;
  /** Every list of server names, by rule; absent where none changed. */
  readonly serverNames?: ReadonlyMap<number, ServerNames>;
}

/** Changes beside the maps, for who goes by the compiled policy; see takeChanges(). */
export interface PolicyChanges {
  /** Endpoints that came, changed or went, or have an address that they had not, or not any more. */
  readonly endpoints: ReadonlySet<Pod>;
  /** Whether rules about requests, or backend sets, are not what they were. */
  readonly requests: boolean;
}

export interface CompilerOptions {
  /** Addresses of resolvers that are trusted whatever the cluster has, 16 bytes each. */
  readonly resolvers?: readonly Uint8Array[];
  /** The node that it compiles for, as the cluster calls it. */
  readonly nodeName?: string;
  /** The Service of the cluster's DNS, `namespace/name`. */
  readonly clusterDns?: string;
}

export class Compiler {
  /** As the cluster calls the node that this is for; absent: nobody has said so. */
  readonly nodeName: string | undefined;
  /** Everything that was told. */
  readonly cluster = new Cluster();
  /** Problems of what is not in force as meant. */
  readonly problems = new ProblemLedger();
  /** Map entries, keys as latin1 strings of their bytes. */
  readonly policies = new EntryMap();
  readonly ports = new EntryMap();
  readonly named: NamedRules;
  /** Backend sets and what leads to them. */
  readonly backends: BackendSets;
  readonly #ids = new StableIds();
  readonly #book = new RuleBook(this.#ids);
  readonly #selection = new Selection(this.#book, this.cluster.namespaces);
  readonly #networkIndex = new NetworkIndex();
  readonly #nodes = new NodePeers();
  readonly #peerIndex = new PeerIndex(this.cluster.namespaces);
  readonly #identities: Identities;
  readonly #addresses: PodAddresses;
  readonly #serviceAddresses = new ServiceAddresses();
  readonly #services: Services;
  readonly #clusterResolver: ClusterResolver;
  readonly #networks: NetworkIdentities;
  readonly #ruleSets: RuleSets;
  readonly #endpoints: Endpoints;
  readonly #requests: RequestPolicies;
  #pluginIds: ReadonlyMap<string, number> = new Map();
  #identitiesCame = new Map<number, IdentityInfo>();
  #identitiesGone = new Set<number>();
  #requestsChanged = false;

  constructor({ resolvers = [], nodeName, clusterDns = '' }: CompilerOptions = {}) {
    const { problems } = this;
    this.nodeName = nodeName;
    const noteIdentities = {
      addIdentity: (info: IdentityInfo) => {
        this.#identitiesGone.delete(info.id);
        this.#identitiesCame.set(info.id, info);
      },
      removeIdentity: ({ id }: IdentityInfo) => {
        this.#identitiesCame.delete(id);
        this.#identitiesGone.add(id);
      },
    };
    const identities = new Identities(this.#ids, [this.#peerIndex, noteIdentities]);
    const networks = this.#networkIndex;
    const nodes = this.#nodes;
    this.#identities = identities;
    this.#addresses = new PodAddresses({ identities, networks, nodes, problems }, resolvers);
    this.#networks = new NetworkIdentities(identities, networks);
    const writer = {
      peers: this.#peerIndex,
      identities: identities.known,
      policies: this.policies,
      tables: new PortTables(this.ports, this.#ids),
      networks,
      nodes,
    };
    this.#ruleSets = new RuleSets({ ids: this.#ids, book: this.#book, writer, problems });
    this.named = new NamedRules(this.#ids, this.#ruleSets.writer);
    this.#endpoints = new Endpoints({ selection: this.#selection, ruleSets: this.#ruleSets, identities, networks });
    this.backends = new BackendSets(this.#ids, this.cluster, nodeName);
    this.#services = new Services(this.backends);
    this.#clusterResolver = new ClusterResolver(this.cluster, this.backends, clusterDns);
    this.#requests = new RequestPolicies(this.cluster, this.backends, problems);
  }

  get peers(): EntryMap {
    return this.#addresses.peers;
  }

  get networks(): EntryMap {
    return this.#networks.entries;
  }

  /** The entries that the kernel's maps should have, by their names there. */
  get maps() {
    const { ports, policies, networks, peers, named, backends } = this;
    return {
      backends: backends.backends,
      backend_sets: backends.backendSets,
      services: this.#services.entries,
      rule_backends: backends.ruleBackends,
      ports,
      policies,
      named_rule_sets: named.ruleSets,
      name_patterns: named.patterns,
      resolvers: this.#addresses.resolvers,
      node_addresses: this.#addresses.ownNode,
      networks,
      peers,
    } as const satisfies Record<string, EntryMap>;
  }

  get endpoints(): ReadonlyMap<Pod, CompiledEndpoint> {
    return this.#endpoints.compiled;
  }

  /** Address key → the pod that has it, as a peer. */
  get podsByAddress(): ReadonlyMap<string, Pod> {
    return this.#addresses.owners;
  }

  /**
   * The pod whose packets are from and to an address on this node, of those that `isAttached` says have their endpoint here: who only
   * claims the address, on another node or on one that is lost, takes nothing from it. Undefined where it is none's, or the node's.
   */
  ownerHere(address: string, isAttached: (pod: Pod) => boolean): Pod | undefined {
    return this.podsByAddress.has(address) ? this.#endpoints.claimantOf(address, isAttached) : undefined;
  }

  /** The nodes that have an address, by its key. */
  nodesAt(address: string): Iterable<Node> {
    return this.#nodes.at(address) ?? [];
  }

  /** Address key → `namespace/name` of the Service that has it as a cluster address. */
  get servicesByAddress(): ReadonlyMap<string, string> {
    return this.#serviceAddresses.owners;
  }

  get identities(): ReadonlyMap<number, IdentityInfo> {
    return this.#identities.known;
  }

  get origins(): ReadonlyMap<number, RuleOrigin> {
    return this.#book.origins;
  }

  get ruleSetCount(): number {
    return this.#ruleSets.size;
  }

  /** Lists of server names, by rule. */
  get serverNames(): ReadonlyMap<number, ServerNames> {
    return this.#book.serverNames;
  }

  /** Rules about requests, by their id. */
  get requestRules(): ReadonlyMap<number, AskRule> {
    return this.#book.requests;
  }

  /** Why a pod is closed, whatever policies say; undefined where they decide. */
  closes(pod: Pod): string | undefined {
    return this.#selection.closes(pod);
  }

  /** The policies that select a pod, endpoint or not, for `explain`. */
  membership(pod: Pod, direction: Direction): Membership | undefined {
    return this.#selection.of(pod, direction);
  }

  /**
   * Takes over changes. Plugins that `pluginIds` does not know answer nothing: what asks them is denied.
   *
   * A rule set that an endpoint leaves is kept, for peers that get new identities before the endpoint switches: what comes
   * of this is put in force, then retire() is called and put in force.
   */
  update(changes: readonly ObjectChange[], pluginIds: ReadonlyMap<string, number>, nodeAddresses: readonly Uint8Array[]): void {
    this.#book.forgetUnused();
    const delta = this.cluster.apply(changes);
    const pluginPolicies = [...this.#requests.update(delta), ...this.#setPlugins(pluginIds)];
    this.#services.update(delta.Service, nodeAddresses);
    this.backends.update(delta);
    this.#services.write();
    this.#clusterResolver.update((address, by) => this.#addresses.trust(address, by));
    this.#serviceAddresses.update(delta.Service);
    const policies = { ...delta, PluginPolicy: pluginPolicies };
    this.#selection.update(policies);
    for (const { key, after } of pluginPolicies) this.#reportUnknownPlugins(key, after);

    const namespaces = new Set(
      delta.Namespace.flatMap(({ before, after }) => [before?.name, after?.name]).filter((name) => name !== undefined),
    );
    this.#addresses.update(delta.Node, delta.Pod, nodeAddresses);
    this.#peerIndex.relabel(namespaces);
    this.#endpoints.update(delta.Pod, policies, namespaces);
    this.#finish();
  }

  /** Takes away what no endpoint uses since the last update; returns whether there was anything. */
  retire(): boolean {
    const retired = this.#ruleSets.retire(this.named);
    this.#book.forgetUnused();
    if (retired) this.#finish();
    return retired;
  }

  /** Who is behind identities and addresses, as far as it changed since this was asked last. */
  takeChanges(): ClusterChanges & PolicyChanges {
    const identities = [...this.#identitiesCame.values()];
    const identitiesGone = [...this.#identitiesGone];
    const serverNames = this.#book.touchedServerNames.size > 0;
    const requests = this.#requestsChanged;
    const pods = this.#addresses.takeChanged();
    this.#identitiesCame = new Map();
    this.#identitiesGone = new Set();
    this.#book.touchedServerNames.clear();
    this.#requestsChanged = false;
    return {
      identities,
      identitiesGone,
      pods,
      services: this.#serviceAddresses.takeChanged(),
      ...(serverNames && { serverNames: this.#book.serverNames }),
      endpoints: this.#endpoints.takeChanged(pods.keys()),
      requests,
    };
  }

  /** Which networks rules name is known by now: who is in them, then the entries of whatever is not up to date. */
  #finish(): void {
    this.#ruleSets.followNames(this.named);
    const networks = this.#networkIndex.takeChanged();
    if (networks.length) {
      this.#addresses.renameWithin(networks);
      this.#endpoints.renameWithin(networks);
      this.#networks.update(networks);
    }
    this.#addresses.renameNodes();
    this.#ruleSets.refresh();
    this.named.refresh();
    const { touchedRequests, requests } = this.#book;
    if (this.backends.takeChanged() || touchedRequests.size) this.#requestsChanged = true;
    for (const id of touchedRequests) this.backends.setRule(id, requests.get(id));
    touchedRequests.clear();
    const untrusted = this.named.inUse && !this.#addresses.resolvers.entries.size;
    this.problems.set('resolvers', untrusted ? [engineProblem('', NO_RESOLVER)] : []);
  }

  /** Takes over which plugins there are; returns the policies that ask one of those that came, went or have another id. */
  #setPlugins(ids: ReadonlyMap<string, number>): Replaced<PluginPolicy>[] {
    const before = this.#pluginIds;
    const changed = new Set([...ids.keys(), ...before.keys()].filter((name) => ids.get(name) !== before.get(name)));
    if (!changed.size) return [];
    this.#pluginIds = new Map(ids);
    this.#book.setPlugins(this.#pluginIds);
    // Every policy is looked at: plugins come and go so rarely that an index would cost more.
    return [...this.#requests.policies()].flatMap(([key, policy]) =>
      pluginsOf(policy).some((name) => changed.has(name)) ? [{ key, before: policy, after: policy }] : [],
    );
  }

  #reportUnknownPlugins(key: string, policy: PluginPolicy | undefined): void {
    const unknown = policy ? pluginsOf(policy).filter((name) => !this.#pluginIds.has(name)) : [];
    this.problems.set(
      `plugins of ${key}`,
      unknown.map((name) => {
        const { kind, namespace, name: own } = policy as PluginPolicy;
        return objectProblem({ kind, namespace, name: own }, `no PolicyPlugin ${name}: what it tags is denied`);
      }),
    );
  }
}

const NO_RESOLVER =
  'domain names match nothing: no resolver is trusted; name one with --resolver, or give its pod the annotation sluice.dev/resolver: "true"';

/** The plugins that a policy asks, by name. */
function pluginsOf(policy: PluginPolicy): string[] {
  const rules = Object.values(policy.rules).flat();
  const names = rules.flatMap((rule) => [rule.plugin, ...(rule.requests?.rules ?? []).map(({ plugin }) => plugin)]);
  return [...new Set(names)].filter(Boolean);
}

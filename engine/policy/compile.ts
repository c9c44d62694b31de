/**
 * From a snapshot to map entries: who everybody is, what each rule set says about them, which endpoint uses which.
 *
 * The compiler keeps what it made. A snapshot that differs a little changes a few entries, at a cost that follows the
 * difference and not the cluster; objects that did not change must be the same objects.
 */
import { Direction, type Endpoint, EndpointFlag, endpointCodec, Identity, RuleSet as RuleSetId } from '../abi.gen.ts';
import { Identities, type IdentityInfo } from '../identity/identities.ts';
import {
  ADDRESS_BITS,
  addressKey,
  addressPair,
  EVERY_IPV4,
  formatAddress,
  type Network,
  NetworkIndex,
  SortedAddresses,
} from './address.ts';
import { difference } from './array-diff.ts';
import { EntryMap } from './entry-map.ts';
import { NamedRules } from './named-rules.ts';
import { PeerIndex } from './peer-index.ts';
import { PortTables } from './port-table.ts';
import { RequestPolicies } from './requests.ts';
import { type Membership, RuleSet, type RuleSetWriter } from './rule-set.ts';
import { RuleBook, type RuleOrigin } from './rules.ts';
import { Selection } from './selection.ts';
import { type AskRule, EMPTY_SNAPSHOT, type Namespace, type PluginPolicy, type Pod, type ServerNames, type Snapshot } from './snapshot.ts';
import { StableIds } from './stable-id.ts';

export interface CompiledEndpoint {
  readonly pod: Pod;
  readonly identity: number;
  /** By direction; undefined where nothing isolates or tags, or the pod is quarantined. */
  readonly ruleSets: readonly [RuleSet | undefined, RuleSet | undefined];
  /** The map value. */
  readonly value: Buffer;
}

/** Who is behind identities and addresses, as far as it changed. */
export interface ClusterChanges {
  readonly identities: readonly IdentityInfo[];
  readonly identitiesGone: readonly number[];
  /** Address key → pod; undefined: nobody's any more. */
  readonly pods: ReadonlyMap<string, Pod | undefined>;
}

export class Compiler {
  /** Map entries, keys as latin1 strings of their bytes. */
  readonly peers = new EntryMap();
  readonly networks = new EntryMap();
  readonly policies = new EntryMap();
  readonly ports = new EntryMap();
  /** Address key → the pod that has it. */
  readonly podsByAddress = new Map<string, Pod>();
  readonly endpoints = new Map<Pod, CompiledEndpoint>();
  /** Addresses of trusted resolvers. */
  readonly resolvers = new EntryMap();
  readonly named: NamedRules;
  /** Backend sets and what leads to them. */
  readonly requests: RequestPolicies;
  readonly #ids = new StableIds();
  readonly #book = new RuleBook(this.#ids);
  readonly #selection = new Selection(this.#book);
  readonly #networkIndex = new NetworkIndex();
  readonly #peerIndex = new PeerIndex();
  readonly #identities: Identities;
  readonly #writer: RuleSetWriter;
  readonly #addresses = new SortedAddresses();
  /** Address → every pod that says it has it, and its identity there. */
  readonly #claims = new Map<string, Pod[]>();
  readonly #contested = new Set<string>();
  readonly #resolverUsers = new Map<string, number>();
  readonly #identityAt = new Map<string, IdentityInfo>();
  readonly #identityOfNetwork = new Map<string, IdentityInfo>();
  readonly #ownIdentity = new Map<Pod, IdentityInfo>();
  readonly #ruleSets = new Map<string, { readonly ruleSet: RuleSet; readonly users: Set<Pod> }>();
  readonly #keys = new Map<Pod, (string | undefined)[]>();
  /** Rule sets that nobody uses any more, but in the kernel. */
  readonly #retired = new Set<string>();
  #snapshot: Snapshot = EMPTY_SNAPSHOT;
  #pluginIds: string = '';
  #nodeKeys = new Set<string>();
  #changed = { identities: new Map<number, IdentityInfo>(), identitiesGone: new Set<number>(), pods: new Map<string, Pod | undefined>() };

  /** `resolvers`: addresses that are trusted whatever the cluster has, 16 bytes each. */
  constructor(resolvers: readonly Uint8Array[] = []) {
    for (const address of resolvers) this.#trust(addressKey(address), 1);
    const noteIdentities = {
      addIdentity: (info: IdentityInfo) => {
        this.#changed.identitiesGone.delete(info.id);
        this.#changed.identities.set(info.id, info);
      },
      removeIdentity: ({ id }: IdentityInfo) => {
        this.#changed.identities.delete(id);
        this.#changed.identitiesGone.add(id);
      },
    };
    this.#identities = new Identities(this.#ids, [this.#peerIndex, noteIdentities]);
    this.#writer = {
      peers: this.#peerIndex,
      identities: this.#identities.known,
      policies: this.policies,
      tables: new PortTables(this.ports, this.#ids),
      networks: this.#networkIndex,
      isolation: (key, policies, direction) => this.#book.isolation(key, policies, direction),
    };
    this.named = new NamedRules(this.#ids, this.#writer);
    this.requests = new RequestPolicies(this.#ids);
  }

  /** What the kernel's maps should have, by their names there. */
  get maps() {
    const { ports, policies, resolvers, networks, peers, named, requests } = this;
    return {
      backends: requests.backends,
      backend_sets: requests.backendSets,
      service_backends: requests.serviceBackends,
      rule_backends: requests.ruleBackends,
      ports,
      policies,
      named_rule_sets: named.ruleSets,
      name_patterns: named.patterns,
      resolvers,
      networks,
      peers,
    } as const satisfies Record<string, EntryMap>;
  }

  get identities(): ReadonlyMap<number, IdentityInfo> {
    return this.#identities.known;
  }

  get origins(): ReadonlyMap<number, RuleOrigin> {
    return this.#book.origins;
  }

  get snapshot(): Snapshot {
    return this.#snapshot;
  }

  get ruleSets(): Iterable<RuleSet> {
    return [...this.#ruleSets.values()].map(({ ruleSet }) => ruleSet);
  }

  /** Rules that tag a flow which another rule tags for another plugin already: rule id → the one that is asked instead. */
  get conflicts(): ReadonlyMap<number, number> {
    return new Map([...this.ruleSets, ...this.named.all].flatMap((ruleSet) => [...ruleSet.conflicts]));
  }

  /** Lists of server names, by rule. */
  get serverNames(): ReadonlyMap<number, ServerNames> {
    return this.#book.serverNames;
  }

  /** Rules about requests, by their id. */
  get requestRules(): ReadonlyMap<number, AskRule> {
    return this.#book.requests;
  }

  /** Addresses that several pods say they have: the first by name has it. */
  get contested(): { readonly address: string; readonly pods: readonly Pod[] }[] {
    return [...this.#contested].map((key) => ({ address: formatAddress(Buffer.from(key, 'latin1')), pods: this.#claims.get(key) ?? [] }));
  }

  /** What a policy could say about a pod, for `explain`: endpoint or not. */
  membership(pod: Pod, direction: Direction): Membership | undefined {
    return this.#selection.of(pod, direction);
  }

  /**
   * Takes over a snapshot. Plugins that `pluginIds` does not know answer nothing: what asks them is denied.
   *
   * A rule set that an endpoint leaves is kept, for peers that get new identities before the endpoint switches: what comes
   * of this is put in force, then retire() is called and put in force.
   */
  update(source: Snapshot, pluginIds: ReadonlyMap<string, number>, nodeAddresses: readonly Uint8Array[]): void {
    const before = this.#snapshot;
    const snapshot = { ...source, pluginPolicies: this.requests.resolve(source) };
    this.#snapshot = snapshot;
    this.#selection.setSnapshot(snapshot);
    const idsText = JSON.stringify([...pluginIds]);
    const pluginsChanged = idsText !== this.#pluginIds;
    if (pluginsChanged) this.#book.setPlugins(new Map(pluginIds));
    this.#pluginIds = idsText;

    this.#setNodeAddresses(nodeAddresses);
    const pods = difference(before.pods, snapshot.pods);
    // What comes first: who is replaced by his like keeps identity and rule sets.
    for (const pod of pods.added) this.#addPod(pod);
    for (const pod of pods.removed) this.#removePod(pod);
    const namespaces = changedNamespaces(before.namespaces, snapshot.namespaces);
    this.#peerIndex.setNamespaces(snapshot.namespaces, namespaces);
    this.#reselect(before, pluginsChanged, new Set(pods.added), namespaces);
    for (const pod of pods.removed) this.#removeEndpoint(pod);
    this.named.follow(this.ruleSets);
    this.#renameNetworks();
    this.#refresh();
    this.#forgetPolicies(before);
    this.requests.setRules(this.#book.requests);
  }

  /** Takes away what no endpoint uses since the last update; returns whether there was anything. */
  retire(): boolean {
    const retired = [...this.#retired].filter((key) => !this.#ruleSets.get(key)?.users.size);
    this.#retired.clear();
    for (const key of retired) {
      this.#ruleSets.get(key)?.ruleSet.remove();
      this.#ruleSets.delete(key);
      this.#book.forgetIsolation(key);
      this.#ids.drop(`rule set ${key}`);
    }
    if (!retired.length) return false;
    this.named.follow(this.ruleSets);
    this.#renameNetworks();
    this.#refresh();
    return true;
  }

  #refresh(): void {
    for (const { ruleSet } of this.#ruleSets.values()) ruleSet.refresh();
    this.named.refresh();
  }

  /** Who is behind identities and addresses, as far as it changed since this was asked last. */
  takeChanges(): ClusterChanges {
    const { identities, identitiesGone, pods } = this.#changed;
    this.#changed = { identities: new Map(), identitiesGone: new Set(), pods: new Map() };
    return { identities: [...identities.values()], identitiesGone: [...identitiesGone], pods };
  }

  #setNodeAddresses(addresses: readonly Uint8Array[]): void {
    const keys = new Set(addresses.map(addressKey));
    const changed = [...keys].filter((key) => !this.#nodeKeys.has(key)).concat([...this.#nodeKeys].filter((key) => !keys.has(key)));
    this.#nodeKeys = keys;
    for (const key of changed) this.#settleAddress(key);
  }

  /** Counts who says that a resolver is trusted. */
  #trust(key: string, by: 1 | -1): void {
    const count = (this.#resolverUsers.get(key) ?? 0) + by;
    this.#resolverUsers.set(key, count);
    if (count) this.resolvers.set(key, u32(1));
    else this.resolvers.delete(key);
  }

  #addPod(pod: Pod): void {
    if (!isPeer(pod)) return;
    for (const address of pod.addresses) {
      const key = addressKey(address);
      if (pod.resolver) this.#trust(key, 1);
      this.#claims.set(
        key,
        [...(this.#claims.get(key) ?? []), pod].sort((a, b) => (podName(a) < podName(b) ? -1 : 1)),
      );
      this.#settleAddress(key);
    }
  }

  #removePod(pod: Pod): void {
    if (!isPeer(pod)) return;
    for (const address of pod.addresses) {
      const key = addressKey(address);
      if (pod.resolver) this.#trust(key, -1);
      const left = (this.#claims.get(key) ?? []).filter((claimant) => claimant !== pod);
      if (left.length) this.#claims.set(key, left);
      else this.#claims.delete(key);
      this.#settleAddress(key);
    }
  }

  /** Decides whose an address is, and gives it that identity. */
  #settleAddress(key: string): void {
    const claims = this.#claims.get(key) ?? [];
    const owner = this.#nodeKeys.has(key) ? undefined : claims[0];
    if (claims.length > 1) this.#contested.add(key);
    else this.#contested.delete(key);
    const before = this.podsByAddress.get(key);
    if (owner !== before) {
      if (owner) this.podsByAddress.set(key, owner);
      else this.podsByAddress.delete(key);
      if (!before) this.#addresses.add(key);
      if (!owner) this.#addresses.remove(key);
      this.#changed.pods.set(key, owner);
    }
    this.#identifyAddress(key);
  }

  #identifyAddress(key: string): void {
    const pod = this.podsByAddress.get(key);
    const before = this.#identityAt.get(key);
    const now = pod && this.#identities.acquirePod(pod, this.#networkIndex.containing(Buffer.from(key, 'latin1')));
    if (now) this.#identityAt.set(key, now);
    else this.#identityAt.delete(key);
    if (before) this.#identities.release(before);
    if (this.#nodeKeys.has(key)) this.peers.set(key, u32(Identity.NODE));
    else if (now) this.peers.set(key, u32(now.id));
    else this.peers.delete(key);
  }

  /** Finds the rule sets of endpoints again where something that selects them changed. */
  #reselect(before: Snapshot, pluginsChanged: boolean, added: ReadonlySet<Pod>, namespaces: ReadonlySet<string>): void {
    const stale = new Set(namespaces);
    for (const { removed, added } of [
      difference<{ namespace: string }>(before.policies, this.#snapshot.policies),
      difference<{ namespace: string }>(before.pluginPolicies, this.#snapshot.pluginPolicies),
    ])
      for (const policy of [...removed, ...added]) stale.add(policy.namespace);
    const cluster = difference(before.clusterPolicies, this.#snapshot.clusterPolicies);
    const tags = difference(before.pluginPolicies, this.#snapshot.pluginPolicies);
    const everywhere =
      pluginsChanged ||
      cluster.removed.length + cluster.added.length > 0 ||
      [...tags.removed, ...tags.added].some((policy) => policy.everywhere);
    const left: { key: string; pod: Pod }[] = [];
    for (const pod of added) if (isEndpoint(pod)) this.#select(pod, left);
    for (const pod of [...this.endpoints.keys()]) if (!added.has(pod) && (everywhere || stale.has(pod.namespace))) this.#select(pod, left);
    for (const { key, pod } of left) this.#leave(key, pod);
  }

  #select(pod: Pod, left: { key: string; pod: Pod }[]): void {
    const keysBefore = this.#keys.get(pod) ?? [];
    const memberships = pod.quarantined ? [] : [this.#selection.of(pod, Direction.INGRESS), this.#selection.of(pod, Direction.EGRESS)];
    const ruleSets = memberships.map((membership) => membership && this.#use(membership, pod));
    const keys = memberships.map((membership) => membership?.key);
    this.#keys.set(pod, keys);
    for (const key of keysBefore) if (key !== undefined && !keys.includes(key)) left.push({ key, pod });
    let identity = this.#ownIdentity.get(pod);
    const [address] = pod.addresses;
    if (!identity)
      this.#ownIdentity.set(pod, (identity = this.#identities.acquirePod(pod, address ? this.#networkIndex.containing(address) : [])));
    this.#setEndpoint(pod, identity, [ruleSets[0], ruleSets[1]]);
  }

  #setEndpoint(pod: Pod, { id }: IdentityInfo, ruleSets: CompiledEndpoint['ruleSets']): void {
    this.endpoints.set(pod, { pod, identity: id, ruleSets, value: endpointValue(pod, id, ruleSets) });
  }

  #use(membership: Membership, pod: Pod): RuleSet {
    let known = this.#ruleSets.get(membership.key);
    if (known) known.ruleSet.setMembers(membership.members);
    else {
      const id = this.#ids.get(`rule set ${membership.key}`);
      this.#ruleSets.set(membership.key, (known = { ruleSet: new RuleSet(id, membership, this.#writer), users: new Set() }));
    }
    known.users.add(pod);
    return known.ruleSet;
  }

  #leave(key: string, pod: Pod): void {
    const known = this.#ruleSets.get(key);
    known?.users.delete(pod);
    if (known && !known.users.size) this.#retired.add(key);
  }

  #removeEndpoint(pod: Pod): void {
    if (!this.endpoints.delete(pod)) return;
    for (const key of this.#keys.get(pod) ?? []) if (key !== undefined) this.#leave(key, pod);
    this.#keys.delete(pod);
    const identity = this.#ownIdentity.get(pod);
    if (identity) this.#identities.release(identity);
    this.#ownIdentity.delete(pod);
    const left = new Set([...this.endpoints.keys()].flatMap((other) => other.hostPolicies ?? []));
    for (const policy of pod.hostPolicies ?? []) if (!left.has(policy)) this.#book.forget('HostPolicy', policy);
  }

  /** Gives new identities to what lies in networks that policy began or ceased to name. */
  #renameNetworks(): void {
    const changed = this.#networkIndex.takeChanged();
    if (!changed.length) return;
    for (const network of changed) for (const key of this.#addresses.within(network)) this.#identifyAddress(key);
    for (const [pod, before] of this.#ownIdentity) {
      const [address] = pod.addresses;
      const now = this.#identities.acquirePod(pod, address ? this.#networkIndex.containing(address) : []);
      this.#identities.release(before);
      if (now === before) continue;
      this.#ownIdentity.set(pod, now);
      this.#setEndpoint(pod, now, this.endpoints.get(pod)?.ruleSets ?? [undefined, undefined]);
    }
    this.#identifyNetworks(changed);
  }

  #identifyNetworks(changed: readonly Network[]): void {
    const gone = changed.filter((network) => !this.#networkIndex.has(network.text));
    const fresh = changed.filter((network) => this.#networkIndex.has(network.text));
    // A network that comes or goes also changes who those are that lie in it.
    const outer = new NetworkIndex();
    for (const network of changed) outer.add(network);
    const holdsOthers = changed.some(({ bits }) => bits < ADDRESS_BITS);
    for (const network of holdsOthers ? this.#networkIndex.all() : fresh) {
      if (holdsOthers && !outer.containing(network.address, network.bits).length) continue;
      const before = this.#identityOfNetwork.get(network.text);
      const now = this.#identities.acquireNetworks(this.#networkIndex.containing(network.address, network.bits));
      this.#identityOfNetwork.set(network.text, now);
      if (before) this.#identities.release(before);
      this.networks.set(networkKey(network), u32(now.id));
    }
    for (const network of gone) {
      const before = this.#identityOfNetwork.get(network.text);
      if (before) this.#identities.release(before);
      this.#identityOfNetwork.delete(network.text);
      this.networks.delete(networkKey(network));
    }
    // IPv4 addresses lie inside ::/0 in the trie, and must not be found there.
    const guarded = this.#networkIndex.coversMapped && !this.#networkIndex.has(EVERY_IPV4.text);
    if (guarded) this.networks.set(networkKey(EVERY_IPV4), u32(Identity.WORLD));
    else if (!this.#networkIndex.has(EVERY_IPV4.text)) this.networks.delete(networkKey(EVERY_IPV4));
  }

  #forgetPolicies(before: Snapshot): void {
    const { removed: policies } = difference(before.policies, this.#snapshot.policies);
    const { removed: cluster } = difference(before.clusterPolicies, this.#snapshot.clusterPolicies);
    const { removed: plugins } = difference(before.pluginPolicies, this.#snapshot.pluginPolicies);
    this.#forget('NetworkPolicy', policies, this.#snapshot.policies);
    this.#forget('ClusterNetworkPolicy', cluster, this.#snapshot.clusterPolicies);
    for (const kind of ['PluginPolicy', 'HTTPRoute'] as const) {
      const isOne = (policy: PluginPolicy): boolean => policy.kind === kind;
      this.#forget(kind, plugins.filter(isOne), this.#snapshot.pluginPolicies.filter(isOne));
    }
  }

  #forget(
    kind: RuleOrigin['kind'],
    removed: readonly { namespace?: string; name: string }[],
    left: readonly { namespace?: string; name: string }[],
  ): void {
    if (!removed.length) return;
    const names = new Set(left.map(({ namespace = '', name }) => `${namespace}/${name}`));
    for (const policy of removed) if (!names.has(`${policy.namespace ?? ''}/${policy.name}`)) this.#book.forget(kind, policy);
  }
}

/** Whether the pod has addresses of its own that are its. */
function isPeer(pod: Pod): boolean {
  return !pod.ended && !pod.hostNetwork;
}

function isEndpoint(pod: Pod): boolean {
  return !pod.ended && ((pod.interface !== undefined && !pod.hostNetwork) || pod.cgroup !== undefined);
}

function podName(pod: Pod): string {
  return `${pod.namespace}/${pod.name}`;
}

/** Namespaces whose labels are others than before. */
function changedNamespaces(before: ReadonlyMap<string, Namespace>, after: ReadonlyMap<string, Namespace>): Set<string> {
  const changed = new Set<string>();
  if (before === after) return changed;
  for (const [name, namespace] of after) if (before.get(name) !== namespace) changed.add(name);
  for (const name of before.keys()) if (!after.has(name)) changed.add(name);
  return changed;
}

function endpointValue(pod: Pod, identity: number, ruleSets: CompiledEndpoint['ruleSets']): Buffer {
  const none = pod.quarantined ? RuleSetId.CLOSED : RuleSetId.NONE;
  const ids = [ruleSets[0]?.id ?? none, ruleSets[1]?.id ?? none];
  const answers = ruleSets[Direction.EGRESS]?.answerRules[0];
  const endpoint: Endpoint = {
    confirmByNs: 0n,
    ...addressPair(pod.addresses),
    identity,
    flags: ruleSets[Direction.EGRESS]?.patterns.size ? EndpointFlag.NAMES : 0,
    dnsPlugin: answers?.dnsPlugin ?? 0,
    dnsRule: answers?.id ?? 0,
    ruleSets: ids,
    confirmed: ids,
  };
  const value = Buffer.alloc(endpointCodec.size);
  endpointCodec.write(value, 0, endpoint);
  return value;
}

/** Key of the networks map: struct network_key. */
function networkKey({ bits, key }: Network): string {
  return String.fromCharCode(bits, 0, 0, 0) + key;
}

function u32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

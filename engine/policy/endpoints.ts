/**
 * The pods of this node that policy is enforced on: for each its identity, and the rule set of each direction. Those are
 * selected again that a change could be about, and no others.
 */
import { Direction, type Endpoint, EndpointFlag, endpointCodec, RuleSet as RuleSetId } from '../abi.gen.ts';
import { addressKey, addressPair, lastKey, type Network } from './address.ts';
import type { ClusterDelta, Replaced } from './cluster.ts';
import type { Identities, IdentityInfo } from './identities.ts';
import type { NetworkIndex } from './network-index.ts';
import { objectName } from './object-name.ts';
import type { Pod } from './objects.ts';
import type { RuleSet } from './rule-set.ts';
import type { RuleSets } from './rule-sets.ts';
import type { Selection } from './selection.ts';
import { addTo, removeFrom } from './set-map.ts';
import { SortedKeys } from './sorted-keys.ts';

export interface CompiledEndpoint {
  readonly pod: Pod;
  readonly identity: number;
  /** In both directions, whatever policies say. */
  readonly closed: boolean;
  /** By direction; undefined where nothing isolates or tags, or the pod is closed. */
  readonly ruleSets: readonly [RuleSet | undefined, RuleSet | undefined];
  /** The map value. */
  readonly value: Buffer;
}

/** The parts that select endpoints and say who they are. */
export interface EndpointsParts {
  readonly selection: Selection;
  readonly ruleSets: RuleSets;
  readonly identities: Identities;
  readonly networks: NetworkIndex;
}

type PolicyDelta = Pick<ClusterDelta, 'NetworkPolicy' | 'ClusterNetworkPolicy' | 'PluginPolicy'>;

interface LeftRuleSet {
  readonly key: string;
  readonly pod: Pod;
}

export class Endpoints {
  readonly compiled = new Map<Pod, CompiledEndpoint>();
  readonly #parts: EndpointsParts;
  readonly #byNamespace = new Map<string, Set<Pod>>();
  /** By each address that they say they have. */
  readonly #claims = new Map<string, Set<Pod>>();
  /** By their first address, which their identity is of. */
  readonly #byAddress = new Map<string, Set<Pod>>();
  readonly #addresses = new SortedKeys();
  readonly #ownIdentity = new Map<Pod, IdentityInfo>();
  readonly #keys = new Map<Pod, readonly (string | undefined)[]>();
  #changed = new Set<Pod>();

  constructor(parts: EndpointsParts) {
    this.#parts = parts;
  }

  /** Takes over what came, changed and went, and which namespaces have other labels. */
  update(pods: readonly Replaced<Pod>[], policies: PolicyDelta, namespaces: Iterable<string>): void {
    const left: LeftRuleSet[] = [];
    const gone = pods.flatMap(({ before }) => (before && isEndpoint(before) ? [before] : []));
    const added = pods.flatMap(({ after }) => (after && isEndpoint(after) ? [after] : []));
    const stale = this.#selectedBy(policies, namespaces);
    for (const pod of gone) stale.delete(pod);
    // Who comes first: who is replaced by his like keeps identity and rule sets.
    for (const pod of added) this.#add(pod);
    for (const pod of [...added, ...stale]) this.#select(pod, left);
    for (const { key, pod } of left) this.#parts.ruleSets.leave(key, pod);
    for (const pod of gone) this.#remove(pod);
  }

  /** Gives new identities to endpoints in networks that policy began or ceased to name. */
  renameWithin(networks: readonly Network[]): void {
    const pods = new Set(
      networks
        .flatMap((network) => this.#addresses.between(network.key, lastKey(network)))
        .flatMap((key) => [...(this.#byAddress.get(key) ?? [])]),
    );
    for (const pod of pods) {
      const before = this.#ownIdentity.get(pod);
      const now = this.#identify(pod);
      if (before) this.#parts.identities.release(before);
      if (now !== before) this.#set(pod, now, this.compiled.get(pod)?.ruleSets ?? [undefined, undefined]);
    }
  }

  /** Endpoints that came, changed or went since this was asked last, and those that say they have one of these addresses, which are somebody else's now. */
  takeChanged(addresses: Iterable<string>): ReadonlySet<Pod> {
    const changed = this.#changed;
    for (const key of addresses) for (const pod of this.#claims.get(key) ?? []) changed.add(pod);
    this.#changed = new Set();
    return changed;
  }

  /** The first by name, of those with an interface that `isAttached` says are here, of who say they have an address; undefined where none does. */
  claimantOf(address: string, isAttached: (pod: Pod) => boolean): Pod | undefined {
    let first: Pod | undefined;
    for (const pod of this.#claims.get(address) ?? [])
      if (pod.cgroup === undefined && isAttached(pod) && !(first && objectName(first) < objectName(pod))) first = pod;
    return first;
  }

  /** Those that a policy which changed is about, or was, and those of namespaces with other labels. */
  #selectedBy({ NetworkPolicy, PluginPolicy, ClusterNetworkPolicy }: PolicyDelta, namespaces: Iterable<string>): Set<Pod> {
    const { selection } = this.#parts;
    const found = new Set<Pod>();
    for (const name of namespaces) for (const pod of this.#byNamespace.get(name) ?? []) found.add(pod);
    for (const { before, after } of [...NetworkPolicy, ...PluginPolicy])
      for (const policy of [before, after]) {
        if (!policy) continue;
        const everywhere = 'everywhere' in policy && policy.everywhere;
        for (const pod of everywhere ? this.compiled.keys() : (this.#byNamespace.get(policy.namespace) ?? []))
          if (selection.isSelected(policy, pod)) found.add(pod);
      }
    // Every endpoint of the node is tried, for any could be a subject: two selectors each.
    for (const { before, after } of ClusterNetworkPolicy)
      for (const pod of this.compiled.keys())
        if ((before && selection.isSubject(before, pod)) || (after && selection.isSubject(after, pod))) found.add(pod);
    return found;
  }

  #add(pod: Pod): void {
    addTo(this.#byNamespace, pod.namespace, pod);
    for (const claimed of pod.addresses) addTo(this.#claims, addressKey(claimed), pod);
    const [address] = pod.addresses;
    if (address) {
      addTo(this.#byAddress, addressKey(address), pod);
      this.#addresses.add(addressKey(address));
    }
    this.#identify(pod);
  }

  #remove(pod: Pod): void {
    this.compiled.delete(pod);
    this.#changed.add(pod);
    for (const key of this.#keys.get(pod) ?? []) if (key !== undefined) this.#parts.ruleSets.leave(key, pod);
    this.#keys.delete(pod);
    removeFrom(this.#byNamespace, pod.namespace, pod);
    for (const claimed of pod.addresses) removeFrom(this.#claims, addressKey(claimed), pod);
    const [address] = pod.addresses;
    if (address) {
      removeFrom(this.#byAddress, addressKey(address), pod);
      if (!this.#byAddress.has(addressKey(address))) this.#addresses.remove(addressKey(address));
    }
    const identity = this.#ownIdentity.get(pod);
    if (identity) this.#parts.identities.release(identity);
    this.#ownIdentity.delete(pod);
  }

  #select(pod: Pod, left: LeftRuleSet[]): void {
    const { selection, ruleSets } = this.#parts;
    const keysBefore = this.#keys.get(pod) ?? [];
    const memberships = selection.closes(pod) ? [] : [selection.of(pod, Direction.INGRESS), selection.of(pod, Direction.EGRESS)];
    const [ingress, egress] = memberships.map((membership) => membership && ruleSets.use(membership, pod));
    const keys = memberships.map((membership) => membership?.key);
    this.#keys.set(pod, keys);
    for (const key of keysBefore) if (key !== undefined && !keys.includes(key)) left.push({ key, pod });
    this.#set(pod, this.#ownIdentity.get(pod) ?? this.#identify(pod), [ingress, egress]);
  }

  #set(pod: Pod, { id }: IdentityInfo, ruleSets: CompiledEndpoint['ruleSets']): void {
    const closed = this.#parts.selection.closes(pod) !== undefined;
    this.compiled.set(pod, { pod, identity: id, closed, ruleSets, value: endpointValue({ pod, identity: id, closed, ruleSets }) });
    this.#changed.add(pod);
  }

  #identify(pod: Pod): IdentityInfo {
    const [address] = pod.addresses;
    const identity = this.#parts.identities.acquirePod(pod, address ? this.#parts.networks.containing(address) : []);
    this.#ownIdentity.set(pod, identity);
    return identity;
  }
}

/** Whether a pod is to be judged on this node. One in the node's network is the node, unless a file names its cgroup. */
function isEndpoint(pod: Pod): boolean {
  if (pod.ended) return false;
  return pod.cgroup !== undefined || (!pod.hostNetwork && (pod.interface !== undefined || pod.local === true));
}

function endpointValue({ pod, identity, closed, ruleSets }: Omit<CompiledEndpoint, 'value'>): Buffer {
  const none = closed ? RuleSetId.CLOSED : RuleSetId.NONE;
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

/**
 * Bringing the policy maps from what they hold to what they should hold, in an order that opens and closes nothing on the
 * way: every flow goes from what the old policy says to what the new one says in one step.
 *
 * Additions come first, and of those what others point at: backends, the sets that count them, what leads to these, ports, policies (those of one peer before those of all others),
 * rule sets for names, the patterns that lead to them, addresses of the node, networks (the longest first, so that no address is for a moment only in
 * a larger one), peers, endpoints. Removals run backwards. Ids are hashes of what they name, so that an engine that starts
 * anew finds its own entries unchanged.
 */
import { randomInt } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import {
  endpointCodec,
  Identity,
  type PolicyState as KernelPolicyState,
  localEndpointCodec,
  networkKeyCodec,
  policyKeyCodec,
  policyStateCodec,
  RuleSet,
} from '../abi.gen.ts';
import { EngineError } from '../errors.ts';
import type { MapName } from '../maps.gen.ts';
import type { Datapath, Place } from './datapath.ts';
import type { Entries } from './kernel-map.ts';
import { eitherOf, neededSwitches } from './switches.ts';

/** The compiled maps, in the order in which additions are written. */
const COMPILED = [
  'backends',
  'backend_sets',
  'service_backends',
  'rule_backends',
  'ports',
  'policies',
  'named_rule_sets',
  'name_patterns',
  'resolvers',
  'node_addresses',
  'networks',
  'peers',
] as const satisfies readonly MapName[];
type CompiledMap = (typeof COMPILED)[number];

/** Entries that a map should have, and the keys whose entries changed since they were written last. */
export interface WantedEntries {
  readonly entries: ReadonlyMap<string, Buffer>;
  readonly touched: Set<string>;
}

/** The entries that the maps should hold. Endpoints by id. */
export interface PolicyState extends Readonly<Record<CompiledMap, WantedEntries>> {
  readonly endpoints: ReadonlyMap<number, PlacedEndpoint>;
  /** Whether an address, as a key of the map peers, is that of an endpoint which says that it has it: on this node, whoever else says so. */
  ownsAddress(id: number, address: string): boolean;
  /** Whether the endpoints, and which addresses are theirs, are known to be those of the call before. */
  readonly sameEndpoints?: boolean;
}

export interface PlacedEndpoint {
  /** struct endpoint. */
  readonly value: Buffer;
  readonly place: Place;
  /** Nothing passes there, whatever the value says: nobody knows whose place it is. */
  readonly closed?: boolean;
  /** The value from then on, unless that is taken back: struct endpoint of the rule sets that were confirmed. */
  readonly fallback?: { readonly value: Buffer; readonly atNs: bigint };
}

export interface Applied {
  /** Map entries written and deleted. */
  readonly changes: number;
  readonly failures: readonly EngineError[];
}

interface Plan {
  readonly map: CompiledMap;
  readonly set: [key: string, value: Buffer][];
  readonly gone: string[];
}

const ORDER: Readonly<Partial<Record<CompiledMap, (key: string) => number>>> = {
  policies: (key) => Number(Buffer.from(key, 'latin1').readUInt32LE(policyKeyCodec.offsets.identity) === Identity.ANY),
  networks: (key) => -Buffer.from(key, 'latin1').readUInt32LE(networkKeyCodec.offsets.prefixBits),
};

/**
 * Maps in which an entry of an earlier engine stays as long as what it points at: addresses may still be known under patterns
 * that no rule has any more, and this engine has never heard of those.
 */
const KEPT: ReadonlySet<CompiledMap> = new Set(['named_rule_sets']);

export class PolicyMaps {
  readonly #datapath: Datapath;
  readonly #limits: Omit<KernelPolicyState, 'revision' | 'hashSeed'>;
  readonly #held = new Map<MapName, Entries>();
  /** Where this engine's programs are, by endpoint. */
  readonly #attached = new Map<number, Place>();
  /** Whether packets can be put into an endpoint's network directly, by id. */
  readonly #peered = new Map<number, boolean>();
  #revision = 0;
  #hashSeed: number;
  #changes = 0;
  /** Whether this engine has written a revision: the one before may have died between a change and its revision. */
  #revised = false;
  #committed = false;
  /** Whether what is held differs from what is wanted in touched entries only. */
  #settled = false;
  /** Whether the kernel has the endpoints of the call before. */
  #endpointsSettled = false;

  /** Reads what an earlier engine left. */
  constructor(datapath: Datapath, limits: Omit<KernelPolicyState, 'revision' | 'hashSeed'>) {
    this.#datapath = datapath;
    this.#limits = limits;
    for (const name of [...COMPILED, 'endpoints', 'local_endpoints'] as const) this.#held.set(name, datapath.maps[name].dump());
    const state = datapath.maps.policy_states.find(Buffer.alloc(4));
    if (state) this.#revision = policyStateCodec.read(state, 0).revision;
    this.#hashSeed = (state && policyStateCodec.read(state, 0).hashSeed) || randomInt(1, 2 ** 32 - 1);
  }

  /** Entries and capacity of each policy map. */
  pressure(): { map: MapName; entries: number; maxEntries: number }[] {
    return [...this.#held].map(([map, entries]) => ({ map, entries: entries.size, maxEntries: this.#datapath.maps[map].maxEntries }));
  }

  /**
   * Puts a state in force. Where it does not fit, what was in force stays; endpoints that are new then are closed rather
   * than open, and the failure is in the result. The next call tries again.
   */
  apply(state: PolicyState): Applied {
    const changesBefore = this.#changes;
    const failures: EngineError[] = [];
    const attempt = (act: () => void): boolean => {
      try {
        act();
        return true;
      } catch (error) {
        if (!(error instanceof EngineError)) throw error;
        failures.push(error);
        return false;
      }
    };

    const plans = COMPILED.map((map) => this.#plan(map, state[map]));
    // Before the first endpoint is judged by it.
    if (!this.#revised) attempt(() => this.#writeRevision(this.#revision));
    const written = attempt(() => {
      this.#switchOn(state.endpoints);
      for (const plan of plans) this.#checkRoom(plan);
      for (const plan of plans) this.#set(plan);
    });
    if (!state.sameEndpoints || !this.#endpointsSettled) {
      const failuresBefore = failures.length;
      this.#switchEndpoints(state, written, attempt);
      this.#endpointsSettled = written && failures.length === failuresBefore;
    }
    const removed = written && attempt(() => plans.reverse().forEach((plan) => void this.#remove(plan)));
    // Connections that exist were judged by what stood there before.
    if (this.#changes !== changesBefore || !this.#revised) this.#revised = attempt(() => this.#writeRevision(this.#revision + 1));
    // Every endpoint has this engine's programs by now, and they have this engine's maps.
    if (!this.#committed && !failures.length) this.#committed = attempt(() => this.#datapath.commit());
    this.#settled = removed;
    if (removed) for (const map of COMPILED) state[map].touched.clear();
    return { changes: this.#changes - changesBefore, failures };
  }

  /** Parts of the chain are on before the endpoints that need them are there, and stay on while this engine lives: each change costs a second. */
  #switchOn(endpoints: PolicyState['endpoints']): void {
    const { switches } = this.#datapath;
    this.#datapath.switch(eitherOf(switches, neededSwitches([...endpoints.values()].map(mapValue))));
  }

  #plan(map: CompiledMap, { entries, touched }: WantedEntries): Plan {
    const held = this.#entries(map);
    const plan: Plan = { map, set: [], gone: [] };
    const visit = (key: string): void => {
      const value = entries.get(key);
      if (!value) {
        if (held.has(key)) plan.gone.push(key);
      } else if (!held.get(key)?.equals(value)) plan.set.push([key, value]);
    };
    if (this.#settled) for (const key of touched) visit(key);
    else {
      for (const key of entries.keys()) visit(key);
      const kept = KEPT.has(map) ? new Set([...entries.values()].map((value) => value.toString('latin1'))) : undefined;
      for (const [key, value] of held) if (!entries.has(key) && !kept?.has(value.toString('latin1'))) plan.gone.push(key);
    }
    const order = ORDER[map];
    if (order) {
      plan.set.sort(([a], [b]) => order(a) - order(b));
      plan.gone.sort((a, b) => order(b) - order(a));
    }
    return plan;
  }

  #checkRoom({ map, set }: Plan): void {
    const held = this.#entries(map);
    const { maxEntries } = this.#datapath.maps[map];
    const wanted = held.size + set.filter(([key]) => !held.has(key)).length;
    if (wanted > maxEntries)
      throw new EngineError(
        'MAP_FULL',
        `Cannot put the policy in force: map ${map} would need ${wanted} entries and has room for ${maxEntries}; a restart of the engine sizes it anew`,
      );
  }

  #set({ map, set }: Plan): void {
    const held = this.#entries(map);
    const entries = new Map(set);
    try {
      this.#datapath.maps[map].update(entries);
    } catch (error) {
      this.#held.set(map, this.#datapath.maps[map].dump());
      throw error;
    }
    for (const [key, value] of entries) held.set(key, value);
    this.#changes += entries.size;
  }

  #remove({ map, gone }: Plan): void {
    this.#datapath.maps[map].delete(gone);
    for (const key of gone) this.#entries(map).delete(key);
    this.#changes += gone.length;
  }

  #switchEndpoints(state: PolicyState, written: boolean, attempt: (act: () => void) => boolean): void {
    const held = this.#entries('endpoints');
    const wanted: Entries = new Map();
    for (const [id, endpoint] of state.endpoints) {
      const key = idKey(id);
      const value = mapValue(endpoint);
      wanted.set(key, written ? value : (held.get(key) ?? closed(value)));
    }
    this.#write('endpoints', wanted, attempt);
    const local = this.#localEndpoints(state, attempt);
    this.#write('local_endpoints', local, attempt);
    for (const [id, { place }] of state.endpoints)
      if (!isDeepStrictEqual(this.#attached.get(id), place) && attempt(() => this.#datapath.attach(id, place)))
        this.#attached.set(id, place);
    const gone = [...held.keys()].filter((key) => !wanted.has(key));
    for (const key of gone) {
      const id = Buffer.from(key, 'latin1').readUInt32LE(0);
      attempt(() => this.#datapath.detach(id));
      this.#attached.delete(id);
      this.#peered.delete(id);
    }
    this.#erase('local_endpoints', local, attempt);
    this.#erase('endpoints', wanted, attempt);
  }

  /** Which endpoint has an address, of those with an interface: what the proxy sends there goes to that. */
  #localEndpoints(state: PolicyState, attempt: (act: () => void) => boolean): Entries {
    const found: Entries = new Map();
    for (const [id, { place, value }] of state.endpoints) {
      if ('cgroup' in place) continue;
      if (!this.#peered.has(id) || !isDeepStrictEqual(this.#attached.get(id), place))
        attempt(() => this.#peered.set(id, this.#datapath.isPeered(id, place)));
      const entry = Buffer.alloc(localEndpointCodec.size);
      localEndpointCodec.write(entry, 0, { id, peered: Number(this.#peered.get(id) === true) });
      const { ipv4, ipv6 } = endpointCodec.read(value, 0);
      for (const address of [ipv4, ipv6]) {
        const key = Buffer.from(address).toString('latin1');
        if (address.some((byte) => byte) && state.ownsAddress(id, key)) found.set(key, entry);
      }
    }
    return found;
  }

  /** Writes what is wanted of a map and not held. */
  #write(map: 'endpoints' | 'local_endpoints', wanted: Entries, attempt: (act: () => void) => boolean): void {
    const held = this.#entries(map);
    const fresh = new Map([...wanted].filter(([key, value]) => !held.get(key)?.equals(value)));
    attempt(() => {
      this.#datapath.maps[map].update(fresh);
      for (const [key, value] of fresh) held.set(key, value);
      this.#changes += fresh.size;
    });
  }

  /** Deletes what is held of a map and not wanted. */
  #erase(map: 'endpoints' | 'local_endpoints', wanted: Entries, attempt: (act: () => void) => boolean): void {
    const held = this.#entries(map);
    const gone = [...held.keys()].filter((key) => !wanted.has(key));
    attempt(() => {
      this.#datapath.maps[map].delete(gone);
      for (const key of gone) held.delete(key);
      this.#changes += gone.length;
    });
  }

  #writeRevision(revision: number): void {
    const value = Buffer.alloc(policyStateCodec.size);
    policyStateCodec.write(value, 0, { ...this.#limits, revision: revision >>> 0, hashSeed: this.#hashSeed });
    this.#datapath.maps.policy_states.update(new Map([['\0\0\0\0', value]]));
    this.#revision = revision >>> 0;
  }

  #entries(map: MapName): Entries {
    return this.#held.get(map) as Entries;
  }
}

function idKey(id: number): string {
  const key = Buffer.alloc(4);
  key.writeUInt32LE(id);
  return key.toString('latin1');
}

function mapValue({ value, closed: shut, fallback }: PlacedEndpoint): Buffer {
  if (shut) return closed(value);
  if (!fallback) return value;
  const bytes = Buffer.alloc(endpointCodec.size);
  const { ruleSets, flags } = endpointCodec.read(fallback.value, 0);
  const current = endpointCodec.read(value, 0);
  endpointCodec.write(bytes, 0, { ...current, flags: current.flags | flags, confirmed: ruleSets, confirmByNs: fallback.atNs });
  return bytes;
}

/** The endpoint with both directions closed: its rule sets could not be written, or nobody knows whose it is. */
function closed(endpoint: Buffer): Buffer {
  const shut = [RuleSet.CLOSED, RuleSet.CLOSED];
  const value = Buffer.alloc(endpointCodec.size);
  endpointCodec.write(value, 0, { ...endpointCodec.read(endpoint, 0), ruleSets: shut, confirmed: shut, confirmByNs: 0n });
  return value;
}

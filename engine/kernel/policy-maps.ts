/**
 * Bringing the policy maps from what they hold to what they should hold, in an order that opens and closes nothing
 * on the way: what rules need comes first, then who the peers are, then the endpoints switch, then what is left over goes.
 *
 * Ids are hashes of what they name, so that an engine that starts anew finds its own entries unchanged.
 */
import { endpointCodec, policyStateCodec } from '../abi.gen.ts';
import { EngineError } from '../errors.ts';
import type { Datapath, MapName } from './datapath.ts';
import type { Entries } from './kernel-map.ts';

/** In the order in which additions are safe; removals run backwards. */
const RULE_MAPS = ['ports', 'policies'] as const;
const PEER_MAPS = ['networks', 'peers'] as const;
type PolicyMapName = (typeof RULE_MAPS)[number] | (typeof PEER_MAPS)[number] | 'endpoints';

/** A rule set without entries: an endpoint whose own could not be written is closed in both directions. */
const RULE_SET_CLOSED = 1;

/** What the maps should hold. Endpoints by interface index. */
export interface PolicyState {
  readonly ports: Entries;
  readonly policies: Entries;
  readonly networks: Entries;
  readonly peers: Entries;
  readonly endpoints: ReadonlyMap<number, Buffer>;
}

export interface Applied {
  /** Map entries written and deleted. */
  readonly changes: number;
  readonly failures: readonly EngineError[];
}

export class PolicyMaps {
  readonly #datapath: Datapath;
  readonly #held = new Map<PolicyMapName, Entries>();
  readonly #attached = new Set<number>();
  #revision = 0;
  #changes = 0;
  /** Whether this engine has written a revision: the one before may have died between a change and its revision. */
  #revised = false;

  /** Reads what an earlier engine left. */
  constructor(datapath: Datapath) {
    this.#datapath = datapath;
    for (const name of [...RULE_MAPS, ...PEER_MAPS, 'endpoints'] as const) this.#held.set(name, datapath.maps[name].dump());
    const state = datapath.maps.policy_states.find(Buffer.alloc(4));
    if (state) this.#revision = policyStateCodec.read(state, 0).revision;
  }

  /** Entries and capacity of each policy map. */
  pressure(): { map: MapName; entries: number; maxEntries: number }[] {
    return [...this.#held].map(([map, entries]) => ({ map, entries: entries.size, maxEntries: this.#datapath.maps[map].maxEntries }));
  }

  /**
   * Puts a state in force. A write that fails leaves what was in force there as it was; endpoints that are new then
   * are closed rather than open, and the failure is in the result.
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

    const written = attempt(() => {
      for (const map of RULE_MAPS) this.#add(map, state[map]);
      for (const map of PEER_MAPS) this.#add(map, state[map]);
    });
    this.#switchEndpoints(state, written, attempt);
    if (written) {
      attempt(() => {
        for (const map of [...PEER_MAPS].reverse()) this.#remove(map, state[map]);
        for (const map of [...RULE_MAPS].reverse()) this.#remove(map, state[map]);
      });
    }
    // Connections that exist were judged by what stood there before.
    if (this.#changes !== changesBefore || !this.#revised) attempt(() => this.#writeRevision(this.#revision + 1));
    return { changes: this.#changes - changesBefore, failures };
  }

  #writeRevision(revision: number): void {
    const value = Buffer.alloc(policyStateCodec.size);
    policyStateCodec.write(value, 0, { revision: revision >>> 0 });
    this.#datapath.maps.policy_states.update(new Map([['\0\0\0\0', value]]));
    this.#revision = revision >>> 0;
    this.#revised = true;
  }

  #switchEndpoints(state: PolicyState, written: boolean, attempt: (act: () => void) => boolean): void {
    const held = this.#entries('endpoints');
    const wanted: Entries = new Map();
    for (const [ifindex, value] of state.endpoints) {
      const key = ifindexKey(ifindex);
      wanted.set(key, written ? value : (held.get(key) ?? closed(value)));
    }
    attempt(() => this.#add('endpoints', wanted));
    for (const ifindex of state.endpoints.keys())
      if (!this.#attached.has(ifindex) && attempt(() => this.#datapath.attach(ifindex))) this.#attached.add(ifindex);
    for (const key of held.keys()) {
      if (wanted.has(key)) continue;
      const ifindex = Buffer.from(key, 'latin1').readUInt32LE(0);
      attempt(() => this.#datapath.detach(ifindex));
      this.#attached.delete(ifindex);
    }
    attempt(() => this.#remove('endpoints', wanted));
  }

  #entries(map: PolicyMapName): Entries {
    return this.#held.get(map) as Entries;
  }

  #add(map: PolicyMapName, wanted: Entries): void {
    const held = this.#entries(map);
    const added: Entries = new Map();
    for (const [key, value] of wanted) if (!held.get(key)?.equals(value)) added.set(key, value);
    try {
      this.#datapath.maps[map].update(added);
    } catch (error) {
      this.#held.set(map, this.#datapath.maps[map].dump());
      throw error;
    }
    for (const [key, value] of added) held.set(key, value);
    this.#changes += added.size;
  }

  #remove(map: PolicyMapName, wanted: Entries): void {
    const held = this.#entries(map);
    const gone = [...held.keys()].filter((key) => !wanted.has(key));
    this.#datapath.maps[map].delete(gone);
    for (const key of gone) held.delete(key);
    this.#changes += gone.length;
  }
}

function ifindexKey(ifindex: number): string {
  const key = Buffer.alloc(4);
  key.writeUInt32LE(ifindex);
  return key.toString('latin1');
}

function closed(endpoint: Buffer): Buffer {
  const copy = Buffer.alloc(endpointCodec.size);
  endpointCodec.write(copy, 0, { ...endpointCodec.read(endpoint, 0), ruleSets: [RULE_SET_CLOSED, RULE_SET_CLOSED] });
  return copy;
}

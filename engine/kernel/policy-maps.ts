/**
 * Bringing the policy maps from what they hold to what they should hold, in an order that opens and closes nothing
 * on the way: what rules need comes first, then who the peers are, then the endpoints switch, then what is left over goes.
 *
 * Ids are hashes of what they name, so that an engine that starts anew finds its own entries unchanged.
 */
import { endpointCodec } from '../abi.gen.ts';
import { EngineError } from '../errors.ts';
import type { Datapath, MapName } from './datapath.ts';
import { type Entries } from './kernel-map.ts';

/** In the order in which additions are safe; removals run backwards. */
const RULE_MAPS = ['ports', 'policies'] as const;
const PEER_MAPS = ['networks', 'peers'] as const;
type PolicyMapName = (typeof RULE_MAPS)[number] | (typeof PEER_MAPS)[number] | 'endpoints';

/** A rule set without entries: an endpoint whose own could not be written is closed in both directions. */
const RULE_SET_CLOSED = 1;

/** What the maps should hold. Endpoints by interface index, their revision left zero. */
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
  #revision = 1;
  #changes = 0;

  /** Reads what an earlier engine left. */
  constructor(datapath: Datapath) {
    this.#datapath = datapath;
    for (const name of [...RULE_MAPS, ...PEER_MAPS, 'endpoints'] as const) this.#held.set(name, datapath.maps[name].dump());
    for (const value of this.#entries('endpoints').values()) this.#revision = Math.max(this.#revision, endpointCodec.read(value, 0).revision);
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

    // An address that gets, changes or loses an identity was judged as somebody else before; so was what a new network splits.
    const reidentified = PEER_MAPS.some((map) => !equalEntries(this.#entries(map), state[map]));
    const written = attempt(() => {
      for (const map of RULE_MAPS) this.#add(map, state[map]);
      for (const map of PEER_MAPS) this.#add(map, state[map]);
    });
    this.#switchEndpoints(state, reidentified, written, attempt);
    if (written) {
      attempt(() => {
        for (const map of [...PEER_MAPS].reverse()) this.#remove(map, state[map]);
        for (const map of [...RULE_MAPS].reverse()) this.#remove(map, state[map]);
      });
    }
    return { changes: this.#changes - changesBefore, failures };
  }

  #switchEndpoints(state: PolicyState, reidentified: boolean, written: boolean, attempt: (act: () => void) => boolean): void {
    const held = this.#entries('endpoints');
    if (reidentified) this.#revision += 1;
    const wanted: Entries = new Map();
    for (const [ifindex, value] of state.endpoints) {
      const key = ifindexKey(ifindex);
      const before = held.get(key);
      if (!written) {
        if (before) wanted.set(key, before);
        else wanted.set(key, closed(value));
        continue;
      }
      const same = before && withRevision(before, 0).equals(value);
      if (!same) this.#revision += 1;
      wanted.set(key, same && !reidentified ? before : withRevision(value, this.#revision));
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

function equalEntries(a: Entries, b: Entries): boolean {
  if (a.size !== b.size) return false;
  for (const [key, value] of a) if (!b.get(key)?.equals(value)) return false;
  return true;
}

function ifindexKey(ifindex: number): string {
  const key = Buffer.alloc(4);
  key.writeUInt32LE(ifindex);
  return key.toString('latin1');
}

function withRevision(endpoint: Buffer, revision: number): Buffer {
  const copy = Buffer.from(endpoint);
  copy.writeUInt32LE(revision, endpointCodec.offsets.revision);
  return copy;
}

function closed(endpoint: Buffer): Buffer {
  const copy = Buffer.alloc(endpointCodec.size);
  endpointCodec.write(copy, 0, { ...endpointCodec.read(endpoint, 0), ruleSets: [RULE_SET_CLOSED, RULE_SET_CLOSED] });
  return copy;
}

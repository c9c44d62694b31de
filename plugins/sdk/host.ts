/**
 * Lent by the host: counters that outlive the plugin, sets that the operator fills, the clock, the log.
 * Names are literals: the build writes them into the manifest, and the PolicyPlugin grants them.
 */
import { Address } from './address';
import { CONFIG_CAPACITY, numberOf } from './state';
import { Text } from './text';

// @ts-ignore: decorator
@external("sluice", "kv_add") declare function kvAdd(table: i32, key: usize, length: i32, delta: i32): i32;
// @ts-ignore: decorator
@external("sluice", "kv_get") declare function kvGet(table: i32, key: usize, length: i32): i32;
// @ts-ignore: decorator
@external("sluice", "set_has") declare function setHas(set: i32, key: usize, length: i32): i32;
// @ts-ignore: decorator
@external("sluice", "now_ms") declare function nowMs(): f64;
// @ts-ignore: decorator
@external("sluice", "log") declare function hostLog(text: usize, length: i32): void;

const KEY_MAX: i32 = 64;
const KEY: usize = memory.data(64, 8);
const TABLE: i32 = 0;
const SET: i32 = 1;

/** A key of several parts, built in place: key().address(a).number(n). There is one at a time. Never an object. */
@unmanaged
export class Key {
  number(value: u64): Key { return extend(this, value, 8); }

  address(address: Address): Key {
    return extend(extend(this, load<u64>(address.start), 8), load<u64>(address.start, 8), 8);
  }

  get length(): i32 { return <i32>changetype<usize>(this); }
}

export function key(): Key { return changetype<Key>(<usize>0); }

function extend(key: Key, value: u64, bytes: i32): Key {
  const length = key.length;
  assert(length + bytes <= KEY_MAX, 'a key has at most 64 bytes');
  store<u64>(KEY + <usize>length, value);
  return changetype<Key>(<usize>(length + bytes));
}

/**
 * A table of counters that the host keeps: it survives traps, other versions and restarts of the engine. `slots` bounds
 * it; where it is full, a counter that was not used for long is forgotten. Needs capability `counters`.
 */
export class Counters {
  private number: i32 = -1;

  constructor(private name: string, slots: i32) {}

  /** Adds to a counter, which begins at 0, and returns what it is then. */
  add(key: Key, delta: i32 = 1): i32 { return kvAdd(this.index, KEY, key.length, delta); }

  /** A counter; 0 when there is none. */
  get(key: Key): i32 { return kvGet(this.index, KEY, key.length); }

  private get index(): i32 {
    if (this.number < 0) this.number = numberOf(TABLE, this.name);
    return this.number;
  }
}

/** A set that the PolicyPlugin fills: of domains, networks or strings. Needs capability `sets`. */
export class HostSet {
  private number: i32 = -1;

  constructor(private name: string) {}

  hasText(text: Text): bool { return setHas(this.index, text.start, text.length) != 0; }

  hasAddress(address: Address): bool { return setHas(this.index, address.start, 16) != 0; }

  private get index(): i32 {
    if (this.number < 0) this.number = numberOf(SET, this.name);
    return this.number;
  }
}

/** The time of day. Needs capability `clock`. A verdict that used it answers nothing else. */
export namespace clock {
  /** Milliseconds since the Unix epoch. */
  export function unixMs(): u64 { return <u64>nowMs(); }

  /** Minutes since midnight, UTC. */
  export function minuteOfDay(): i32 { return <i32>((unixMs() / 60000) % 1440); }

  /** 0 is Sunday, UTC. */
  export function weekday(): i32 { return <i32>((unixMs() / 86400000 + 4) % 7); }
}

/** Writes a line into the engine's log; at most 512 bytes of it, 20 lines at once, and 10 a second. */
export function log(text: string): void {
  const bytes = String.UTF8.encode(text);
  hostLog(changetype<usize>(bytes), min(bytes.byteLength, CONFIG_CAPACITY));
}

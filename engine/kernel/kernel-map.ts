/** A map of the kernel, with keys and values as bytes. */
import { MAPS, type MapName } from '../maps.gen.ts';
import { check, errnoName, native } from './native.ts';

/** Key bytes → value bytes; the key is a latin1 string, so that a JavaScript Map compares it by content. */
export type Entries = Map<string, Buffer>;

/** Entries with room for a dump: the kernel may grow a map between two calls. */
const DUMP_SLACK = 2;

export class KernelMap {
  readonly name: MapName;
  readonly fd: number;
  readonly keySize: number;
  /** Of a per-CPU map, of the values of all processors. */
  readonly valueSize: number;
  readonly maxEntries: number;

  /** `fd`: of a map whose owner closes it. Sizes are the map's own: one that another version pinned may have others than bpf/maps.h. */
  constructor(name: MapName, fd: number) {
    const sizes = new Uint32Array(3);
    check(native.sluice_map__sizes(fd, Buffer.from(sizes.buffer)), `size map ${name}`);
    const [keySize = 0, valueSize = 0, maxEntries = 0] = sizes;
    this.name = name;
    this.fd = fd;
    this.keySize = keySize;
    this.valueSize = MAPS[name].kind === 'percpu_array' ? valueSize * native.sluice_kernel__cpus() : valueSize;
    this.maxEntries = maxEntries;
  }

  /** Whether keys and values have as many bytes as this engine's. */
  get hasKnownSizes(): boolean {
    const { keyBytes, valueBytes } = MAPS[this.name];
    return this.keySize === keyBytes && this.valueSize === valueBytes;
  }

  /**
   * Writes all entries, in batches of the kernel's.
   *
   * @throws EngineError `MAP_FULL` when they do not fit; some of them may have been written.
   */
  update(entries: Entries): void {
    if (!entries.size) return;
    const keys = Buffer.alloc(entries.size * this.keySize);
    const values = Buffer.alloc(entries.size * this.valueSize);
    let i = 0;
    for (const [key, value] of entries) {
      keys.write(key, i * this.keySize, 'latin1');
      value.copy(values, i * this.valueSize);
      i += 1;
    }
    const done = Buffer.alloc(4);
    const result = native.sluice_map__update(this.fd, keys, this.keySize, values, this.valueSize, entries.size, done);
    check(result, `write ${entries.size} entries to map ${this.name} (${this.maxEntries} at most)`);
  }

  /** Deletes the entries with these keys; one that is not there is no error. */
  delete(keys: Iterable<string>): void {
    const bytes = Buffer.concat([...keys].map((key) => Buffer.from(key, 'latin1')));
    const count = bytes.length / this.keySize;
    if (count)
      check(native.sluice_map__delete(this.fd, bytes, this.keySize, count, Buffer.alloc(4)), `delete ${count} entries of map ${this.name}`);
  }

  /** The value of a key, or undefined. */
  find(key: Uint8Array): Buffer | undefined {
    const value = Buffer.alloc(this.valueSize);
    const result = native.sluice_map__lookup(this.fd, Buffer.from(key), value);
    if (result < 0 && errnoName(result) === 'ENOENT') return undefined;
    check(result, `read map ${this.name}`);
    return value;
  }

  /** Every entry. Not a point in time where programs write too. */
  dump(): Entries {
    const most = this.maxEntries + DUMP_SLACK;
    for (let capacity = Math.min(4096, most); ; capacity = Math.min(capacity * 8, most)) {
      const keys = Buffer.alloc(capacity * this.keySize);
      const values = Buffer.alloc(capacity * this.valueSize);
      const count = native.sluice_map__dump(this.fd, keys, this.keySize, values, this.valueSize, capacity);
      if (count < 0 && errnoName(count) === 'ENOSPC' && capacity < most) continue;
      check(count, `read all of map ${this.name}`);
      const entries: Entries = new Map();
      for (let i = 0; i < count; i++)
        entries.set(
          keys.toString('latin1', i * this.keySize, (i + 1) * this.keySize),
          Buffer.from(values.subarray(i * this.valueSize, (i + 1) * this.valueSize)),
        );
      return entries;
    }
  }
}

/** Opens a map that an engine pinned in that directory; undefined when none is there. */
export function openPinnedMap(pinDirectory: string, name: MapName): KernelMap | undefined {
  const path = `${pinDirectory}/${name}`;
  const fd = native.sluice_map__open(path);
  if (fd < 0 && errnoName(fd) === 'ENOENT') return undefined;
  return new KernelMap(name, check(fd, `open ${path}`));
}

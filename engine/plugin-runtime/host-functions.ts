/**
 * The functions that a guest may call. Import objects have no prototype, so that no name leads out of them; every pointer is checked
 * against the guest's memory; every function takes a bounded time, which the guest has paid for in fuel.
 */
import type { Capability } from '../policy/objects.ts';
import { HOST_FUNCTIONS, type HostFunctionName } from './abi.ts';
import type { CounterTable } from './counter-table.ts';
import { LineLimiter } from './line-limiter.ts';
import { KEY_BYTES_MAX, type NamedSet } from './named-set.ts';

/** A trap, or a call of abort: the instance must not be used again. */
export class PluginTrap extends Error {
  /** Where in the metered module, innermost first; see fuel.ts. */
  readonly offsets: readonly number[];

  constructor(message: string, offsets: readonly number[] = []) {
    super(message);
    this.offsets = offsets;
  }
}

/** Tables and sets that the engine lends to the instances of one plugin. In the order of the manifest's lists. */
export interface HostState {
  readonly tables: readonly CounterTable[];
  readonly sets: readonly NamedSet[];
  /** Milliseconds since the Unix epoch. */
  now(): number;
  log(text: string): void;
}

/** Bytes of a text of the guest's that are worth showing. */
export const TEXT_BYTES_MAX = 512;
/** Lines of one instance: so many at once, and so many a second. */
export const LOG_BURST = 20;
export const LOG_PER_SECOND = 10;

export class HostFunctions {
  /** Whether the last evaluation has used a counter or the clock: then its verdict answers nothing else. */
  usedState = false;
  readonly #state: HostState;
  #memory: WebAssembly.Memory | undefined;
  #seen = new Uint8Array(0);
  readonly #lines = new LineLimiter(LOG_BURST, LOG_PER_SECOND);

  constructor(state: HostState) {
    this.#state = state;
  }

  /** Names the guest's memory, once it has one. */
  attach(memory: WebAssembly.Memory): void {
    this.#memory = memory;
  }

  /** The guest's memory as it is now: one that grows gets another buffer, and the one before has no bytes any more. */
  get memory(): Uint8Array {
    if (!this.#seen.length && this.#memory) this.#seen = new Uint8Array(this.#memory.buffer);
    return this.#seen;
  }

  /** The imports of a guest with these capabilities. */
  imports(capabilities: readonly Capability[]): WebAssembly.Imports {
    const functions: Readonly<Record<HostFunctionName, WebAssembly.ImportValue>> = {
      'env.abort': this.#abort,
      'sluice.log': this.#log,
      'sluice.kv_add': this.#add,
      'sluice.kv_get': this.#get,
      'sluice.set_has': this.#has,
      'sluice.now_ms': this.#now,
    };
    const modules: Record<string, Record<string, WebAssembly.ImportValue>> = { env: {}, sluice: {} };
    for (const [whole, given] of Object.entries(functions)) {
      const [module = '', name = ''] = whole.split('.');
      const capability = HOST_FUNCTIONS.get(whole)?.capability;
      const names = modules[module];
      if (names && (!capability || capabilities.includes(capability))) names[name] = given;
    }
    return bare(Object.fromEntries(Object.entries(modules).map(([module, names]) => [module, bare(names)])));
  }

  /** UTF-8 of the guest's, without what would steer a terminal or break a line of the log; at most TEXT_BYTES_MAX bytes of it. */
  text(at: number, length: number): string {
    const bytes = Math.min(length, TEXT_BYTES_MAX);
    if (at + bytes > this.memory.length) return '';
    return printable(Buffer.from(this.memory.subarray(at, at + bytes)).toString('utf8')) + (length > bytes ? '…' : '');
  }

  readonly #abort = (message: number, file: number, line: number, column: number): never => {
    const where = this.#string(file >>> 0);
    throw new PluginTrap(`${this.#string(message >>> 0) || 'abort'} (at ${where && `${where}:`}${line >>> 0}:${column >>> 0})`);
  };

  readonly #log = (at: number, length: number): void => {
    const left = this.#lines.take(performance.now());
    if (left === undefined) return;
    this.#state.log(this.text(at >>> 0, length >>> 0) + (left ? ` (${left} lines before it were left out)` : ''));
  };

  readonly #add = (table: number, at: number, length: number, delta: number): number => {
    this.usedState = true;
    return this.#table(table, at, length, 'kv_add').add(this.memory, at >>> 0, length >>> 0, delta);
  };

  readonly #get = (table: number, at: number, length: number): number => {
    this.usedState = true;
    return this.#table(table, at, length, 'kv_get').get(this.memory, at >>> 0, length >>> 0);
  };

  readonly #has = (set: number, at: number, length: number): number => {
    const found = this.#state.sets[set];
    if (!found) throw new PluginTrap(`set_has: the manifest has no set ${set}`);
    if (length >>> 0 > KEY_BYTES_MAX) return 0;
    this.#check(at, length, 'set_has');
    return found.has(this.memory, at >>> 0, length >>> 0) ? 1 : 0;
  };

  readonly #now = (): number => {
    this.usedState = true;
    return this.#state.now();
  };

  #table(index: number, at: number, length: number, name: string): CounterTable {
    const table = this.#state.tables[index];
    if (!table) throw new PluginTrap(`${name}: the manifest has no table ${index}`);
    if (length >>> 0 > KEY_BYTES_MAX) throw new PluginTrap(`${name}: a key of ${length >>> 0} bytes; ${KEY_BYTES_MAX} are the most`);
    this.#check(at, length, name);
    return table;
  }

  #check(at: number, length: number, name: string): void {
    if ((at >>> 0) + (length >>> 0) > this.memory.length) throw new PluginTrap(`${name}: the key is not inside its memory`);
  }

  /** An AssemblyScript string: UTF-16, its length in bytes before it. */
  #string(at: number): string {
    if (at < 4 || at > this.memory.length) return '';
    const view = new DataView(this.memory.buffer, this.memory.byteOffset);
    const length = Math.min(view.getUint32(at - 4, true), TEXT_BYTES_MAX) & ~1;
    return at + length <= this.memory.length ? printable(Buffer.from(this.memory.subarray(at, at + length)).toString('utf16le')) : '';
  }
}

function bare<T extends object>(members: T): T {
  return Object.freeze(Object.assign(Object.create(null), members));
}

function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}]/gu, '?');
}

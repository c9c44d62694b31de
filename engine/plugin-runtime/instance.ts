/**
 * One running instance of a plugin: its memory, its context record, its evaluation.
 *
 * Everything that comes out of the guest is hostile: lengths and offsets are checked against its memory, words against
 * the ABI, the fields that it says it read against those that it was given.
 */
import { type Context, PluginAction, PluginField, pluginResultCodec } from '../abi.gen.ts';
import { EngineError, messageOf } from '../errors.ts';
import { ContextTooLarge, ContextWriter } from './context-writer.ts';
import { effectiveScope } from './fields.ts';
import { HostFunctions, type HostState, PluginTrap } from './host-functions.ts';
import { declaredFields, hookMask, type Manifest } from './manifest.ts';
import type { Question } from './question.ts';
import { actionOf, isVerdictWord, reasonOf, scopeOf, ttlMsOf, withScope } from './verdict-word.ts';

const CONTEXT_BYTES_MIN = 4096;
/** Fuel for everything before the first evaluation: some tens of milliseconds. */
export const START_FUEL = 50_000_000;
/** The value that evaluate() returns when the guest's answer means nothing. */
export const NONSENSE = -1;
const RESULT = pluginResultCodec.offsets;
/** As RFC 6265, 4.1.1 has them, and nothing that could end the header. */
const COOKIE = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+=[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*(?:; [\x20-\x3a\x3c-\x7e]+)*$/;

interface GuestExports {
  memory: WebAssembly.Memory;
  sluice_fuel: WebAssembly.Global<'i32'>;
  sluice_run(hook: number): number;
  sluice_ctx(): number;
  sluice_ctx_cap(): number;
  sluice_res(): number;
  sluice_cfg?(): number;
  sluice_cfg_cap?(): number;
  sluice_init?(length: number): number;
  _initialize?(): void;
}

export interface InstanceOptions {
  /** Metered; see audit.ts. */
  readonly module: WebAssembly.Module;
  readonly manifest: Manifest;
  /** Whether the guest's own word for what it read counts; else all that its manifest declares does. */
  readonly trusted: boolean;
  /** One `path = value` a line. */
  readonly config: string;
  /** Units of fuel that the module was metered with. */
  readonly fuel: number;
  readonly state: HostState;
}

export class PluginInstance {
  readonly manifest: Manifest;
  readonly #guest: GuestExports;
  readonly #host: HostFunctions;
  readonly #writer: ContextWriter;
  readonly #hooks: number;
  readonly #declared: number;
  readonly #trusted: boolean;
  readonly #budget: number;
  readonly #result: number;
  readonly #context: number;
  readonly #capacity: number;
  #buffer: ArrayBuffer;
  #words: Int32Array;
  #read = 0;

  /** @throws EngineError `PLUGIN_INVALID` when the guest traps or answers nonsense while it starts. */
  constructor({ module, manifest, trusted, config, fuel, state }: InstanceOptions) {
    this.manifest = manifest;
    this.#host = new HostFunctions(state);
    this.#writer = new ContextWriter(manifest);
    this.#hooks = hookMask(manifest);
    this.#declared = declaredFields(manifest);
    this.#trusted = trusted;
    this.#budget = fuel;
    try {
      const instance = new WebAssembly.Instance(module, this.#host.imports(manifest.capabilities));
      this.#guest = instance.exports as unknown as GuestExports;
      this.#buffer = this.#guest.memory.buffer;
      this.#words = new Int32Array(this.#buffer);
      this.#host.attach(this.#guest.memory);
      this.#guest.sluice_fuel.value = START_FUEL;
      this.#guest._initialize?.();
      this.#context = this.#guest.sluice_ctx() >>> 0;
      this.#capacity = this.#guest.sluice_ctx_cap() >>> 0;
      this.#result = this.#guest.sluice_res() >>> 0;
      this.#refresh();
      this.#checkRecords();
      this.#configure(config);
      this.#attach();
    } catch (error) {
      throw new EngineError('PLUGIN_INVALID', `Cannot start module: ${messageOf(this.#trapOf(error))}`, error);
    }
  }

  /** Whether its manifest has the hook. */
  answers(hook: Context): boolean {
    return (this.#hooks & (1 << hook)) !== 0;
  }

  /**
   * Evaluates one question. Returns the verdict word, its scope narrowed to what it may be cached as, or NONSENSE.
   *
   * @throws PluginTrap when the guest traps or the question does not fit; the instance is then of no more use.
   */
  evaluate(question: Question): number {
    if (!this.#words.length) this.#attach();
    let word: number;
    this.#host.usedState = false;
    try {
      this.#writer.write(question);
      word = this.#guest.sluice_run(question.hook) >>> 0;
    } catch (error) {
      throw this.#trapOf(error);
    }
    if (!this.#words.length) this.#attach();
    const reported = this.#words[(this.#result + RESULT.fields) >> 2] as number;
    if (!isVerdictWord(word, question.hook) || reported & ~this.#declared || reasonOf(word) > this.manifest.reasons.length) return NONSENSE;
    if (actionOf(word) === PluginAction.ROUTE && !this.route) return NONSENSE;
    this.#read = (this.#trusted ? reported : this.#declared) | (this.#host.usedState ? PluginField.HOST_STATE : 0);
    return withScope(word, ttlMsOf(word) ? effectiveScope(scopeOf(word), this.#read) : 0);
  }

  /** enum plugin_field bits that the last evaluation's verdict depends on. */
  get fieldsRead(): number {
    return this.#read;
  }

  /** Units of fuel that the last evaluation took. */
  get fuelUsed(): number {
    return this.#budget - this.#guest.sluice_fuel.value;
  }

  /** Bytes of the guest's memory. */
  get memoryBytes(): number {
    return this.#guest.memory.buffer.byteLength;
  }

  /** Where the last evaluation's verdict routes to; empty where it does not. */
  get route(): string {
    return this.manifest.routes[(this.#words[(this.#result + RESULT.route) >> 2] as number) - 1] ?? '';
  }

  /** A cookie for the answer to a request that the last evaluation lets through; empty where it sets none, or what is none. */
  get cookie(): string {
    const text = this.#message();
    return COOKIE.test(text) ? text : '';
  }

  /** The parts of a request that its manifest lets it read. */
  get reads(): { readonly fields: number; readonly headers: readonly string[]; readonly cookies: readonly string[] } {
    return { fields: this.#declared, headers: this.manifest.headers, cookies: this.manifest.cookies };
  }

  /** The response code that a pod gets in place of a denied DNS answer; 0 where the plugin does not say. */
  get responseCode(): number {
    return this.#words[(this.#result + RESULT.route) >> 2] as number;
  }

  /** The reason of a word that evaluate() has just returned; empty when there is none. */
  reason(word: number): string {
    const known = reasonOf(word);
    return known ? (this.manifest.reasons[known - 1] ?? '') : this.#message();
  }

  #message(): string {
    const at = this.#words[(this.#result + RESULT.message) >> 2] as number;
    const length = this.#words[(this.#result + RESULT.messageLength) >> 2] as number;
    return length ? this.#host.text(at >>> 0, length >>> 0) : '';
  }

  #checkRecords(): void {
    const within = (at: number, length: number): boolean => at + length <= this.#buffer.byteLength;
    if (this.#capacity < CONTEXT_BYTES_MIN || this.#context % 16 || !within(this.#context, this.#capacity))
      throw new PluginTrap(
        `its context buffer (${this.#capacity} bytes at ${this.#context}) must be inside its memory, at a multiple of 16, and have at least ${CONTEXT_BYTES_MIN} bytes`,
      );
    if (this.#result % 4 || !within(this.#result, pluginResultCodec.size))
      throw new PluginTrap(`its result record (at ${this.#result}) must be inside its memory, at a multiple of 4`);
  }

  #configure(config: string): void {
    const { sluice_init, sluice_cfg, sluice_cfg_cap } = this.#guest;
    if (!sluice_init) return;
    const bytes = Buffer.from(config, 'utf8');
    const at = (sluice_cfg?.() ?? 0) >>> 0;
    const capacity = (sluice_cfg_cap?.() ?? 0) >>> 0;
    this.#refresh();
    if (bytes.length > capacity || at + bytes.length > this.#buffer.byteLength)
      throw new PluginTrap(`its configuration has ${bytes.length} bytes, and it takes ${capacity}`);
    this.#host.memory.set(bytes, at);
    this.#guest.sluice_fuel.value = START_FUEL;
    const result = sluice_init(bytes.length);
    if (result !== 0) throw new PluginTrap(`sluice_init refused its configuration with ${result}`);
  }

  /** A guest that grows its memory gets another buffer. */
  #attach(): void {
    this.#refresh();
    this.#writer.setMemory(this.#buffer, this.#context, this.#capacity);
  }

  #refresh(): void {
    this.#buffer = this.#guest.memory.buffer;
    this.#words = new Int32Array(this.#buffer);
  }

  /** The failure, in words for the plugin's author. */
  #trapOf(error: unknown): PluginTrap {
    if (error instanceof ContextTooLarge) return new PluginTrap(error.message);
    const offsets = [...((error as Error).stack ?? '').matchAll(/wasm-function\[\d+\]:0x([0-9a-f]+)/g)].map((match) =>
      Number.parseInt(match[1] as string, 16),
    );
    if (error instanceof PluginTrap) return new PluginTrap(error.message, offsets);
    if (error instanceof RangeError && /call stack/i.test(error.message))
      return new PluginTrap('its stack overflowed: recursion without an end?', offsets);
    const outOfFuel = this.#guest?.sluice_fuel?.value < 0;
    return new PluginTrap(outOfFuel ? 'it ran out of fuel: a loop without an end?' : messageOf(error), offsets);
  }
}

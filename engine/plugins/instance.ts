/**
 * One running instance of a plugin: its memory, its context record, its evaluation.
 *
 * Everything that comes out of the guest is hostile: lengths and offsets are checked against its memory, and nothing of
 * the host is reachable from its imports, which have no prototype.
 */
import { Context, PluginField, PluginSlot, pluginContextCodec, pluginResultCodec } from '../abi.gen.ts';
import { EngineError, messageOf } from '../errors.ts';

/** Bytes of a message that are worth showing. */
const MESSAGE_BYTES_MAX = 512;
const CONTEXT_BYTES_MIN = 4096;

/** A trap, or a call of abort: the instance must not be used again. */
export class PluginTrap extends Error {}

/** The texts of one identity, encoded once. */
export interface IdentityTexts {
  readonly namespace: Uint8Array;
  /** One `key=value` a line. */
  readonly labels: Uint8Array;
}

/** What a connect evaluation is about. Addresses are 32 bytes: source, destination. */
export interface ConnectQuestion {
  readonly addresses: Uint8Array;
  readonly sourceIdentity: number;
  readonly destinationIdentity: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly protocol: number;
  readonly direction: number;
  readonly rule: number;
  readonly established: boolean;
  readonly timeMs: number;
  readonly source: IdentityTexts | undefined;
  readonly destination: IdentityTexts | undefined;
  readonly sourcePod: Uint8Array | undefined;
  readonly destinationPod: Uint8Array | undefined;
}

interface GuestExports {
  memory: WebAssembly.Memory;
  sluice_ctx(): number;
  sluice_ctx_cap(): number;
  sluice_res(): number;
  sluice_eval(hook: number): number;
  sluice_cfg?(): number;
  sluice_cfg_cap?(): number;
  sluice_init?(length: number): number;
  _initialize?(): void;
}

const OFFSETS = pluginContextCodec.offsets;
const CONNECT_FIELDS = PluginField.IDENTITY | PluginField.ADDRESS | PluginField.SOURCE_PORT | PluginField.MOMENT;

export class PluginInstance {
  readonly #guest: GuestExports;
  readonly #context: number;
  readonly #capacity: number;
  readonly #result: number;
  #bytes: Uint8Array;
  #view: DataView;

  /** @throws EngineError `PLUGIN_INVALID` when the guest traps or answers nonsense while it starts. */
  constructor(module: WebAssembly.Module, config: string) {
    try {
      const instance = new WebAssembly.Instance(module, this.#imports());
      this.#guest = instance.exports as unknown as GuestExports;
      this.#bytes = new Uint8Array(this.#guest.memory.buffer);
      this.#view = new DataView(this.#guest.memory.buffer);
      this.#guest._initialize?.();
      this.#context = this.#guest.sluice_ctx() >>> 0;
      this.#capacity = this.#guest.sluice_ctx_cap() >>> 0;
      this.#result = this.#guest.sluice_res() >>> 0;
      this.#refresh();
      if (this.#capacity < CONTEXT_BYTES_MIN || !this.#holds(this.#context, this.#capacity))
        throw new PluginTrap('its context buffer is not inside its memory, or below 4096 bytes');
      if (!this.#holds(this.#result, pluginResultCodec.size)) throw new PluginTrap('its result record is not inside its memory');
      this.#configure(config);
    } catch (error) {
      throw new EngineError('PLUGIN_INVALID', `Cannot start module: ${messageOf(error)}`, error);
    }
  }

  /**
   * Evaluates one connection and returns the verdict word as the guest gave it.
   *
   * @throws PluginTrap when the guest traps; the instance is then of no more use.
   */
  evaluateConnect(question: ConnectQuestion): number {
    this.#refresh();
    this.#write(question);
    try {
      return this.#guest.sluice_eval(Context.CONNECT) >>> 0;
    } catch (error) {
      throw new PluginTrap(messageOf(error));
    }
  }

  /** enum plugin_field bits that the last evaluation read. */
  get fieldsRead(): number {
    this.#refresh();
    return this.#view.getUint32(this.#result + pluginResultCodec.offsets.fields, true);
  }

  /** The reason that the last evaluation gave; empty when there is none, or none that lies in the guest's memory. */
  get message(): string {
    this.#refresh();
    const at = this.#view.getUint32(this.#result + pluginResultCodec.offsets.message, true);
    const length = this.#view.getUint32(this.#result + pluginResultCodec.offsets.messageLength, true);
    if (!length || length > MESSAGE_BYTES_MAX || !this.#holds(at, length)) return '';
    return printable(Buffer.from(this.#bytes.subarray(at, at + length)).toString('utf8'));
  }

  #imports(): WebAssembly.Imports {
    const env: Record<string, unknown> = Object.create(null);
    env.abort = (message: number, _file: number, line: number, column: number): never => {
      this.#refresh();
      throw new PluginTrap(`${this.#readString(message >>> 0) || 'abort'} (at ${line >>> 0}:${column >>> 0})`);
    };
    const imports: WebAssembly.Imports = Object.create(null);
    imports.env = Object.freeze(env) as WebAssembly.ModuleImports;
    return Object.freeze(imports);
  }

  #configure(config: string): void {
    const { sluice_init, sluice_cfg, sluice_cfg_cap } = this.#guest;
    if (!sluice_init) return;
    const bytes = Buffer.from(config, 'utf8');
    const at = (sluice_cfg?.() ?? 0) >>> 0;
    const capacity = (sluice_cfg_cap?.() ?? 0) >>> 0;
    this.#refresh();
    if (bytes.length && (bytes.length > capacity || !this.#holds(at, bytes.length)))
      throw new PluginTrap(`its configuration has ${bytes.length} bytes, and it takes ${capacity}`);
    this.#bytes.set(bytes, at);
    const result = sluice_init(bytes.length);
    if (result !== 0) throw new PluginTrap(`sluice_init returned ${result}`);
  }

  #write(question: ConnectQuestion): void {
    const at = this.#context;
    const view = this.#view;
    this.#bytes.set(question.addresses, at + OFFSETS.source);
    view.setFloat64(at + OFFSETS.timeMs, 0);
    view.setUint32(at + OFFSETS.timeMs, question.timeMs >>> 0, true);
    view.setUint32(at + OFFSETS.timeMs + 4, Math.floor(question.timeMs / 2 ** 32), true);
    view.setUint32(at + OFFSETS.flow, (question.sourcePort << 16) | question.destinationPort, true);
    view.setUint32(at + OFFSETS.flow + 4, question.sourceIdentity ^ question.destinationIdentity, true);
    view.setUint32(at + OFFSETS.sourceIdentity, question.sourceIdentity, true);
    view.setUint32(at + OFFSETS.destinationIdentity, question.destinationIdentity, true);
    view.setUint32(at + OFFSETS.tag, question.rule, true);
    view.setUint32(at + OFFSETS.fields, CONNECT_FIELDS, true);
    view.setUint16(at + OFFSETS.sourcePort, question.sourcePort, true);
    view.setUint16(at + OFFSETS.destinationPort, question.destinationPort, true);
    view.setUint8(at + OFFSETS.hook, Context.CONNECT);
    view.setUint8(at + OFFSETS.protocol, question.protocol);
    view.setUint8(at + OFFSETS.direction, question.direction);
    view.setUint8(at + OFFSETS.flags, question.established ? 1 : 0);
    view.setUint32(at + OFFSETS.headers, 0, true);

    let next: number = pluginContextCodec.size;
    for (let slot = 0; slot < PluginSlot.MAX; slot++) view.setUint32(at + OFFSETS.slots + slot * 4, 0, true);
    next = this.#writeSlot(PluginSlot.SOURCE_NAMESPACE, question.source?.namespace, next);
    next = this.#writeSlot(PluginSlot.SOURCE_LABELS, question.source?.labels, next);
    next = this.#writeSlot(PluginSlot.SOURCE_POD, question.sourcePod, next);
    next = this.#writeSlot(PluginSlot.DESTINATION_NAMESPACE, question.destination?.namespace, next);
    next = this.#writeSlot(PluginSlot.DESTINATION_LABELS, question.destination?.labels, next);
    this.#writeSlot(PluginSlot.DESTINATION_POD, question.destinationPod, next);
  }

  #writeSlot(slot: number, text: Uint8Array | undefined, next: number): number {
    if (!text?.length) return next;
    if (next + text.length > this.#capacity || next > 0xffff) throw new PluginTrap(`the context does not fit into ${this.#capacity} bytes`);
    this.#bytes.set(text, this.#context + next);
    this.#view.setUint32(this.#context + OFFSETS.slots + slot * 4, next | (text.length << 16), true);
    return next + text.length;
  }

  /** A guest that grows its memory gives it another buffer. */
  #refresh(): void {
    if (this.#bytes.buffer === this.#guest.memory.buffer) return;
    this.#bytes = new Uint8Array(this.#guest.memory.buffer);
    this.#view = new DataView(this.#guest.memory.buffer);
  }

  #holds(at: number, length: number): boolean {
    return at + length <= this.#bytes.length;
  }

  /** An AssemblyScript string: UTF-16, its length in bytes before it. */
  #readString(at: number): string {
    if (at < 4 || !this.#holds(at, 0)) return '';
    const length = Math.min(this.#view.getUint32(at - 4, true), MESSAGE_BYTES_MAX) & ~1;
    return this.#holds(at, length) ? printable(Buffer.from(this.#bytes.subarray(at, at + length)).toString('utf16le')) : '';
  }
}

/** Without what would steer a terminal or break a line of the log. */
function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}]/gu, '?');
}

/** The kernel as a flow worker sees it: the ring of asks, the verdict cache, the release of held packets, plugin states. */
import { Abi, type PluginState, pluginStateCodec } from '../abi.gen.ts';
import { flowMemoryCodec, flowTurnCodec } from '../native.gen.ts';
import type { RingHandles } from './datapath.ts';
import { addressOf, check, native } from './native.ts';

const WORD = Int32Array.BYTES_PER_ELEMENT;

/** Memory that worker and kernel library share; each outlives the ring. */
export interface FlowMemory {
  /** struct sluice_flow_turn. */
  readonly turn: Buffer;
  /** Records are drained to its first bytes; what is sent may lie behind them. */
  readonly batch: Buffer;
  readonly batchBytes: number;
  /** struct verdict_key and struct verdict_entry, packed. */
  readonly verdictKeys: Buffer;
  readonly verdictValues: Buffer;
  /** u32 each: where in the batch the packets to release are. */
  readonly offsets: Buffer;
  /** i32 each: 0 or -errno of the release. */
  readonly errors: Buffer;
}

export class AskRing {
  readonly #turn: Int32Array;
  readonly #pluginsFd: number;

  /** For the thread that calls this: its turns are on this memory. */
  constructor(handles: RingHandles, memory: FlowMemory) {
    const addresses = Buffer.alloc(flowMemoryCodec.size);
    flowMemoryCodec.write(addresses, 0, {
      turn: addressOf(memory.turn),
      batch: addressOf(memory.batch),
      verdictKeys: addressOf(memory.verdictKeys),
      verdictValues: addressOf(memory.verdictValues),
      offsets: addressOf(memory.offsets),
      errors: addressOf(memory.errors),
      batchCapacity: BigInt(memory.batchBytes),
    });
    check(native.sluice_flow__open(handles.asks, handles.release, handles.verdictsFd, addresses), 'open the flow');
    this.#turn = new Int32Array(memory.turn.buffer, memory.turn.byteOffset, flowTurnCodec.size / WORD);
    this.#pluginsFd = handles.pluginsFd;
  }

  /** Moves held packets into the batch, waiting for the first at most that long. Returns how many. Beats the heart. */
  drain(timeoutMs: number): number {
    this.#turn[flowTurnCodec.offsets.timeoutMs / WORD] = timeoutMs;
    return check(native.sluice_flow__drain(), 'read the ring of asks');
  }

  /**
   * Writes the first verdicts of the memory, then releases the first packets of its offsets. Returns how many could not
   * be released.
   *
   * @throws EngineError `KERNEL_CALL` when not every verdict was written; nothing is released then.
   */
  settle(verdicts: number, releases: number): number {
    this.#turn[flowTurnCodec.offsets.verdictCount / WORD] = verdicts;
    this.#turn[flowTurnCodec.offsets.releaseCount / WORD] = releases;
    return check(native.sluice_flow__settle(), 'write verdicts');
  }

  /** Makes a plugin's version, status or failure policy count from the next packet on. */
  writePluginState(id: number, state: PluginState): void {
    if (id <= 0 || id >= Abi.PLUGINS_MAX) throw new RangeError(`plugin id ${id}`);
    const key = Buffer.alloc(4);
    key.writeUInt32LE(id);
    const value = Buffer.alloc(pluginStateCodec.size);
    pluginStateCodec.write(value, 0, state);
    check(native.sluice_map__update(this.#pluginsFd, key, 4, value, value.length, 1, Buffer.alloc(4)), `write the state of plugin ${id}`);
  }
}

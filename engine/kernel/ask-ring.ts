/** The kernel as a flow worker sees it: the ring of asks, the verdict cache, the release of held packets, plugin states. */
import { type PluginState, pluginStateCodec, verdictEntryCodec, verdictKeyCodec } from '../abi.gen.ts';
import type { RingHandles } from './datapath.ts';
import { check, native } from './native.ts';

export class AskRing {
  readonly #handles: RingHandles;
  readonly #cell = Buffer.alloc(4);
  readonly #errors = Buffer.alloc(4 * 65_536);

  constructor(handles: RingHandles) {
    this.#handles = handles;
  }

  /** Moves held packets into `batch`, waiting for the first at most that long. Returns how many. Beats the heart. */
  drain(batch: Buffer, timeoutMs: number): number {
    return check(native.sluice_ring__drain(this.#handles.asks, batch as never, batch.length, timeoutMs, this.#cell as never), 'read the ring of asks');
  }

  /** @throws EngineError `KERNEL_CALL` when not every verdict was written. */
  writeVerdicts(keys: Buffer, values: Buffer, count: number): void {
    const result = native.sluice_map__update(this.#handles.verdictsFd, keys as never, verdictKeyCodec.size, values as never, verdictEntryCodec.size, count, this.#cell as never);
    check(result, `write ${count} verdicts`);
  }

  /** Sends held packets on; returns how many could not be sent. */
  release(batch: Buffer, offsets: Uint32Array, count: number): number {
    const at = Buffer.from(offsets.buffer, offsets.byteOffset, count * 4);
    return count - check(native.sluice_release__send(this.#handles.release, batch as never, at as never, count, this.#errors as never), 'release packets');
  }

  /** Makes a plugin's version, status or failure policy count from the next packet on. */
  writePluginState(id: number, state: PluginState): void {
    const key = Buffer.alloc(4);
    key.writeUInt32LE(id);
    const value = Buffer.alloc(pluginStateCodec.size);
    pluginStateCodec.write(value, 0, state);
    check(native.sluice_map__update(this.#handles.pluginsFd, key as never, 4, value as never, value.length, 1, this.#cell as never), `write the state of plugin ${id}`);
  }
}

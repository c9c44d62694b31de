/** The kernel's plugin states, for when no worker serves yet: who has which id, and which epoch stands. */
import { type PluginState, pluginStateCodec } from '../abi.gen.ts';
import type { Datapath } from './datapath.ts';

export function pluginStates(datapath: Datapath): { read(): Map<number, PluginState>; write(id: number, state: PluginState): void } {
  return {
    read: () => {
      const states = new Map<number, PluginState>();
      for (const [key, value] of datapath.maps.plugins.dump()) {
        const id = Buffer.from(key, 'latin1').readUInt32LE(0);
        if (id) states.set(id, pluginStateCodec.read(value, 0));
      }
      return states;
    },
    write: (id, state) => {
      const key = Buffer.alloc(4);
      key.writeUInt32LE(id);
      const value = Buffer.alloc(pluginStateCodec.size);
      pluginStateCodec.write(value, 0, state);
      datapath.maps.plugins.update(new Map([[key.toString('latin1'), value]]));
    },
  };
}

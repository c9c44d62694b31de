/** The kernel's plugin states as an earlier engine left them: who has which id, and which epoch stands. A flow worker writes them. */
import { type PluginState, pluginStateCodec } from '../abi.gen.ts';
import type { Datapath } from './datapath.ts';

export function readPluginStates(datapath: Datapath): Map<number, PluginState> {
  const states = new Map<number, PluginState>();
  for (const [key, value] of datapath.maps.plugins.dump()) {
    const id = Buffer.from(key, 'latin1').readUInt32LE(0);
    if (id) states.set(id, pluginStateCodec.read(value, 0));
  }
  return states;
}

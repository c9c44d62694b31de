/** The parts of the chain that are switched on, and for whom: bpf/switches.h. */
import { EndpointFlag, endpointCodec, type StageSwitches } from '../abi.gen.ts';
import { openPinnedMap } from './kernel-map.ts';
import { native } from './native.ts';

export const ALL_ON: StageSwitches = { names: 1 };

/** The parts that endpoints need, each a struct endpoint. */
export function neededSwitches(endpoints: Iterable<Buffer>): StageSwitches {
  for (const value of endpoints) {
    const { flags, dnsPlugin } = endpointCodec.read(value, 0);
    if (flags & EndpointFlag.NAMES || dnsPlugin) return { names: 1 };
  }
  return { names: 0 };
}

/** The parts that the endpoints need which an earlier engine left; none, where these have another layout: they are not taken over. */
export function leftSwitches(pinDirectory: string): StageSwitches {
  const endpoints = openPinnedMap(pinDirectory, 'endpoints');
  if (!endpoints) return neededSwitches([]);
  try {
    return neededSwitches(endpoints.hasKnownSizes ? endpoints.dump().values() : []);
  } finally {
    native.sluice_map__close(endpoints.fd);
  }
}

export function eitherOf(one: StageSwitches, other: StageSwitches): StageSwitches {
  return { names: one.names | other.names };
}

/** The directory of a BPF file system that everything is pinned in: whether it can be used, and taking it away again. */
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { Abi, EndpointId, engineStateCodec } from '../abi.gen.ts';
import { EngineError } from '../errors.ts';
import { openPinnedMap } from './kernel-map.ts';
import { mapMismatch } from './load.ts';
import { check, errnoName, kernelNowNs, native } from './native.ts';
import { CGROUP_PROGRAMS, INTERFACE_PROGRAMS, ownInterfaces } from './programs.ts';

/** A heartbeat older than this means that the engine hangs; a killed engine is noticed at once without it. */
export const STALE_MS = 1000;

/**
 * Removes every program, link and map below a bpffs directory, and the engine's veth.
 *
 * Returns what was removed, by path. A clsact filter leaves with its endpoint's entry, which names the interface.
 *
 * @throws EngineError `ENGINE_RUNNING` while an engine uses them.
 */
export async function removeDatapath(pinDirectory: string): Promise<string[]> {
  await requireAlone(pinDirectory);
  const removed: string[] = [];
  let names: string[];
  try {
    names = readdirSync(pinDirectory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    names = [];
  }
  const endpoints = openPinnedMap(pinDirectory, 'endpoints');
  for (const key of endpoints?.dump().keys() ?? []) detachEndpoint(pinDirectory, Buffer.from(key, 'latin1').readUInt32LE(0));
  if (endpoints) native.sluice_map__close(endpoints.fd);
  for (const name of names) {
    rmSync(`${pinDirectory}/${name}`, { force: true });
    removed.push(`${pinDirectory}/${name}`);
  }
  rmSync(pinDirectory, { force: true, recursive: true });
  const { release, proxy } = ownInterfaces(pinDirectory);
  for (const name of [release, proxy]) {
    if (native.sluice_kernel__ifindex(name) > 0) removed.push(name);
    check(native.sluice_release__remove(name), `remove interface ${name}`);
  }
  return removed;
}

/** Detaches an endpoint's programs; an interface or cgroup that is gone is no error. */
export function detachEndpoint(pinDirectory: string, id: number): void {
  const linkPath = (name: string): string => `${pinDirectory}/${name}-${id}`;
  if (id >= EndpointId.CGROUP)
    for (const name of CGROUP_PROGRAMS) check(native.sluice_cgroup__detach(linkPath(name)), `detach ${name} from its cgroup`);
  else
    for (const { name, direction } of INTERFACE_PROGRAMS)
      check(native.sluice_link__detach(id, direction, linkPath(name)), `detach ${name} from interface ${id}`);
}

/** @throws EngineError `NO_BPFFS` unless the directory is, or can be made, on a BPF file system. */
export function requireBpffs(pinDirectory: string): void {
  let parent = dirname(pinDirectory);
  while (!existsSync(parent)) parent = dirname(parent);
  const advice = 'mount one with: mount -t bpf bpf /sys/fs/bpf';
  const state = native.sluice_kernel__is_bpffs(parent);
  if (state < 0) throw new EngineError('NO_BPFFS', `Cannot use ${pinDirectory}: ${parent}: ${errnoName(state)}; ${advice}`);
  if (state === 0) throw new EngineError('NO_BPFFS', `Cannot use ${pinDirectory}: ${parent} is not on a BPF file system; ${advice}`);
  try {
    mkdirSync(pinDirectory, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new EngineError('NOT_ROOT', `Cannot make ${pinDirectory}: ${(error as NodeJS.ErrnoException).code}; run as root`, error);
  }
}

/** @throws EngineError `MAP_MISMATCH` where an engine with other layouts made what is there: not every other layout has another size. */
export function requireSameLayouts(pinDirectory: string): void {
  const state = openPinnedMap(pinDirectory, 'engine_states');
  if (!state) return;
  try {
    // Of another size it is refused as every map is that is.
    const version = state.hasKnownSizes ? state.find(Buffer.alloc(4))?.readUInt32LE(engineStateCodec.offsets.abiVersion) : 0;
    if (!version || version === Abi.VERSION) return;
    throw mapMismatch(pinDirectory, `its maps have the layouts of ABI version ${version}, wanted ${Abi.VERSION}`);
  } finally {
    native.sluice_map__close(state.fd);
  }
}

/** @throws EngineError `ENGINE_RUNNING` when the heartbeat of another engine goes on. */
export async function requireAlone(pinDirectory: string): Promise<void> {
  const state = openPinnedMap(pinDirectory, 'engine_states');
  if (!state) return;
  const heartbeat = (): bigint => state.find(Buffer.alloc(4))?.readBigUInt64LE(engineStateCodec.offsets.heartbeatNs) ?? 0n;
  const before = heartbeat();
  const fresh = kernelNowNs() - before < BigInt(STALE_MS) * 1_000_000n;
  // A living engine beats every 50 ms.
  if (fresh) await new Promise((resolve) => setTimeout(resolve, 200));
  const beats = fresh && heartbeat() !== before;
  native.sluice_map__close(state.fd);
  if (beats)
    throw new EngineError(
      'ENGINE_RUNNING',
      `Cannot use ${pinDirectory}: another engine is using it; stop it, or name another place with --bpffs`,
    );
}

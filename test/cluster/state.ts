/**
 * Which clusters there are on this machine, and whose: one directory each, made whole or not at all, so that of two that want one name
 * only one has it. A cluster belongs to the process that brings it up, and until it is told otherwise to nobody else: one whose owner is
 * dead is left over.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isPopulated } from './cgroups.ts';
import { CLUSTERS_DIRECTORY, clusterCgroup, clusterDirectory, type ProxyMode, SLOTS, SLOTS_DIRECTORY } from './layout.ts';
import { usedLinks } from './network.ts';
import { isAlive, type Owner } from './owner.ts';

export interface ClusterState {
  readonly name: string;
  readonly slot: number;
  readonly nodes: number;
  readonly proxy: ProxyMode;
  readonly controllers: boolean;
  readonly apiServerFlags: readonly string[];
  /** Directory of the programs that it runs, and its nodes' images. */
  readonly programs: string;
  readonly images: readonly string[];
  /** Whose process must live for it to be wanted; undefined for one that stays until `down`. */
  readonly owner?: Owner;
}

/** Whether a cluster is wanted: its owner lives, or it stays and something of it runs. */
export function isWanted({ name, owner }: ClusterState): boolean {
  return owner ? isAlive(owner) : isPopulated(clusterCgroup(name));
}

/** Takes a name for a cluster, and a slot. Returns undefined where the name is taken, by a cluster or the remains of one. */
export function claim(wanted: Omit<ClusterState, 'slot'>): ClusterState | undefined {
  mkdirSync(CLUSTERS_DIRECTORY, { recursive: true });
  const state = { ...wanted, slot: claimSlot(wanted.name) };
  const half = mkdtempSync(join(CLUSTERS_DIRECTORY, '.'));
  writeFileSync(join(half, 'cluster.json'), JSON.stringify(state));
  try {
    renameSync(half, clusterDirectory(wanted.name));
    return state;
  } catch (error) {
    rmSync(half, { recursive: true, force: true });
    releaseSlot(state.slot);
    if (['ENOTEMPTY', 'EEXIST'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}

/** Says that a cluster stays when the process that made it ends. */
export function letStay(state: ClusterState): void {
  const { owner: _, ...stays } = state;
  const path = join(clusterDirectory(state.name), 'cluster.json');
  writeFileSync(`${path}.new`, JSON.stringify(stays));
  renameSync(`${path}.new`, path);
}

/** A cluster by its name, also one whose owner is dead. */
export function findState(name: string): ClusterState | undefined {
  try {
    return JSON.parse(readFileSync(join(clusterDirectory(name), 'cluster.json'), 'utf8')) as ClusterState;
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}

/** Names of the clusters that are up, or of which something is left. */
export function clusterNames(): string[] {
  return list(CLUSTERS_DIRECTORY).filter((name) => !name.startsWith('.'));
}

/** Forgets a cluster: its directory and its slot. */
export function forget(name: string): void {
  rmSync(clusterDirectory(name), { recursive: true, force: true });
  for (const slot of list(SLOTS_DIRECTORY)) if (slotOwner(slot) === name) releaseSlot(Number(slot));
}

function claimSlot(name: string): number {
  mkdirSync(SLOTS_DIRECTORY, { recursive: true });
  const links = usedLinks();
  for (let slot = 0; slot < SLOTS; slot++) {
    if (links.has(slot)) continue;
    try {
      symlinkSync(name, join(SLOTS_DIRECTORY, String(slot)));
      return slot;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
  throw new Error(`Cannot bring up cluster ${name}: ${SLOTS} are up; npm run cluster down -- --all`);
}

function releaseSlot(slot: number): void {
  rmSync(join(SLOTS_DIRECTORY, String(slot)), { force: true });
}

function slotOwner(slot: string): string | undefined {
  try {
    return readlinkSync(join(SLOTS_DIRECTORY, slot));
  } catch {
    return undefined;
  }
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** A version of a plugin as it is posted to the threads that run it, and the instance that such a thread makes of it. */

import type { PluginSet } from '../policy/objects.ts';
import { CounterTable, tableBytes } from './counter-table.ts';
import type { HostState } from './host-functions.ts';
import { PluginInstance } from './instance.ts';
import type { Manifest } from './manifest.ts';
import { createSet } from './named-set.ts';

export interface VersionParts {
  readonly plugin: string;
  /** Metered; see audit.ts. */
  readonly module: WebAssembly.Module;
  readonly manifest: Manifest;
  readonly trusted: boolean;
  /** One `path = value` a line. */
  readonly config: string;
  readonly fuel: number;
  /** In the order of the manifest. */
  readonly sets: readonly PluginSet[];
  /** Folder of the tables' files; absent: this version has its own tables, which nobody sees. */
  readonly tablesDirectory?: string;
}

/** Functions that a thread lends to instances. */
export interface Lender {
  /** Memory for a table, of that file. */
  map(path: string, bytes: number): Int32Array;
  /** A seed that nobody can guess. */
  seed(): number;
  /** Unix time in milliseconds. */
  now(): number;
  log(plugin: string, text: string): void;
}

/** @throws EngineError `PLUGIN_INVALID` */
export function createInstance(parts: VersionParts, lender: Lender): PluginInstance {
  return new PluginInstance({ ...parts, state: hostState(parts, lender) });
}

/** The tables of a version, and how many counters each has forgotten. */
export function tableFacts(
  { manifest, tablesDirectory }: VersionParts,
  map: Lender['map'],
): { name: string; slots: number; evictions: number }[] {
  return manifest.tables.map(({ name, slots }) => ({
    name,
    slots,
    evictions: tablesDirectory === undefined ? 0 : CounterTable.evictions(map(tableFile(tablesDirectory, name, slots), tableBytes(slots))),
  }));
}

/** Another size is another file: the version before may still be counting in its own. */
function tableFile(directory: string, name: string, slots: number): string {
  return `${directory}/${name}.${slots}.counters`;
}

function hostState({ plugin, manifest, sets, tablesDirectory }: VersionParts, lender: Lender): HostState {
  const tables = manifest.tables.map(({ name, slots }) => {
    const bytes = tableBytes(slots);
    const memory = tablesDirectory === undefined ? new Int32Array(bytes / 4) : lender.map(tableFile(tablesDirectory, name, slots), bytes);
    return new CounterTable(memory, slots, lender.seed());
  });
  return { tables, sets: sets.map(createSet), now: () => lender.now(), log: (text) => lender.log(plugin, text) };
}

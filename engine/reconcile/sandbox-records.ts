/**
 * Which network the container runtime gave to which pod: the results of CNI plugins, as every runtime that calls them through libcni
 * (containerd, CRI-O, cri-dockerd) keeps them, one file for each interface of a pod, from ADD to DEL. Only the node's root writes there.
 */
import { type FSWatcher, readdirSync, statSync, watch } from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import { readRegularFile } from '../regular-file.ts';

/** Of a pod's primary interface. */
export interface SandboxRecord {
  readonly namespace: string;
  readonly name: string;
  /** Of a static pod it is the kubelet's own, and no API has it. Absent from older runtimes. */
  readonly uid?: string;
  /** The file of its network namespace; absent where there is none that outlives the process. */
  readonly network?: string;
  /** Names of interfaces of the node that the plugins made for it. */
  readonly interfaces: readonly string[];
}

/** A record is a few KiB. */
const RECORD_BYTES_MAX = 1024 * 1024;
/** A node has some hundred pods, with two files each. */
const RECORDS_MAX = 16_384;
/** As all runtimes call a pod's primary interface. */
const PRIMARY = 'eth0';

interface ReadRecord {
  readonly stamp: string;
  readonly record: SandboxRecord | undefined;
}

export class SandboxRecords {
  readonly directories: readonly string[];
  readonly #log: Logger;
  readonly #watchers = new Map<string, FSWatcher>();
  #known: ReadonlyMap<string, ReadRecord> = new Map();
  #onChange: (() => void) | undefined;

  constructor(directories: readonly string[], log: Logger) {
    this.directories = directories;
    this.#log = log;
  }

  /**
   * The records that there are now. A directory that is not there has none; a file that is no record, or half of one, is none.
   *
   * @throws Error when it cannot be known which there are: without a record a pod would be somebody by its addresses alone.
   */
  read(): SandboxRecord[] {
    const known = new Map<string, ReadRecord>();
    for (const directory of this.directories) {
      if (this.#onChange) this.#watch(directory);
      for (const name of filesIn(directory)) {
        if (known.size === RECORDS_MAX) break;
        const path = join(directory, name);
        const found = readRecord(path, this.#known.get(path));
        if (found) known.set(path, found);
      }
    }
    this.#known = known;
    return [...known.values()].flatMap(({ record }) => record ?? []);
  }

  /** Calls back when something changes there, as far as the directories exist at the time of a read. */
  follow(onChange: () => void): void {
    this.#onChange = onChange;
  }

  close(): void {
    this.#onChange = undefined;
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
  }

  #watch(directory: string): void {
    if (this.#watchers.has(directory) || !statSync(directory, { throwIfNoEntry: false })?.isDirectory()) return;
    try {
      const watcher = watch(directory, { persistent: false }, (_event, name) => {
        this.#onChange?.();
        // Of the directory itself: it is another one by now.
        if (name === null || !statSync(directory, { throwIfNoEntry: false })) this.#unwatch(directory);
      });
      watcher.on('error', () => this.#unwatch(directory));
      this.#watchers.set(directory, watcher);
    } catch (error) {
      this.#log.warn({ directory, reason: messageOf(error) }, 'records of the container runtime not watched');
    }
  }

  #unwatch(directory: string): void {
    this.#watchers.get(directory)?.close();
    this.#watchers.delete(directory);
  }
}

/** The files for primary interfaces: network, container and interface are in their names. */
function filesIn(directory: string): string[] {
  try {
    return readdirSync(directory).filter((name) => name.endsWith(`-${PRIMARY}`));
  } catch (error) {
    if (isAbsent(error)) return [];
    throw error;
  }
}

function readRecord(path: string, before: ReadRecord | undefined): ReadRecord | undefined {
  try {
    const { mtimeNs, size, ino } = statSync(path, { bigint: true });
    const stamp = `${mtimeNs} ${size} ${ino}`;
    if (before?.record && before.stamp === stamp) return before;
    const { bytes } = readRegularFile(path, RECORD_BYTES_MAX);
    return { stamp, record: bytes && parseRecord(bytes.toString('utf8')) };
  } catch (error) {
    // It is gone again.
    if (isAbsent(error)) return undefined;
    throw error;
  }
}

function isAbsent(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT';
}

/** Reads what libcni has written; undefined where that is not the record of a pod's primary interface. */
export function parseRecord(text: string): SandboxRecord | undefined {
  const whole = parseJson(text);
  if (!isObject(whole) || whole.kind !== 'cniCacheV1' || whole.ifName !== PRIMARY) return undefined;
  const args = new Map(listOf(whole.cniArgs).flatMap((pair) => (Array.isArray(pair) && pair.length === 2 ? [[pair[0], pair[1]]] : [])));
  const [namespace, name, uid] = ['K8S_POD_NAMESPACE', 'K8S_POD_NAME', 'K8S_POD_UID'].map((key) => textOf(args.get(key)));
  if (!namespace || !name) return undefined;
  const interfaces = listOf(isObject(whole.result) ? whole.result.interfaces : undefined).filter(isObject);
  const inside = interfaces.find((each) => each.name === PRIMARY && textOf(each.sandbox));
  const network = textOf(whole.netns) || textOf(inside?.sandbox);
  return {
    namespace,
    name,
    ...(uid && { uid }),
    // The number of a process may be another one's by now.
    ...(network && !network.startsWith('/proc/') && { network }),
    interfaces: interfaces.filter((each) => !textOf(each.sandbox)).flatMap((each) => textOf(each.name) || []),
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

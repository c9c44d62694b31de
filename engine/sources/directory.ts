/**
 * A directory of manifests as a source: every *.yaml, *.yml and *.json below it, watched.
 *
 * A file that stops being readable keeps what it last said; one that goes away takes its objects along.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type FSWatcher, watch } from 'chokidar';
import { EngineError, messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import { EMPTY_SNAPSHOT, type Problem, type Snapshot } from '../policy/snapshot.ts';
import { DENY_EVERYONE, type Manifest, type ManifestObject, readManifest } from './manifest.ts';

/** Larger than any policy that people write, small enough to parse at once. */
const FILE_BYTES_MAX = 32 * 1024 * 1024;
/** Editors write in several steps. */
const SETTLE_MS = 20;

interface ReadFile {
  /** When and how large it was; undefined where it may have changed since without showing. */
  readonly stamp: string | undefined;
  readonly text: string;
  readonly manifest: Manifest;
  readonly names: readonly string[];
}

/** A change so soon after another may leave the time stamp as it was: the kernel's clock for files ticks slowly. */
const RACY_MS = 50;

export class DirectorySource {
  readonly path: string;
  readonly #log: Logger;
  readonly #files = new Map<string, ReadFile>();
  /** How often each name is used, and how many are used more than once. */
  readonly #names = new Map<string, number>();
  #repeated = 0;
  #snapshot: Snapshot = EMPTY_SNAPSHOT;
  #stale = true;
  #problemsText = '';
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** @throws EngineError `SOURCE_MISSING` when there is no such directory. */
  constructor(path: string, log: Logger) {
    this.path = resolve(path);
    this.#log = log;
    const status = statSync(this.path, { throwIfNoEntry: false });
    if (!status?.isDirectory())
      throw new EngineError('SOURCE_MISSING', `Cannot read policy from ${this.path}: ${status ? 'not a directory' : 'no such directory'}`);
  }

  /**
   * Reads every file that changed, and returns the cluster as they describe it. What did not change are the same objects,
   * and the same snapshot where nothing did.
   */
  read(): Snapshot {
    const problems: Problem[] = [];
    const seen = new Set<string>();
    for (const file of this.#listFiles(problems)) {
      seen.add(file);
      problems.push(...this.#readFile(file));
    }
    if (problems.every((problem) => problem.file !== this.path))
      for (const file of [...this.#files.keys()]) if (!seen.has(file)) this.#setFile(file, undefined);
    const text = JSON.stringify(problems);
    if (this.#stale || text !== this.#problemsText) {
      const files = [...this.#files].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, file]) => file);
      this.#snapshot = buildSnapshot(files, problems, this.#repeated > 0);
    }
    this.#stale = false;
    this.#problemsText = text;
    return this.#snapshot;
  }

  /** Calls back some milliseconds after files changed. */
  watch(changed: () => void): void {
    this.#watcher = watch(this.path, { ignoreInitial: true });
    this.#watcher.on('all', () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(changed, SETTLE_MS);
    });
    this.#watcher.on('error', (error) => this.#log.error({ err: error }, 'source not watched'));
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#watcher?.close();
  }

  #listFiles(problems: Problem[]): string[] {
    try {
      return readdirSync(this.path, { recursive: true, withFileTypes: true })
        .filter((entry) => !entry.isDirectory() && /\.(ya?ml|json)$/.test(entry.name) && !entry.name.startsWith('.'))
        .map((entry) => join(entry.parentPath, entry.name))
        .sort();
    } catch (error) {
      problems.push({ file: this.path, line: 0, object: '', reason: `cannot be read: ${messageOf(error)}` });
      return [];
    }
  }

  /** What is wrong with the file now; the objects of its last readable text stay. */
  #readFile(file: string): readonly Problem[] {
    const before = this.#files.get(file);
    let text: string;
    let stamp: string | undefined;
    try {
      const { mtimeMs, ctimeMs, size, ino } = statSync(file);
      stamp = `${mtimeMs} ${ctimeMs} ${size} ${ino}`;
      if (before?.stamp === stamp) return before.manifest.problems;
      if (Date.now() - ctimeMs < RACY_MS) stamp = undefined;
      if (size > FILE_BYTES_MAX) return [{ file, line: 0, object: '', reason: `larger than ${FILE_BYTES_MAX} bytes` }];
      text = readFileSync(file, 'utf8');
    } catch (error) {
      return [{ file, line: 0, object: '', reason: `cannot be read: ${messageOf(error)}` }];
    }
    if (before?.text === text) {
      this.#files.set(file, { ...before, stamp });
      return before.manifest.problems;
    }
    const manifest = readManifest(file, text);
    const objects = manifest.unreadable ? (before?.manifest.objects ?? []) : manifest.objects;
    this.#setFile(file, { stamp, text, manifest: { ...manifest, objects }, names: objects.map(nameOf) });
    return manifest.problems;
  }

  #setFile(file: string, read: ReadFile | undefined): void {
    this.#stale = true;
    for (const name of this.#files.get(file)?.names ?? []) this.#count(name, -1);
    for (const name of read?.names ?? []) this.#count(name, 1);
    if (read) this.#files.set(file, read);
    else this.#files.delete(file);
  }

  #count(name: string, by: 1 | -1): void {
    const before = this.#names.get(name) ?? 0;
    const after = before + by;
    if (after) this.#names.set(name, after);
    else this.#names.delete(name);
    this.#repeated += Number(after > 1) - Number(before > 1);
  }
}

function nameOf({ kind, value }: ManifestObject): string {
  return `${kind} ${'namespace' in value ? value.namespace : ''}/${value.name}`;
}

/** The snapshot of these files. */
function buildSnapshot(files: readonly ReadFile[], found: readonly Problem[], repeated: boolean): Snapshot {
  const problems = [...found];
  const listed = files.flatMap((file) => file.manifest.objects);
  const objects = repeated ? withoutRepetition(listed, problems) : listed;
  const of = <K extends ManifestObject['kind']>(kind: K) =>
    objects.flatMap((object) => (object.kind === kind ? [object.value as Extract<ManifestObject, { kind: K }>['value']] : []));
  return {
    namespaces: new Map(of('Namespace').map((namespace) => [namespace.name, namespace])),
    pods: of('Pod'),
    policies: of('NetworkPolicy'),
    clusterPolicies: of('ClusterNetworkPolicy'),
    pluginPolicies: of('PluginPolicy'),
    plugins: of('PolicyPlugin'),
    hostPolicies: of('HostPolicy'),
    services: of('Service'),
    endpointSlices: of('EndpointSlice'),
    httpRoutes: of('HTTPRoute'),
    problems,
  };
}

/** Leaves the first bearer of each name. Of policies, the others close what they select: who knows which one was meant. */
function withoutRepetition(objects: readonly ManifestObject[], problems: Problem[]): ManifestObject[] {
  const firsts = new Map<string, ManifestObject>();
  return objects.flatMap((object): ManifestObject[] => {
    const name = nameOf(object);
    const first = firsts.get(name);
    if (!first) {
      firsts.set(name, object);
      return [object];
    }
    const { file, object: title } = object.place;
    const line = object.place.line();
    problems.push({ file, line, object: title, reason: `defined already in ${first.place.file}:${first.place.line()}` });
    if (object.kind !== 'NetworkPolicy' && object.kind !== 'ClusterNetworkPolicy') return [];
    const closed = object.kind === 'NetworkPolicy' ? [] : [DENY_EVERYONE];
    const rules = Object.fromEntries(Object.keys(object.value.rules).map((direction) => [direction, closed]));
    return [{ ...object, value: { ...object.value, name: `${object.value.name} (${file}:${line})`, rules } } as ManifestObject];
  });
}

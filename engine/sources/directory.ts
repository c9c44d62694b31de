/**
 * A directory of manifests as a source: every *.yaml, *.yml and *.json below it, watched.
 *
 * A file that stops being readable keeps what it last said; one that goes away takes its objects along. A file that the watch
 * names is read at once; when one comes or goes, now and then, and whenever somebody must be sure, the directory is walked as a whole.
 */
import { existsSync, type Stats, statSync } from 'node:fs';
import { resolve, sep } from 'node:path';
import { type FSWatcher, watch } from 'chokidar';
import { EngineError, messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { Problem } from '../policy/problem.ts';
import { readRegularFile } from '../regular-file.ts';
import { type Manifest, readManifest } from './manifest.ts';
import { isManifestFile, manifestFiles, repeatedLinks } from './manifest-files.ts';
import type { ReadObject } from './read-object.ts';
import type { Entry, SlotChange, Source, SourceListener } from './source.ts';

/** Larger than any policy that people write, small enough to parse at once. */
const FILE_BYTES_MAX = 32 * 1024 * 1024;
/** Editors write in several steps. */
const SETTLE_MS = 20;
/** A watch may have missed something: after this much rest everything is looked at. */
const REST_MS = 1000;
/** A change so soon after another may leave the time stamp as it was: the kernel's clock for files ticks slowly. */
const RACY_MS = 50;

/** A file as it was read last. */
interface ReadFile {
  /** When and how large it was; undefined where it may have changed since without showing. */
  readonly stamp: string | undefined;
  readonly text: string;
  readonly manifest: Manifest;
  /** Slots and what was told for them. */
  readonly entries: ReadonlyMap<string, Entry>;
  /** Of these the ones of plugins with a module in a file. */
  readonly modules: readonly string[];
}

export class DirectorySource implements Source {
  readonly path: string;
  readonly #log: Logger;
  readonly #files = new Map<string, ReadFile>();
  readonly #touched = new Set<string>();
  #listener: SourceListener | undefined;
  #watcher: FSWatcher | undefined;
  /** As they were at the last walk. */
  #places: ReadonlyMap<string, string> = new Map();
  #settle: NodeJS.Timeout | undefined;
  #rest: NodeJS.Timeout | undefined;
  /** Why changes are not seen; empty: they are. */
  #unwatched = '';

  /** @throws EngineError `SOURCE_MISSING` when there is no such directory. */
  constructor(path: string, log: Logger) {
    this.path = resolve(path);
    this.#log = log;
    const status = statSync(this.path, { throwIfNoEntry: false });
    if (!status?.isDirectory())
      throw new EngineError('SOURCE_MISSING', `Cannot read policy from ${this.path}: ${status ? 'not a directory' : 'no such directory'}`);
  }

  get name(): string {
    return `dir:${this.path}`;
  }

  async start(listener: SourceListener): Promise<void> {
    this.#listener = listener;
    this.#watch();
    this.#walk();
  }

  #watch(): void {
    const isRepeated = repeatedLinks(this.path);
    const ignored = (path: string, status?: Stats): boolean => status?.isSymbolicLink() === true && isRepeated(path);
    this.#unwatched = '';
    this.#watcher = watch(this.path, { ignoreInitial: true, ignored });
    this.#watcher.on('all', (_event, path) => this.#note(path));
    // Of a link that leads elsewhere by now, nothing else is told.
    this.#watcher.on('raw', () => this.#walkAfterRest());
    // Until then changes are not seen.
    this.#watcher.on('ready', () => this.#walk());
    this.#watcher.on('error', (error) => {
      this.#unwatched = `changes are not seen: ${messageOf(error)}`;
      this.#log.error({ err: error }, 'source not watched');
      this.#walk();
    });
  }

  /** A watch goes on following what lay at a path when it began. */
  #watchAnewIfMoved(places: ReadonlyMap<string, string>): void {
    const moved = [...places].some(([path, place]) => (this.#places.get(path) ?? place) !== place);
    this.#places = places;
    if (!moved || !this.#watcher) return;
    this.#watcher.close().catch((error: unknown) => this.#log.error({ err: error }, 'watch not ended'));
    this.#watch();
  }

  async catchUp(): Promise<void> {
    this.#walk();
  }

  async close(): Promise<void> {
    clearTimeout(this.#settle);
    clearTimeout(this.#rest);
    const watcher = this.#watcher;
    this.#watcher = undefined;
    await watcher?.close();
  }

  #note(path: string): void {
    this.#touched.add(path);
    clearTimeout(this.#settle);
    this.#settle = setTimeout(() => this.#readTouched(), SETTLE_MS);
    this.#walkAfterRest();
  }

  #walkAfterRest(): void {
    clearTimeout(this.#rest);
    this.#rest = setTimeout(() => this.#walk(), REST_MS);
  }

  /** Reads what the watch named, and manifests that name it. */
  #readTouched(): void {
    const touched = [...this.#touched];
    const manifests = touched.filter((path) => this.#isManifest(path));
    // The watch names a file by each path that leads there. Which of them counts, only a walk knows.
    if (manifests.some((path) => !this.#files.has(path) || !existsSync(path))) {
      this.#walk();
      return;
    }
    this.#touched.clear();
    const changes = manifests.flatMap((path) => this.#readFile(path));
    const modules = new Set(touched.filter((path) => !this.#isManifest(path)));
    if (modules.size) for (const file of this.#files.keys()) changes.push(...this.#stampModules(file, modules));
    if (changes.length) this.#listener?.tell(changes);
  }

  /** Looks at every file. Their number decides what that costs: nobody else knows what a watch has missed. */
  #walk(): void {
    this.#touched.clear();
    const { files, places, problem } = manifestFiles(this.path);
    const reason = problem ? `cannot be read: ${problem}` : this.#unwatched;
    const changes = files.flatMap((file) => this.#readFile(file));
    if (!problem) {
      this.#watchAnewIfMoved(places);
      const seen = new Set(files);
      for (const file of [...this.#files.keys()]) if (!seen.has(file)) changes.push(...this.#forget(file));
    }
    for (const file of this.#files.keys()) changes.push(...this.#stampModules(file));
    if (changes.length) this.#listener?.tell(changes);
    this.#listener?.setState(reason ? { is: 'behind', sinceMs: Date.now(), reason } : { is: 'following' });
  }

  #isManifest(path: string): boolean {
    return path.startsWith(this.path + sep) && isManifestFile(this.path, path);
  }

  /** The slots of a file that are not as when it was read last. The objects of its last readable text stay. */
  #readFile(file: string): SlotChange[] {
    const before = this.#files.get(file);
    try {
      const seen = statSync(file, { throwIfNoEntry: false });
      if (!seen) return this.#forget(file);
      const unchanged = stampOf(seen);
      if (before && unchanged !== undefined && before.stamp === unchanged) return [];
      const read = readRegularFile(file, FILE_BYTES_MAX);
      if (!read.bytes) return this.#keep(file, read.refused);
      const stamp = stampOf(read.status);
      const text = read.bytes.toString('utf8');
      if (before?.text === text) {
        this.#files.set(file, { ...before, stamp });
        return [];
      }
      const manifest = readManifest(file, text);
      const objects = manifest.unreadable ? (before?.manifest.objects ?? []) : manifest.objects;
      return this.#take(file, { stamp, text, manifest: { ...manifest, objects } });
    } catch (error) {
      return this.#keep(file, `cannot be read: ${messageOf(error)}`);
    }
  }

  /** Leaves what a file said as it is, with a problem of the file. */
  #keep(file: string, reason: string): SlotChange[] {
    const objects = this.#files.get(file)?.manifest.objects ?? [];
    const problems: Problem[] = [{ place: { at: 'file', file }, reason }];
    return this.#take(file, { stamp: undefined, text: '', manifest: { objects, problems, unreadable: true } });
  }

  #take(file: string, read: Pick<ReadFile, 'stamp' | 'text' | 'manifest'>): SlotChange[] {
    const { objects, problems } = read.manifest;
    const entries = new Map<string, Entry>([[slotOf(file), { problems }]]);
    for (const [i, object] of objects.entries()) entries.set(slotOf(file, i), { object: withModuleStamp(object), problems: [] });
    const before = this.#files.get(file)?.entries ?? new Map<string, Entry>();
    const modules = [...entries.keys()].filter((slot) => moduleOf(entries.get(slot)) !== undefined);
    this.#files.set(file, { ...read, entries, modules });
    const gone = [...before.keys()].filter((slot) => !entries.has(slot)).map((slot) => ({ slot }));
    return [...gone, ...[...entries].map(([slot, entry]) => ({ slot, entry }))];
  }

  #forget(file: string): SlotChange[] {
    const entries = this.#files.get(file)?.entries ?? new Map<string, Entry>();
    this.#files.delete(file);
    return [...entries.keys()].map((slot) => ({ slot }));
  }

  /** Plugins of a file whose module is another one now; `among`: only these modules are looked at. */
  #stampModules(file: string, among?: ReadonlySet<string>): SlotChange[] {
    const read = this.#files.get(file) as ReadFile;
    const changes = read.modules.flatMap((slot) => {
      const { object, problems } = read.entries.get(slot) as Entry;
      if (!object || among?.has(moduleOf({ object, problems }) ?? '') === false) return [];
      const stamped = withModuleStamp(object);
      return stamped === object ? [] : [{ slot, entry: { object: stamped, problems } }];
    });
    if (changes.length)
      this.#files.set(file, { ...read, entries: new Map([...read.entries, ...changes.map(({ slot, entry }) => [slot, entry] as const)]) });
    return changes;
  }
}

/** The file of a plugin's module; undefined where there is none. */
function moduleOf(entry: Entry | undefined): string | undefined {
  const module = entry?.object?.kind === 'PolicyPlugin' ? entry.object.value.module : undefined;
  return module?.kind === 'file' ? module.path : undefined;
}

/** Slots of a file lie side by side, in its order. */
function slotOf(file: string, object?: number): string {
  return object === undefined ? `${file}\0` : `${file}\0${String(object).padStart(8, '0')}`;
}

/** A plugin with the stamp of its module: another module, another object. Everything else as it is. */
function withModuleStamp(object: ReadObject): ReadObject {
  if (object.kind !== 'PolicyPlugin' || object.value.module?.kind !== 'file') return object;
  const { module } = object.value;
  const status = statSync(module.path, { throwIfNoEntry: false });
  const stamp = status ? (stampOf(status) ?? `changed ${status.ctimeMs}, looked at ${Date.now()}`) : 'absent';
  return module.stamp === stamp ? object : { ...object, value: { ...object.value, module: { ...module, stamp } } };
}

/** Another stamp, another content; undefined while it may change without another stamp. */
function stampOf({ mtimeMs, ctimeMs, size, ino }: { mtimeMs: number; ctimeMs: number; size: number; ino: number }): string | undefined {
  return Date.now() - ctimeMs < RACY_MS ? undefined : `${mtimeMs} ${ctimeMs} ${size} ${ino}`;
}

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
import type { Namespace, Problem, Snapshot } from '../policy/snapshot.ts';
import { type Manifest, type ManifestObject, readManifest } from './manifest.ts';

/** Larger than any policy that people write, small enough to parse at once. */
const FILE_BYTES_MAX = 32 * 1024 * 1024;
/** Editors write in several steps. */
const SETTLE_MS = 20;

interface ReadFile {
  readonly text: string;
  readonly manifest: Manifest;
}

export class DirectorySource {
  readonly path: string;
  readonly #log: Logger;
  readonly #files = new Map<string, ReadFile>();
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

  /** Reads every file that changed, and returns the cluster as they describe it. */
  read(): Snapshot {
    const problems: Problem[] = [];
    const seen = new Set<string>();
    for (const file of this.#listFiles(problems)) {
      seen.add(file);
      problems.push(...this.#readFile(file));
    }
    if (problems.every((problem) => problem.file !== this.path))
      for (const file of this.#files.keys()) if (!seen.has(file)) this.#files.delete(file);
    return buildSnapshot(
      [...this.#files.values()].flatMap((file) => file.manifest.objects),
      problems,
    );
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
    try {
      if (statSync(file).size > FILE_BYTES_MAX) return [{ file, line: 0, object: '', reason: `larger than ${FILE_BYTES_MAX} bytes` }];
      text = readFileSync(file, 'utf8');
    } catch (error) {
      return [{ file, line: 0, object: '', reason: `cannot be read: ${messageOf(error)}` }];
    }
    if (before?.text === text) return before.manifest.problems;
    const manifest = readManifest(file, text);
    const objects = manifest.unreadable ? (before?.manifest.objects ?? []) : manifest.objects;
    this.#files.set(file, { text, manifest: { ...manifest, objects } });
    return manifest.problems;
  }
}

/** The snapshot of these objects. A name that is used twice closes what its second bearer selects. */
function buildSnapshot(objects: readonly ManifestObject[], found: readonly Problem[]): Snapshot {
  const problems = [...found];
  const firsts = new Map<string, ManifestObject>();
  const snapshot = {
    namespaces: new Map<string, Namespace>(),
    pods: [],
    policies: [],
    pluginPolicies: [],
    plugins: [],
    problems,
  } satisfies Snapshot;
  const mutable = snapshot as { -readonly [K in keyof Snapshot]: Snapshot[K] extends readonly (infer T)[] ? T[] : Snapshot[K] };
  for (const object of objects) {
    const { kind, value } = object;
    const key = `${kind} ${'namespace' in value ? value.namespace : ''}/${value.name}`;
    const first = firsts.get(key);
    if (first) problems.push({ ...object.problem, reason: `defined already in ${first.problem.file}:${first.problem.line}` });
    else firsts.set(key, object);
    if (kind === 'NetworkPolicy')
      mutable.policies.push(
        first ? { ...value, rules: Object.fromEntries(Object.keys(value.rules).map((direction) => [direction, []])) } : value,
      );
    if (first) continue;
    if (kind === 'Namespace') snapshot.namespaces.set(value.name, value);
    if (kind === 'Pod') mutable.pods.push(value);
    if (kind === 'PluginPolicy') mutable.pluginPolicies.push(value);
    if (kind === 'PolicyPlugin') mutable.plugins.push(value);
  }
  const byName = (a: { namespace: string; name: string }, b: { namespace: string; name: string }): number =>
    a.namespace < b.namespace || (a.namespace === b.namespace && a.name < b.name) ? -1 : 1;
  mutable.policies.sort(byName);
  mutable.pluginPolicies.sort(byName);
  return snapshot;
}

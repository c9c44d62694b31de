/**
 * The modules that PolicyPlugins name, as far as they are here. What is not is fetched, and nobody waits for that: who asks is told why it is not there,
 * and whoever is to know hears when that changes.
 *
 * An attempt that fails is repeated, later each time and never by all nodes at once.
 */
import { EngineError, messageOf } from '../../errors.ts';
import type { Logger } from '../../log.ts';
import { objectName } from '../../policy/object-name.ts';
import type { ModuleReference } from '../../policy/objects.ts';
import { formatObjectName } from '../../policy/problem.ts';
import { readRegularFile } from '../../regular-file.ts';
import { MODULE_BYTES_MAX } from '../audit.ts';
import { hashOf } from '../version-store.ts';
import type { BlobStore } from './blob-store.ts';
import type { Fetched } from './module-fetcher.ts';
import { manifestDigest, moduleOfManifest } from './oci-registry.ts';

export interface FoundModule {
  /** The last that is known of it; absent where there is nothing. */
  readonly module?: { readonly bytes: Uint8Array; readonly sha256: string };
  /** Why that is not what is declared, or may not be; `pending`: it may mend itself. */
  readonly problem?: { readonly reason: string; readonly pending: boolean };
}

/** Where modules are found; see plugins/registry.ts. */
export interface Modules {
  find(module: ModuleReference): FoundModule;
  /** Only these are named now: what was under way for others ends. */
  keep(modules: readonly ModuleReference[]): void;
}

export interface DeclaredModulesParts {
  readonly store: BlobStore;
  /** @throws EngineError `MODULE_UNAVAILABLE` where another attempt may do */
  readonly fetch: (module: ModuleReference, signal: AbortSignal) => Promise<Fetched>;
  readonly log: Logger;
  /** Milliseconds until the next attempt, of so many that failed; `lasting`: only somebody's doing can mend it. */
  readonly retryMs?: (failed: number, lasting: boolean) => number;
  /** After this, whatever may change where it lies is read again. */
  readonly rereadMs?: number;
}

/** Each holds a module of 4 MiB at most. */
const AT_ONCE_MAX = 4;
const RETRY_FIRST_MS = 1000;
const RETRY_LASTING_MS = 60_000;
const RETRY_MAX_MS = 300_000;
const REREAD_MS = 60_000;

interface Wanted {
  readonly key: string;
  readonly module: ModuleReference;
  state: 'idle' | 'queued' | 'running' | 'resting';
  failed: number;
  problem: FoundModule['problem'];
  /** SHA-256 of what came last. */
  came: string | undefined;
  /** The same, where it could not be stored. */
  held: Uint8Array | undefined;
  timer?: NodeJS.Timeout;
  readonly end: AbortController;
}

export class DeclaredModules implements Modules {
  /** Called when a module is there that was not, or is not there for another reason. */
  onChange: () => void = () => {};
  readonly #parts: DeclaredModulesParts;
  readonly #wanted = new Map<string, Wanted>();
  readonly #queue: Wanted[] = [];
  #running = 0;

  constructor(parts: DeclaredModulesParts) {
    this.#parts = parts;
  }

  find(module: ModuleReference): FoundModule {
    if (module.kind === 'file') return readModuleFile(module.path, module.sha256);
    if (module.kind === 'inline') return { module: { bytes: module.bytes, sha256: module.sha256 ?? hashOf(module.bytes) } };
    const key = keyOf(module);
    let wanted = this.#wanted.get(key);
    const stored = this.#stored(module, wanted);
    if (stored && isFixed(module)) return { module: stored };
    if (!wanted) {
      const problem = { reason: `Cannot use ${titleOf(module)}: it is being fetched`, pending: true };
      wanted = { key, module, state: 'idle', failed: 0, problem, came: undefined, held: undefined, end: new AbortController() };
      this.#wanted.set(key, wanted);
    }
    if (wanted.state === 'idle') this.#enqueue(wanted);
    return { ...(stored && { module: stored }), ...(wanted.problem && { problem: wanted.problem }) };
  }

  keep(modules: readonly ModuleReference[]): void {
    const keys = new Set(modules.map(keyOf));
    for (const wanted of [...this.#wanted.values()]) if (!keys.has(wanted.key)) this.#forget(wanted);
    const named = modules.flatMap((module) => [this.#sha256(module, this.#wanted.get(keyOf(module))), manifestOf(module)]);
    try {
      this.#parts.store.sweep(new Set(named.filter((hash) => hash !== undefined)));
    } catch (error) {
      this.#parts.log.warn({ err: error }, 'fetched modules not swept');
    }
  }

  close(): void {
    for (const wanted of [...this.#wanted.values()]) this.#forget(wanted);
  }

  #forget(wanted: Wanted): void {
    this.#wanted.delete(wanted.key);
    clearTimeout(wanted.timer);
    wanted.end.abort();
    const place = this.#queue.indexOf(wanted);
    if (place >= 0) this.#queue.splice(place, 1);
  }

  /** The hash of a module's bytes, as far as it is known before they are. */
  #sha256(module: ModuleReference, wanted: Wanted | undefined): string | undefined {
    if (module.sha256 !== undefined) return module.sha256;
    if (wanted?.came !== undefined) return wanted.came;
    const digest = manifestOf(module);
    const manifest = digest && this.#parts.store.read(digest);
    try {
      return manifest ? moduleOfManifest(manifest) : undefined;
    } catch (error) {
      // One that an engine with other rules took.
      if (error instanceof EngineError) return undefined;
      throw error;
    }
  }

  #stored(module: ModuleReference, wanted: Wanted | undefined): FoundModule['module'] {
    const sha256 = this.#sha256(module, wanted);
    if (sha256 === undefined) return undefined;
    const bytes = (wanted?.came === sha256 && wanted.held) || this.#parts.store.read(sha256);
    return bytes ? { bytes, sha256 } : undefined;
  }

  #enqueue(wanted: Wanted): void {
    wanted.state = 'queued';
    this.#queue.push(wanted);
    this.#next();
  }

  #next(): void {
    while (this.#running < AT_ONCE_MAX) {
      const wanted = this.#queue.shift();
      if (!wanted) return;
      this.#running += 1;
      wanted.state = 'running';
      void this.#try(wanted).finally(() => {
        this.#running -= 1;
        this.#next();
      });
    }
  }

  async #try(wanted: Wanted): Promise<void> {
    const { fetch, rereadMs = REREAD_MS } = this.#parts;
    let changed: boolean;
    try {
      changed = this.#take(wanted, await fetch(wanted.module, wanted.end.signal));
    } catch (error) {
      if (wanted.end.signal.aborted) return;
      changed = this.#noteFailure(wanted, error);
    }
    if (wanted.end.signal.aborted) return;
    if (wanted.problem) this.#rest(wanted, this.#retryMs(wanted));
    else if (isFixed(wanted.module)) wanted.state = 'idle';
    else this.#rest(wanted, jittered(rereadMs));
    if (changed) this.onChange();
  }

  #rest(wanted: Wanted, ms: number): void {
    wanted.state = 'resting';
    wanted.timer = setTimeout(() => this.#enqueue(wanted), ms).unref();
  }

  /** Returns whether it is another one, or was not there. */
  #take(wanted: Wanted, { bytes, manifest }: Fetched): boolean {
    const sha256 = hashOf(bytes);
    const changed = wanted.came !== sha256 || wanted.problem !== undefined;
    wanted.came = sha256;
    wanted.failed = 0;
    wanted.problem = undefined;
    try {
      this.#parts.store.write(bytes);
      if (manifest) this.#parts.store.write(manifest);
      wanted.held = undefined;
    } catch (error) {
      wanted.held = bytes;
      this.#parts.log.error({ module: titleOf(wanted.module), err: error }, 'fetched module not kept for a restart');
    }
    if (changed) this.#parts.log.info({ module: titleOf(wanted.module), sha256 }, 'module fetched');
    return changed;
  }

  /** Returns whether that is another problem than before. */
  #noteFailure(wanted: Wanted, error: unknown): boolean {
    const pending = !(error instanceof EngineError) || error.code === 'MODULE_UNAVAILABLE';
    // A URL is in the message: that it came to.
    const reason = `Cannot fetch ${wanted.module.kind === 'url' ? 'module' : titleOf(wanted.module)}: ${messageOf(error)}`;
    const changed = wanted.problem?.reason !== reason;
    wanted.failed += 1;
    wanted.problem = { reason, pending };
    if (changed) this.#parts.log.warn({ reason }, 'module not fetched');
    return changed;
  }

  #retryMs({ failed, problem }: Wanted): number {
    const { retryMs = defaultRetryMs } = this.#parts;
    return retryMs(failed, problem?.pending === false);
  }
}

/** Twice as long each time, up to five minutes; less by up to half of it, so that nodes do not come together. */
function defaultRetryMs(failed: number, lasting: boolean): number {
  return jittered(Math.min(RETRY_MAX_MS, (lasting ? RETRY_LASTING_MS : RETRY_FIRST_MS) * 2 ** Math.min(failed - 1, 16)));
}

function jittered(ms: number): number {
  return ms * (0.5 + Math.random() / 2);
}

/** Equal for what is fetched in one way from one place. */
function keyOf(module: ModuleReference): string {
  const { kind, sha256 = '', pullSecret } = module;
  const secret = pullSecret ? objectName(pullSecret) : '';
  return kind === 'inline' ? `inline ${sha256}` : `${kind} ${titleOf(module)} ${kind === 'url' ? module.url : ''} ${sha256} ${secret}`;
}

/** Whether it is the same for ever: named by what it contains. */
function isFixed(module: ModuleReference): boolean {
  return module.sha256 !== undefined || manifestOf(module) !== undefined;
}

function manifestOf(module: ModuleReference): string | undefined {
  return module.kind === 'oci' ? manifestDigest(module) : undefined;
}

/** For people, without what may be secret in it. */
export function titleOf(module: ModuleReference): string {
  switch (module.kind) {
    case 'file':
      return `module ${module.path}`;
    case 'inline':
      return 'the inline module';
    case 'configMap':
      return `module ${module.key} of ${formatObjectName({ ...module, kind: 'ConfigMap' })}`;
    case 'url': {
      const { origin, pathname } = new URL(module.url);
      return `module ${origin}${pathname}`;
    }
    case 'oci':
      return `module ${module.registry}/${module.repository}${module.reference.startsWith('sha256:') ? '@' : ':'}${module.reference}`;
  }
}

function readModuleFile(path: string, sha256: string | undefined): FoundModule {
  const problem = (why: string): FoundModule => ({ problem: { reason: `Cannot load module ${path}: ${why}`, pending: false } });
  try {
    const read = readRegularFile(path, MODULE_BYTES_MAX);
    if (!read.bytes) return problem(read.refused);
    const found = hashOf(read.bytes);
    if (sha256 !== undefined && found !== sha256) return problem(`its SHA-256 is ${found}, and not ${sha256}`);
    return { module: { bytes: read.bytes, sha256: found } };
  } catch (error) {
    return problem((error as NodeJS.ErrnoException).code ?? messageOf(error));
  }
}

/**
 * The plugins that the source declares, which version of each is in force, and why the last one is not if it is not.
 *
 * A version is a module with its configuration. Ids and epochs are kept in the kernel's plugin states, so that verdicts
 * and connections survive a restart with the same version, and none survives a change of it.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Abi, type PluginState, PluginStatus, Verdict } from '../abi.gen.ts';
import { EngineError, messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import { auditModule } from './audit.ts';
import type { ModuleStore } from './module-store.ts';

/** What the source says about a plugin. */
export interface Declaration {
  readonly name: string;
  readonly file?: string;
  readonly failurePolicy: 'Allow' | 'Deny';
  readonly evaluateMs: number;
  readonly memoryPages: number;
  readonly config: string;
}

export interface Version {
  readonly id: number;
  readonly name: string;
  readonly nameHash: bigint;
  readonly moduleHash: bigint;
  readonly module: WebAssembly.Module;
  readonly config: string;
  readonly evaluateMs: number;
  readonly failureAllow: boolean;
  readonly epoch: number;
}

/** Who runs versions. */
export interface Runner {
  install(version: Version): Promise<void>;
  remove(id: number): Promise<void>;
}

/** The kernel's plugin states. */
export interface PluginStates {
  read(): ReadonlyMap<number, PluginState>;
  write(id: number, state: PluginState): void;
}

export interface PluginView {
  readonly name: string;
  /** `on`: asked. `off`: nothing is loaded, or it was switched off; its flows get the failure policy. */
  readonly state: 'on' | 'off';
  /** SHA-256 of the module in force, hex; empty when none is. */
  readonly sha256: string;
  readonly origin: 'file' | 'pushed' | '';
  readonly epoch: number;
  readonly failurePolicy: 'Allow' | 'Deny';
  /** Why it is off, or why the last version was refused. */
  readonly problem: string;
  readonly evaluations: number;
  readonly allowed: number;
  readonly denied: number;
  readonly traps: number;
  readonly timeouts: number;
}

interface Plugin {
  readonly id: number;
  declaration: Declaration;
  epoch: number;
  version: Version | undefined;
  sha256: string;
  origin: PluginView['origin'];
  problem: string;
  /** The candidate that was refused last: not tried again until it changes. */
  refused: bigint | undefined;
  on: boolean;
  readonly counts: { evaluations: number; allowed: number; denied: number; traps: number; timeouts: number };
}

export class PluginRegistry {
  readonly #runner: Runner;
  readonly #states: PluginStates;
  readonly #store: ModuleStore;
  readonly #log: Logger;
  readonly #plugins = new Map<string, Plugin>();
  readonly #left: Map<number, PluginState>;

  constructor(runner: Runner, states: PluginStates, store: ModuleStore, log: Logger) {
    this.#runner = runner;
    this.#states = states;
    this.#store = store;
    this.#log = log;
    this.#left = new Map(states.read());
  }

  /** Ids of the declared plugins, by name. */
  get ids(): ReadonlyMap<string, number> {
    return new Map([...this.#plugins].map(([name, plugin]) => [name, plugin.id]));
  }

  /** Brings the plugins in line with what is declared. Returns what could not be done, by plugin. */
  async sync(declarations: readonly Declaration[]): Promise<{ name: string; reason: string }[]> {
    const declared = new Map(declarations.map((declaration) => [declaration.name, declaration]));
    for (const [name, plugin] of this.#plugins)
      if (!declared.has(name)) {
        await this.#runner.remove(plugin.id);
        this.#plugins.delete(name);
      }
    for (const declaration of declared.values()) {
      try {
        await this.#syncOne(declaration);
      } catch (error) {
        if (!(error instanceof EngineError)) throw error;
        const plugin = this.#plugins.get(declaration.name);
        if (plugin) plugin.problem = error.message;
        else this.#log.error({ plugin: declaration.name, reason: error.message }, 'plugin not registered');
      }
    }
    this.#releaseIds();
    return [...this.#plugins].filter(([, plugin]) => plugin.problem).map(([name, plugin]) => ({ name, reason: plugin.problem }));
  }

  /**
   * Replaces a plugin's module. When it returns, no verdict of the module before counts.
   *
   * @throws EngineError `PLUGIN_UNKNOWN` when no PolicyPlugin has the name, `PLUGIN_INVALID` when the module does not
   *   load; the one before then stays in force.
   */
  async push(name: string, bytes: Uint8Array): Promise<PluginView> {
    const plugin = this.#plugins.get(name);
    if (!plugin)
      throw new EngineError('PLUGIN_UNKNOWN', `Cannot push plugin ${name}: the source has no PolicyPlugin of this name; declare one first`);
    await this.#install(plugin, bytes, 'pushed');
    this.#store.save(name, bytes, this.#fileHash(plugin.declaration));
    return this.#view(plugin);
  }

  list(): PluginView[] {
    return [...this.#plugins.values()].map((plugin) => this.#view(plugin)).sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** The name behind an id; empty when there is none. */
  nameOf(id: number): string {
    for (const [name, plugin] of this.#plugins) if (plugin.id === id) return name;
    return '';
  }

  count(id: number, added: { evaluations: number; allowed: number; denied: number }): void {
    const counts = this.#byId(id)?.counts;
    if (!counts) return;
    counts.evaluations += added.evaluations;
    counts.allowed += added.allowed;
    counts.denied += added.denied;
  }

  noteTrap(id: number, message: string): void {
    const plugin = this.#byId(id);
    if (!plugin) return;
    plugin.counts.traps += 1;
    this.#log.warn({ plugin: plugin.declaration.name, reason: message, traps: plugin.counts.traps }, 'plugin trapped');
  }

  noteTimeout(id: number, switchedOff: boolean): void {
    const plugin = this.#byId(id);
    if (!plugin) return;
    plugin.counts.timeouts += 1;
    if (switchedOff) {
      plugin.on = false;
      plugin.problem = `switched off: overran its ${plugin.declaration.evaluateMs} ms in ${plugin.counts.timeouts} evaluations; push another version`;
      plugin.refused = plugin.version?.moduleHash;
    }
    this.#log.error({ plugin: plugin.declaration.name, timeouts: plugin.counts.timeouts, switchedOff }, 'plugin overran its budget');
  }

  #byId(id: number): Plugin | undefined {
    return this.#plugins.get(this.nameOf(id));
  }

  async #syncOne(declaration: Declaration): Promise<void> {
    const plugin = this.#plugins.get(declaration.name) ?? this.#register(declaration);
    plugin.declaration = declaration;
    const pushed = this.#store.find(declaration.name, this.#fileHash(declaration));
    const bytes = pushed ?? (declaration.file === undefined ? undefined : readModule(declaration.file));
    if (!bytes) {
      plugin.problem = plugin.version ? '' : 'no module yet: push one';
      return;
    }
    const hash = versionHash(bytes, declaration);
    if (hash === plugin.version?.moduleHash && plugin.on) plugin.problem = '';
    if (hash === plugin.version?.moduleHash || hash === plugin.refused) return;
    await this.#install(plugin, bytes, pushed ? 'pushed' : 'file');
  }

  #register(declaration: Declaration): Plugin {
    const nameHash = hash64(declaration.name);
    const states = this.#states.read();
    const known = [...states].find(([, state]) => state.name === nameHash);
    const taken = new Set([...this.#plugins.values()].map((plugin) => plugin.id));
    const id = known?.[0] ?? firstFree(states, taken);
    if (id === undefined)
      throw new EngineError('MAP_FULL', `Cannot register plugin ${declaration.name}: ${Abi.PLUGINS_MAX - 1} are the most`);
    const counts = { evaluations: 0, allowed: 0, denied: 0, traps: 0, timeouts: 0 };
    const plugin: Plugin = {
      id,
      declaration,
      epoch: known?.[1].epoch ?? 0,
      version: undefined,
      sha256: '',
      origin: '',
      problem: '',
      refused: undefined,
      on: false,
      counts,
    };
    this.#plugins.set(declaration.name, plugin);
    this.#left.delete(id);
    // Until a version runs, nobody answers: say so, with the failure policy that is declared now.
    const failure = declaration.failurePolicy === 'Allow' ? Verdict.ALLOW : Verdict.DENY;
    this.#states.write(id, {
      name: nameHash,
      module: known?.[1].module ?? 0n,
      epoch: plugin.epoch,
      failure,
      status: known?.[1].status ?? PluginStatus.OFF,
      scopes: known?.[1].scopes ?? 0,
    });
    return plugin;
  }

  async #install(plugin: Plugin, bytes: Uint8Array, origin: 'file' | 'pushed'): Promise<void> {
    const { declaration } = plugin;
    const moduleHash = versionHash(bytes, declaration);
    try {
      const module = await auditModule(bytes, declaration.memoryPages);
      const left = this.#states.read().get(plugin.id);
      const same = left?.module === moduleHash && left.name === hash64(declaration.name);
      const version: Version = {
        id: plugin.id,
        name: declaration.name,
        nameHash: hash64(declaration.name),
        moduleHash,
        module,
        config: declaration.config,
        evaluateMs: declaration.evaluateMs,
        failureAllow: declaration.failurePolicy === 'Allow',
        epoch: same ? plugin.epoch : plugin.epoch + 1,
      };
      await this.#runner.install(version);
      plugin.version = version;
      plugin.epoch = version.epoch;
    } catch (error) {
      plugin.refused = moduleHash;
      throw error;
    }
    plugin.sha256 = createHash('sha256').update(bytes).digest('hex');
    plugin.origin = origin;
    plugin.problem = '';
    plugin.refused = undefined;
    plugin.on = true;
    this.#log.info({ plugin: declaration.name, epoch: plugin.epoch, sha256: plugin.sha256, origin }, 'plugin in force');
  }

  /** Ids that an earlier engine used and that nobody declares any more are free, and answer nothing. */
  #releaseIds(): void {
    for (const [id, state] of this.#left)
      if (state.name) this.#states.write(id, { ...state, name: 0n, module: 0n, status: PluginStatus.OFF });
    this.#left.clear();
  }

  /** Of the declared file, to notice when it changes after a push; empty when there is none. */
  #fileHash(declaration: Declaration): string {
    if (declaration.file === undefined) return '';
    try {
      return createHash('sha256').update(readFileSync(declaration.file)).digest('hex');
    } catch (error) {
      this.#log.debug({ plugin: declaration.name, reason: messageOf(error) }, 'module file not readable');
      return '';
    }
  }

  #view(plugin: Plugin): PluginView {
    return {
      name: plugin.declaration.name,
      state: plugin.on ? 'on' : 'off',
      sha256: plugin.sha256,
      origin: plugin.origin,
      epoch: plugin.epoch,
      failurePolicy: plugin.declaration.failurePolicy,
      problem: plugin.problem,
      ...plugin.counts,
    };
  }
}

function readModule(file: string): Uint8Array {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new EngineError(
      'PLUGIN_INVALID',
      `Cannot load module ${file}: ${(error as NodeJS.ErrnoException).code ?? messageOf(error)}`,
      error,
    );
  }
}

/** Everything that a verdict of a version may depend on. */
function versionHash(bytes: Uint8Array, declaration: Declaration): bigint {
  const settings = JSON.stringify([declaration.config, declaration.failurePolicy, declaration.evaluateMs, declaration.memoryPages]);
  return createHash('sha256').update(settings).update(bytes).digest().readBigUInt64LE(0);
}

function hash64(text: string): bigint {
  return createHash('sha256').update(text).digest().readBigUInt64LE(0);
}

function firstFree(states: ReadonlyMap<number, PluginState>, taken: ReadonlySet<number>): number | undefined {
  for (let id = 1; id < Abi.PLUGINS_MAX; id++) if (!states.get(id)?.name && !taken.has(id)) return id;
  return undefined;
}

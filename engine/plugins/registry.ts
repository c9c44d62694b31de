/**
 * The plugins that the source declares, which versions of each run, and why the last one does not if it does not.
 *
 * Ids and epochs are kept in the kernel's plugin states, so that verdicts and connections survive a restart with the
 * same version, and none survives a change of it. Changes happen one after the other.
 */
import { readFileSync } from 'node:fs';
import { Abi, type PluginState, PluginStatus, Verdict } from '../abi.gen.ts';
import { EngineError, messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import {
  createPlugin,
  hash64,
  type ManagedPlugin,
  passesFailures,
  type Setup,
  setupOf,
  type VersionsOf,
  verdictHash,
} from './managed-plugin.ts';
import { PluginTally } from './plugin-tally.ts';
import type { TrustedKey } from './signature.ts';
import { auditView, type Counts, type Declaration, makeVersion, type Version, versionHash, versionName } from './version.ts';
import { VersionKeeper } from './version-keeper.ts';
import { hashOf, type Origin, type VersionStore } from './version-store.ts';

/** Who runs versions. */
export interface Runner {
  install(setup: Setup): Promise<void>;
  remove(id: number): Promise<void>;
}

/** The kernel's plugin states. */
export interface PluginStates {
  read(): ReadonlyMap<number, PluginState>;
  write(id: number, state: PluginState): void;
}

export interface RegistryParts {
  readonly runner: Runner;
  readonly states: PluginStates;
  readonly store: VersionStore;
  readonly trustedKeys: readonly TrustedKey[];
  readonly emptyCounts: () => Counts;
  readonly addCounts: (total: Counts, added: Counts) => void;
  readonly log: Logger;
}

export type PushMode = 'enforce' | 'shadow' | 'canary';

export class PluginRegistry {
  /** What plugins have done so far. */
  readonly tally: PluginTally;
  readonly #parts: RegistryParts;
  readonly #keeper: VersionKeeper;
  readonly #plugins = new Map<string, ManagedPlugin>();
  readonly #left: Map<number, PluginState>;
  /** What is declared now; what is not is still there until its removal is its turn. */
  #declared: ReadonlyMap<string, Declaration> = new Map();
  /** Plugins that were not looked for yet among what was there before a restart. */
  readonly #fresh = new Set<ManagedPlugin>();
  /** Changes, one after the other. */
  #queue: Promise<unknown> = Promise.resolve();

  constructor(parts: RegistryParts) {
    this.#parts = parts;
    this.#left = new Map(parts.states.read());
    this.#keeper = new VersionKeeper(parts.store, parts.log);
    this.tally = new PluginTally({
      plugins: this.#plugins,
      addCounts: parts.addCounts,
      onTooManyTraps: (plugin, version) => this.#takeBack(plugin, version),
      log: parts.log,
    });
  }

  /** Ids of the declared plugins, by name. */
  get ids(): ReadonlyMap<string, number> {
    return new Map([...this.#plugins].filter(([name]) => this.#declared.has(name)).map(([name, plugin]) => [name, plugin.id]));
  }

  /** What is declared and not in force. */
  get problems(): { name: string; reason: string }[] {
    return this.plugins.filter(({ problem }) => problem).map(({ declaration, problem }) => ({ name: declaration.name, reason: problem }));
  }

  /** All declared plugins, by name. */
  get plugins(): readonly ManagedPlugin[] {
    return [...this.#plugins.values()]
      .filter(({ declaration }) => this.#declared.has(declaration.name))
      .sort((a, b) => (a.declaration.name < b.declaration.name ? -1 : 1));
  }

  /** @throws EngineError `PLUGIN_UNKNOWN` */
  get(name: string): ManagedPlugin {
    const plugin = this.#declared.has(name) ? this.#plugins.get(name) : undefined;
    if (plugin) return plugin;
    throw new EngineError('PLUGIN_UNKNOWN', `Cannot find plugin ${name}: the source has no PolicyPlugin of this name; declare one first`);
  }

  /** The name behind an id; empty when there is none, and for lists of server names, which are no plugin. */
  nameOf(id: number): string {
    return this.tally.find(id)?.declaration.name ?? '';
  }

  /**
   * Brings the plugins in line with what is declared. Their ids are there when it returns: until a version was tried, flows get
   * what was before, or the failure policy. Resolves when every version was tried.
   */
  sync(declarations: readonly Declaration[]): Promise<void> {
    this.#declared = new Map(declarations.map((declaration) => [declaration.name, declaration]));
    for (const declaration of declarations)
      try {
        if (!this.#plugins.has(declaration.name)) this.#register(declaration);
      } catch (error) {
        this.#noteFailure(declaration, error);
      }
    return this.#enqueue(() => this.#followDeclared());
  }

  /**
   * Takes a module for a plugin. With `enforce`, no verdict of the version before counts when it returns; with `shadow`
   * and `canary` it runs beside the live one.
   *
   * @throws EngineError `PLUGIN_UNKNOWN` when no PolicyPlugin has the name, `PLUGIN_INVALID` when the module does not
   *   load; what was in force then stays.
   */
  push(name: string, bytes: Uint8Array, mode: PushMode, weight: number): Promise<ReturnType<typeof auditView>> {
    return this.#enqueue(async () => {
      const plugin = this.get(name);
      const version = await this.#make(plugin.declaration, bytes, 'pushed');
      const before = plugin.versions;
      const audit = auditView(version, before?.live);
      if (mode === 'enforce')
        await this.#apply(plugin, { live: version, previous: previousOf(before, version), candidate: undefined }, 'enforced');
      else if (!before)
        throw new EngineError('PLUGIN_INVALID', `Cannot push plugin ${name} as ${mode}: it has no version in force to run beside`);
      else
        await this.#apply(
          plugin,
          { ...before, candidate: { version, mode, weight } },
          mode === 'canary' ? `canary of ${weight} %` : mode,
          version,
        );
      plugin.refused.clear();
      return audit;
    });
  }

  /** Puts the candidate in force. @throws EngineError `NOTHING_PENDING` */
  promote(name: string): Promise<void> {
    return this.#enqueue(async () => {
      const plugin = this.get(name);
      const { live, candidate } = plugin.versions ?? {};
      if (!candidate) throw new EngineError('NOTHING_PENDING', `Cannot promote plugin ${name}: no version runs as shadow or canary`);
      await this.#apply(plugin, { live: candidate.version, previous: live, candidate: undefined }, 'promoted');
    });
  }

  /** Takes the candidate away; without one, puts the version before in force again. @throws EngineError `NOTHING_PENDING` */
  rollback(name: string): Promise<void> {
    return this.#enqueue(() => this.#rollback(this.get(name), 'rolled back'));
  }

  /** Forgets what was pushed: the declared file is in force again, or nothing. @throws EngineError `PLUGIN_UNKNOWN` */
  remove(name: string): Promise<void> {
    return this.#enqueue(async () => {
      const plugin = this.get(name);
      this.#keeper.forget(name);
      await this.#parts.runner.remove(plugin.id);
      // Nothing happens between these: a plugin that is declared always has its id.
      this.#plugins.delete(name);
      await this.#syncOne(this.#declared.get(name) ?? plugin.declaration);
    });
  }

  async #followDeclared(): Promise<void> {
    for (const [name, { id }] of this.#plugins)
      if (!this.#declared.has(name)) {
        this.#plugins.delete(name);
        await this.#parts.runner.remove(id);
      }
    for (const declaration of this.#declared.values())
      try {
        await this.#syncOne(declaration);
      } catch (error) {
        this.#noteFailure(declaration, error);
      }
    this.#releaseIds();
  }

  #noteFailure({ name }: Declaration, error: unknown): void {
    if (!(error instanceof EngineError)) throw error;
    const plugin = this.#plugins.get(name);
    if (plugin) plugin.problem = error.message;
    else this.#parts.log.error({ plugin: name, reason: error.message }, 'plugin not registered');
  }

  #enqueue<T>(act: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(act, act);
    this.#queue = result.catch(() => {});
    return result;
  }

  #make(declaration: Declaration, bytes: Uint8Array, origin: Origin): Promise<Version> {
    const { trustedKeys, emptyCounts } = this.#parts;
    const tablesDirectory = this.#keeper.tablesDirectory(declaration.name);
    return makeVersion(bytes, { declaration, origin, trustedKeys, tablesDirectory, counts: emptyCounts() });
  }

  /** Takes back a version that traps, when the change that is under way is over. */
  #takeBack(plugin: ManagedPlugin, version: Version): void {
    const { traps, evaluations } = version.counts;
    const reason = `version ${versionName(version)} was rolled back by itself: it trapped ${traps} times in ${evaluations} evaluations: ${version.lastTrap}`;
    void this.#enqueue(async () => {
      const { live, previous, candidate } = plugin.versions ?? {};
      if (version === live && !previous) {
        plugin.problem = `version ${versionName(version)} traps, and there is none before it: ${version.lastTrap}`;
        return;
      }
      if (version !== live && version !== candidate?.version) return;
      await this.#rollback(plugin, 'rolled back by itself', version === live);
      plugin.problem = reason;
      plugin.lasting = true;
      this.#parts.log.error({ plugin: plugin.declaration.name, reason }, 'plugin version rolled back');
    }).catch((error: unknown) => this.#parts.log.error({ plugin: plugin.declaration.name, err: error }, 'plugin version not rolled back'));
  }

  /** `live`: the version in force goes, and the candidate with it. */
  async #rollback(plugin: ManagedPlugin, what: string, live = false): Promise<void> {
    const { versions } = plugin;
    if (versions?.candidate && !live) {
      await this.#apply(plugin, { ...versions, candidate: undefined }, `${versions.candidate.mode} ${what}`, versions.candidate.version);
      return;
    }
    if (!versions?.previous)
      throw new EngineError('NOTHING_PENDING', `Cannot roll back plugin ${plugin.declaration.name}: no version was in force before`);
    // What is rolled back does not become the one to roll back to: twice is an error, not a step forward.
    await this.#apply(plugin, { live: versions.previous, previous: undefined, candidate: undefined }, what, versions.live);
  }

  async #syncOne(declaration: Declaration): Promise<void> {
    const known = this.#plugins.get(declaration.name);
    const plugin = known ?? this.#register(declaration);
    plugin.declaration = declaration;
    const file = this.#readFile(declaration);
    const fileSha256 = file ? hashOf(file) : '';
    if (this.#fresh.delete(plugin) && (await this.#restore(plugin, fileSha256))) return;
    const { versions } = plugin;
    if (file && (!versions || fileSha256 !== plugin.fileSha256)) {
      await this.#takeFile(plugin, file, fileSha256);
      return;
    }
    if (!versions) {
      plugin.problem ||= 'no module yet: push one';
      return;
    }
    const wanted = versionHash(versions.live.audited.view.bytes, declaration);
    if (wanted === versions.live.hash && this.#isInstalled(plugin, versions)) {
      if (!plugin.refused.size && !plugin.lasting) plugin.problem = '';
      return;
    }
    if (plugin.refused.has(wanted)) return;
    await this.#remake(plugin, versions, wanted);
  }

  /** Whether what runs is what the declaration says, but for the version itself. */
  #isInstalled({ declaration, id }: ManagedPlugin, versions: VersionsOf<Version>): boolean {
    return this.#parts.states.read().get(id)?.module === verdictHash(declaration, versions);
  }

  async #takeFile(plugin: ManagedPlugin, file: Uint8Array, fileSha256: string): Promise<void> {
    const hash = versionHash(file, plugin.declaration);
    if (plugin.refused.has(hash)) return;
    try {
      const live = await this.#make(plugin.declaration, file, 'file');
      plugin.fileSha256 = fileSha256;
      await this.#apply(plugin, { live, previous: previousOf(plugin.versions, live), candidate: undefined }, 'enforced');
      plugin.refused.clear();
    } catch (error) {
      plugin.refused.add(hash);
      throw error;
    }
  }

  /** Settings have changed: every version is made anew under them. One that is refused under them leaves all as it was. */
  async #remake(plugin: ManagedPlugin, versions: VersionsOf<Version>, wanted: string): Promise<void> {
    const again = (version: Version): Promise<Version> => this.#make(plugin.declaration, version.audited.view.bytes, version.origin);
    try {
      const live = await again(versions.live);
      const previous = versions.previous && (await again(versions.previous).catch(() => undefined));
      const candidate = versions.candidate && { ...versions.candidate, version: await again(versions.candidate.version) };
      await this.#apply(plugin, { live, previous, candidate }, 'settings changed');
      plugin.refused.clear();
    } catch (error) {
      plugin.refused.add(wanted);
      throw error;
    }
  }

  /** Takes up what was there before a restart. Returns whether there was something. */
  async #restore(plugin: ManagedPlugin, fileSha256: string): Promise<boolean> {
    const { versions, problem } = await this.#keeper.restore(plugin, fileSha256, (bytes, origin) =>
      this.#make(plugin.declaration, bytes, origin),
    );
    if (versions) {
      plugin.fileSha256 = fileSha256;
      await this.#apply(plugin, versions, '');
    }
    plugin.problem = problem;
    plugin.lasting = problem !== '';
    return versions !== undefined;
  }

  #register(declaration: Declaration): ManagedPlugin {
    const nameHash = hash64(declaration.name);
    const states = this.#parts.states.read();
    const known = [...states].find(([, state]) => state.name === nameHash);
    const taken = new Set([...this.#plugins.values()].map((plugin) => plugin.id));
    const id = known?.[0] ?? firstFree(states, taken);
    if (id === undefined) throw new EngineError('MAP_FULL', `Cannot register plugin ${declaration.name}: ${Abi.ROUTES - 1} are the most`);
    const plugin = createPlugin(id, declaration, known?.[1].epoch ?? 0);
    this.#plugins.set(declaration.name, plugin);
    this.#fresh.add(plugin);
    this.#left.delete(id);
    // Until a version runs, nobody answers: say so, with the failure policy that is declared now.
    this.#parts.states.write(id, {
      name: nameHash,
      module: known?.[1].module ?? 0n,
      epoch: plugin.epoch,
      failure: passesFailures(declaration) ? Verdict.ALLOW : Verdict.DENY,
      status: known?.[1].status ?? PluginStatus.OFF,
      scopes: known?.[1].scopes ?? 0,
    });
    return plugin;
  }

  /** Has versions run, and keeps that. `what` and `about` are for the history; without `what` there is nothing new to tell. */
  async #apply(plugin: ManagedPlugin, versions: VersionsOf<Version>, what: string, about: Version = versions.live): Promise<void> {
    const { declaration, id } = plugin;
    const left = this.#parts.states.read().get(id);
    const same = left?.module === verdictHash(declaration, versions) && left.name === hash64(declaration.name);
    const epoch = same ? plugin.epoch : plugin.epoch + 1;
    await this.#parts.runner.install(setupOf(plugin, versions, epoch));
    if (versions.candidate?.version !== plugin.versions?.candidate?.version) plugin.samples.length = 0;
    plugin.versions = versions;
    plugin.epoch = epoch;
    plugin.problem = '';
    plugin.lasting = false;
    plugin.on = true;
    if (what) this.#keeper.note(plugin, what, about);
    this.#parts.log.info({ plugin: declaration.name, epoch, version: versionName(about), what: what || 'restored' }, 'plugin in force');
  }

  /** Ids that an earlier engine used and that nobody declares any more are free, and answer nothing. */
  #releaseIds(): void {
    for (const [id, state] of this.#left)
      if (state.name) this.#parts.states.write(id, { ...state, name: 0n, module: 0n, status: PluginStatus.OFF });
    this.#left.clear();
  }

  /** The declared module; undefined when none is declared, or it cannot be read and another version runs. */
  #readFile({ name, file }: Declaration): Uint8Array | undefined {
    if (file === undefined) return undefined;
    try {
      return readFileSync(file);
    } catch (error) {
      const reason = (error as NodeJS.ErrnoException).code ?? messageOf(error);
      if (!this.#plugins.get(name)?.versions) throw new EngineError('PLUGIN_INVALID', `Cannot load module ${file}: ${reason}`, error);
      this.#parts.log.debug({ plugin: name, reason }, 'module file not readable');
      return undefined;
    }
  }
}

/** What a rollback of `next` leads to. The same version once more is no step that could be taken back. */
function previousOf(before: VersionsOf<Version> | undefined, next: Version): Version | undefined {
  return before?.live.hash === next.hash ? before.previous : before?.live;
}

function firstFree(states: ReadonlyMap<number, PluginState>, taken: ReadonlySet<number>): number | undefined {
  for (let id = 1; id < Abi.ROUTES; id++) if (!states.get(id)?.name && !taken.has(id)) return id;
  return undefined;
}

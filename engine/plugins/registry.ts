/**
 * The plugins that the source declares, which versions of each run, and why the last one does not if it does not.
 *
 * Ids and epochs are in the kernel's plugin states, so that verdicts and connections survive a restart with the
 * same version, and none survives a change of it. They are decided here and written by who runs the versions. Changes happen one after
 * the other.
 */
import { Abi, type PluginState, PluginStatus, Verdict } from '../abi.gen.ts';
import { EngineError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { type CandidateMode, type PluginSetup, passesFailures, type VersionsOf } from '../plugin-runtime/plugin-setup.ts';
import { createPlugin, hash64, type ManagedPlugin, setupOf, treatment, verdictHash } from './managed-plugin.ts';
import type { Modules } from './modules/declared-modules.ts';
import { PluginTally } from './plugin-tally.ts';
import type { TrustedKey } from './signature.ts';
import { auditView, type Declaration, makeVersion, type Version, versionHash, versionName } from './version.ts';
import { VersionKeeper } from './version-keeper.ts';
import { enforce, promote, rollBack, runBeside, withdraw } from './version-moves.ts';
import type { Origin, VersionStore } from './version-store.ts';

/** Who runs versions. What runs has its state in the kernel written there; see flow/plugin-states.ts. */
export interface Runner {
  install(setup: PluginSetup): Promise<void>;
  remove(id: number): Promise<void>;
  /** Sets the state of an id without a version that runs. */
  declare(id: number, state: PluginState): void;
}

export interface RegistryParts {
  readonly runner: Runner;
  /** The states in the kernel that an earlier engine left. */
  readonly left: ReadonlyMap<number, PluginState>;
  readonly store: VersionStore;
  readonly modules: Modules;
  readonly trustedKeys: readonly TrustedKey[];
  readonly log: Logger;
}

/** A module that a PolicyPlugin names, as it was found. */
interface DeclaredModule {
  readonly bytes: Uint8Array;
  readonly sha256: string;
  readonly origin: Origin;
}

export type PushMode = 'enforce' | CandidateMode;

export class PluginRegistry {
  /** The deeds of plugins so far. */
  readonly tally: PluginTally;
  readonly #parts: RegistryParts;
  readonly #keeper: VersionKeeper;
  readonly #plugins = new Map<string, ManagedPlugin>();
  /** Whose each id is, and which epoch and versions stand for it: as in the kernel. */
  readonly #ids: Map<number, PluginState>;
  /** The last epoch that was tried of each: where that failed, some worker may have had verdicts under it by then. */
  readonly #tried = new Map<number, number>();
  /** Ids of plugins that nobody has declared to this engine. */
  readonly #left: Set<number>;
  /** The plugins that are declared now; another one is still there until its removal is its turn. */
  #declared: ReadonlyMap<string, Declaration> = new Map();
  /** Plugins that were not looked for yet among what was there before a restart. */
  readonly #fresh = new Set<ManagedPlugin>();
  /** Changes, one after the other. */
  #queue: Promise<unknown> = Promise.resolve();

  constructor(parts: RegistryParts) {
    this.#parts = parts;
    this.#ids = new Map(parts.left);
    this.#left = new Set(parts.left.keys());
    this.#keeper = new VersionKeeper(parts.store, parts.log);
    this.tally = new PluginTally({
      plugins: this.#plugins,
      onTooManyTraps: (plugin, version) => this.#takeBack(plugin, version),
      log: parts.log,
    });
  }

  /** Ids of the declared plugins, by name. */
  get ids(): ReadonlyMap<string, number> {
    return new Map([...this.#plugins].filter(([name]) => this.#declared.has(name)).map(([name, plugin]) => [name, plugin.id]));
  }

  /** Plugins that are not in force as they are declared; `pending`: that may mend itself. */
  get problems(): { name: string; reason: string; pending?: boolean }[] {
    return this.plugins.flatMap(({ declaration: { name }, problem, missing }) => [
      ...(problem ? [{ name, reason: problem }] : []),
      ...(missing ? [{ name, ...missing }] : []),
    ]);
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

  /** Takes up modules that have come since. Resolves when every version was tried. */
  takeModules(): Promise<void> {
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
      if (mode === 'enforce') await this.#apply(plugin, enforce(before, version), 'enforced');
      else if (!before)
        throw new EngineError('PLUGIN_INVALID', `Cannot push plugin ${name} as ${mode}: it has no version in force to run beside`);
      else await this.#apply(plugin, runBeside(before, version, mode, weight), mode === 'canary' ? `canary of ${weight} %` : mode, version);
      plugin.refused.clear();
      return audit;
    });
  }

  /** Puts the candidate in force. @throws EngineError `NOTHING_PENDING` */
  promote(name: string): Promise<void> {
    return this.#enqueue(async () => {
      const plugin = this.get(name);
      const after = plugin.versions && promote(plugin.versions);
      if (!after) throw new EngineError('NOTHING_PENDING', `Cannot promote plugin ${name}: no version runs as shadow or canary`);
      await this.#apply(plugin, after, 'promoted');
    });
  }

  /** Takes the candidate away; without one, puts the version before in force again. @throws EngineError `NOTHING_PENDING` */
  rollback(name: string): Promise<void> {
    return this.#enqueue(() => this.#rollback(this.get(name), 'rolled back'));
  }

  /** Forgets what was pushed: the declared module is in force again, or nothing. @throws EngineError `PLUGIN_UNKNOWN` */
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
    for (const [name, plugin] of [...this.#plugins]) if (!this.#declared.has(name)) await this.#removeUndeclared(name, plugin);
    for (const declaration of this.#declared.values())
      try {
        await this.#syncOne(declaration);
      } catch (error) {
        this.#noteFailure(declaration, error);
      }
    this.#releaseIds();
    this.#parts.modules.keep([...this.#declared.values()].flatMap(({ module }) => module ?? []));
  }

  /** One that cannot be removed keeps nobody else waiting: it is tried again with the next change. */
  async #removeUndeclared(name: string, plugin: ManagedPlugin): Promise<void> {
    this.#plugins.delete(name);
    try {
      await this.#parts.runner.remove(plugin.id);
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      this.#parts.log.error({ plugin: name, reason: error.message }, 'plugin not removed');
      if (!this.#plugins.has(name)) this.#plugins.set(name, plugin);
    }
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
    const { trustedKeys } = this.#parts;
    const tablesDirectory = this.#keeper.tablesDirectory(declaration.name);
    return makeVersion(bytes, { declaration, origin, trustedKeys, tablesDirectory });
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
      await this.#apply(plugin, withdraw(versions), `${versions.candidate.mode} ${what}`, versions.candidate.version);
      return;
    }
    const after = versions && rollBack(versions);
    if (!after)
      throw new EngineError('NOTHING_PENDING', `Cannot roll back plugin ${plugin.declaration.name}: no version was in force before`);
    await this.#apply(plugin, after, what, versions.live);
  }

  async #syncOne(declaration: Declaration): Promise<void> {
    const known = this.#plugins.get(declaration.name);
    const plugin = known ?? this.#register(declaration);
    plugin.declaration = declaration;
    const { found, sha256 } = this.#findModule(plugin);
    if (this.#fresh.delete(plugin) && (await this.#restore(plugin, sha256))) return;
    const { versions } = plugin;
    if (found && (!versions || sha256 !== plugin.declaredSha256)) {
      await this.#takeDeclared(plugin, found);
      return;
    }
    if (!versions) {
      if (!declaration.module) plugin.problem ||= 'no module yet: push one';
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
    return this.#ids.get(id)?.module === verdictHash(declaration, versions);
  }

  async #takeDeclared(plugin: ManagedPlugin, { bytes, sha256, origin }: DeclaredModule): Promise<void> {
    const hash = versionHash(bytes, plugin.declaration);
    if (plugin.refused.has(hash)) return;
    try {
      const live = await this.#make(plugin.declaration, bytes, origin);
      plugin.declaredSha256 = sha256;
      await this.#apply(plugin, enforce(plugin.versions, live), 'enforced');
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
  async #restore(plugin: ManagedPlugin, sha256: string | undefined): Promise<boolean> {
    const { versions, problem, declaredSha256 } = await this.#keeper.restore(plugin, sha256, (bytes, origin) =>
      this.#make(plugin.declaration, bytes, origin),
    );
    if (versions) {
      plugin.declaredSha256 = declaredSha256;
      await this.#apply(plugin, versions, '');
    }
    plugin.problem = problem;
    plugin.lasting = problem !== '';
    return versions !== undefined;
  }

  #register(declaration: Declaration): ManagedPlugin {
    const name = hash64(declaration.name);
    const known = [...this.#ids].find(([, state]) => state.name === name);
    const id = known?.[0] ?? this.#freeId();
    if (id === undefined) throw new EngineError('MAP_FULL', `Cannot register plugin ${declaration.name}: ${Abi.ROUTES - 1} are the most`);
    // An epoch is never used twice for an id, whoever had it: verdicts of then may still be in the cache.
    const { epoch = 0, module = 0n } = this.#ids.get(id) ?? {};
    const plugin = createPlugin(id, declaration, epoch);
    this.#plugins.set(declaration.name, plugin);
    this.#fresh.add(plugin);
    this.#left.delete(id);
    // Until a version runs, nobody answers: say so, with the failure policy that is declared now.
    const failure = passesFailures(treatment(declaration)) ? Verdict.ALLOW : Verdict.DENY;
    this.#declare(id, { name, module: known ? module : 0n, epoch, failure, status: PluginStatus.OFF, scopes: 0 });
    return plugin;
  }

  #declare(id: number, state: PluginState): void {
    this.#ids.set(id, state);
    this.#parts.runner.declare(id, state);
  }

  #freeId(): number | undefined {
    const taken = new Set([...this.#plugins.values()].map((plugin) => plugin.id));
    for (let id = 1; id < Abi.ROUTES; id++) if (!this.#ids.get(id)?.name && !taken.has(id)) return id;
    return undefined;
  }

  /** Has versions run, and keeps that. `what` and `about` are for the history; without `what` there is nothing new to tell. */
  async #apply(plugin: ManagedPlugin, versions: VersionsOf<Version>, what: string, about: Version = versions.live): Promise<void> {
    const { declaration, id } = plugin;
    const stands = this.#ids.get(id);
    const module = verdictHash(declaration, versions);
    const epoch = stands?.module === module ? plugin.epoch : Math.max(plugin.epoch, this.#tried.get(id) ?? 0) + 1;
    this.#tried.set(id, epoch);
    await this.#parts.runner.install(setupOf(plugin, versions, epoch));
    if (stands) this.#ids.set(id, { ...stands, module, epoch });
    if (versions.candidate?.version !== plugin.versions?.candidate?.version) plugin.samples.length = 0;
    plugin.versions = versions;
    plugin.epoch = epoch;
    plugin.problem = '';
    plugin.lasting = false;
    plugin.on = true;
    if (what) this.#keeper.note(plugin, what, about);
    const facts = {
      plugin: declaration.name,
      epoch,
      version: versionName(versions.live),
      what: what || 'restored',
      about: versionName(about),
    };
    this.#parts.log.info(facts, 'plugin in force');
  }

  /** Ids that an earlier engine used and that nobody declares any more are free, answer nothing, and let nothing pass. */
  #releaseIds(): void {
    for (const id of this.#left) {
      const state = this.#ids.get(id);
      if (state?.name) this.#declare(id, { ...state, name: 0n, module: 0n, failure: Verdict.DENY, status: PluginStatus.OFF });
    }
    this.#left.clear();
  }

  /** The declared module as far as it is here. Its hash is empty where none is declared, and undefined where it is not known. */
  #findModule(plugin: ManagedPlugin): { found?: DeclaredModule; sha256: string | undefined } {
    const { declaration } = plugin;
    if (!declaration.module) {
      plugin.missing = undefined;
      return { sha256: '' };
    }
    const { module, problem } = this.#parts.modules.find(declaration.module);
    plugin.missing = problem;
    return module ? { found: { ...module, origin: declaration.module.kind }, sha256: module.sha256 } : { sha256: undefined };
  }
}

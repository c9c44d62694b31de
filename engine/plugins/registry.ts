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
import { type CandidateMode, type PluginSetup, passesFailures } from '../plugin-runtime/plugin-setup.ts';
import { createPlugin, hash64, type ManagedPlugin, treatment } from './managed-plugin.ts';
import type { Modules } from './modules/declared-modules.ts';
import { type FailedCanary, PluginFollower } from './plugin-follower.ts';
import { PluginTally } from './plugin-tally.ts';
import { canaryProblem } from './rollout.ts';
import type { TrustedKey } from './signature.ts';
import { auditView, type Declaration, type Version, versionName } from './version.ts';
import { VersionKeeper } from './version-keeper.ts';
import { enforce, promote, rollBack, runBeside, withdraw } from './version-moves.ts';
import type { VersionStore } from './version-store.ts';

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
  /** By which it is chosen for canaries. */
  readonly nodeName: string;
  readonly trustedKeys: readonly TrustedKey[];
  readonly log: Logger;
}

export type PushMode = 'enforce' | CandidateMode;

export class PluginRegistry {
  /** The deeds of plugins so far. */
  readonly tally: PluginTally;
  readonly #parts: RegistryParts;
  readonly #keeper: VersionKeeper;
  readonly #follower: PluginFollower;
  readonly #plugins = new Map<string, ManagedPlugin>();
  /** Whose each id is, and which epoch and versions stand for it: as in the kernel. */
  readonly #ids: Map<number, PluginState>;
  /** Ids of plugins that nobody has declared to this engine. */
  readonly #left: Set<number>;
  /** The plugins that are declared now; another one is still there until its removal is its turn. */
  #declared: ReadonlyMap<string, Declaration> = new Map();
  /** Changes, one after the other. */
  #queue: Promise<unknown> = Promise.resolve();

  constructor(parts: RegistryParts) {
    this.#parts = parts;
    this.#ids = new Map(parts.left);
    this.#left = new Set(parts.left.keys());
    this.#keeper = new VersionKeeper(parts.store, parts.log);
    this.#follower = new PluginFollower({ ...parts, keeper: this.#keeper, ids: this.#ids });
    this.tally = new PluginTally({
      plugins: this.#plugins,
      onTooManyTraps: (plugin, version) => this.#takeBack(plugin, version),
      onSwitchedOff: (plugin, version, reason) => this.#leaveSwitchedOff(plugin, version, reason),
      log: parts.log,
    });
  }

  /** Ids of the declared plugins, by name. */
  get ids(): ReadonlyMap<string, number> {
    return new Map([...this.#plugins].filter(([name]) => this.#declared.has(name)).map(([name, plugin]) => [name, plugin.id]));
  }

  /** Calls back when a canary fails here: other nodes are to hear of it. */
  onCanaryFailed(notify: (failed: FailedCanary) => void): void {
    this.#follower.onCanaryFailed = notify;
  }

  /** Plugins that are not in force as they are declared; `pending`: that may mend itself. */
  get problems(): { name: string; reason: string; pending?: boolean }[] {
    return this.plugins.flatMap(({ declaration, problem, missing, failedCanaries }) => {
      const { name, canary } = declaration;
      const failed = canary && canaryProblem(canary, failedCanaries);
      return [
        ...(problem ? [{ name, reason: problem }] : []),
        ...(missing ? [{ name, ...missing }] : []),
        ...(failed ? [{ name, reason: failed }] : []),
      ];
    });
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
      const version = await this.#follower.make(plugin.declaration, bytes, 'pushed');
      const before = plugin.versions;
      const audit = auditView(version, before?.live);
      if (mode === 'enforce') await this.#follower.apply(plugin, enforce(before, version), 'enforced');
      else if (!before)
        throw new EngineError('PLUGIN_INVALID', `Cannot push plugin ${name} as ${mode}: it has no version in force to run beside`);
      else
        await this.#follower.apply(
          plugin,
          runBeside(before, version, mode, weight),
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
      const after = plugin.versions && promote(plugin.versions);
      if (!after) throw new EngineError('NOTHING_PENDING', `Cannot promote plugin ${name}: no version runs as shadow or canary`);
      await this.#follower.apply(plugin, after, 'promoted');
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
    this.#parts.modules.keep([...this.#declared.values()].flatMap(({ module, canary }) => [module ?? [], canary?.module ?? []].flat()));
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

  /** Takes back a version that traps, when the change that is under way is over. */
  #takeBack(plugin: ManagedPlugin, version: Version): void {
    const { traps, evaluations } = version.counts;
    const reason = `version ${versionName(version)} was rolled back by itself: it trapped ${traps} times in ${evaluations} evaluations: ${version.lastTrap}`;
    void this.#enqueue(async () => {
      const { live, previous, candidate } = plugin.versions ?? {};
      if (version === live && !previous) {
        if (await this.#follower.leaveCanary(plugin, version, reason)) return;
        plugin.problem = `version ${versionName(version)} traps, and there is none before it: ${version.lastTrap}`;
        return;
      }
      if (version !== live && version !== candidate?.version) return;
      await this.#rollback(plugin, 'rolled back by itself', version === live);
      this.#parts.log.error({ plugin: plugin.declaration.name, reason }, 'plugin version rolled back');
      if (await this.#follower.leaveCanary(plugin, version, reason)) return;
      plugin.problem = reason;
      plugin.lasting = true;
    }).catch((error: unknown) => this.#parts.log.error({ plugin: plugin.declaration.name, err: error }, 'plugin version not rolled back'));
  }

  /** A canary that was switched off gives way to the module of all nodes. */
  #leaveSwitchedOff(plugin: ManagedPlugin, version: Version, reason: string): void {
    void this.#enqueue(() => this.#follower.leaveCanary(plugin, version, reason)).catch((error: unknown) =>
      this.#parts.log.error({ plugin: plugin.declaration.name, err: error }, 'canary not left'),
    );
  }

  /** `live`: the version in force goes, and the candidate with it. */
  async #rollback(plugin: ManagedPlugin, what: string, live = false): Promise<void> {
    const { versions } = plugin;
    if (versions?.candidate && !live) {
      await this.#follower.apply(plugin, withdraw(versions), `${versions.candidate.mode} ${what}`, versions.candidate.version);
      return;
    }
    const after = versions && rollBack(versions);
    if (!after)
      throw new EngineError('NOTHING_PENDING', `Cannot roll back plugin ${plugin.declaration.name}: no version was in force before`);
    await this.#follower.apply(plugin, after, what, versions.live);
  }

  async #syncOne(declaration: Declaration): Promise<void> {
    const known = this.#plugins.get(declaration.name);
    const plugin = known ?? this.#register(declaration);
    plugin.declaration = declaration;
    await this.#follower.follow(plugin);
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

  /** Ids that an earlier engine used and that nobody declares any more are free, answer nothing, and let nothing pass. */
  #releaseIds(): void {
    for (const id of this.#left) {
      const state = this.#ids.get(id);
      if (state?.name) this.#declare(id, { ...state, name: 0n, module: 0n, failure: Verdict.DENY, status: PluginStatus.OFF });
    }
    this.#left.clear();
  }
}

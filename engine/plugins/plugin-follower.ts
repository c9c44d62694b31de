/**
 * Brings one plugin to what its PolicyPlugin says for this node: the module that decides, the one that is only compared, the settings of both.
 * A canary that fails here gives way to the module of all nodes.
 */
import type { PluginState } from '../abi.gen.ts';
import { EngineError } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { PluginSetup, VersionsOf } from '../plugin-runtime/plugin-setup.ts';
import type { ModuleReference } from '../policy/objects.ts';
import { type ManagedPlugin, setupOf, verdictHash } from './managed-plugin.ts';
import type { Modules } from './modules/declared-modules.ts';
import { modulesOn } from './rollout.ts';
import type { TrustedKey } from './signature.ts';
import { type Declaration, makeVersion, type Version, versionHash, versionName } from './version.ts';
import type { VersionKeeper } from './version-keeper.ts';
import { enforce, runBeside, withdraw } from './version-moves.ts';
import type { Origin } from './version-store.ts';

/** A module that a PolicyPlugin names, as it was found. */
interface DeclaredModule {
  readonly bytes: Uint8Array;
  readonly sha256: string;
  readonly origin: Origin;
}

/** The one that is to decide. Its hash is empty where none is declared, and undefined where it is not known. */
interface DecidingModule {
  readonly found: DeclaredModule | undefined;
  readonly sha256: string | undefined;
}

/** A canary that failed on this node. */
export interface FailedCanary {
  readonly plugin: string;
  readonly digest: string;
  readonly reason: string;
}

export interface FollowerParts {
  readonly runner: { install(setup: PluginSetup): Promise<void> };
  readonly keeper: VersionKeeper;
  readonly modules: Modules;
  /** By which it is chosen for canaries. */
  readonly nodeName: string;
  readonly trustedKeys: readonly TrustedKey[];
  /** States of plugins as in the kernel, by id. */
  readonly ids: Map<number, PluginState>;
  readonly log: Logger;
}

export class PluginFollower {
  /** Called when a canary fails here. */
  onCanaryFailed: (failed: FailedCanary) => void = () => {};
  readonly #parts: FollowerParts;
  /** The last epoch that was tried of each: where that failed, some worker may have had verdicts under it by then. */
  readonly #tried = new Map<number, number>();

  constructor(parts: FollowerParts) {
    this.#parts = parts;
  }

  /** Brings a plugin to the modules that this node is to run of it. @throws EngineError `PLUGIN_INVALID` */
  async follow(plugin: ManagedPlugin): Promise<void> {
    try {
      await this.#followOnce(plugin);
    } catch (error) {
      // Until the canary's turn it is something else that fails.
      if (!(error instanceof EngineError) || !plugin.canarySha256 || !this.#failCanary(plugin, error.message)) throw error;
      await this.#followOnce(plugin);
    }
  }

  async #followOnce(plugin: ManagedPlugin): Promise<void> {
    const { declaration } = plugin;
    const { failedCanaries } = plugin;
    plugin.here = modulesOn(this.#parts.nodeName, declaration, failedCanaries);
    // One that is declared again later is tried again.
    for (const digest of failedCanaries.keys()) if (digest !== plugin.here.canary?.digest) failedCanaries.delete(digest);
    plugin.missing = undefined;
    plugin.canarySha256 = '';
    await this.#followModule(plugin, this.#findDeciding(plugin));
    await this.#followShadow(plugin);
  }

  async #followModule(plugin: ManagedPlugin, { found, sha256 }: DecidingModule): Promise<void> {
    const { declaration } = plugin;
    if (plugin.fresh) {
      plugin.fresh = false;
      if (await this.#restore(plugin, sha256)) return;
    }
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
    return this.#parts.ids.get(id)?.module === verdictHash(declaration, versions);
  }

  async #takeDeclared(plugin: ManagedPlugin, { bytes, sha256, origin }: DeclaredModule): Promise<void> {
    const hash = versionHash(bytes, plugin.declaration);
    if (plugin.refused.has(hash)) return;
    try {
      const live = await this.make(plugin.declaration, bytes, origin);
      plugin.declaredSha256 = sha256;
      await this.apply(plugin, enforce(plugin.versions, live), sha256 === plugin.canarySha256 ? 'enforced as canary' : 'enforced');
      plugin.refused.clear();
    } catch (error) {
      plugin.refused.add(hash);
      throw error;
    }
  }

  /** Has the canary run beside the live version where that is declared, and no declared one where it is not. */
  async #followShadow(plugin: ManagedPlugin): Promise<void> {
    const { versions, here } = plugin;
    const candidate = versions?.candidate;
    if (!versions) return;
    if (!here.shadow) {
      if (candidate && candidate.version.origin !== 'pushed')
        await this.apply(plugin, withdraw(versions), 'shadow withdrawn', candidate.version);
      return;
    }
    const found = this.#find(plugin, here.shadow);
    if (!found) return;
    plugin.canarySha256 = found.sha256;
    if (candidate?.version.sha256 === found.sha256) return;
    const version = await this.make(plugin.declaration, found.bytes, found.origin);
    await this.apply(plugin, runBeside(versions, version, 'shadow', 0), 'shadow', version);
  }

  /** Settings have changed: every version is made anew under them. One that is refused under them leaves all as it was. */
  async #remake(plugin: ManagedPlugin, versions: VersionsOf<Version>, wanted: string): Promise<void> {
    const again = (version: Version): Promise<Version> => this.make(plugin.declaration, version.audited.view.bytes, version.origin);
    try {
      const live = await again(versions.live);
      const previous = versions.previous && (await again(versions.previous).catch(() => undefined));
      const candidate = versions.candidate && { ...versions.candidate, version: await again(versions.candidate.version) };
      await this.apply(plugin, { live, previous, candidate }, 'settings changed');
      plugin.refused.clear();
    } catch (error) {
      plugin.refused.add(wanted);
      throw error;
    }
  }

  /** Takes up what was there before a restart. Returns whether there was something. */
  async #restore(plugin: ManagedPlugin, sha256: string | undefined): Promise<boolean> {
    const { versions, problem, declaredSha256 } = await this.#parts.keeper.restore(plugin, sha256, (bytes, origin) =>
      this.make(plugin.declaration, bytes, origin),
    );
    if (versions) {
      plugin.declaredSha256 = declaredSha256;
      await this.apply(plugin, versions, '');
    }
    plugin.problem = problem;
    plugin.lasting = problem !== '';
    return versions !== undefined;
  }

  make(declaration: Declaration, bytes: Uint8Array, origin: Origin): Promise<Version> {
    const { trustedKeys } = this.#parts;
    const tablesDirectory = this.#parts.keeper.tablesDirectory(declaration.name);
    return makeVersion(bytes, { declaration, origin, trustedKeys, tablesDirectory });
  }

  /** Goes back to the module of all nodes where a version is the canary. Returns whether it is. */
  async leaveCanary(plugin: ManagedPlugin, { sha256 }: Pick<Version, 'sha256'>, reason: string): Promise<boolean> {
    if (sha256 !== plugin.canarySha256 || !this.#failCanary(plugin, reason)) return false;
    await this.follow(plugin);
    return true;
  }

  /** Notes that the canary failed here. Returns whether one runs here. */
  #failCanary({ here, failedCanaries, declaration }: ManagedPlugin, reason: string): boolean {
    const { canary } = here;
    if (canary?.is !== 'enforced' && canary?.is !== 'shadow') return false;
    failedCanaries.set(canary.digest, reason);
    this.#parts.log.error({ plugin: declaration.name, digest: canary.digest, reason }, 'canary failed');
    this.onCanaryFailed({ plugin: declaration.name, digest: canary.digest, reason });
    return true;
  }

  /** Has versions run, and keeps that. `what` and `about` are for the history; without `what` there is nothing new to tell. */
  async apply(plugin: ManagedPlugin, versions: VersionsOf<Version>, what: string, about: Version = versions.live): Promise<void> {
    const { declaration, id } = plugin;
    const stands = this.#parts.ids.get(id);
    const module = verdictHash(declaration, versions);
    const epoch = stands?.module === module ? plugin.epoch : Math.max(plugin.epoch, this.#tried.get(id) ?? 0) + 1;
    this.#tried.set(id, epoch);
    await this.#parts.runner.install(setupOf(plugin, versions, epoch));
    if (stands) this.#parts.ids.set(id, { ...stands, module, epoch });
    if (versions.candidate?.version !== plugin.versions?.candidate?.version) plugin.samples.length = 0;
    plugin.versions = versions;
    plugin.epoch = epoch;
    plugin.problem = '';
    plugin.lasting = false;
    plugin.on = true;
    if (what) this.#parts.keeper.note(plugin, what, about);
    const facts = {
      plugin: declaration.name,
      epoch,
      version: versionName(versions.live),
      what: what || 'restored',
      about: versionName(about),
    };
    this.#parts.log.info(facts, 'plugin in force');
  }

  /** The module that is to decide here, as far as there is one: until a canary is here, that of all nodes. */
  #findDeciding(plugin: ManagedPlugin): DecidingModule {
    const { here, declaration } = plugin;
    const stable = (): DecidingModule => {
      if (!declaration.module) return { found: undefined, sha256: '' };
      const found = this.#find(plugin, declaration.module);
      return { found, sha256: found?.sha256 };
    };
    if (here.canary?.is !== 'enforced' || !here.module) return stable();
    const found = this.#find(plugin, here.module);
    if (!found) return stable();
    // It is wanted at once when the canary fails.
    if (declaration.module) this.#parts.modules.find(declaration.module);
    plugin.canarySha256 = found.sha256;
    return { found, sha256: found.sha256 };
  }

  #find(plugin: ManagedPlugin, reference: ModuleReference): DeclaredModule | undefined {
    const { module, problem } = this.#parts.modules.find(reference);
    plugin.missing ??= problem;
    return module && { ...module, origin: reference.kind };
  }
}

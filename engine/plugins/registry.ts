/**
 * The plugins that the source declares, which versions of each run, and why the last one does not if it does not.
 *
 * Ids and epochs are kept in the kernel's plugin states, so that verdicts and connections survive a restart with the
 * same version, and none survives a change of it. Changes happen one after the other.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Abi, type PluginState, PluginStatus, Verdict } from '../abi.gen.ts';
import { EngineError, messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { TrustedKey } from './signature.ts';
import { auditView, type Counts, type Declaration, describeTrap, makeVersion, type Version, versionHash, versionName } from './version.ts';
import { type HistoryEntry, hashOf, type Origin, type StoredPlugin, type VersionStore } from './version-store.ts';

/** A version that runs beside the live one; see flow/messages.ts. */
export interface CandidateOf<V> {
  readonly version: V;
  readonly mode: 'shadow' | 'canary';
  readonly weight: number;
}

interface VersionsOf<V> {
  readonly live: V;
  readonly previous: V | undefined;
  readonly candidate: CandidateOf<V> | undefined;
}

export interface Setup extends VersionsOf<{ readonly serial: number; readonly parts: unknown }> {
  readonly id: number;
  readonly name: string;
  readonly nameHash: bigint;
  readonly moduleHash: bigint;
  readonly epoch: number;
  readonly evaluateMs: number;
  readonly failureAllow: boolean;
  readonly enforced: boolean;
}

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

/** What flows came to, failure policies included. */
export interface FlowCounts {
  flows: number;
  allowed: number;
  denied: number;
}

export interface ManagedPlugin {
  readonly id: number;
  declaration: Declaration;
  epoch: number;
  versions: VersionsOf<Version> | undefined;
  problem: string;
  /** The problem stays until other versions are in force: nothing mends it by itself. */
  lasting: boolean;
  /** Hashes of versions that were refused, or rolled back by themselves: not tried again until something changes. */
  readonly refused: Set<string>;
  /** SHA-256 of the declared file that was looked at last. */
  fileSha256: string;
  history: HistoryEntry[];
  on: boolean;
  timeouts: number;
  trapLoggedMs: number;
  readonly flows: FlowCounts;
  /** Flows that a shadow would have decided otherwise, the latest. */
  readonly samples: unknown[];
}

const HISTORY_MAX = 20;
const SAMPLES_MAX = 20;
/** A version that traps more often than both goes by itself. */
const TRAPS_MAX = 3;
const TRAP_SHARE_MAX = 0.001;
const TRAP_LOG_MS = 1000;

export class PluginRegistry {
  readonly #parts: RegistryParts;
  readonly #plugins = new Map<string, ManagedPlugin>();
  readonly #left: Map<number, PluginState>;
  /** Changes, one after the other. */
  #queue: Promise<unknown> = Promise.resolve();

  constructor(parts: RegistryParts) {
    this.#parts = parts;
    this.#left = new Map(parts.states.read());
  }

  /** Ids of the declared plugins, by name. */
  get ids(): ReadonlyMap<string, number> {
    return new Map([...this.#plugins].map(([name, plugin]) => [name, plugin.id]));
  }

  /** All plugins, by name. */
  get plugins(): readonly ManagedPlugin[] {
    return [...this.#plugins.values()].sort((a, b) => (a.declaration.name < b.declaration.name ? -1 : 1));
  }

  /** @throws EngineError `PLUGIN_UNKNOWN` */
  get(name: string): ManagedPlugin {
    const plugin = this.#plugins.get(name);
    if (plugin) return plugin;
    throw new EngineError('PLUGIN_UNKNOWN', `Cannot find plugin ${name}: the source has no PolicyPlugin of this name; declare one first`);
  }

  /** The name behind an id; empty when there is none. */
  nameOf(id: number): string {
    return this.#byId(id)?.declaration.name ?? '';
  }

  /** Brings the plugins in line with what is declared. Returns what could not be done, by plugin. */
  sync(declarations: readonly Declaration[]): Promise<{ name: string; reason: string }[]> {
    return this.#enqueue(async () => {
      const declared = new Map(declarations.map((declaration) => [declaration.name, declaration]));
      for (const [name, plugin] of this.#plugins)
        if (!declared.has(name)) {
          await this.#parts.runner.remove(plugin.id);
          this.#plugins.delete(name);
        }
      for (const declaration of declared.values()) {
        try {
          await this.#syncOne(declaration);
        } catch (error) {
          if (!(error instanceof EngineError)) throw error;
          const plugin = this.#plugins.get(declaration.name);
          if (plugin) plugin.problem = error.message;
          else this.#parts.log.error({ plugin: declaration.name, reason: error.message }, 'plugin not registered');
        }
      }
      this.#releaseIds();
      return this.plugins.filter(({ problem }) => problem).map(({ declaration, problem }) => ({ name: declaration.name, reason: problem }));
    });
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
      if (mode === 'enforce') await this.#apply(plugin, { live: version, previous: before?.live, candidate: undefined }, 'enforced');
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
      await this.#parts.runner.remove(plugin.id);
      this.#parts.store.remove(name);
      this.#plugins.delete(name);
      await this.#syncOne(plugin.declaration);
    });
  }

  /** Adds what the workers report. A version that traps too often is taken back. */
  note(flows: ReadonlyMap<number, FlowCounts>, versions: ReadonlyMap<number, Counts>): void {
    for (const [id, added] of flows) {
      const counts = this.#byId(id)?.flows;
      if (!counts) continue;
      counts.flows += added.flows;
      counts.allowed += added.allowed;
      counts.denied += added.denied;
    }
    for (const [serial, added] of versions) {
      const found = this.#bySerial(serial);
      if (!found) continue;
      const { plugin, version } = found;
      this.#parts.addCounts(version.counts, added);
      const { traps, evaluations } = version.counts;
      if (traps > TRAPS_MAX && traps > TRAP_SHARE_MAX * evaluations && !plugin.refused.has(version.hash)) this.#takeBack(plugin, version);
    }
  }

  /** Notes flows that a shadow would have decided otherwise. */
  noteDifferences(
    changed: ReadonlyMap<number, ReadonlyMap<string, number>>,
    samples: readonly { plugin: number; sample: unknown }[],
  ): void {
    for (const [serial, kinds] of changed) {
      const version = this.#bySerial(serial)?.version;
      if (version) for (const [kind, count] of kinds) version.changed.set(kind, (version.changed.get(kind) ?? 0) + count);
    }
    for (const { plugin, sample } of samples) {
      const kept = this.#byId(plugin)?.samples;
      if (kept?.push(sample) && kept.length > SAMPLES_MAX) kept.shift();
    }
  }

  noteTrap(serial: number, message: string, offsets: readonly number[]): void {
    const found = this.#bySerial(serial);
    if (!found) return;
    const { plugin, version } = found;
    version.lastTrap = describeTrap(version, message, offsets);
    // Whoever can make a plugin trap must not be able to fill the log.
    if (performance.now() - plugin.trapLoggedMs < TRAP_LOG_MS) return;
    plugin.trapLoggedMs = performance.now();
    this.#parts.log.warn({ plugin: plugin.declaration.name, version: versionName(version), reason: version.lastTrap }, 'plugin trapped');
  }

  noteTimeout(id: number, switchedOff: boolean): void {
    const plugin = this.#byId(id);
    if (!plugin) return;
    plugin.timeouts += 1;
    if (switchedOff) {
      plugin.on = false;
      plugin.problem = `switched off: overran its ${plugin.declaration.evaluateMs} ms in ${plugin.timeouts} evaluations; push another version`;
      if (plugin.versions) plugin.refused.add(plugin.versions.live.hash);
    }
    this.#parts.log.error({ plugin: plugin.declaration.name, timeouts: plugin.timeouts, switchedOff }, 'plugin overran its budget');
  }

  #enqueue<T>(act: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(act, act);
    this.#queue = result.catch(() => {});
    return result;
  }

  #byId(id: number): ManagedPlugin | undefined {
    for (const plugin of this.#plugins.values()) if (plugin.id === id) return plugin;
    return undefined;
  }

  #bySerial(serial: number): { plugin: ManagedPlugin; version: Version } | undefined {
    for (const plugin of this.#plugins.values())
      for (const version of versionsOf(plugin.versions)) if (version.serial === serial) return { plugin, version };
    return undefined;
  }

  #make(declaration: Declaration, bytes: Uint8Array, origin: Origin): Promise<Version> {
    const { store, trustedKeys, emptyCounts } = this.#parts;
    return makeVersion(bytes, {
      declaration,
      origin,
      trustedKeys,
      tablesDirectory: store.tablesDirectory(declaration.name),
      counts: emptyCounts(),
    });
  }

  /** Takes back a version that traps, when the change that is under way is over. */
  #takeBack(plugin: ManagedPlugin, version: Version): void {
    plugin.refused.add(version.hash);
    const { traps, evaluations } = version.counts;
    const reason = `version ${versionName(version)} was rolled back by itself: it trapped ${traps} times in ${evaluations} evaluations: ${version.lastTrap}`;
    void this.#enqueue(async () => {
      const { live, previous, candidate } = plugin.versions ?? {};
      if (version === live && !previous) {
        plugin.problem = `version ${versionName(version)} traps, and there is none before it: ${version.lastTrap}`;
        return;
      }
      if (version !== live && version !== candidate?.version) return;
      await this.#rollback(plugin, 'rolled back by itself');
      plugin.problem = reason;
      plugin.lasting = true;
      this.#parts.log.error({ plugin: plugin.declaration.name, reason }, 'plugin version rolled back');
    }).catch((error: unknown) => this.#parts.log.error({ plugin: plugin.declaration.name, err: error }, 'plugin version not rolled back'));
  }

  async #rollback(plugin: ManagedPlugin, what: string): Promise<void> {
    const { versions } = plugin;
    if (versions?.candidate) {
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
    if (!known && (await this.#restore(plugin, fileSha256))) return;
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
    if (wanted === versions.live.hash && this.#isInstalled(plugin)) {
      if (!plugin.refused.size && !plugin.lasting) plugin.problem = '';
      return;
    }
    if (plugin.refused.has(wanted)) return;
    await this.#remake(plugin, versions, wanted);
  }

  /** Whether what runs is what the declaration says, but for the version itself. */
  #isInstalled({ declaration, id }: ManagedPlugin): boolean {
    const state = this.#parts.states.read().get(id);
    return state?.failure === (declaration.failurePolicy === 'Allow' || declaration.mode === 'Shadow' ? Verdict.ALLOW : Verdict.DENY);
  }

  async #takeFile(plugin: ManagedPlugin, file: Uint8Array, fileSha256: string): Promise<void> {
    const hash = versionHash(file, plugin.declaration);
    if (plugin.refused.has(hash)) return;
    try {
      const live = await this.#make(plugin.declaration, file, 'file');
      plugin.fileSha256 = fileSha256;
      await this.#apply(plugin, { live, previous: plugin.versions?.live, candidate: undefined }, 'enforced');
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

  /** Takes up what was pushed before a restart. Returns whether there was something, and the file is not newer. */
  async #restore(plugin: ManagedPlugin, fileSha256: string): Promise<boolean> {
    const { name } = plugin.declaration;
    const { state, problem } = this.#parts.store.load(name);
    const problems = problem ? [problem] : [];
    if (problem) this.#parts.log.error({ plugin: name, reason: problem }, 'plugin state damaged');
    if (!state?.live || state.fileSha256 !== fileSha256) return false;
    const versions: Version[] = [];
    for (const stored of [state.live, state.previous]) {
      if (!stored) continue;
      try {
        versions.push(await this.#make(plugin.declaration, this.#parts.store.readModule(stored.sha256), stored.origin));
      } catch (error) {
        problems.push(`${messageOf(error)}; the version before is used`);
        this.#parts.log.error({ plugin: name, sha256: stored.sha256, reason: messageOf(error) }, 'pushed module not usable');
      }
    }
    const [live, previous] = versions;
    if (!live) {
      plugin.problem = problems.join('; ');
      return false;
    }
    plugin.fileSha256 = fileSha256;
    plugin.history = [...state.history];
    const candidate = problems.length ? undefined : await this.#restoreCandidate(plugin, state.candidate);
    await this.#apply(plugin, { live, previous, candidate }, '');
    plugin.problem = problems.join('; ');
    plugin.lasting = problems.length > 0;
    return true;
  }

  async #restoreCandidate(plugin: ManagedPlugin, stored: StoredPlugin['candidate']): Promise<CandidateOf<Version> | undefined> {
    if (!stored) return undefined;
    try {
      const version = await this.#make(plugin.declaration, this.#parts.store.readModule(stored.sha256), 'pushed');
      return { version, mode: stored.mode, weight: stored.weight };
    } catch (error) {
      this.#parts.log.error({ plugin: plugin.declaration.name, reason: messageOf(error) }, 'candidate not usable');
      return undefined;
    }
  }

  #register(declaration: Declaration): ManagedPlugin {
    const nameHash = hash64(declaration.name);
    const states = this.#parts.states.read();
    const known = [...states].find(([, state]) => state.name === nameHash);
    const taken = new Set([...this.#plugins.values()].map((plugin) => plugin.id));
    const id = known?.[0] ?? firstFree(states, taken);
    if (id === undefined)
      throw new EngineError('MAP_FULL', `Cannot register plugin ${declaration.name}: ${Abi.PLUGINS_MAX - 1} are the most`);
    const plugin: ManagedPlugin = {
      id,
      declaration,
      epoch: known?.[1].epoch ?? 0,
      versions: undefined,
      problem: '',
      lasting: false,
      refused: new Set(),
      fileSha256: '',
      history: [],
      on: false,
      timeouts: 0,
      trapLoggedMs: Number.NEGATIVE_INFINITY,
      flows: { flows: 0, allowed: 0, denied: 0 },
      samples: [],
    };
    this.#plugins.set(declaration.name, plugin);
    this.#left.delete(id);
    // Until a version runs, nobody answers: say so, with the failure policy that is declared now.
    const failure = declaration.failurePolicy === 'Allow' || declaration.mode === 'Shadow' ? Verdict.ALLOW : Verdict.DENY;
    this.#parts.states.write(id, {
      name: nameHash,
      module: known?.[1].module ?? 0n,
      epoch: plugin.epoch,
      failure,
      status: known?.[1].status ?? PluginStatus.OFF,
      scopes: known?.[1].scopes ?? 0,
    });
    return plugin;
  }

  /** Has versions run, and keeps that. `what` and `about` are for the history; without `what` there is nothing new to tell. */
  async #apply(plugin: ManagedPlugin, versions: VersionsOf<Version>, what: string, about: Version = versions.live): Promise<void> {
    const { declaration, id } = plugin;
    const { live, candidate } = versions;
    const nameHash = hash64(declaration.name);
    const share = candidate?.mode === 'canary' ? `${candidate.version.hash} ${candidate.weight}` : '';
    const moduleHash = hash64(`${live.hash} ${share} ${declaration.mode} ${declaration.failurePolicy}`);
    const left = this.#parts.states.read().get(id);
    const epoch = left?.module === moduleHash && left.name === nameHash ? plugin.epoch : plugin.epoch + 1;
    await this.#parts.runner.install({
      id,
      name: declaration.name,
      nameHash,
      moduleHash,
      epoch,
      evaluateMs: declaration.evaluateMs,
      failureAllow: declaration.failurePolicy === 'Allow',
      enforced: declaration.mode === 'Enforce',
      live: posted(live),
      previous: versions.previous && posted(versions.previous),
      candidate: candidate && { ...candidate, version: posted(candidate.version) },
    });
    if (candidate?.version !== plugin.versions?.candidate?.version) plugin.samples.length = 0;
    plugin.versions = versions;
    plugin.epoch = epoch;
    plugin.problem = '';
    plugin.lasting = false;
    plugin.on = true;
    if (what) this.#note(plugin, what, about);
    this.#parts.log.info({ plugin: declaration.name, epoch, version: versionName(about), what: what || 'restored' }, 'plugin in force');
  }

  /** Writes down what has happened. What cannot be kept is in force all the same, and that is said. */
  #note(plugin: ManagedPlugin, what: string, about: Version): void {
    const { version } = about.audited.manifest;
    plugin.history = [{ time: new Date().toISOString(), what, version, sha256: about.sha256 }, ...plugin.history].slice(0, HISTORY_MAX);
    try {
      this.#keep(plugin);
    } catch (error) {
      plugin.problem = `in force, and gone after a restart: its state cannot be written: ${messageOf(error)}`;
      this.#parts.log.error({ plugin: plugin.declaration.name, err: error }, 'plugin state not kept');
    }
  }

  #keep(plugin: ManagedPlugin): void {
    const { versions } = plugin;
    if (!versions) return;
    const { live, previous, candidate } = versions;
    const stored = (one: Version | undefined) => (one ? { sha256: one.sha256, origin: one.origin } : null);
    this.#parts.store.save(
      plugin.declaration.name,
      {
        live: stored(live),
        previous: stored(previous),
        candidate: candidate ? { sha256: candidate.version.sha256, mode: candidate.mode, weight: candidate.weight } : null,
        fileSha256: plugin.fileSha256,
        history: plugin.history,
      },
      versionsOf(versions).map(({ audited }) => audited.view.bytes),
    );
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

/** What of a version the workers need. */
function posted({ serial, parts }: Version): { serial: number; parts: unknown } {
  return { serial, parts };
}

function versionsOf(versions: VersionsOf<Version> | undefined): Version[] {
  return [versions?.live, versions?.previous, versions?.candidate?.version].filter((version) => version !== undefined);
}

function hash64(text: string): bigint {
  return createHash('sha256').update(text).digest().readBigUInt64LE(0);
}

function firstFree(states: ReadonlyMap<number, PluginState>, taken: ReadonlySet<number>): number | undefined {
  for (let id = 1; id < Abi.PLUGINS_MAX; id++) if (!states.get(id)?.name && !taken.has(id)) return id;
  return undefined;
}

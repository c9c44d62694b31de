/** Keeps the versions of plugins over a restart, and takes them up again. */
import { messageOf } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { CandidateOf, VersionsOf } from '../plugin-runtime/plugin-setup.ts';
import { allVersions, type ManagedPlugin } from './managed-plugin.ts';
import type { Version } from './version.ts';
import type { Origin, StoredPlugin, VersionStore } from './version-store.ts';

const HISTORY_MAX = 20;

/** The versions that were found, and what of them is damaged; `declaredSha256` is of the module that was declared then. */
export interface Restored {
  readonly declaredSha256: string;
  readonly versions: VersionsOf<Version> | undefined;
  readonly problem: string;
}

export class VersionKeeper {
  readonly #store: VersionStore;
  readonly #log: Logger;

  constructor(store: VersionStore, log: Logger) {
    this.#store = store;
    this.#log = log;
  }

  tablesDirectory(name: string): string {
    return this.#store.tablesDirectory(name);
  }

  forget(name: string): void {
    this.#store.remove(name);
  }

  /** Writes down what has happened to a version. What cannot be kept is in force all the same, and that is said. */
  note(plugin: ManagedPlugin, what: string, about: Version): void {
    const { version } = about.audited.manifest;
    plugin.history = [{ time: new Date().toISOString(), what, version, sha256: about.sha256 }, ...plugin.history].slice(0, HISTORY_MAX);
    try {
      this.#save(plugin);
    } catch (error) {
      plugin.problem = `in force, and gone after a restart: its state cannot be written: ${messageOf(error)}`;
      this.#log.error({ plugin: plugin.declaration.name, err: error }, 'plugin state not kept');
    }
  }

  /**
   * Makes the versions again that a plugin had, unless another module is declared since; undefined where that is not known yet. Takes over their
   * history.
   */
  async restore(
    plugin: ManagedPlugin,
    declaredSha256: string | undefined,
    make: (bytes: Uint8Array, origin: Origin) => Promise<Version>,
  ): Promise<Restored> {
    const { name } = plugin.declaration;
    const { state, problem } = this.#store.load(name);
    const problems = problem ? [problem] : [];
    if (problem) this.#log.error({ plugin: name, reason: problem }, 'plugin state damaged');
    const then = state?.fileSha256 ?? '';
    if (!state?.live || (declaredSha256 !== undefined && then !== declaredSha256))
      return { versions: undefined, problem: '', declaredSha256: then };
    const found: Version[] = [];
    for (const stored of [state.live, state.previous]) {
      if (!stored) continue;
      try {
        found.push(await make(this.#store.readModule(stored.sha256), stored.origin));
      } catch (error) {
        problems.push(`${messageOf(error)}; the version before is used`);
        this.#log.error({ plugin: name, sha256: stored.sha256, reason: messageOf(error) }, 'kept module not usable');
      }
    }
    const [live, previous] = found;
    if (!live) return { versions: undefined, problem: problems.join('; '), declaredSha256: then };
    plugin.history = [...state.history];
    const candidate = problems.length ? undefined : await this.#restoreCandidate(name, state.candidate, make);
    return { versions: { live, previous, candidate }, problem: problems.join('; '), declaredSha256: then };
  }

  async #restoreCandidate(
    name: string,
    stored: StoredPlugin['candidate'],
    make: (bytes: Uint8Array, origin: Origin) => Promise<Version>,
  ): Promise<CandidateOf<Version> | undefined> {
    if (!stored) return undefined;
    try {
      const version = await make(this.#store.readModule(stored.sha256), stored.origin);
      return { version, mode: stored.mode, weight: stored.weight };
    } catch (error) {
      this.#log.error({ plugin: name, reason: messageOf(error) }, 'candidate not usable');
      return undefined;
    }
  }

  #save({ declaration, versions, declaredSha256, history }: ManagedPlugin): void {
    if (!versions) return;
    const { live, previous, candidate } = versions;
    const stored = (one: Version | undefined): StoredPlugin['live'] => (one ? { sha256: one.sha256, origin: one.origin } : null);
    this.#store.save(
      declaration.name,
      {
        live: stored(live),
        previous: stored(previous),
        candidate: candidate
          ? { sha256: candidate.version.sha256, origin: candidate.version.origin, mode: candidate.mode, weight: candidate.weight }
          : null,
        fileSha256: declaredSha256,
        history,
      },
      allVersions(versions).map(({ audited }) => audited.view.bytes),
    );
  }
}

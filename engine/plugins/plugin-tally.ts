/** Counts the deeds of plugins, and says when a version traps too often to stay. */
import type { Logger } from '../log.ts';
import { addCounts, type FlowCounts, type VersionCounts } from '../plugin-runtime/counts.ts';
import { allVersions, type ManagedPlugin } from './managed-plugin.ts';
import { describeTrap, type Version, versionName } from './version.ts';

/** A version that traps more often than both goes by itself. */
const TRAPS_MAX = 3;
const TRAP_SHARE_MAX = 0.001;
const TRAP_LOG_MS = 1000;
const SAMPLES_MAX = 20;

export interface TallyParts {
  readonly plugins: ReadonlyMap<string, ManagedPlugin>;
  /** Told once of each version that traps too often. */
  readonly onTooManyTraps: (plugin: ManagedPlugin, version: Version) => void;
  /** Told of each version that is switched off, and why. */
  readonly onSwitchedOff: (plugin: ManagedPlugin, version: Version, reason: string) => void;
  readonly log: Logger;
}

export class PluginTally {
  readonly #parts: TallyParts;

  constructor(parts: TallyParts) {
    this.#parts = parts;
  }

  /** The plugin with an id. */
  find(id: number): ManagedPlugin | undefined {
    for (const plugin of this.#parts.plugins.values()) if (plugin.id === id) return plugin;
    return undefined;
  }

  /** Adds a report of a thread: flows by plugin id, versions by serial. */
  add(flows: ReadonlyMap<number, FlowCounts>, versions: ReadonlyMap<number, VersionCounts>): void {
    for (const [id, added] of flows) {
      const counts = this.find(id)?.flows;
      if (!counts) continue;
      counts.flows += added.flows;
      counts.allowed += added.allowed;
      counts.denied += added.denied;
    }
    for (const [serial, added] of versions) {
      const found = this.#bySerial(serial);
      if (!found) continue;
      const { plugin, version } = found;
      addCounts(version.counts, added);
      const { traps, evaluations } = version.counts;
      if (traps <= TRAPS_MAX || traps <= TRAP_SHARE_MAX * evaluations || plugin.refused.has(version.hash)) continue;
      plugin.refused.add(version.hash);
      this.#parts.onTooManyTraps(plugin, version);
    }
  }

  /** Notes flows that a shadow would have decided otherwise. */
  addDifferences(changed: ReadonlyMap<number, ReadonlyMap<string, number>>, samples: readonly { plugin: number; sample: unknown }[]): void {
    for (const [serial, kinds] of changed) {
      const version = this.#bySerial(serial)?.version;
      if (version) for (const [kind, count] of kinds) version.changed.set(kind, (version.changed.get(kind) ?? 0) + count);
    }
    for (const { plugin, sample } of samples) {
      const kept = this.find(plugin)?.samples;
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
    const plugin = this.find(id);
    if (!plugin) return;
    plugin.timeouts += 1;
    if (switchedOff) {
      plugin.on = false;
      plugin.problem = `switched off: overran its ${plugin.declaration.evaluateMs} ms in ${plugin.timeouts} evaluations; push another version`;
      const live = plugin.versions?.live;
      if (live) {
        plugin.refused.add(live.hash);
        this.#parts.onSwitchedOff(plugin, live, plugin.problem);
      }
    }
    this.#parts.log.error({ plugin: plugin.declaration.name, timeouts: plugin.timeouts, switchedOff }, 'plugin overran its budget');
  }

  #bySerial(serial: number): { plugin: ManagedPlugin; version: Version } | undefined {
    for (const plugin of this.#parts.plugins.values())
      for (const version of allVersions(plugin.versions)) if (version.serial === serial) return { plugin, version };
    return undefined;
  }
}

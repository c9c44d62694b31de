/** Metrics of plugins: each plugin's flows, and each version's evaluations. */
import type { Exposition, HistogramSample, Labels, Sample } from './exposition.ts';

export interface PluginSample {
  readonly name: string;
  readonly on: boolean;
  readonly epoch: number;
  readonly flows: number;
  readonly allowed: number;
  readonly denied: number;
  readonly cached: number;
  readonly timeouts: number;
  readonly tables: readonly { readonly name: string; readonly evictions: number }[];
  readonly versions: readonly VersionSample[];
}

/** `role`: live, shadow or canary. */
export interface VersionSample {
  readonly role: string;
  readonly version: string;
  readonly evaluations: number;
  readonly traps: number;
  readonly nonsense: number;
  readonly actions: Readonly<Record<string, number>>;
  readonly reasons: Readonly<Record<string, number>>;
  readonly fuel: HistogramSample;
  /** Seconds. */
  readonly latency: HistogramSample;
}

type ReadPlugins = () => readonly PluginSample[];

export function exposePlugins(exposition: Exposition, read: ReadPlugins): void {
  const each = (kind: 'counter' | 'gauge', name: string, help: string, value: (plugin: PluginSample) => number): void =>
    exposition[kind]([name, help, ['plugin']], () => read().map((plugin): Sample => [{ plugin: plugin.name }, value(plugin)]));
  each('gauge', 'sluice_plugin_epoch', 'Counts what was in force of a plugin', ({ epoch }) => epoch);
  each('gauge', 'sluice_plugin_on', '1 when the plugin is asked', ({ on }) => (on ? 1 : 0));
  each('counter', 'sluice_plugin_flows_total', 'Flows that a plugin was to decide and the kernel had no verdict for', ({ flows }) => flows);
  each('counter', 'sluice_plugin_cache_hits_total', 'Packets for which the kernel had the plugin’s verdict', ({ cached }) => cached);
  each('counter', 'sluice_plugin_timeouts_total', 'Evaluations that overran their budget', ({ timeouts }) => timeouts);
  exposition.counter(['sluice_plugin_outcomes_total', 'What flows came to, failure policies included', ['plugin', 'verdict']], () =>
    read().flatMap(({ name, allowed, denied }): Sample[] => [
      [{ plugin: name, verdict: 'allow' }, allowed],
      [{ plugin: name, verdict: 'deny' }, denied],
    ]),
  );
  exposition.counter(['sluice_plugin_table_evictions_total', 'Counters that a full table forgot', ['plugin', 'table']], () =>
    read().flatMap(({ name, tables }) => tables.map((table): Sample => [{ plugin: name, table: table.name }, table.evictions])),
  );
  exposeVersions(exposition, read);
}

const VERSION_LABELS = ['plugin', 'role', 'version'];

function exposeVersions(exposition: Exposition, read: ReadPlugins): void {
  const each = <T>(of: (version: VersionSample, own: Labels) => readonly T[]): T[] =>
    read().flatMap(({ name, versions }) =>
      versions.flatMap((version) => of(version, { plugin: name, role: version.role, version: version.version })),
    );
  const count = (name: string, help: string, value: (version: VersionSample) => number): void =>
    exposition.counter([name, help, VERSION_LABELS], () => each((version, own): Sample[] => [[own, value(version)]]));
  count('sluice_plugin_evaluations_total', 'Evaluations', ({ evaluations }) => evaluations);
  count('sluice_plugin_traps_total', 'Evaluations that trapped', ({ traps }) => traps);
  count('sluice_plugin_nonsense_total', 'Evaluations whose answer meant nothing', ({ nonsense }) => nonsense);
  const split = (name: string, help: string, label: string, values: (version: VersionSample) => Readonly<Record<string, number>>): void =>
    exposition.counter([name, help, [...VERSION_LABELS, label]], () =>
      each((version, own) => Object.entries(values(version)).map(([value, times]): Sample => [{ ...own, [label]: value }, times])),
    );
  split('sluice_plugin_verdicts_total', 'Verdicts by action', 'action', ({ actions }) => actions);
  split('sluice_plugin_reasons_total', 'Verdicts by reason, of those that the manifest lists', 'reason', ({ reasons }) => reasons);
  exposition.histogram(['sluice_plugin_evaluation_seconds', 'How long evaluations take'], () =>
    each((version, own) => [{ labels: own, ...version.latency }]),
  );
  exposition.histogram(['sluice_plugin_evaluation_fuel', 'Units of fuel that evaluations take'], () =>
    each((version, own) => [{ labels: own, ...version.fuel }]),
  );
}

/** Plugins as the API and the metrics show them, put together from the registry, the kernel's counters and the plugins' tables. */
import { mapFile } from '../kernel/mapped-file.ts';
import { FUEL_BOUNDS, LATENCY_BOUNDS_NS } from '../plugin-runtime/counts.ts';
import { tableFacts } from '../plugin-runtime/version-parts.ts';
import { MODULE_BYTES_MAX } from '../plugins/audit.ts';
import type { ManagedPlugin } from '../plugins/managed-plugin.ts';
import { actionsOf, pluginView, reasonsOf } from '../plugins/plugin-view.ts';
import type { PluginRegistry } from '../plugins/registry.ts';
import type { Version } from '../plugins/version.ts';
import type { PluginSample, VersionSample } from './plugin-metrics.ts';
import type { PluginParts } from './plugin-routes.ts';

const NS_PER_S = 1e9;

/** By id of the plugin: packets for which the kernel had its verdict. */
type ReadHits = () => ReadonlyMap<number, number>;

/** The functions behind the routes of plugins. */
export function pluginParts(registry: PluginRegistry, readHits: ReadHits): PluginParts {
  const view = (plugin: ManagedPlugin, hits = readHits()) =>
    pluginView(plugin, { cached: hits.get(plugin.id) ?? 0, tables: liveTables(plugin) });
  return {
    plugins: () => {
      const hits = readHits();
      return registry.plugins.map((plugin) => view(plugin, hits));
    },
    plugin: (name) => view(registry.get(name)),
    pushPlugin: async (name, module, mode, weight) => {
      const audit = await registry.push(name, module, mode, weight);
      return { plugin: view(registry.get(name)), audit };
    },
    changePlugin: async (name, change) => {
      await registry[change](name);
      return view(registry.get(name));
    },
    moduleBytesMax: MODULE_BYTES_MAX,
  };
}

/** Of each plugin the live version and the one beside it, for the metrics. */
export function pluginSamples(registry: PluginRegistry, readHits: ReadHits): PluginSample[] {
  const hits = readHits();
  return registry.plugins.map((plugin) => {
    const { live, candidate } = plugin.versions ?? {};
    return {
      name: plugin.declaration.name,
      on: plugin.on,
      epoch: plugin.epoch,
      ...plugin.flows,
      cached: hits.get(plugin.id) ?? 0,
      timeouts: plugin.timeouts,
      tables: liveTables(plugin),
      versions: [...(live ? [versionSample(live, 'live')] : []), ...(candidate ? [versionSample(candidate.version, candidate.mode)] : [])],
    };
  });
}

function versionSample(version: Version, role: VersionSample['role']): VersionSample {
  const { latency, fuel, ...counts } = version.counts;
  return {
    role,
    version: version.audited.manifest.version,
    ...counts,
    actions: actionsOf(version),
    reasons: reasonsOf(version),
    latency: { buckets: latency.buckets, bounds: LATENCY_BOUNDS_NS.map((ns) => ns / NS_PER_S), sum: latency.sum / NS_PER_S },
    fuel: { ...fuel, bounds: FUEL_BOUNDS },
  };
}

function liveTables({ versions }: ManagedPlugin): ReturnType<typeof tableFacts> {
  return versions ? tableFacts(versions.live.parts, mapFile) : [];
}

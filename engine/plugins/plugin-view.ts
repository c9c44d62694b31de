/** A plugin as the API shows it. */
import { PluginAction } from '../abi.gen.ts';
import type { ManagedPlugin } from './managed-plugin.ts';
import { canaryProblem } from './rollout.ts';
import type { Version } from './version.ts';

/** Counts that stand elsewhere: packets for which the kernel had the verdict, and the tables of the live version. */
export interface KernelFacts {
  readonly cached: number;
  readonly tables: readonly { readonly name: string; readonly slots: number; readonly evictions: number }[];
}

export function pluginView(plugin: ManagedPlugin, { cached, tables }: KernelFacts) {
  const { declaration, versions, samples } = plugin;
  const live = versions?.live;
  const manifest = live?.audited.manifest;
  return {
    name: declaration.name,
    state: plugin.on ? ('on' as const) : ('off' as const),
    mode: declaration.mode === 'Shadow' ? ('shadow' as const) : ('enforce' as const),
    version: manifest?.version ?? '',
    sha256: live?.sha256 ?? '',
    origin: live?.origin ?? ('' as const),
    signer: live?.audited.signer ?? '',
    hooks: manifest?.hooks ?? [],
    fields: manifest?.fields ?? [],
    headers: manifest?.headers ?? [],
    cookies: manifest?.cookies ?? [],
    capabilities: manifest?.capabilities ?? [],
    epoch: plugin.epoch,
    failurePolicy: declaration.failurePolicy,
    problem: plugin.problem || plugin.missing?.reason || '',
    rollout: rolloutView(plugin),
    ...plugin.flows,
    cached,
    evaluations: live?.counts.evaluations ?? 0,
    traps: live?.counts.traps ?? 0,
    nonsense: live?.counts.nonsense ?? 0,
    timeouts: plugin.timeouts,
    lastTrap: live?.lastTrap ?? '',
    reasons: live ? reasonsOf(live) : {},
    tables: [...tables],
    previous: versions?.previous ? facts(versions.previous) : null,
    candidate: versions?.candidate
      ? {
          ...facts(versions.candidate.version),
          mode: versions.candidate.mode,
          weight: versions.candidate.weight,
          evaluations: versions.candidate.version.counts.evaluations,
          skipped: versions.candidate.version.counts.skipped,
          traps: versions.candidate.version.counts.traps,
          lastTrap: versions.candidate.version.lastTrap,
          changed: Object.fromEntries(versions.candidate.version.changed),
          samples: samples as { live: string; shadow: string; reason: string }[],
        }
      : null,
    history: plugin.history,
  };
}

/** The canary of the PolicyPlugin, as it does on this node and as far as others have told. */
function rolloutView({ declaration: { canary }, here, failedCanaries }: ManagedPlugin) {
  if (!canary || !here.canary) return null;
  const { digest, is } = here.canary;
  return {
    digest,
    here: is,
    mode: canary.mode === 'Shadow' ? ('shadow' as const) : ('enforce' as const),
    percent: canary.percent,
    nodeNames: [...canary.nodeNames],
    problem: canaryProblem(canary, failedCanaries) ?? '',
    failed: canary.failed.filter((failure) => failure.digest === digest).map(({ node, reason }) => ({ node, reason })),
  };
}

/** Verdicts of a version by action, for metrics. */
export function actionsOf(version: Version): Record<string, number> {
  return Object.fromEntries(
    Object.entries(PluginAction)
      .filter(([name]) => name !== 'MAX')
      .map(([name, action]) => [name.toLowerCase(), version.counts.actions[action] ?? 0]),
  );
}

/** Verdicts of a version by the reasons of its manifest. */
export function reasonsOf({ counts, audited }: Version): Record<string, number> {
  const entries = audited.manifest.reasons.map((reason, i): [string, number] => [reason, counts.reasons[i + 1] ?? 0]);
  return Object.fromEntries(entries.filter(([, count]) => count));
}

function facts(version: Version): { version: string; sha256: string } {
  return { version: version.audited.manifest.version, sha256: version.sha256 };
}

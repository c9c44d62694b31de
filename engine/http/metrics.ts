/** The engine's metrics. Values are read when they are asked for; nothing counts twice. */
import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';

export interface MetricsParts {
  counters(): readonly { reason: string; packets: number; bytes: number }[];
  maps(): readonly { map: string; entries: number; maxEntries: number }[];
  plugins(): readonly {
    name: string;
    state: string;
    epoch: number;
    evaluations: number;
    allowed: number;
    denied: number;
    traps: number;
    timeouts: number;
  }[];
  status(): { revision: number; endpoints: number; problems: number; reconcileSeconds: number };
  flowsLost(): number;
}

export function createMetrics(parts: MetricsParts): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, prefix: 'sluice_engine_' });
  const registers = [registry];

  /** A counter whose true value stands elsewhere. */
  const mirror = <L extends string>(
    name: string,
    help: string,
    labelNames: L[],
    read: () => Iterable<[Partial<Record<L, string>>, number]>,
  ): void => {
    new Counter({
      name,
      help,
      labelNames,
      registers,
      collect() {
        this.reset();
        for (const [labels, value] of read()) this.inc(labels as Record<L, string>, value);
      },
    });
  };
  const gauge = <L extends string>(
    name: string,
    help: string,
    labelNames: L[],
    read: () => Iterable<[Partial<Record<L, string>>, number]>,
  ): void => {
    new Gauge({
      name,
      help,
      labelNames,
      registers,
      collect() {
        this.reset();
        for (const [labels, value] of read()) this.set(labels as Record<L, string>, value);
      },
    });
  };

  mirror('sluice_packets_total', 'Packets by how they ended', ['reason'], () =>
    parts.counters().map(({ reason, packets }) => [{ reason }, packets]),
  );
  mirror('sluice_bytes_total', 'Bytes of packets by how they ended', ['reason'], () =>
    parts.counters().map(({ reason, bytes }) => [{ reason }, bytes]),
  );
  gauge('sluice_map_entries', 'Entries of a policy map', ['map'], () => parts.maps().map(({ map, entries }) => [{ map }, entries]));
  gauge('sluice_map_entries_max', 'Entries that a policy map has room for', ['map'], () =>
    parts.maps().map(({ map, maxEntries }) => [{ map }, maxEntries]),
  );
  gauge('sluice_plugin_epoch', 'Version of a plugin', ['plugin'], () =>
    parts.plugins().map(({ name, epoch }) => [{ plugin: name }, epoch]),
  );
  gauge('sluice_plugin_on', '1 when the plugin is asked', ['plugin'], () =>
    parts.plugins().map(({ name, state }) => [{ plugin: name }, state === 'on' ? 1 : 0]),
  );
  mirror('sluice_plugin_evaluations_total', 'Flows that a plugin was asked about', ['plugin'], () =>
    parts.plugins().map(({ name, evaluations }) => [{ plugin: name }, evaluations]),
  );
  mirror('sluice_plugin_verdicts_total', 'Verdicts, failure policies included', ['plugin', 'verdict'], () =>
    parts.plugins().flatMap(
      ({ name, allowed, denied }) =>
        [
          [{ plugin: name, verdict: 'allow' }, allowed],
          [{ plugin: name, verdict: 'deny' }, denied],
        ] as [{ plugin: string; verdict: string }, number][],
    ),
  );
  mirror('sluice_plugin_traps_total', 'Evaluations that trapped', ['plugin'], () =>
    parts.plugins().map(({ name, traps }) => [{ plugin: name }, traps]),
  );
  mirror('sluice_plugin_timeouts_total', 'Evaluations that overran their budget', ['plugin'], () =>
    parts.plugins().map(({ name, timeouts }) => [{ plugin: name }, timeouts]),
  );
  gauge('sluice_policy_revision', 'Counts changes that were put in force', [], () => [[{}, parts.status().revision]]);
  gauge('sluice_endpoints', 'Attached endpoints', [], () => [[{}, parts.status().endpoints]]);
  gauge('sluice_policy_problems', 'What is in the source and not in force as meant', [], () => [[{}, parts.status().problems]]);
  gauge('sluice_reconcile_duration_seconds', 'How long the last run took', [], () => [[{}, parts.status().reconcileSeconds]]);
  mirror('sluice_flows_lost_total', 'Flow records that nobody could be told', [], () => [[{}, parts.flowsLost()]]);
  return registry;
}

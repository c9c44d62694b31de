/** The engine's metrics. Values are read when they are asked for; nothing counts twice. */
import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';

/** Labels, and the value that goes with them. */
type Sample = [labels: Record<string, string>, value: number];

export interface MetricsParts {
  counters(): readonly { reason: string; packets: number; bytes: number }[];
  maps(): readonly { map: string; entries: number; maxEntries: number }[];
  connections(): { live: number; expired: number };
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

  /** A metric whose true value stands elsewhere: it is read when it is asked for. */
  const expose = (
    Kind: typeof Counter | typeof Gauge,
    name: string,
    help: string,
    labelNames: string[],
    read: () => Iterable<Sample>,
  ): void => {
    new Kind({
      name,
      help,
      labelNames,
      registers: [registry],
      collect() {
        this.reset();
        for (const [labels, value] of read()) this.inc(labels, value);
      },
    });
  };

  expose(Counter, 'sluice_packets_total', 'Packets by how they ended', ['reason'], () =>
    parts.counters().map(({ reason, packets }) => [{ reason }, packets]),
  );
  expose(Counter, 'sluice_bytes_total', 'Bytes of packets by how they ended', ['reason'], () =>
    parts.counters().map(({ reason, bytes }) => [{ reason }, bytes]),
  );
  expose(Gauge, 'sluice_map_entries', 'Entries of a policy map', ['map'], () => parts.maps().map(({ map, entries }) => [{ map }, entries]));
  expose(Gauge, 'sluice_map_entries_max', 'Entries that a policy map has room for', ['map'], () =>
    parts.maps().map(({ map, maxEntries }) => [{ map }, maxEntries]),
  );
  expose(
    Gauge,
    'sluice_connections',
    'Tracked connections that were answered; an expired one keeps its place until it is needed',
    ['state'],
    () => {
      const { live, expired } = parts.connections();
      return [
        [{ state: 'live' }, live],
        [{ state: 'expired' }, expired],
      ];
    },
  );
  expose(Gauge, 'sluice_plugin_epoch', 'Version of a plugin', ['plugin'], () =>
    parts.plugins().map(({ name, epoch }) => [{ plugin: name }, epoch]),
  );
  expose(Gauge, 'sluice_plugin_on', '1 when the plugin is asked', ['plugin'], () =>
    parts.plugins().map(({ name, state }) => [{ plugin: name }, state === 'on' ? 1 : 0]),
  );
  expose(Counter, 'sluice_plugin_evaluations_total', 'Flows that a plugin was asked about', ['plugin'], () =>
    parts.plugins().map(({ name, evaluations }) => [{ plugin: name }, evaluations]),
  );
  expose(Counter, 'sluice_plugin_verdicts_total', 'Verdicts, failure policies included', ['plugin', 'verdict'], () =>
    parts.plugins().flatMap(
      ({ name, allowed, denied }) =>
        [
          [{ plugin: name, verdict: 'allow' }, allowed],
          [{ plugin: name, verdict: 'deny' }, denied],
        ] as [{ plugin: string; verdict: string }, number][],
    ),
  );
  expose(Counter, 'sluice_plugin_traps_total', 'Evaluations that trapped', ['plugin'], () =>
    parts.plugins().map(({ name, traps }) => [{ plugin: name }, traps]),
  );
  expose(Counter, 'sluice_plugin_timeouts_total', 'Evaluations that overran their budget', ['plugin'], () =>
    parts.plugins().map(({ name, timeouts }) => [{ plugin: name }, timeouts]),
  );
  expose(Gauge, 'sluice_policy_revision', 'Counts changes that were put in force', [], () => [[{}, parts.status().revision]]);
  expose(Gauge, 'sluice_endpoints', 'Attached endpoints', [], () => [[{}, parts.status().endpoints]]);
  expose(Gauge, 'sluice_policy_problems', 'What is in the source and not in force as meant', [], () => [[{}, parts.status().problems]]);
  expose(Gauge, 'sluice_reconcile_duration_seconds', 'How long the last run took', [], () => [[{}, parts.status().reconcileSeconds]]);
  expose(Counter, 'sluice_flows_lost_total', 'Flow records that nobody could be told', [], () => [[{}, parts.flowsLost()]]);
  return registry;
}

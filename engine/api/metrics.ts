/** The engine's metrics. Values are read when they are asked for; nothing counts twice. */
import { Counter, collectDefaultMetrics, Gauge, type Metric, Registry } from 'prom-client';

/** Labels, and the value that goes with them. */
type Sample = [labels: Record<string, string>, value: number];

/** Makes a metric whose true value stands elsewhere: it is read when it is asked for. */
type Expose = (Kind: typeof Counter | typeof Gauge, name: string, help: string, labelNames: string[], read: () => Iterable<Sample>) => void;

export interface MetricsParts {
  counters(): readonly { reason: string; packets: number; bytes: number }[];
  maps(): readonly { map: string; entries: number; maxEntries: number }[];
  connections(): { live: number; expired: number };
  plugins(): readonly PluginSample[];
  status(): { revision: number; endpoints: number; problems: number; reconcileSeconds: number };
  flowsLost(): number;
  requests(): RequestsSample;
}

/** What the proxy has done. */
export interface RequestsSample {
  readonly ways: readonly WaySample[];
  readonly counts: Readonly<Record<ProxyCount, number>>;
}

export type ProxyCount = 'clients' | 'refusedClients' | 'backends' | 'retries' | 'malformed' | 'timeouts' | 'verdicts' | 'cached';

/** Requests that went one way. */
export interface WaySample {
  readonly rule: string;
  readonly route: string;
  readonly backend: string;
  /** The plugin's version that decided. */
  readonly version: string;
  /** By class of the status: 1xx to 5xx. */
  readonly classes: readonly number[];
  /** Seconds. */
  readonly duration: HistogramSample;
  readonly bytesIn: number;
  readonly bytesOut: number;
}

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

/** Counts by bucket, one more than there are bounds. */
export interface HistogramSample {
  readonly sum: number;
  readonly bounds: readonly number[];
  readonly buckets: readonly number[];
}

/** One scrape asks many metrics about the same plugins: within this time the answer is the same one. */
const SCRAPE_MS = 20;

export function createMetrics(sources: MetricsParts): Registry {
  const parts: MetricsParts = { ...sources, plugins: held(sources.plugins) };
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, prefix: 'sluice_engine_' });

  const expose: Expose = (Kind, name, help, labelNames, read) => {
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
  const ofPlugins = (Kind: typeof Counter | typeof Gauge, name: string, help: string, read: (plugin: PluginSample) => number): void =>
    expose(Kind, name, help, ['plugin'], () => parts.plugins().map((plugin) => [{ plugin: plugin.name }, read(plugin)]));
  ofPlugins(Gauge, 'sluice_plugin_epoch', 'Counts what was in force of a plugin', ({ epoch }) => epoch);
  ofPlugins(Gauge, 'sluice_plugin_on', '1 when the plugin is asked', ({ on }) => (on ? 1 : 0));
  ofPlugins(
    Counter,
    'sluice_plugin_flows_total',
    'Flows that a plugin was to decide and the kernel had no verdict for',
    ({ flows }) => flows,
  );
  ofPlugins(Counter, 'sluice_plugin_cache_hits_total', 'Packets for which the kernel had the plugin’s verdict', ({ cached }) => cached);
  ofPlugins(Counter, 'sluice_plugin_timeouts_total', 'Evaluations that overran their budget', ({ timeouts }) => timeouts);
  expose(Counter, 'sluice_plugin_outcomes_total', 'What flows came to, failure policies included', ['plugin', 'verdict'], () =>
    parts.plugins().flatMap(({ name, allowed, denied }): Sample[] => [
      [{ plugin: name, verdict: 'allow' }, allowed],
      [{ plugin: name, verdict: 'deny' }, denied],
    ]),
  );
  expose(Counter, 'sluice_plugin_table_evictions_total', 'Counters that a full table forgot', ['plugin', 'table'], () =>
    parts.plugins().flatMap(({ name, tables }) => tables.map((table): Sample => [{ plugin: name, table: table.name }, table.evictions])),
  );
  addVersions(registry, expose, parts);
  addRequests(registry, expose, parts);
  expose(Gauge, 'sluice_policy_revision', 'Counts changes that were put in force', [], () => [[{}, parts.status().revision]]);
  expose(Gauge, 'sluice_endpoints', 'Attached endpoints', [], () => [[{}, parts.status().endpoints]]);
  expose(Gauge, 'sluice_policy_problems', 'What is in the source and not in force as meant', [], () => [[{}, parts.status().problems]]);
  expose(Gauge, 'sluice_reconcile_duration_seconds', 'How long the last run took', [], () => [[{}, parts.status().reconcileSeconds]]);
  expose(Counter, 'sluice_flows_lost_total', 'Flow records that nobody could be told', [], () => [[{}, parts.flowsLost()]]);
  return registry;
}

const PROXY_COUNTS: Readonly<Record<ProxyCount, [kind: typeof Counter | typeof Gauge, name: string, help: string]>> = {
  clients: [Gauge, 'sluice_http_clients', 'Connections of clients to the proxy'],
  backends: [Gauge, 'sluice_http_backend_connections', 'Connections of the proxy to backends'],
  refusedClients: [
    Counter,
    'sluice_http_refused_connections_total',
    'Connections of clients that were refused: too many, not tagged any more, or of nobody whom policy sends here',
  ],
  retries: [Counter, 'sluice_http_retries_total', 'Requests that were sent a second time'],
  malformed: [Counter, 'sluice_http_malformed_total', 'Messages that are no HTTP, or that two readers could read differently'],
  timeouts: [Counter, 'sluice_http_timeouts_total', 'Clients that took too long'],
  verdicts: [Counter, 'sluice_http_kernel_verdicts_total', 'Verdicts that the kernel was given: connections that need no proxy'],
  cached: [Counter, 'sluice_http_cached_verdicts_total', 'Requests for which the proxy had the plugin’s verdict'],
};

/** Requests through the proxy, by rule, route, backend and version. */
function addRequests(registry: Registry, expose: Expose, parts: MetricsParts): void {
  for (const [count, [Kind, name, help]] of Object.entries(PROXY_COUNTS))
    expose(Kind, name, help, [], () => [[{}, parts.requests().counts[count as ProxyCount]]]);
  const labels = ['rule', 'route', 'backend', 'plugin'];
  const own = ({ rule, route, backend, version }: WaySample): Record<string, string> => ({ rule, route, backend, plugin: version });
  expose(Counter, 'sluice_http_requests_total', 'Requests by what they were answered with', [...labels, 'status'], () =>
    parts
      .requests()
      .ways.flatMap((way) => way.classes.flatMap((times, i): Sample[] => (times ? [[{ ...own(way), status: `${i + 1}xx` }, times]] : []))),
  );
  const bytes = (name: string, help: string, read: (way: WaySample) => number): void =>
    expose(Counter, name, help, labels, () => parts.requests().ways.map((way): Sample => [own(way), read(way)]));
  bytes('sluice_http_request_bytes_total', 'Bytes that clients sent', ({ bytesIn }) => bytesIn);
  bytes('sluice_http_response_bytes_total', 'Bytes that backends answered with', ({ bytesOut }) => bytesOut);
  exposeHistogram(registry, 'sluice_http_request_duration_seconds', 'From the head of a request to the end of its answer', () =>
    parts.requests().ways.map((way) => ({ labels: own(way), ...way.duration })),
  );
}

/** What each version of each plugin does. */
function addVersions(registry: Registry, expose: Expose, parts: MetricsParts): void {
  const labels = ['plugin', 'role', 'version'];
  const each = <T>(read: (version: VersionSample, own: Record<string, string>) => T[]): T[] =>
    parts
      .plugins()
      .flatMap(({ name, versions }) =>
        versions.flatMap((version) => read(version, { plugin: name, role: version.role, version: version.version })),
      );
  const count = (name: string, help: string, read: (version: VersionSample) => number): void =>
    expose(Counter, name, help, labels, () => each((version, own): Sample[] => [[own, read(version)]]));
  count('sluice_plugin_evaluations_total', 'Evaluations', ({ evaluations }) => evaluations);
  count('sluice_plugin_traps_total', 'Evaluations that trapped', ({ traps }) => traps);
  count('sluice_plugin_nonsense_total', 'Evaluations whose answer meant nothing', ({ nonsense }) => nonsense);
  const split = (name: string, help: string, label: string, read: (version: VersionSample) => Readonly<Record<string, number>>): void =>
    expose(Counter, name, help, [...labels, label], () =>
      each((version, own) => Object.entries(read(version)).map(([value, times]): Sample => [{ ...own, [label]: value }, times])),
    );
  split('sluice_plugin_verdicts_total', 'Verdicts by action', 'action', ({ actions }) => actions);
  split('sluice_plugin_reasons_total', 'Verdicts by reason, of those that the manifest lists', 'reason', ({ reasons }) => reasons);
  exposeHistogram(registry, 'sluice_plugin_evaluation_seconds', 'How long evaluations take', () =>
    each((version, own) => [{ labels: own, ...version.latency }]),
  );
  exposeHistogram(registry, 'sluice_plugin_evaluation_fuel', 'Units of fuel that evaluations take', () =>
    each((version, own) => [{ labels: own, ...version.fuel }]),
  );
}

/** A histogram that is counted elsewhere: prom-client's own can only observe one value after the other. */
function exposeHistogram(
  registry: Registry,
  name: string,
  help: string,
  read: () => (HistogramSample & { labels: Record<string, string> })[],
): void {
  const get = async () => ({
    name,
    help,
    type: 'histogram',
    aggregator: 'sum',
    values: read().flatMap(({ labels, bounds, buckets, sum }) => {
      let seen = 0;
      const cumulated = buckets.map((count, i) => {
        seen += count;
        return { metricName: `${name}_bucket`, labels: { ...labels, le: bounds[i] ?? '+Inf' }, value: seen };
      });
      return [...cumulated, { metricName: `${name}_sum`, labels, value: sum }, { metricName: `${name}_count`, labels, value: seen }];
    }),
  });
  registry.registerMetric({ name, help, get, reset: () => {} } as unknown as Metric);
}

function held<T>(read: () => T): () => T {
  let last: { readonly value: T; readonly atMs: number } | undefined;
  return () => {
    const now = performance.now();
    if (!last || now - last.atMs > SCRAPE_MS) last = { value: read(), atMs: now };
    return last.value;
  };
}

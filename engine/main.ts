/** The engine: builds the rooms, connects them, and stops them in reverse order. Nobody imports it but the command line. */
import { setFlagsFromString } from 'node:v8';
import { Reason } from './abi.gen.ts';
import { createApi, listen } from './api/api.ts';
import { createMetrics, type PluginSample } from './api/metrics.ts';
import type { Config } from './config.ts';
import { Explainer } from './explain/explainer.ts';
import { viewNames } from './explain/known-names-view.ts';
import { Datapath, type MapSizes } from './kernel/datapath.ts';
import { DomainNames } from './kernel/domain-names.ts';
import { KnownNames } from './kernel/known-names.ts';
import { mapFile } from './kernel/mapped-file.ts';
import { kernelNowNs, setNativeLog } from './kernel/native.ts';
import { readPluginStates } from './kernel/plugin-states.ts';
import { PolicyMaps } from './kernel/policy-maps.ts';
import { Pressure } from './kernel/pressure.ts';
import { RecordReader } from './kernel/record-reader.ts';
import { closeSocket, wakeStreams } from './kernel/streams.ts';
import type { Logger } from './log.ts';
import { FlowLog } from './observe/flow-log.ts';
import { FUEL_BOUNDS, LATENCY_BOUNDS_NS } from './plugin-runtime/counts.ts';
import type { FromWorker } from './plugin-runtime/messages.ts';
import { tableFacts } from './plugin-runtime/version-parts.ts';
import { MODULE_BYTES_MAX } from './plugins/audit.ts';
import type { ManagedPlugin } from './plugins/managed-plugin.ts';
import { actionsOf, pluginView, reasonsOf } from './plugins/plugin-view.ts';
import { PluginRegistry } from './plugins/registry.ts';
import { readTrustedKey } from './plugins/signature.ts';
import { VersionStore } from './plugins/version-store.ts';
import { Compiler } from './policy/compile.ts';
import { wireToName } from './policy/domain-name.ts';
import type { Problem } from './policy/snapshot.ts';
import type { FromProxy } from './proxy/messages.ts';
import { RequestTotals } from './proxy/request-totals.ts';
import { HostFirewall } from './reconcile/host-firewall.ts';
import { namesOf, nodeAddresses, Reconciler } from './reconcile/reconciler.ts';
import { DirectorySource } from './sources/directory.ts';
import { PluginThreads } from './threads/plugin-threads.ts';
import { VERSION } from './version.ts';

/** How often denied flows are fetched from the kernel. */
const RECORDS_MS = 100;

// Compiling on the first call would stop a flow worker: a large function costs it tens of milliseconds.
setFlagsFromString('--no-wasm-lazy-compilation');

const REASON_NAMES = new Map(Object.entries(Reason).map(([name, number]) => [number as number, name.toLowerCase()]));

export interface Engine {
  /** `http://127.0.0.1:9470` */
  readonly url: string;
  /** Stops the process's part. What is enforced in the kernel stays. */
  stop(): Promise<void>;
}

/** Starts the engine; returns when the source as it is now is in force. @throws EngineError */
export async function startEngine(config: Config, log: Logger): Promise<Engine> {
  setNativeLog((level, text) => (level === 0 ? log.debug({ room: 'kernel' }, text) : log.trace({ room: 'kernel' }, text)));
  const source = new DirectorySource(config.source.path, log.child({ room: 'sources' }));
  // Compiled before there are maps: they must have room for it.
  const compiler = new Compiler(config.resolvers);
  compiler.update(source.read(), new Map(), nodeAddresses());
  const datapath = await Datapath.load(config.bpffs, mapSizes(compiler));
  const stops: (() => Promise<void> | void)[] = [() => datapath.close()];
  try {
    return await assemble(config, log, { source, compiler, datapath }, stops);
  } catch (error) {
    for (const stop of stops.reverse()) await stop();
    throw error;
  }
}

async function assemble(
  config: Config,
  log: Logger,
  { source, compiler, datapath }: { source: DirectorySource; compiler: Compiler; datapath: Datapath },
  stops: (() => Promise<void> | void)[],
): Promise<Engine> {
  const threads = new PluginThreads({
    flowWorker: {
      worker: new URL('./flow/flow-worker.ts', import.meta.url),
      data: { handles: datapath.ringHandles, holdTimeoutMs: config.holdTimeoutMs },
    },
    proxy: { worker: new URL('./proxy/proxy-worker.ts', import.meta.url), data: { handles: datapath.proxyHandles } },
    wakeServing: () => datapath.wakeAsks(),
    wakeProxy: wakeStreams,
    closeSocket,
    log: log.child({ room: 'threads' }),
  });
  const requests = new RequestTotals();
  const registry = new PluginRegistry({
    runner: threads,
    left: readPluginStates(datapath),
    store: new VersionStore(config.stateDir),
    trustedKeys: config.trustedKeys.map(({ pem, from }) => readTrustedKey(pem, from)),
    log: log.child({ room: 'plugins' }),
  });
  const viewPlugin = (plugin: ManagedPlugin, hits = datapath.readVerdictHits()): ReturnType<typeof pluginView> =>
    pluginView(plugin, { cached: hits.get(plugin.id) ?? 0, tables: liveTables(plugin) });
  const viewPlugins = (): ReturnType<typeof pluginView>[] => {
    const hits = datapath.readVerdictHits();
    return registry.plugins.map((plugin) => viewPlugin(plugin, hits));
  };
  const maps = new PolicyMaps(datapath, config.limits);
  const hostFirewall = new HostFirewall({
    cgroup: config.hostFirewall,
    stateDir: config.stateDir,
    confirmMs: config.confirmMs,
    nowMs: Date.now,
    kernelNowNs,
    log: log.child({ room: 'host-firewall' }),
  });
  stops.push(() => hostFirewall.close());
  const reconciler = new Reconciler({
    source,
    compiler,
    plugins: registry,
    workers: threads,
    maps,
    hostFirewall,
    findPlace: (place) => datapath.find(place),
    log: log.child({ room: 'policy' }),
  });
  const domains = new DomainNames(datapath.maps.dns_names.fd, wireToName);
  const known = new KnownNames(datapath, log.child({ room: 'kernel' }));
  const explainer = new Explainer({
    reconciler,
    datapath,
    known,
    pluginName: (id) => registry.nameOf(id),
    explainRequest: (ends, request) => threads.explainRequest(ends, request),
  });
  const names = namesOf(
    reconciler,
    (id) => registry.nameOf(id),
    (hash) => domains.find(hash),
  );
  const flows = new FlowLog({ ...names, labels: (identity) => threads.labels(identity) });
  const pressure = new Pressure(datapath, () => [...maps.pressure(), known.pressure], log.child({ room: 'kernel' }));
  const metrics = createMetrics({
    counters: () =>
      datapath.readCounters().map(({ reason, packets, bytes }) => ({
        reason: REASON_NAMES.get(reason) ?? String(reason),
        packets: Number(packets),
        bytes: Number(bytes),
      })),
    maps: () => pressure.maps,
    connections: () => pressure.connections,
    plugins: () => pluginMetrics(registry, datapath.readVerdictHits()),
    status: () => ({
      revision: reconciler.status.revision,
      endpoints: reconciler.status.endpoints.length,
      problems: problems().length,
      reconcileSeconds: reconciler.durationMs / 1000,
    }),
    flowsLost: () => flows.lost,
    requests: () => ({ counts: requests.counts, ways: requests.samples((rule) => names.rule(rule)) }),
  });

  let ready = false;
  /** What is not in force as meant: of policy, and of who carries it out. */
  const problems = (): Problem[] => {
    const reason = `requests are not decided and get the failure policy: ${threads.proxyProblem}`;
    return [
      ...reconciler.status.problems,
      ...(threads.proxyProblem && compiler.requestRules.size ? [{ file: '', line: 0, object: 'rules about HTTP', reason }] : []),
    ];
  };
  const status = (): Awaited<ReturnType<Parameters<typeof createApi>[0]['reconcile']>> => ({
    ...reconciler.status,
    endpoints: [...reconciler.status.endpoints],
    problems: problems(),
    attachment: datapath.attachment,
    maps: pressure.maps,
  });
  const reconcile = async (): Promise<ReturnType<typeof status>> => {
    await reconciler.run();
    return status();
  };
  const api = await createApi({
    version: VERSION,
    ready: () => ready,
    status,
    reconcile,
    explain: (query) => explainer.explain(query),
    names: () => viewNames(reconciler, known.list(), (hash) => domains.find(hash)),
    hostFirewall: () => ({ ...hostFirewall.status, policies: [...hostFirewall.status.policies] }),
    changeHostFirewall: async (change) => {
      hostFirewall[change]();
      await reconciler.run();
    },
    plugins: viewPlugins,
    plugin: (name) => viewPlugin(registry.get(name)),
    pushPlugin: async (name, module, mode, weight) => {
      const audit = await registry.push(name, module, mode, weight);
      return { plugin: viewPlugin(registry.get(name)), audit };
    },
    changePlugin: async (name, change) => {
      await registry[change](name);
      return viewPlugin(registry.get(name));
    },
    flows: flows.feed,
    events: reconciler.events,
    metrics,
    moduleBytesMax: MODULE_BYTES_MAX,
    access: config.access,
    listen: config.api,
    log: log.child({ room: 'api' }),
  });
  const url = await listen(api, config.api);
  stops.push(() => api.close());

  // Workers first, with the plugins of the source: the moment programs are replaced, somebody answers what they hold.
  stops.push(() => threads.close());
  await threads.start({
    report: (report) => noteReport(report, registry, flows),
    requests: (thread, report) => {
      requests.add(thread, report.traffic, report.counts);
      noteRequests(report, registry, flows);
    },
    trap: (serial, message, offsets) => registry.tally.noteTrap(serial, message, offsets),
    log: (plugin, text) => log.info({ room: 'plugins', plugin, text }, 'plugin says'),
    timeout: (id, switchedOff) => registry.tally.noteTimeout(id, switchedOff),
    error: (room, reason) => log.error({ room, reason }, 'thread failed'),
  });
  await registry.sync(source.read().plugins);
  await threads.serve();
  datapath.openHold();
  stops.push(() => threads.closeProxy());
  await threads.startProxy();
  datapath.openProxy();
  stops.push(() => reconciler.close());
  await reconciler.run();

  const reader = new RecordReader(datapath.recordsRing);
  const records = setInterval(() => {
    for (const record of reader.read()) flows.addRecord(record);
  }, RECORDS_MS);
  stops.push(() => clearInterval(records));
  pressure.start();
  stops.push(() => pressure.close());
  known.start(() => forgetPatterns(compiler, known));
  stops.push(() => known.close());
  const runAgain = (): void => void reconciler.run().catch((error: unknown) => log.error({ err: error }, 'policy not put in force'));
  hostFirewall.onLapse = runAgain;
  source.watch(runAgain);
  stops.push(() => source.close());
  ready = true;
  log.info({ url, attachment: datapath.attachment, endpoints: reconciler.status.endpoints.length }, 'ready');

  let stopped: Promise<void> | undefined;
  const stopAll = async (): Promise<void> => {
    ready = false;
    for (const stop of stops.reverse()) await stop();
    log.info('stopped; enforcement stays in the kernel');
  };
  return { url, stop: () => (stopped ??= stopAll()) };
}

/** Lets the compiler forget patterns that no rule has any more, once nothing is known under them. */
function forgetPatterns({ named }: Compiler, known: KnownNames): void {
  if (named.hasUnused) named.forget(new Set(known.list().flatMap(({ patterns }) => patterns.map(({ pattern }) => pattern))));
}

/** Room for twice what the source needs now, and at least for a cluster of moderate size. */
function mapSizes(compiler: Compiler): MapSizes {
  const size = (entries: number, least: number): number => 2 ** Math.ceil(Math.log2(Math.max(least, entries * 2)));
  return {
    peers: size(compiler.peers.entries.size, 16_384),
    networks: size(compiler.networks.entries.size, 16_384),
    policies: size(compiler.policies.entries.size, 65_536),
    ports: size(compiler.ports.entries.size, 16_384),
  };
}

function noteRequests(
  { records, omitted, report }: Extract<FromProxy, { type: 'requests' }>,
  registry: PluginRegistry,
  flows: FlowLog,
): void {
  if (report) noteReport({ type: 'report', ...report }, registry, flows);
  for (const record of records) flows.addRequest(record);
  flows.lost += omitted;
}

function noteReport(report: Extract<FromWorker, { type: 'report' }>, registry: PluginRegistry, flows: FlowLog): void {
  registry.tally.add(report.counts, report.versions);
  registry.tally.addDifferences(
    report.changed,
    report.differences.map(({ plugin, live, shadow, reason, flow }) => ({
      plugin,
      sample: { live, shadow, reason, flow: flows.describe(flow) },
    })),
  );
  for (const flow of report.flows) flows.addAsked(flow);
  flows.lost += report.omitted;
}

function liveTables(plugin: ManagedPlugin): ReturnType<typeof tableFacts> {
  return plugin.versions ? tableFacts(plugin.versions.live.parts, mapFile) : [];
}

/** What metrics say about plugins: the live version and the one beside it. */
function pluginMetrics(registry: PluginRegistry, hits: ReadonlyMap<number, number>): PluginSample[] {
  return registry.plugins.map((plugin) => {
    const { live, candidate } = plugin.versions ?? {};
    const beside = candidate && [{ version: candidate.version, role: candidate.mode as string }];
    const running = [...(live ? [{ version: live, role: 'live' }] : []), ...(beside ?? [])];
    return {
      name: plugin.declaration.name,
      on: plugin.on,
      epoch: plugin.epoch,
      ...plugin.flows,
      cached: hits.get(plugin.id) ?? 0,
      timeouts: plugin.timeouts,
      tables: liveTables(plugin),
      versions: running.map(({ version, role }) => ({
        role,
        version: version.audited.manifest.version,
        ...version.counts,
        actions: actionsOf(version),
        reasons: reasonsOf(version),
        latency: { ...version.counts.latency, bounds: LATENCY_BOUNDS_NS.map((ns) => ns / 1e9), sum: version.counts.latency.sum / 1e9 },
        fuel: { ...version.counts.fuel, bounds: FUEL_BOUNDS },
      })),
    };
  });
}

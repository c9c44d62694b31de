/** The engine: what is built from what, in order, and stopped in the reverse order. Nobody imports it but the command line. */
import { setFlagsFromString } from 'node:v8';
import { createApi, listen } from './api/api.ts';
import { createMetrics } from './api/metrics.ts';
import { metricsParts } from './api/metrics-source.ts';
import { pluginParts } from './api/plugin-parts.ts';
import { viewStatus } from './api/status.ts';
import type { Config } from './config.ts';
import { EngineError } from './errors.ts';
import { Explainer } from './explain/explainer.ts';
import { viewNames } from './explain/known-names-view.ts';
import { Datapath, hasCgroup } from './kernel/datapath.ts';
import { DomainNames } from './kernel/domain-names.ts';
import { KnownNames } from './kernel/known-names.ts';
import type { MapSizes } from './kernel/load.ts';
import { kernelNowNs, setNativeLog } from './kernel/native.ts';
import { readPluginStates } from './kernel/plugin-states.ts';
import { PolicyMaps } from './kernel/policy-maps.ts';
import { Pressure } from './kernel/pressure.ts';
import { closeSocket, closeSockets, wakeSockets } from './kernel/proxy-sockets.ts';
import { RecordReader } from './kernel/record-reader.ts';
import { neededSwitches } from './kernel/switches.ts';
import { readVeths } from './kernel/veths.ts';
import type { Logger } from './log.ts';
import { FlowCounts } from './observe/flow-counts.ts';
import { FlowLog } from './observe/flow-log.ts';
import { ReportIntake } from './observe/intake.ts';
import { BlobStore } from './plugins/modules/blob-store.ts';
import { DeclaredModules } from './plugins/modules/declared-modules.ts';
import { ModuleFetcher } from './plugins/modules/module-fetcher.ts';
import { PluginRegistry } from './plugins/registry.ts';
import { readTrustedKey } from './plugins/signature.ts';
import { VersionStore } from './plugins/version-store.ts';
import { Compiler } from './policy/compile.ts';
import { wireToName } from './policy/domain-name.ts';
import { RequestTotals } from './proxy/request-totals.ts';
import { HostFirewall } from './reconcile/host-firewall.ts';
import { nodeAddresses, recentNodeAddresses } from './reconcile/node-addresses.ts';
import { PodPlaces } from './reconcile/pod-places.ts';
import { namesOf, Reconciler } from './reconcile/reconciler.ts';
import { SandboxRecords } from './reconcile/sandbox-records.ts';
import { ClusterFeed } from './sources/cluster-feed.ts';
import { openSources } from './sources/open.ts';
import { inForceOf } from './status/in-force.ts';
import { StatusKeeper } from './status/status-keeper.ts';
import { PluginThreads, type ThreadEvents } from './threads/plugin-threads.ts';
import { VERSION } from './version.ts';

/** How often records of flows are fetched from the kernel. */
const RECORDS_MS = 100;

// Compiling on the first call would stop a flow worker: a large function costs it tens of milliseconds.
setFlagsFromString('--no-wasm-lazy-compilation');

export interface Engine {
  /** `http://127.0.0.1:9470` */
  readonly url: string;
  /** Stops the process's part. What is enforced in the kernel stays. */
  stop(): Promise<void>;
}

type Stops = (() => Promise<void> | void)[];

/** Starts the engine; returns when everything that the source had at its start is in force. @throws EngineError */
export async function startEngine(config: Config, log: Logger): Promise<Engine> {
  const stops: Stops = [];
  try {
    const cluster = await followCluster(config, log, stops);
    const kernel = await openKernel(config, log, cluster, stops);
    const threads = createThreads(config, log, kernel);
    const modules = createModules(config, log, stops);
    const registry = createRegistry(config, log, { kernel, threads, modules });
    const hostFirewall = createHostFirewall(config, log, stops);
    const podPlaces = createPodPlaces(config, log, stops);
    const reconciler = createReconciler(log, { cluster, kernel, threads, registry, hostFirewall }, podPlaces);
    podPlaces.onChange = () => reconciler.schedule();
    const observers = createObservers({ kernel, threads, registry, reconciler }, stops);
    const readiness = { ready: false };
    const url = await serveApi(config, log, { kernel, threads, registry, hostFirewall, reconciler, observers, readiness }, stops);

    // Workers first, with the plugins of the source: the moment programs are replaced, somebody answers what they hold.
    stops.push(() => threads.close());
    await threads.start(threadEvents(log, registry, observers));
    await registry.sync([...cluster.compiler.cluster.of('PolicyPlugin').values()]);
    await threads.serve();
    kernel.datapath.openHold();
    stops.push(() => threads.closeProxy());
    await threads.startProxy();
    kernel.datapath.openProxy();
    stops.push(() => reconciler.close());
    modules.onChange = () =>
      void registry.takeModules().then(
        () => reconciler.schedule(),
        (error: unknown) => log.error({ err: error }, 'fetched modules not taken'),
      );
    stops.push(() => void (modules.onChange = () => {}));
    await reconciler.start();

    keepLooking({ cluster, kernel, observers }, stops);
    keepStatuses(config, log, { cluster, reconciler }, stops);
    hostFirewall.onLapse = () => reconciler.schedule();
    cluster.feed.onChange(() => reconciler.schedule());
    stops.push(() => void (readiness.ready = false));
    readiness.ready = true;
    log.info({ url, attachment: kernel.datapath.attachment, endpoints: reconciler.status.endpoints.length }, 'ready');
    let stopped: Promise<void> | undefined;
    return { url, stop: () => (stopped ??= runStops(stops).then(() => log.info('stopped; enforcement stays in the kernel'))) };
  } catch (error) {
    await runStops(stops);
    throw error;
  }
}

async function runStops(stops: Stops): Promise<void> {
  for (const stop of stops.reverse()) await stop();
}

/** The cluster as its sources tell it, compiled once before there are maps: they must have room for it. */
async function followCluster(config: Config, log: Logger, stops: Stops) {
  const sources = openSources(config.source, log.child({ room: 'sources' }));
  const feed = new ClusterFeed(sources);
  stops.push(() => feed.close());
  await feed.start();
  const { resolvers, nodeName, clusterDns } = config;
  const compiler = new Compiler({ resolvers, nodeName, clusterDns });
  compiler.update(feed.take(), new Map(), nodeAddresses());
  return { feed, compiler, writable: sources.flatMap(({ writable }) => writable ?? []) };
}
type Cluster = Awaited<ReturnType<typeof followCluster>>;

/** Programs and maps, and who reads the maps. */
async function openKernel(config: Config, log: Logger, { compiler }: Cluster, stops: Stops) {
  setNativeLog((level, text) => (level === 0 ? log.debug({ room: 'kernel' }, text) : log.trace({ room: 'kernel' }, text)));
  const switches = neededSwitches([...compiler.endpoints.values()].map(({ value }) => value));
  if (config.cgroupRoot !== '/' && !hasCgroup(config.cgroupRoot))
    throw new EngineError('CONFIG_INVALID', `Cannot use --cgroup-root ${config.cgroupRoot}: no such cgroup in the unified hierarchy`);
  const datapath = await Datapath.load(config.bpffs, mapSizes(compiler), switches);
  stops.push(() => datapath.close());
  const maps = new PolicyMaps(datapath, config.limits);
  const domains = new DomainNames(datapath.maps.dns_names.fd, wireToName);
  const known = new KnownNames(datapath, log.child({ room: 'kernel' }));
  const pressure = new Pressure(datapath, () => [...maps.pressure(), known.pressure], log.child({ room: 'kernel' }));
  return { datapath, maps, domains, known, pressure };
}
type Kernel = Awaited<ReturnType<typeof openKernel>>;

function createThreads(config: Config, log: Logger, { datapath }: Kernel): PluginThreads {
  return new PluginThreads({
    flowWorker: {
      worker: new URL('./flow/flow-worker.ts', import.meta.url),
      data: { handles: datapath.ringHandles, holdTimeoutMs: config.holdTimeoutMs },
    },
    proxy: { worker: new URL('./proxy/proxy-worker.ts', import.meta.url), data: { handles: datapath.proxyHandles } },
    wakeServing: () => datapath.wakeAsks(),
    wakeProxy: wakeSockets,
    cleanUpProxy: closeSockets,
    closeSocket,
    log: log.child({ room: 'threads' }),
  });
}

/** Modules that are fetched; nothing waits for them. */
function createModules(config: Config, log: Logger, stops: Stops): DeclaredModules {
  const store = new BlobStore(config.stateDir);
  const fetcher = new ModuleFetcher({ settings: config.modules });
  stops.push(() => fetcher.close());
  const modules = new DeclaredModules({
    store,
    fetch: (module, signal) => fetcher.fetch(module, signal),
    log: log.child({ room: 'plugins' }),
  });
  stops.push(() => modules.close());
  return modules;
}

interface RegistrySurroundings {
  readonly kernel: Kernel;
  readonly threads: PluginThreads;
  readonly modules: DeclaredModules;
}

function createRegistry(config: Config, log: Logger, { kernel, threads, modules }: RegistrySurroundings): PluginRegistry {
  return new PluginRegistry({
    runner: threads,
    left: readPluginStates(kernel.datapath),
    modules,
    nodeName: config.nodeName,
    store: new VersionStore(config.stateDir),
    trustedKeys: config.trustedKeys.map(({ pem, from }) => readTrustedKey(pem, from)),
    log: log.child({ room: 'plugins' }),
  });
}

function createHostFirewall(config: Config, log: Logger, stops: Stops): HostFirewall {
  const { hostFirewall: cgroup, stateDir, confirmMs } = config;
  const firewall = new HostFirewall({
    cgroup,
    stateDir,
    confirmMs,
    nowMs: Date.now,
    kernelNowNs,
    log: log.child({ room: 'host-firewall' }),
  });
  stops.push(() => firewall.close());
  return firewall;
}

interface PolicyParts {
  readonly cluster: Cluster;
  readonly kernel: Kernel;
  readonly threads: PluginThreads;
  readonly registry: PluginRegistry;
  readonly hostFirewall: HostFirewall;
}

/** Finds the pods of this node that an API names. */
function createPodPlaces({ cniResults }: Config, log: Logger, stops: Stops): PodPlaces {
  const room = log.child({ room: 'places' });
  const places = new PodPlaces({ readVeths, records: new SandboxRecords(cniResults, room), log: room });
  stops.push(() => places.close());
  return places;
}

function createReconciler(
  log: Logger,
  { cluster, kernel, threads, registry, hostFirewall }: PolicyParts,
  podPlaces: PodPlaces,
): Reconciler {
  return new Reconciler({
    ...cluster,
    plugins: registry,
    workers: threads,
    maps: kernel.maps,
    hostFirewall,
    findPlace: (place) => kernel.datapath.find(place),
    podPlaces,
    nodeAddresses: recentNodeAddresses(),
    log: log.child({ room: 'policy' }),
  });
}

interface ObservedParts extends Pick<PolicyParts, 'kernel' | 'threads' | 'registry'> {
  readonly reconciler: Reconciler;
}

/** Who is told of flows, events and requests, with the names that people know things by. */
function createObservers({ kernel, threads, registry, reconciler }: ObservedParts, stops: Stops) {
  const names = namesOf(
    reconciler,
    (id) => registry.nameOf(id),
    (hash) => kernel.domains.find(hash),
  );
  const flows = new FlowLog({
    ...names,
    labels: (identity) => threads.labels(identity),
  });
  const flowCounts = new FlowCounts();
  stops.push(flows.feed.subscribe(flowCounts));
  const feeds = { flows: flows.feed, events: reconciler.events };
  return { names, flows, flowCounts, feeds, intake: new ReportIntake(registry.tally, flows), requests: new RequestTotals() };
}
type Observers = ReturnType<typeof createObservers>;

function threadEvents(log: Logger, registry: PluginRegistry, { intake, requests }: Observers): ThreadEvents {
  return {
    report: (report) => intake.takeReport(report),
    requests: (thread, report) => {
      requests.add(thread, report.traffic, report.counts);
      intake.takeRequests(report);
    },
    trap: (serial, message, offsets) => registry.tally.noteTrap(serial, message, offsets),
    log: (plugin, text) => log.info({ room: 'plugins', plugin, text }, 'plugin says'),
    timeout: (id, switchedOff) => registry.tally.noteTimeout(id, switchedOff),
    error: (room, reason) => log.error({ room, reason }, 'thread failed'),
  };
}

interface ApiParts extends Omit<PolicyParts, 'cluster'>, ObservedParts {
  readonly observers: Observers;
  readonly readiness: { readonly ready: boolean };
}

/** Returns the API's address. */
async function serveApi(config: Config, log: Logger, parts: ApiParts, stops: Stops): Promise<string> {
  const { kernel, threads, registry, hostFirewall, reconciler, observers } = parts;
  const { datapath, pressure, known, domains } = kernel;
  const { flows, flowCounts, feeds, requests, names } = observers;
  const explainer = new Explainer({
    reconciler,
    datapath,
    known,
    pluginName: (id) => registry.nameOf(id),
    explainRequest: (ends, request) => threads.explainRequest(ends, request),
  });
  const status = () => viewStatus({ reconciler, datapath, pressure, threads, feeds });
  const api = await createApi({
    version: VERSION,
    ready: () => parts.readiness.ready,
    status,
    reconcile: async () => {
      await reconciler.settle();
      return status();
    },
    explain: (query) => explainer.explain(query),
    names: () => viewNames(reconciler, known.list(), (hash) => domains.find(hash)),
    hostFirewall: () => ({ ...hostFirewall.status, policies: [...hostFirewall.status.policies] }),
    changeHostFirewall: async (change) => {
      hostFirewall[change]();
      reconciler.run();
    },
    ...pluginParts(registry, () => datapath.readVerdictHits()),
    flows: flows.feed,
    events: reconciler.events,
    metrics: createMetrics(
      metricsParts({ datapath, pressure, registry, reconciler, threads, requests, flows, flowCounts, feeds, ruleName: names.rule }),
    ),
    access: config.access,
    listen: config.api,
    log: log.child({ room: 'api' }),
  });
  const url = await listen(api, config.api);
  stops.push(() => api.close());
  return url;
}

/** Fetches the kernel's records, and looks at its maps, from time to time. */
function keepLooking(parts: { cluster: Cluster; kernel: Kernel; observers: Observers }, stops: Stops): void {
  const { datapath, pressure, known } = parts.kernel;
  const reader = new RecordReader(datapath.recordsRing);
  const records = setInterval(() => {
    for (const record of reader.read()) parts.observers.flows.add('kernel', record);
  }, RECORDS_MS);
  stops.push(() => clearInterval(records));
  pressure.start();
  stops.push(() => pressure.close());
  known.start(() => forgetPatterns(parts.cluster.compiler, known));
  stops.push(() => known.close());
}

/** Tells an API server what became of its objects. */
function keepStatuses(
  { source }: Config,
  log: Logger,
  { cluster, reconciler }: { cluster: Cluster; reconciler: Reconciler },
  stops: Stops,
): void {
  const [writable] = cluster.writable;
  if (source.kind !== 'kubernetes' || !writable) return;
  const { versions, objects } = writable;
  const readProblems = () => cluster.feed.problems.all;
  const problems = () => reconciler.status.problems;
  const keeper = new StatusKeeper({
    api: objects,
    nodeName: source.nodeName,
    namespace: source.namespace,
    engineVersion: VERSION,
    versions,
    readProblems,
    inForce: inForceOf({ versions, isTaken: () => cluster.feed.isTaken, readProblems, problems }),
    nodeNames: () => cluster.compiler.cluster.of('Node').keys(),
    log: log.child({ room: 'status' }),
  });
  keeper.start();
  stops.push(() => keeper.close());
}

/** Lets the compiler forget patterns that no rule has any more, once nothing is known under them. */
function forgetPatterns({ named }: Compiler, known: KnownNames): void {
  if (named.hasUnused) named.forget(new Set(known.list().flatMap(({ patterns }) => patterns.map(({ pattern }) => pattern))));
}

/** Room for twice what the source needs now, and at least for a cluster of moderate size. */
function mapSizes(compiler: Compiler): MapSizes {
  const size = (entries: number, least: number): number => 2 ** Math.ceil(Math.log2(Math.max(least, entries * 2)));
  return {
    node_addresses: size(compiler.maps.node_addresses.entries.size, 1024),
    peers: size(compiler.peers.entries.size, 16_384),
    networks: size(compiler.networks.entries.size, 16_384),
    policies: size(compiler.policies.entries.size, 65_536),
    ports: size(compiler.ports.entries.size, 16_384),
    services: size(compiler.maps.services.entries.size, 4096),
    backends: size(compiler.maps.backends.entries.size, 16_384),
    backend_sets: size(compiler.maps.backend_sets.entries.size, 4096),
  };
}

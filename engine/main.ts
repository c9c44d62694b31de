/** The engine: builds the rooms, connects them, and stops them in reverse order. Nobody imports it but the command line. */
import { setFlagsFromString } from 'node:v8';
import { createApi, listen } from './api/api.ts';
import { createMetrics } from './api/metrics.ts';
import { metricsParts } from './api/metrics-source.ts';
import { pluginParts } from './api/plugin-parts.ts';
import { viewStatus } from './api/status.ts';
import type { Config } from './config.ts';
import { Explainer } from './explain/explainer.ts';
import { viewNames } from './explain/known-names-view.ts';
import { Datapath, type MapSizes } from './kernel/datapath.ts';
import { DomainNames } from './kernel/domain-names.ts';
import { KnownNames } from './kernel/known-names.ts';
import { kernelNowNs, setNativeLog } from './kernel/native.ts';
import { pluginStates } from './kernel/plugin-states.ts';
import { PolicyMaps } from './kernel/policy-maps.ts';
import { Pressure } from './kernel/pressure.ts';
import { closeSocket, closeSockets, wakeSockets } from './kernel/proxy-sockets.ts';
import { RecordReader } from './kernel/record-reader.ts';
import type { Logger } from './log.ts';
import { FlowCounts } from './observe/flow-counts.ts';
import { FlowLog } from './observe/flow-log.ts';
import { ReportIntake } from './observe/intake.ts';
import { addCounts, emptyCounts } from './plugin-runtime/reporter.ts';
import { PluginRegistry } from './plugins/registry.ts';
import { readTrustedKey } from './plugins/signature.ts';
import { VersionStore } from './plugins/version-store.ts';
import { Compiler } from './policy/compile.ts';
import { wireToName } from './policy/domain-name.ts';
import { RequestTotals } from './proxy/request-totals.ts';
import { HostFirewall } from './reconcile/host-firewall.ts';
import { nodeAddresses, recentNodeAddresses } from './reconcile/node-addresses.ts';
import { namesOf, Reconciler } from './reconcile/reconciler.ts';
import { ClusterFeed } from './sources/cluster-feed.ts';
import { openSources } from './sources/open.ts';
import { WorkerPool } from './threads/pool.ts';
import { ProxyThreads } from './threads/proxy-threads.ts';
import { VERSION } from './version.ts';

/** How often denied flows are fetched from the kernel. */
const RECORDS_MS = 100;

// Compiling on the first call would stop a flow worker: a large function costs it tens of milliseconds.
setFlagsFromString('--no-wasm-lazy-compilation');

export interface Engine {
  /** `http://127.0.0.1:9470` */
  readonly url: string;
  /** Stops the process's part. What is enforced in the kernel stays. */
  stop(): Promise<void>;
}

/** Starts the engine; returns when the source as it is now is in force. @throws EngineError */
export async function startEngine(config: Config, log: Logger): Promise<Engine> {
  setNativeLog((level, text) => (level === 0 ? log.debug({ room: 'kernel' }, text) : log.trace({ room: 'kernel' }, text)));
  const feed = new ClusterFeed(openSources(config.source, log.child({ room: 'sources' })));
  const stops: (() => Promise<void> | void)[] = [() => feed.close()];
  try {
    await feed.start();
    // Compiled before there are maps: they must have room for it.
    const compiler = new Compiler(config.resolvers);
    compiler.update(feed.take(), new Map(), nodeAddresses());
    const datapath = await Datapath.load(config.bpffs, mapSizes(compiler));
    stops.push(() => datapath.close());
    return await assemble(config, log, { feed, compiler, datapath }, stops);
  } catch (error) {
    for (const stop of stops.reverse()) await stop();
    throw error;
  }
}

async function assemble(
  config: Config,
  log: Logger,
  { feed, compiler, datapath }: { feed: ClusterFeed; compiler: Compiler; datapath: Datapath },
  stops: (() => Promise<void> | void)[],
): Promise<Engine> {
  const pool = new WorkerPool({
    worker: new URL('./flow/flow-worker.ts', import.meta.url),
    data: { handles: datapath.ringHandles, holdTimeoutMs: config.holdTimeoutMs },
    wakeServing: () => datapath.wakeAsks(),
    log: log.child({ room: 'flow' }),
    events: {
      report: (report) => intake.takeReport(report),
      trap: (serial, message, offsets) => registry.tally.noteTrap(serial, message, offsets),
      log: (plugin, text) => log.info({ room: 'plugins', plugin, text }, 'plugin says'),
      timeout: (id, switchedOff) => {
        registry.tally.noteTimeout(id, switchedOff);
        if (switchedOff) proxy.switchOff(id);
      },
      error: (message) => log.error({ room: 'flow', reason: message }, 'flow worker failed'),
    },
  });
  const proxy = new ProxyThreads({
    worker: new URL('./proxy/proxy-worker.ts', import.meta.url),
    data: { handles: datapath.proxyHandles },
    wake: wakeSockets,
    cleanUp: closeSockets,
    closeSocket,
    events: {
      requests: (thread, report) => {
        requests.add(thread, report.traffic, report.counts);
        intake.takeRequests(report);
      },
      trap: (serial, message, offsets) => registry.tally.noteTrap(serial, message, offsets),
      log: (plugin, text) => log.info({ room: 'plugins', plugin, text }, 'plugin says'),
      timeout: (id, switchedOff) => registry.tally.noteTimeout(id, switchedOff),
      error: (message) => log.error({ room: 'proxy', reason: message }, 'proxy failed'),
    },
  });
  const requests = new RequestTotals();
  const registry = new PluginRegistry({
    runner: {
      // Tried by the flow workers first: what reaches the proxy starts.
      install: async (setup) => {
        await pool.install(setup);
        await proxy.install(setup);
      },
      remove: async (id) => {
        await pool.remove(id);
        await proxy.remove(id);
      },
    },
    states: pluginStates(datapath),
    store: new VersionStore(config.stateDir),
    trustedKeys: config.trustedKeys.map(({ pem, from }) => readTrustedKey(pem, from)),
    emptyCounts,
    addCounts,
    log: log.child({ room: 'plugins' }),
  });
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
    feed,
    compiler,
    plugins: registry,
    workers: {
      setCluster: (change) => {
        pool.setCluster(change);
        proxy.setCluster(change);
      },
      setPolicy: (policy) => proxy.setPolicy(policy),
    },
    maps,
    hostFirewall,
    findPlace: (place) => datapath.find(place),
    nodeAddresses: recentNodeAddresses(),
    log: log.child({ room: 'policy' }),
  });
  const domains = new DomainNames(datapath.maps.dns_names.fd, wireToName);
  const known = new KnownNames(datapath, log.child({ room: 'kernel' }));
  const explainer = new Explainer({
    reconciler,
    datapath,
    known,
    pluginName: (id) => registry.nameOf(id),
    explainRequest: (ends, request) => proxy.explain(ends, request),
  });
  const names = namesOf(
    reconciler,
    (id) => registry.nameOf(id),
    (hash) => domains.find(hash),
  );
  const flows = new FlowLog({
    ...names,
    labels: (identity) => pool.labels(identity),
    endpoint: (id) => reconciler.status.endpoints.find((endpoint) => endpoint.id === id)?.pod ?? '',
  });
  const intake = new ReportIntake(registry.tally, flows);
  const flowCounts = new FlowCounts();
  stops.push(flows.feed.subscribe(flowCounts));
  const feeds = { flows: flows.feed, events: reconciler.events };
  const pressure = new Pressure(datapath, () => [...maps.pressure(), known.pressure], log.child({ room: 'kernel' }));
  const metrics = createMetrics(
    metricsParts({ datapath, pressure, registry, reconciler, proxy, requests, flows, flowCounts, feeds, ruleName: names.rule }),
  );

  let ready = false;
  const status = () => viewStatus({ reconciler, datapath, pressure, proxy, feeds });
  const api = await createApi({
    version: VERSION,
    ready: () => ready,
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
    metrics,
    access: config.access,
    listen: config.api,
    log: log.child({ room: 'api' }),
  });
  const url = await listen(api, config.api);
  stops.push(() => api.close());

  // Workers first, with the plugins of the source: the moment programs are replaced, somebody answers what they hold.
  stops.push(() => pool.close());
  await pool.start();
  await registry.sync([...compiler.cluster.of('PolicyPlugin').values()]);
  await pool.serve();
  datapath.openHold();
  stops.push(() => proxy.close());
  await proxy.start();
  datapath.openProxy();
  stops.push(() => reconciler.close());
  await reconciler.settle();

  const reader = new RecordReader(datapath.recordsRing);
  const records = setInterval(() => {
    for (const record of reader.read()) flows.add('kernel', record);
  }, RECORDS_MS);
  stops.push(() => clearInterval(records));
  pressure.start();
  stops.push(() => pressure.close());
  known.start(() => forgetPatterns(compiler, known));
  stops.push(() => known.close());
  hostFirewall.onLapse = () => reconciler.schedule();
  feed.onChange(() => reconciler.schedule());
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

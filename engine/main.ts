/** The engine: builds the rooms, connects them, and stops them in reverse order. Nobody imports it but the command line. */
import { Reason } from './abi.gen.ts';
import type { Config } from './config.ts';
import { Explainer } from './explainer.ts';
import { Failure } from './flow/control.ts';
import { FlowLog } from './flow/flow-log.ts';
import type { FromWorker } from './flow/messages.ts';
import { WorkerPool } from './flow/pool.ts';
import { HostFirewall } from './host-firewall.ts';
import { createApi, listen } from './http/api.ts';
import { createMetrics } from './http/metrics.ts';
import { Datapath, type MapSizes } from './kernel/datapath.ts';
import { kernelNowNs, setNativeLog } from './kernel/native.ts';
import { pluginStates } from './kernel/plugin-states.ts';
import { PolicyMaps } from './kernel/policy-maps.ts';
import { Pressure } from './kernel/pressure.ts';
import { RecordReader } from './kernel/record-reader.ts';
import type { Logger } from './log.ts';
import { MODULE_BYTES_MAX } from './plugins/audit.ts';
import { ModuleStore } from './plugins/module-store.ts';
import { PluginRegistry } from './plugins/registry.ts';
import { Compiler } from './policy/compile.ts';
import { namesOf, nodeAddresses, Reconciler } from './reconciler.ts';
import { DirectorySource } from './sources/directory.ts';
import { VERSION } from './version.ts';

/** How often denied flows are fetched from the kernel. */
const RECORDS_MS = 100;

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
  const compiler = new Compiler();
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
  const pool = new WorkerPool({
    worker: new URL('./worker.ts', import.meta.url),
    data: { handles: datapath.ringHandles, holdTimeoutMs: config.holdTimeoutMs },
    wakeServing: () => datapath.wakeAsks(),
    log: log.child({ room: 'flow' }),
    events: {
      report: (report) => noteReport(report, registry, flows),
      trap: (id, message) => registry.noteTrap(id, message),
      timeout: (id, switchedOff) => registry.noteTimeout(id, switchedOff),
      error: (message) => log.error({ room: 'flow', reason: message }, 'flow worker failed'),
    },
  });
  const states = pluginStates(datapath);
  const registry = new PluginRegistry(pool, states, new ModuleStore(config.stateDir, log), log.child({ room: 'plugins' }));
  const maps = new PolicyMaps(datapath, config.conntrack);
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
    workers: pool,
    maps,
    hostFirewall,
    findPlace: (place) => datapath.find(place),
    log: log.child({ room: 'policy' }),
  });
  const explainer = new Explainer(reconciler, datapath, (id) => registry.nameOf(id));
  const flows = new FlowLog(namesOf(reconciler, (id) => registry.nameOf(id)));
  const pressure = new Pressure(datapath, () => maps.pressure(), log.child({ room: 'kernel' }));
  const metrics = createMetrics({
    counters: () =>
      datapath.readCounters().map(({ reason, packets, bytes }) => ({
        reason: REASON_NAMES.get(reason) ?? String(reason),
        packets: Number(packets),
        bytes: Number(bytes),
      })),
    maps: () => pressure.maps,
    connections: () => pressure.connections,
    plugins: () => registry.list(),
    status: () => ({
      revision: reconciler.status.revision,
      endpoints: reconciler.status.endpoints.length,
      problems: reconciler.status.problems.length,
      reconcileSeconds: reconciler.durationMs / 1000,
    }),
    flowsLost: () => flows.lost,
  });

  let ready = false;
  const status = (): Awaited<ReturnType<Parameters<typeof createApi>[0]['reconcile']>> => ({
    ...reconciler.status,
    endpoints: [...reconciler.status.endpoints],
    problems: [...reconciler.status.problems],
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
    hostFirewall: () => ({ ...hostFirewall.status, policies: [...hostFirewall.status.policies] }),
    changeHostFirewall: async (change) => {
      hostFirewall[change]();
      await reconciler.run();
    },
    plugins: () => registry.list(),
    pushPlugin: (name, module) => registry.push(name, module),
    flows: flows.feed,
    events: reconciler.events,
    metrics,
    moduleBytesMax: MODULE_BYTES_MAX,
    log: log.child({ room: 'http' }),
  });
  const url = await listen(api, config.api);
  stops.push(() => api.close());

  // Workers first, with the plugins of the source: the moment programs are replaced, somebody answers what they hold.
  stops.push(() => pool.close());
  await pool.start();
  await registry.sync(source.read().plugins);
  await pool.serve();
  datapath.openHold();
  stops.push(() => reconciler.close());
  await reconciler.run();

  const reader = new RecordReader(datapath.recordsRing);
  const records = setInterval(() => {
    for (const record of reader.read()) flows.addRecord(record);
  }, RECORDS_MS);
  stops.push(() => clearInterval(records));
  pressure.start();
  stops.push(() => pressure.close());
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

function noteReport(report: Extract<FromWorker, { type: 'report' }>, registry: PluginRegistry, flows: FlowLog): void {
  for (const [id, counts] of report.counts)
    registry.count(id, { ...counts, evaluations: counts.evaluations - (counts.failures[Failure.SUSPENDED] ?? 0) });
  for (const flow of report.flows) flows.addAsked(flow);
  flows.lost += report.omitted;
}

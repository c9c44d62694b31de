/**
 * A thread of the proxy: decides HTTP requests one by one, and carries them to their backends.
 *
 * There are two. The one for HTTP/1 makes the proxy's network and takes every connection, in turns of native calls; who turns out
 * to speak HTTP/2 is handed to the other one, which runs on Node's own loop. The kernel hands new connections over only while
 * the first one's heart beats.
 */
import { performance } from 'node:perf_hooks';
import { type MessagePort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { Context } from '../abi.gen.ts';
import { messageOf } from '../errors.ts';
import type { ProxyHandles } from '../kernel/datapath.ts';
import { mapFile } from '../kernel/mapped-file.ts';
import { ProxyNetwork } from '../kernel/proxy-network.ts';
import { flowHash } from '../plugin-runtime/context-writer.ts';
import type { LoadedPlugin } from '../plugin-runtime/loaded-plugin.ts';
import { LoadedPlugins } from '../plugin-runtime/loaded-plugins.ts';
import { PluginCaller } from '../plugin-runtime/plugin-caller.ts';
import { Question } from '../plugin-runtime/question.ts';
import { Reporter } from '../plugin-runtime/reporter.ts';
import { Timeouts } from '../plugin-runtime/standing.ts';
import { Clients } from './clients.ts';
import { Decider } from './decider.ts';
import { Http1Proxy } from './http1-proxy.ts';
import { Http2Proxy } from './http2-proxy.ts';
import { KernelVerdicts } from './kernel-verdicts.ts';
import { DRAIN_MS, type FromProxy, type ToProxy } from './messages.ts';
import { RequestCounts } from './request-counts.ts';
import { Routing } from './routing.ts';

export interface ProxyWorkerData {
  readonly handles: ProxyHandles;
  readonly port: MessagePort;
  readonly speaks: 'HTTP/1' | 'HTTP/2';
}

/** Far below the time after which the kernel takes the proxy for gone: each turn is a beat. */
const TURN_MS = 50;
const REPORT_MS = 200;
/** For clients to close, when nobody waits for an answer any more. */
const FAREWELL_MS = 300;
/** The fuel that a slow processor gets through. */
const FUEL_PER_MS = 300_000;
const SWEEP_MS = 250;

const { handles, port, speaks } = workerData as ProxyWorkerData;
const send = (message: FromProxy): void => port.postMessage(message);
const network = new ProxyNetwork(handles);
const loaded = new LoadedPlugins(send, mapFile);
const plugins = new Map<number, LoadedPlugin>();
const versions = new Map<number, string>();
const reporter = new Reporter();
const requests = new RequestCounts();
const kernel = new KernelVerdicts(network);
const timeouts = new Timeouts();
let told = '';
let stopping = false;
/** The version of HTTP that this thread speaks, once it serves. */
let served: Http1Proxy | Http2Proxy | undefined;

const decider = new Decider({
  plugins,
  caller: new PluginCaller({
    reporter,
    watch: { begin: () => {}, end: () => {}, spend: noteTime },
    flowHash,
    onTrap: (running, error) => loaded.replaceTrapped(running, error),
  }),
  question: new Question(),
  identities: loaded.identities,
  pods: loaded.pods,
  services: loaded.services,
  kernel,
  counts: requests.counts,
  versionName: (serial) => versions.get(serial) ?? '',
  error: (message) => send({ type: 'error', message }),
});
const routing = new Routing({ network, decider, kernel });
const clients = new Clients(requests.counts);

/**
 * Fuel ends a loop; a plugin that is granted so much of it that it overruns its time is asked no more after some time. What took long
 * without using much has waited for the processor, or for the collector of garbage.
 */
function noteTime({ setup }: LoadedPlugin, ms: number, fuel: number): void {
  if (ms <= setup.evaluateMs || fuel < setup.evaluateMs * FUEL_PER_MS) return;
  const switchedOff = timeouts.add(setup.id);
  if (switchedOff) plugins.get(setup.id)?.standing.on('switch off');
  send({ type: 'timeout', plugin: setup.id, switchedOff });
}

function nameVersions(plugin: LoadedPlugin | undefined, before: LoadedPlugin | undefined): void {
  for (const { version } of before?.versions ?? []) versions.delete(version.serial);
  for (const { version } of plugin?.versions ?? []) {
    const { plugin: name, manifest } = version.parts;
    versions.set(version.serial, `${name} ${manifest.version}`);
  }
}

function handle(message: ToProxy): void {
  switch (message.type) {
    case 'policy':
      routing.setPolicy(message.policy);
      clients.judgeAgain(routing);
      served?.renew();
      return;
    case 'cluster':
      loaded.setCluster(message);
      return;
    case 'plugin':
      loaded.acknowledge(message.seq, () => {
        const { id } = message.setup;
        const before = plugins.get(id);
        const plugin = loaded.load(message.setup, before, false);
        nameVersions(plugin, before);
        plugins.set(id, plugin);
        timeouts.forget(id);
        decider.forget();
        if (plugin.versions.some(({ guest }) => guest?.answers(Context.CONNECT))) served?.renew();
      });
      return;
    case 'remove':
      loaded.acknowledge(message.seq, () => {
        nameVersions(undefined, plugins.get(message.id));
        plugins.delete(message.id);
      });
      return;
    case 'switch-off':
      plugins.get(message.id)?.standing.on('switch off');
      return;
    case 'connection':
      if (served instanceof Http2Proxy) served.serve(message.fd, Buffer.from(message.first), message.ends);
      return;
    case 'explain':
      send({ type: 'explained', seq: message.seq, request: routing.explain(message.ends, message.request, performance.now()) });
      return;
    case 'ping':
      send({ type: 'pong' });
      return;
    case 'stop':
      stopping = true;
  }
}

function report(): void {
  const taken = requests.take();
  const report = reporter.take();
  const counts = JSON.stringify(taken.counts);
  if (taken.traffic.length || report || counts !== told) send({ type: 'requests', ...taken, report });
  told = counts;
}

/** Takes connections in turns until it is told to stop. */
function serveHttp1(): void {
  const proxy = new Http1Proxy({
    routing,
    clients,
    requests,
    network: network.open(),
    failed: (error) => send({ type: 'error', message: error.stack ?? error.message }),
    handOver: (fd, first, ends) => send({ type: 'hand-over', fd, first: Uint8Array.from(first), ends }),
  });
  served = proxy;
  send({ type: 'ready', handle: proxy.handle });
  for (let reportedMs = 0; !stopping; ) {
    for (let received = receiveMessageOnPort(port); received; received = receiveMessageOnPort(port)) handle(received.message as ToProxy);
    proxy.turn(stopping ? 0 : TURN_MS);
    const nowMs = performance.now();
    if (nowMs - reportedMs < REPORT_MS) continue;
    reportedMs = nowMs;
    report();
  }
  network.drain();
  clients.drain();
  for (const drain = new Drain(); !drain.over(); ) proxy.turn(TURN_MS);
  clients.close();
  proxy.turn(0);
  report();
  port.close();
}

/** How long a thread that is told to stop goes on for the sake of who is connected. */
class Drain {
  readonly #startedMs = performance.now();

  over(): boolean {
    const ms = performance.now() - this.#startedMs;
    // Who has his answer is told that nothing follows, and closes.
    return clients.idle || ms > DRAIN_MS || (!clients.busy && ms > FAREWELL_MS);
  }
}

/** Serves what it is handed, on Node's loop. */
function serveHttp2(): void {
  // A fault of one stream must not end the others': it is told, and its stream ends by its time.
  process.on('uncaughtException', (error) => send({ type: 'error', message: error.stack ?? error.message }));
  const proxy = new Http2Proxy({
    routing,
    clients,
    requests,
    connect: (beside, from, to, port) => network.connect(beside, from, to, port),
  });
  const timers = [
    setInterval(report, REPORT_MS),
    setInterval(() => {
      const nowMs = performance.now();
      clients.sweep(nowMs);
      proxy.sweep(nowMs);
    }, SWEEP_MS),
  ];
  let drains = false;
  port.on('message', (message: ToProxy) => {
    handle(message);
    if (!stopping || drains) return;
    drains = true;
    clients.drain();
    const drain = new Drain();
    const look = setInterval(() => {
      if (!drain.over()) return;
      for (const timer of [...timers, look]) clearInterval(timer);
      clients.close();
      proxy.close();
      report();
      port.close();
    }, TURN_MS);
  });
  served = proxy;
  send({ type: 'ready', handle: 0 });
}

try {
  if (speaks === 'HTTP/2') serveHttp2();
  else serveHttp1();
} catch (error) {
  send({ type: 'failed', reason: messageOf(error) });
  port.close();
}

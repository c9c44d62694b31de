/**
 * A flow worker: the thread that waits for held packets, asks their plugins, writes verdicts and releases.
 *
 * It builds its rooms and runs one loop. Until it is activated it stands by: it has every plugin instantiated, a new
 * version is tried here before it serves, and it watches the worker that serves. One that overruns its budget loses the
 * ring to this thread at once, in the middle of a batch, whatever the main thread is busy with.
 */
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { PluginStatus, Scope, Verdict } from './abi.gen.ts';
import { messageOf } from './errors.ts';
import { Control, type SharedMemory, STOPPED } from './flow/control.ts';
import { Evaluator, type LoadedPlugin, type Question } from './flow/evaluator.ts';
import type { FromWorker, PluginVersion, ToWorker } from './flow/messages.ts';
import { AskRing } from './kernel/ask-ring.ts';
import type { RingHandles } from './kernel/datapath.ts';
import { PluginInstance } from './plugins/instance.ts';
import { decodeVerdict, effectiveScope } from './plugins/verdict-word.ts';

export interface WorkerData {
  readonly memory: SharedMemory;
  readonly handles: RingHandles;
  readonly holdTimeoutMs: number;
  readonly port: MessagePort;
}

/** Below the time after which the kernel takes a heartbeat for stale, by far. */
const WAIT_MS = 50;
/** How often a standby looks: a loop is noticed within its budget and two of these. */
const WATCH_MS = 10;
/** While there is something to report, it waits no longer than this. */
const REPORT_MS = 20;

const { memory, handles, holdTimeoutMs, port } = workerData as WorkerData;
const control = new Int32Array(memory.control);
const ring = new AskRing(handles, {
  turn: Buffer.from(memory.turn),
  batch: Buffer.from(memory.batch),
  verdictKeys: Buffer.from(memory.verdictKeys),
  verdictValues: Buffer.from(memory.verdictValues),
  offsets: Buffer.from(memory.offsets),
  errors: Buffer.from(memory.errors),
});
const evaluator = new Evaluator(memory, ring, { decode: decodeVerdict, effectiveScope }, holdTimeoutMs);
const encoder = new TextEncoder();
let active = false;
let stopping = false;
let reportPending = false;
let reportedAt = 0;
/** The evaluation that a standby sees under way, and since when. */
let watched = 0;
let watchedSince = 0;

const send = (message: FromWorker): void => port.postMessage(message);

evaluator.onTrap = (plugin, message) => {
  send({ type: 'trap', id: plugin.version.id, message });
  try {
    plugin.guest = new PluginInstance(plugin.version.module, plugin.version.config);
  } catch (error) {
    plugin.suspended = true;
    send({ type: 'trap', id: plugin.version.id, message: messageOf(error) });
  }
};

/** A question that no policy asks, to find a version that traps or loops at once before it serves. */
const TRIAL: Question = {
  addresses: new Uint8Array(32),
  sourceIdentity: 0,
  destinationIdentity: 0,
  sourcePort: 0,
  destinationPort: 0,
  protocol: 6,
  direction: 1,
  rule: 0,
  established: false,
  timeMs: 0,
  source: undefined,
  destination: undefined,
  sourcePod: undefined,
  destinationPod: undefined,
};

/** A standby tries the version first; the active worker switches to it between two evaluations. */
function install(version: PluginVersion): void {
  if (!active && decodeVerdict(new PluginInstance(version.module, version.config).evaluateConnect(TRIAL)) === undefined)
    throw new Error('Cannot load module: it answers a connection with a word that is no verdict');
  const plugin: LoadedPlugin = { version, guest: new PluginInstance(version.module, version.config), suspended: false };
  if (active) writeState(version, PluginStatus.ON);
  evaluator.plugins.set(version.id, plugin);
}

function writeState(version: PluginVersion, status: PluginStatus): void {
  ring.writePluginState(version.id, {
    name: version.nameHash,
    module: version.moduleHash,
    epoch: version.epoch,
    failure: version.failureAllow ? Verdict.ALLOW : Verdict.DENY,
    status,
    scopes: Scope.FLOW | Scope.ADDRESS | Scope.IDENTITY,
  });
}

function acknowledge(seq: number, act: () => void): void {
  try {
    act();
    send({ type: 'ack', seq });
  } catch (error) {
    send({ type: 'ack', seq, error: messageOf(error) });
  }
}

function handle(message: ToWorker): void {
  switch (message.type) {
    case 'cluster':
      for (const id of message.identitiesGone) evaluator.identities.delete(id);
      for (const { id, namespace, labels } of message.identities)
        evaluator.identities.set(id, { namespace: encoder.encode(namespace), labels: encoder.encode(labels) });
      for (const [address, name] of message.pods)
        if (name) evaluator.pods.set(address, encoder.encode(name));
        else evaluator.pods.delete(address);
      return;
    case 'plugin':
      acknowledge(message.seq, () => install(message.version));
      return;
    case 'remove':
      acknowledge(message.seq, () => {
        const plugin = evaluator.plugins.get(message.id);
        if (plugin && active) writeState(plugin.version, PluginStatus.OFF);
        evaluator.plugins.delete(message.id);
      });
      return;
    case 'switch-off': {
      const plugin = evaluator.plugins.get(message.id);
      if (!plugin) return;
      plugin.suspended = true;
      if (active) writeState(plugin.version, PluginStatus.OFF);
      return;
    }
    case 'resume': {
      const plugin = evaluator.plugins.get(message.id);
      if (plugin) plugin.suspended = false;
      return;
    }
    case 'activate':
      activate();
      return;
    case 'stop':
      stopping = true;
  }
}

function report(): void {
  const taken = evaluator.takeReport();
  if (taken) send({ type: 'report', ...taken });
  reportPending = false;
  reportedAt = performance.now();
}

function serveOnce(): void {
  const count = ring.drain(reportPending ? REPORT_MS : WAIT_MS);
  if (count) {
    evaluator.process(count);
    reportPending = true;
  }
  if (reportPending && (!count || performance.now() - reportedAt > 5 * REPORT_MS)) report();
}

function standBy(): void {
  const seen = Atomics.load(control, Control.WAKE);
  if (receiveOne() || takeOver()) return;
  Atomics.wait(control, Control.WAKE, seen, WATCH_MS);
}

/** Serves from now on: what the kernel holds for the present version of each plugin is what this thread runs. */
function activate(): void {
  active = true;
  for (const plugin of evaluator.plugins.values()) writeState(plugin.version, PluginStatus.ON);
}

/** Takes the ring from a worker whose evaluation overruns its budget, and finishes its batch. */
function takeOver(): boolean {
  const evaluation = Atomics.load(control, Control.EVALUATION);
  const now = performance.now();
  if (evaluation !== watched || evaluation <= 0) {
    watched = evaluation;
    watchedSince = now;
    return false;
  }
  if (now - watchedSince < Atomics.load(control, Control.BUDGET_MS)) return false;
  // From here on that worker decides nothing: it finds another number when the guest returns, and waits for its end.
  if (Atomics.compareExchange(control, Control.EVALUATION, evaluation, STOPPED) !== evaluation) return false;
  const id = Atomics.load(control, Control.PLUGIN);
  const plugin = evaluator.plugins.get(id);
  if (plugin) plugin.suspended = true;
  activate();
  send({ type: 'took-over', plugin: id });
  evaluator.finishUnfinished();
  reportPending = true;
  return true;
}

function receiveOne(): boolean {
  const received = receiveMessageOnPort(port);
  if (received) handle(received.message as ToWorker);
  return received !== undefined;
}

send({ type: 'ready' });
while (!stopping) {
  while (receiveOne());
  if (stopping) break;
  try {
    if (active) serveOnce();
    else standBy();
  } catch (error) {
    // What was held in this batch is lost; its senders try again. The kernel refusing a write is worth a word each time.
    send({ type: 'error', message: messageOf(error) });
  }
}
report();
parentPort?.close();
port.close();

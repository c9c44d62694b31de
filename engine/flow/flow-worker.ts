/**
 * A flow worker: the thread that waits for held packets, asks their plugins, writes verdicts and releases.
 *
 * It builds its rooms and runs one loop. Until it is activated it stands by: it has every plugin instantiated, a new
 * version is tried here before it serves, and it watches the worker that serves. One that overruns its budget loses the
 * ring to this thread at once, in the middle of a batch, whatever the main thread is busy with.
 */
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { Abi, PluginStatus, Scope, Verdict } from '../abi.gen.ts';
import { messageOf } from '../errors.ts';
import { AskRing } from '../kernel/ask-ring.ts';
import type { RingHandles } from '../kernel/datapath.ts';
import { DomainNames } from '../kernel/domain-names.ts';
import { mapFile } from '../kernel/mapped-file.ts';
import { flowHash } from '../plugin-runtime/context-writer.ts';
import { BATCH_BYTES, Control, type SharedMemory, STOPPED } from '../plugin-runtime/control.ts';
import { Guests } from '../plugin-runtime/loaded-plugins.ts';
import type { FromWorker, PluginSetup, ToWorker } from '../plugin-runtime/messages.ts';
import { wireToName } from '../policy/domain-name.ts';
import { Evaluator } from './evaluator.ts';

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
  batchBytes: BATCH_BYTES,
  verdictKeys: Buffer.from(memory.verdictKeys),
  verdictValues: Buffer.from(memory.verdictValues),
  offsets: Buffer.from(memory.offsets),
  errors: Buffer.from(memory.errors),
});
let active = false;
let stopping = false;
let reportPending = false;
let reportedAt = 0;
/** The evaluation that a standby sees under way, and since when. */
let watched = 0;
let watchedSince = 0;

const send = (message: FromWorker): void => port.postMessage(message);

const guests = new Guests(send, mapFile);
const domains = new DomainNames(handles.dnsNamesFd, wireToName);
const domain = (hash: string): string => domains.findByKey(hash);
const evaluator = new Evaluator({
  memory,
  kernel: ring,
  cluster: { identities: guests.identities, pods: guests.pods, domain },
  holdTimeoutMs,
  flowHash,
  onTrap: (running, error) => guests.replaceTrapped(running, error),
});

/** A standby tries new versions first; the active worker switches to them between two evaluations. */
function install(setup: PluginSetup): void {
  const plugin = guests.load(setup, evaluator.plugins.get(setup.id), !active);
  if (active) writeState(setup, PluginStatus.ON);
  evaluator.plugins.set(setup.id, plugin);
}

function writeState(setup: PluginSetup, status: PluginStatus): void {
  ring.writePluginState(setup.id, {
    name: setup.nameHash,
    module: setup.moduleHash,
    epoch: setup.epoch,
    failure: setup.failureAllow || !setup.enforced ? Verdict.ALLOW : Verdict.DENY,
    status,
    scopes: Scope.FLOW | Scope.ADDRESS | Scope.IDENTITY,
  });
}

function handle(message: ToWorker): void {
  switch (message.type) {
    case 'cluster':
      guests.setCluster(message);
      if (message.serverNames) evaluator.serverNames = message.serverNames;
      return;
    case 'plugin':
      guests.acknowledge(message.seq, () => install(message.setup));
      return;
    case 'remove':
      guests.acknowledge(message.seq, () => {
        const plugin = evaluator.plugins.get(message.id);
        if (plugin && active) writeState(plugin.setup, PluginStatus.OFF);
        evaluator.plugins.delete(message.id);
      });
      return;
    case 'switch-off': {
      const plugin = evaluator.plugins.get(message.id);
      if (!plugin) return;
      plugin.suspended = true;
      if (active) writeState(plugin.setup, PluginStatus.OFF);
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
  const taken = evaluator.reporter.take();
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
  for (const plugin of evaluator.plugins.values()) writeState(plugin.setup, PluginStatus.ON);
  const own = { name: 0n, module: 0n, epoch: 1, status: PluginStatus.ON, scopes: 0 };
  ring.writePluginState(Abi.SERVER_NAMES, { ...own, failure: Verdict.DENY });
  for (const id of [Abi.PIECES, Abi.ROUTES]) ring.writePluginState(id, { ...own, failure: Verdict.ALLOW });
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

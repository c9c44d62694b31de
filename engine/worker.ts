/**
 * A flow worker: the thread that waits for held packets, asks their plugins, writes verdicts and releases.
 *
 * It builds its rooms and runs one loop. Until it is activated it stands by: it has every plugin instantiated, a new
 * version is tried here before it serves, and it watches the worker that serves. One that overruns its budget loses the
 * ring to this thread at once, in the middle of a batch, whatever the main thread is busy with.
 */
import { randomInt } from 'node:crypto';
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { Abi, Context, PluginStatus, Scope, Verdict } from './abi.gen.ts';
import { messageOf } from './errors.ts';
import { BATCH_BYTES, Control, type SharedMemory, STOPPED } from './flow/control.ts';
import { Evaluator } from './flow/evaluator.ts';
import { LoadedPlugin, type RunningVersion } from './flow/loaded-plugin.ts';
import type { FromWorker, PluginSetup, PluginVersion, ToWorker } from './flow/messages.ts';
import { AskRing } from './kernel/ask-ring.ts';
import type { RingHandles } from './kernel/datapath.ts';
import { DomainNames } from './kernel/domain-names.ts';
import { mapFile } from './kernel/mapped-file.ts';
import { flowHash } from './plugins/context-writer.ts';
import { LOG_BURST, LOG_PER_SECOND, PluginTrap } from './plugins/host-functions.ts';
import { LineLimiter } from './plugins/line-limiter.ts';
import { createInstance, type Lender, type VersionParts } from './plugins/version-parts.ts';
import { wireToName } from './policy/domain-name.ts';
import { type IdentityTexts, Question } from './question.ts';

export interface WorkerData {
  readonly memory: SharedMemory;
  readonly handles: RingHandles;
  readonly holdTimeoutMs: number;
  readonly port: MessagePort;
}

/** Below the time after which the kernel takes a heartbeat for stale, by far. */
const WAIT_MS = 50;
const HOOKS = Object.values(Context);
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
const identities = new Map<number, IdentityTexts>();
const pods = new Map<string, Uint8Array>();
const encoder = new TextEncoder();
let active = false;
let stopping = false;
let reportPending = false;
let reportedAt = 0;
/** The evaluation that a standby sees under way, and since when. */
let watched = 0;
let watchedSince = 0;

const send = (message: FromWorker): void => port.postMessage(message);

const lender: Lender = {
  map: mapFile,
  seed: () => randomInt(2 ** 32),
  now: Date.now,
  log: (plugin, text) => {
    if (linesOf(`log ${plugin}`).take(performance.now()) !== undefined) send({ type: 'log', plugin, text });
  },
};

/** Instances count their own lines, and a trap makes a new one: what reaches the main thread is bounded here. */
const limiters = new Map<string, LineLimiter>();
function linesOf(who: string): LineLimiter {
  const found = limiters.get(who) ?? new LineLimiter(LOG_BURST, LOG_PER_SECOND);
  limiters.set(who, found);
  return found;
}

const domains = new DomainNames(handles.dnsNamesFd, wireToName);
const domain = (hash: string): string => domains.findByKey(hash);
const evaluator = new Evaluator({
  memory,
  kernel: ring,
  cluster: { identities, pods, domain },
  holdTimeoutMs,
  flowHash,
  onTrap: replaceTrapped,
});

/** After a trap a guest's state is undefined: it is dropped, and another one takes its place. */
function replaceTrapped(running: RunningVersion, error: Error): void {
  const { serial, parts } = running.version;
  // Each is counted; only some are told.
  if (linesOf(`trap ${(parts as VersionParts).plugin}`).take(performance.now()) !== undefined)
    send({ type: 'trap', serial, message: error.message, offsets: error instanceof PluginTrap ? error.offsets : [] });
  try {
    running.guest = createInstance(parts as VersionParts, lender);
  } catch (again) {
    running.guest = undefined;
    send({ type: 'trap', serial, message: messageOf(again), offsets: [] });
  }
}

/** A standby tries new versions first; the active worker switches to them between two evaluations. */
function install(setup: PluginSetup): void {
  const running = new Map(evaluator.plugins.get(setup.id)?.versions.map((one) => [one.version.serial, one]));
  const run = (version: PluginVersion): RunningVersion => {
    const known = running.get(version.serial);
    if (known?.guest) return known;
    if (!active) tryOnce(version.parts as VersionParts);
    const fresh = { version, guest: createInstance(version.parts as VersionParts, lender) };
    running.set(version.serial, fresh);
    return fresh;
  };
  const plugin = new LoadedPlugin(setup, run);
  if (active) writeState(setup, PluginStatus.ON);
  evaluator.plugins.set(setup.id, plugin);
}

/**
 * Asks a version what no policy asks, on tables of its own, to find one that traps or loops at once before it serves.
 * What is compiled by that is compiled for all threads.
 */
function tryOnce(parts: VersionParts): void {
  const { tablesDirectory: _live, ...own } = parts;
  const trial = createInstance(own, { ...lender, log: () => {} });
  const question = new Question();
  for (const hook of HOOKS) {
    if (!trial.answers(hook)) continue;
    question.hook = hook;
    try {
      if (trial.evaluate(question) < 0)
        throw new Error('it answers with a word that is no verdict, or says that it read what its manifest does not name');
    } catch (error) {
      throw new Error(`Cannot load module: asked once, with an empty question: ${messageOf(error)}`, { cause: error });
    }
  }
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
      for (const id of message.identitiesGone) identities.delete(id);
      for (const { id, namespace, labels } of message.identities)
        identities.set(id, { namespace: encoder.encode(namespace), labels: encoder.encode(labels) });
      for (const [address, name] of message.pods)
        if (name) pods.set(address, encoder.encode(name));
        else pods.delete(address);
      if (message.serverNames) evaluator.serverNames = message.serverNames;
      return;
    case 'plugin':
      acknowledge(message.seq, () => install(message.setup));
      return;
    case 'remove':
      acknowledge(message.seq, () => {
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
  ring.writePluginState(Abi.PIECES, { ...own, failure: Verdict.ALLOW });
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

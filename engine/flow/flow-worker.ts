/**
 * A flow worker: the thread that waits for held packets, asks their plugins, writes verdicts and releases.
 *
 * It builds its rooms and runs one loop. Until it is activated it stands by: it has every plugin instantiated, a new
 * version is tried here before it serves, and it watches the worker that serves. One that overruns its budget loses the
 * ring to this thread at once, in the middle of a batch, whatever the main thread is busy with.
 */
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { messageOf } from '../errors.ts';
import { AskRing } from '../kernel/ask-ring.ts';
import type { RingHandles } from '../kernel/datapath.ts';
import { DomainNames } from '../kernel/domain-names.ts';
import { mapFile } from '../kernel/mapped-file.ts';
import { flowHash } from '../plugin-runtime/context-writer.ts';
import { LoadedPlugins } from '../plugin-runtime/loaded-plugins.ts';
import type { FromWorker, ToWorker } from '../plugin-runtime/messages.ts';
import type { PluginSetup } from '../plugin-runtime/plugin-setup.ts';
import { wireToName } from '../policy/domain-name.ts';
import { StateMachine } from '../transitions.ts';
import { EvaluationGuard } from './evaluation-guard.ts';
import { Evaluator } from './evaluator.ts';
import { PluginStates } from './plugin-states.ts';
import { BATCH_BYTES, type SharedMemory } from './shared-memory.ts';
import { WORKER_ROLE } from './worker-role.ts';

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
const wake = new Int32Array(memory.wake);
const ring = new AskRing(handles, {
  turn: Buffer.from(memory.turn),
  batch: Buffer.from(memory.batch),
  batchBytes: BATCH_BYTES,
  verdictKeys: Buffer.from(memory.verdictKeys),
  verdictValues: Buffer.from(memory.verdictValues),
  offsets: Buffer.from(memory.offsets),
  errors: Buffer.from(memory.errors),
});
const role = new StateMachine(WORKER_ROLE, 'standby');
let reportPending = false;
let reportedAt = 0;

const send = (message: FromWorker): void => port.postMessage(message);

const loaded = new LoadedPlugins(send, mapFile);
const states = new PluginStates((id, state) => ring.writePluginState(id, state));
const guard = new EvaluationGuard(memory);
const domains = new DomainNames(handles.dnsNamesFd, wireToName);
const domain = (hash: string): string => domains.findByKey(hash);
const evaluator = new Evaluator({
  memory,
  guard,
  kernel: ring,
  cluster: { identities: loaded.identities, pods: loaded.pods, services: loaded.services, domain },
  holdTimeoutMs,
  flowHash,
  onTrap: (running, error) => loaded.replaceTrapped(running, error),
});

/** A standby tries new versions first; the worker that serves switches to them between two evaluations. */
function install(setup: PluginSetup): void {
  const plugin = loaded.load(setup, evaluator.plugins.get(setup.id), role.state === 'standby');
  states.run(setup);
  evaluator.plugins.set(setup.id, plugin);
}

function handle(message: ToWorker): void {
  switch (message.type) {
    case 'cluster':
      loaded.setCluster(message);
      if (message.serverNames) evaluator.serverNames = message.serverNames;
      return;
    case 'plugin':
      loaded.acknowledge(message.seq, () => install(message.setup));
      return;
    case 'remove':
      loaded.acknowledge(message.seq, () => {
        states.stop(message.id);
        evaluator.plugins.delete(message.id);
      });
      return;
    case 'declare':
      states.declare(message.id, message.state);
      return;
    case 'switch-off':
      evaluator.plugins.get(message.id)?.standing.on('switch off');
      states.stop(message.id);
      return;
    case 'resume':
      evaluator.plugins.get(message.id)?.standing.on('resume');
      return;
    case 'activate':
      role.on('activate');
      guard.resume();
      states.serve();
      return;
    case 'stop':
      role.on('stop');
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
  const seen = Atomics.load(wake, 0);
  if (receiveOne() || takeOver()) return;
  Atomics.wait(wake, 0, seen, WATCH_MS);
}

/** Takes the ring from a worker whose evaluation overruns its budget, and finishes its batch. */
function takeOver(): boolean {
  // From here on that worker decides nothing: it finds another number when the guest returns, and waits for its end.
  if (!guard.stopOverdue(performance.now())) return false;
  const id = guard.plugin;
  evaluator.plugins.get(id)?.standing.on('overrun');
  role.on('take over');
  // Said first: whatever fails from here on, the main thread knows that nobody but this thread serves.
  send({ type: 'took-over', plugin: id });
  guard.resume();
  try {
    states.serve();
  } finally {
    evaluator.finishUnfinished();
    reportPending = true;
  }
  return true;
}

function receiveOne(): boolean {
  const received = receiveMessageOnPort(port);
  if (received) handle(received.message as ToWorker);
  return received !== undefined;
}

send({ type: 'ready' });
while (role.state !== 'stopping') {
  while (receiveOne());
  try {
    if (role.state === 'serving') serveOnce();
    else if (role.state === 'standby') standBy();
  } catch (error) {
    // The packets of this batch are lost; their senders try again. The kernel refusing a write is worth a word each time.
    send({ type: 'error', message: messageOf(error) });
  }
}
report();
parentPort?.close();
port.close();

/** The flow workers between fake threads: somebody serves, whoever ends and whenever; a version is in force everywhere or nowhere. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { EvaluationGuard } from '../../../engine/flow/evaluation-guard.ts';
import type { SharedMemory } from '../../../engine/flow/shared-memory.ts';
import { silentLogger } from '../../../engine/log.ts';
import { Briefing } from '../../../engine/threads/briefing.ts';
import { FlowWorkers } from '../../../engine/threads/flow-workers.ts';
import { type FakeThread, FakeThreads } from '../../support/fake-threads.ts';
import { setup } from '../../support/plugin-threads.ts';

let threads: FakeThreads;
let briefing: Briefing;
let workers: FlowWorkers;
let errors: string[];
let timeouts: [number, boolean][];
beforeEach(() => {
  vi.useFakeTimers();
  threads = new FakeThreads();
  briefing = new Briefing();
  errors = [];
  timeouts = [];
  workers = new FlowWorkers({
    module: { worker: new URL('file:///none'), data: {} },
    briefing,
    wakeServing: () => {},
    events: {
      report: () => {},
      trap: () => {},
      log: () => {},
      timeout: (id, off) => {
        timeouts.push([id, off]);
        if (off) briefing.switchOff(id);
      },
      error: (reason) => errors.push(reason),
    },
    log: silentLogger,
    supervision: { launch: threads.launch, pauses: { readyMs: 1000, restartMs: 100, restartMaxMs: 1000 } },
  });
});
afterEach(() => {
  vi.useRealTimers();
});
const pass = (ms = 0): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);

/** Two workers: the first serves, the second stands by. */
async function serve(): Promise<{ serving: FakeThread; standby: FakeThread }> {
  const starting = workers.start();
  threads.at(0).ready();
  await starting;
  const serving = workers.serve();
  threads.at(1).ready();
  await serving;
  return { serving: threads.at(0), standby: threads.at(1) };
}

/** A version that both take. */
async function install(fields: Parameters<typeof setup>[0] = {}): Promise<void> {
  const [serving, standby] = [threads.at(0), threads.at(1)];
  const installing = workers.install(setup(fields));
  await pass();
  standby.answer('plugin');
  await pass();
  serving.answer('plugin');
  await installing;
}

const guard = (): EvaluationGuard => new EvaluationGuard(threads.at(0).data.memory as SharedMemory);
/** Of an evaluation that takes too long, in the memory of all: as a standby does. */
function stopEvaluation(): void {
  const [worker, watcher] = [guard(), guard()];
  worker.begin(5, 5);
  watcher.stopOverdue(0);
  expect(watcher.stopOverdue(10)).toBe(true);
}
/** Epochs that a thread was told to run, in their order. */
const epochs = ({ told }: FakeThread): number[] =>
  told.filter(({ type }) => type === 'plugin').map(({ setup }) => (setup as { epoch: number }).epoch);

describe('serving', () => {
  test('begins with the first worker, when it is told to, and another one stands by', async () => {
    const { serving, standby } = await serve();
    expect([serving.types.includes('activate'), standby.types.includes('activate'), threads.all.length]).toEqual([true, false, 2]);
  });

  test('cannot begin where the first does not start: the reason is told', async () => {
    const starting = workers.start();
    threads.at(0).say({ type: 'failed', reason: 'no memory' });
    await expect(starting).rejects.toThrow('Cannot start a flow worker: no memory');
  });

  test('goes on with the standby when the serving worker ends by itself', async () => {
    const { serving, standby } = await serve();
    serving.end('out of memory');
    expect(standby.types.at(-1)).toBe('activate');
    expect([errors, threads.all.length]).toEqual([['flow worker failed: out of memory'], 3]);
  });

  test('goes on with the next one that is ready where the serving worker ends and there is no standby', async () => {
    const { serving, standby } = await serve();
    standby.end();
    serving.end();
    await pass(100);
    expect(threads.at(2).types).not.toContain('activate');
    threads.at(2).ready();
    expect(threads.at(2).types).toContain('activate');
    expect(threads.all.length).toBe(4);
  });

  test('is taken over: the stopped worker is ended, another standby starts, and the plugin waits for it', async () => {
    const { serving, standby } = await serve();
    standby.say({ type: 'took-over', plugin: 5 });
    expect([serving.terminations, standby.types.includes('activate'), threads.all.length]).toEqual([1, false, 3]);
    expect(timeouts).toEqual([[5, false]]);
    workers.post({ type: 'resume', id: 9 });
    expect(standby.types.at(-1)).toBe('resume');
    expect(standby.told.filter(({ id }) => id === 5)).toEqual([]);
    threads.at(2).ready();
    expect(standby.told.at(-1)).toEqual({ type: 'resume', id: 5 });
    expect(errors).toEqual([]);
  });

  test('a plugin that overran three times is switched off before there is a standby, and not resumed', async () => {
    await serve();
    await install();
    for (let i = 1; i <= 3; i++) {
      threads.at(i).say({ type: 'took-over', plugin: 5 });
      threads.at(i + 1).ready();
    }
    expect(timeouts).toEqual([
      [5, false],
      [5, false],
      [5, true],
    ]);
    expect(threads.at(4).told).toContainEqual({ type: 'switch-off', id: 5 });
    expect(threads.at(3).told).not.toContainEqual({ type: 'resume', id: 5 });
  });

  test.each([
    { name: 'before it is ready', order: ['took-over', 'ready'] },
    { name: 'after it is ready', order: ['ready', 'took-over'] },
  ])('is not given up where a standby that is being ended takes over: the next one serves, also $name', async ({ order }) => {
    threads.endsAtOnce = false;
    const { serving, standby } = await serve();
    const installing = workers.install(setup());
    await pass();
    standby.answer('plugin', 'refused');
    await pass();
    expect(standby.terminations).toBe(1);
    for (const what of order)
      if (what === 'ready') threads.at(2).ready();
      else standby.say({ type: 'took-over', plugin: 7 });
    expect(serving.terminations).toBe(1);
    expect(threads.at(2).types).toContain('activate');
    await expect(installing).rejects.toThrow('refused');
  });

  test('is not given up where a standby stops an evaluation and ends before it says so', async () => {
    const { serving, standby } = await serve();
    stopEvaluation();
    standby.end('out of memory');
    await pass(100);
    expect(serving.ended).toBe(true);
    threads.at(2).ready();
    expect(threads.at(2).types).toContain('activate');
  });

  test('goes on where the worker that was stopped ends while the one that took over has not begun yet', async () => {
    const { standby } = await serve();
    stopEvaluation();
    standby.say({ type: 'took-over', plugin: 5 });
    await pass();
    expect([threads.at(0).ended, standby.terminations]).toEqual([true, 0]);
  });
});

describe('a version', () => {
  test('is tried in the standby, and the serving worker switches when that said that it starts', async () => {
    const { serving, standby } = await serve();
    const installing = workers.install(setup());
    await pass();
    expect([epochs(standby), epochs(serving)]).toEqual([[1], []]);
    standby.answer('plugin');
    await pass();
    expect(epochs(serving)).toEqual([1]);
    serving.answer('plugin');
    await installing;
  });

  test.each([
    { name: 'is refused', act: (standby: FakeThread) => standby.answer('plugin', 'Cannot load module: it traps'), reason: 'it traps' },
    { name: 'hangs', act: () => vi.advanceTimersByTime(1000), reason: 'it did not start within 1000 ms' },
    { name: 'ends the standby', act: (standby: FakeThread) => standby.end('gone'), reason: 'the flow worker ended' },
  ])('that $name in its trial leaves what is in force as it is, and no worker with it', async ({ act, reason }) => {
    const { serving, standby } = await serve();
    await install({ epoch: 1 });
    const installing = workers.install(setup({ epoch: 2 }));
    installing.catch(() => {});
    await pass();
    act(standby);
    await pass(100);
    threads.last.ready();
    await expect(installing).rejects.toThrow(reason);
    expect([standby.ended, threads.all.length]).toEqual([true, 3]);
    expect([epochs(serving), epochs(threads.last)]).toEqual([[1], [1]]);
  });

  test('that the serving worker refuses is in force nowhere: whoever takes over runs the one before', async () => {
    const { serving, standby } = await serve();
    await install({ epoch: 1 });
    const installing = workers.install(setup({ epoch: 2 }));
    await pass();
    standby.answer('plugin');
    await pass();
    serving.answer('plugin', 'Cannot write plugin state: EINVAL');
    await pass();
    expect(standby.ended).toBe(true);
    threads.last.ready();
    await expect(installing).rejects.toThrow('EINVAL');
    expect(epochs(threads.last)).toEqual([1]);
  });

  test('that the first of its plugin is, and refused, leaves the state that was declared', async () => {
    const { serving, standby } = await serve();
    const state = { name: 1n, module: 0n, epoch: 1, failure: 1, status: 0, scopes: 0 };
    briefing.declare(5, state);
    const installing = workers.install(setup({ epoch: 2 }));
    await pass();
    standby.answer('plugin');
    await pass();
    serving.answer('plugin', 'no');
    await pass();
    threads.last.ready();
    await expect(installing).rejects.toThrow('no');
    expect(threads.last.told[0]).toEqual({ type: 'declare', id: 5, state });
    expect(epochs(threads.last)).toEqual([]);
  });

  test('that the serving worker is silent about ends that worker, and the standby serves with it', async () => {
    const { serving, standby } = await serve();
    const installing = workers.install(setup());
    await pass();
    standby.answer('plugin');
    await pass(1000);
    expect(serving.ended).toBe(true);
    expect(standby.types.slice(-2)).toEqual(['activate', 'plugin']);
    standby.answer('plugin');
    await installing;
  });

  test('is asked of the standby that takes over while the serving worker switches', async () => {
    const { serving, standby } = await serve();
    const installing = workers.install(setup());
    await pass();
    standby.answer('plugin');
    await pass();
    standby.say({ type: 'took-over', plugin: 5 });
    await pass();
    expect(serving.ended).toBe(true);
    expect(epochs(standby)).toEqual([1, 1]);
    standby.answer('plugin');
    await installing;
  });

  test('in force begins with no time-outs', async () => {
    await serve();
    await install();
    for (let i = 1; i <= 2; i++) {
      threads.at(i).say({ type: 'took-over', plugin: 5 });
      threads.at(i + 1).ready();
    }
    const installing = workers.install(setup({ epoch: 2 }));
    await pass();
    threads.at(3).answer('plugin');
    await pass();
    threads.at(2).answer('plugin');
    await installing;
    threads.at(3).say({ type: 'took-over', plugin: 5 });
    expect(timeouts.map(([, off]) => off)).toEqual([false, false, false]);
  });

  test('waits for a standby where there is none yet', async () => {
    const { standby } = await serve();
    standby.say({ type: 'took-over', plugin: 7 });
    const installing = workers.install(setup());
    await pass();
    expect(epochs(standby)).toEqual([]);
    threads.at(2).ready();
    await pass();
    threads.at(2).answer('plugin');
    await pass();
    standby.answer('plugin');
    await installing;
  });
});

describe('a plugin that is removed', () => {
  test('is asked by neither, and by none to come', async () => {
    const { serving, standby } = await serve();
    await install();
    const removing = workers.remove(5);
    expect([serving.types.at(-1), standby.types.at(-1)]).toEqual(['remove', 'remove']);
    standby.answer('remove');
    serving.answer('remove');
    await removing;
    serving.end();
    expect(epochs(threads.last)).toEqual([]);
  });

  test('is removed from the standby that takes over meanwhile', async () => {
    const { standby } = await serve();
    await install();
    const removing = workers.remove(5);
    standby.say({ type: 'took-over', plugin: 5 });
    standby.answer('remove');
    await removing;
    expect(standby.types).toContain('remove');
  });

  test('does not wait for a standby that starts: it is told before anything else', async () => {
    const { serving, standby } = await serve();
    standby.end();
    await pass(100);
    const removing = workers.remove(5);
    serving.answer('remove');
    await pass(999);
    threads.last.ready();
    await pass(1);
    await removing;
    expect(threads.last.types.at(-1)).toBe('remove');
  });

  test.each([
    { name: 'says nothing', act: () => vi.advanceTimersByTime(1000), reason: 'did not say within' },
    { name: 'cannot', act: (serving: FakeThread) => serving.answer('remove', 'EINVAL'), reason: 'EINVAL' },
  ])('is not said to be where the serving worker $name', async ({ act, reason }) => {
    const { serving, standby } = await serve();
    const removing = workers.remove(5);
    removing.catch(() => {});
    standby.answer('remove');
    act(serving);
    await expect(removing).rejects.toThrow(reason);
  });
});

test('close() ends both by their own word, starts none, and refuses versions', async () => {
  const { serving, standby } = await serve();
  const closing = workers.close();
  expect([serving.types.at(-1), standby.types.at(-1)]).toEqual(['stop', 'stop']);
  standby.say({ type: 'took-over', plugin: 5 });
  await pass(2000);
  await closing;
  await pass(60_000);
  expect([threads.all.length, errors]).toEqual([2, []]);
  await expect(workers.install(setup())).rejects.toThrow('the engine is stopping');
});

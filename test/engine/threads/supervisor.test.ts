/** One thread of a kind is kept, whatever becomes of it: threads here do what a test says, and time passes as it says. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { launchWorker } from '../../../engine/threads/launch.ts';
import { Supervisor, type SupervisorOptions } from '../../../engine/threads/supervisor.ts';
import { FakeThreads, type Message } from '../../support/fake-threads.ts';

const PAUSES = { readyMs: 1000, restartMs: 100, restartMaxMs: 350 };
const MODULE = { worker: new URL('file:///none'), data: { speaks: 'HTTP/1' } };
type Options = SupervisorOptions<Message, Message>;

let threads: FakeThreads;
/** Everything that it told others, in its order. */
let told: string[];
let brief: Message[];
beforeEach(() => {
  vi.useFakeTimers();
  threads = new FakeThreads();
  told = [];
  brief = [];
});
afterEach(() => {
  vi.useRealTimers();
});

function make(options: Partial<Options> = {}): Supervisor<Message, Message> {
  return new Supervisor<Message, Message>({
    module: MODULE,
    launch: threads.launch,
    brief: () => brief,
    wake: () => told.push('wake'),
    pauses: PAUSES,
    events: {
      receive: (_thread, { type }) => told.push(`says ${type}`),
      ready: (_thread, again) => told.push(again ? 'ready again' : 'ready'),
      failed: (_thread, reason) => told.push(`failed: ${reason}`),
      ended: ({ handle }) => told.push(`ended ${handle}`),
    },
    ...options,
  });
}
const heard = (): string[] => told.filter((each) => each !== 'wake');
const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);

describe('a thread that starts', () => {
  test('is told everything before anything else, and start() returns when it is ready', async () => {
    brief = [{ type: 'cluster' }, { type: 'plugin' }];
    const supervisor = make();
    let started = false;
    const starting = supervisor.start().then(() => {
      started = true;
    });
    supervisor.post({ type: 'policy' });
    await pass(0);
    expect([started, threads.last.types]).toEqual([false, ['cluster', 'plugin', 'policy']]);
    threads.last.ready();
    await starting;
    expect(heard()).toEqual(['ready']);
  });

  test.each([
    { name: 'ends', act: () => threads.last.end(), reason: 'it ended' },
    { name: 'ends by an error', act: () => threads.last.end('out of memory'), reason: 'out of memory' },
    { name: 'says that it failed', act: () => threads.last.say({ type: 'failed', reason: 'no right' }), reason: 'no right' },
    { name: 'is not ready in time', act: () => vi.advanceTimersByTime(1000), reason: 'it was not ready within 1000 ms' },
  ])('and $name is told with its reason, start() returns, and another one is started after a pause', async ({ act, reason }) => {
    const supervisor = make();
    const starting = supervisor.start();
    act();
    await starting;
    expect(await supervisor.whenReady()).toBeUndefined();
    expect(heard()).toEqual(['ended 0', `failed: ${reason}`]);
    expect([supervisor.problem, threads.all.length]).toEqual([reason, 1]);
    await pass(100);
    expect(threads.all.length).toBe(2);
    threads.last.ready();
    expect([supervisor.problem, supervisor.thread?.state]).toEqual([undefined, 'ready']);
    expect(heard().at(-1)).toBe('ready again');
  });

  test('is started again after pauses that double up to a bound, and the same reason is told once; one that was ready begins anew', async () => {
    const supervisor = make();
    void supervisor.start();
    for (const pause of [100, 200, 350, 350]) {
      const before = threads.all.length;
      threads.last.end('no room');
      await pass(pause - 1);
      expect(threads.all.length).toBe(before);
      await pass(1);
      expect(threads.all.length).toBe(before + 1);
    }
    expect(heard().filter((each) => each === 'failed: no room').length).toBe(1);
    threads.last.ready();
    threads.last.end('no room');
    expect(heard().filter((each) => each === 'failed: no room').length).toBe(2);
    await pass(100);
    expect(threads.all.length).toBe(6);
  });

  test('and was to be ended before it is not taken for ready, although it says so', async () => {
    threads.endsAtOnce = false;
    const supervisor = make();
    void supervisor.start();
    const late = threads.last;
    await pass(1000);
    late.ready(7);
    expect(heard()).toEqual([]);
    expect([supervisor.take(), supervisor.thread?.state]).toEqual([undefined, 'ending']);
    late.end();
    // Whatever it holds is known all the same: somebody has to clean up behind it.
    expect(heard()).toEqual(['ended 7', 'failed: it was not ready within 1000 ms']);
  });

  test('and is replaced before it was ready tells nobody that there is one', async () => {
    threads.endsAtOnce = false;
    const supervisor = make();
    void supervisor.start();
    const replaced = supervisor.replace();
    threads.at(0).ready();
    threads.at(0).end();
    expect(heard()).toEqual(['ended 0']);
    threads.at(1).ready();
    await replaced;
    expect(heard()).toEqual(['ended 0', 'ready again']);
  });
});

describe('a thread that is ready', () => {
  let supervisor: Supervisor<Message, Message>;
  const start = async (options: Partial<Options> = {}): Promise<void> => {
    supervisor = make(options);
    void supervisor.start();
    threads.last.ready(3);
    await pass(0);
    told.length = 0;
  };

  test('has its answers by their numbers, what it says by itself is passed on, and nobody waits for one that has ended', async () => {
    await start();
    const [first, second] = [
      supervisor.ask((seq) => ({ type: 'a', seq }), 500),
      supervisor.ask((seq) => ({ type: 'b', seq }), 500),
    ] as const;
    threads.last.answer('b', 'refused');
    threads.last.say({ type: 'report' });
    expect(await second).toMatchObject({ error: 'refused' });
    threads.last.end();
    expect(await first).toBeUndefined();
    expect(heard()).toEqual(['says report', 'ended 3', 'failed: it ended']);
  });

  test('and does not answer in time has no answer; what it says later is nobody’s', async () => {
    await start();
    const asked = supervisor.ask((seq) => ({ type: 'a', seq }), 500);
    await pass(500);
    expect(await asked).toBeUndefined();
    threads.last.answer('a');
    expect(heard()).toEqual([]);
  });

  test('and is handed out has nobody in its place until one is started, and its end is told each time', async () => {
    await start();
    const taken = supervisor.take();
    expect([supervisor.thread, supervisor.post({ type: 'policy' })]).toEqual([undefined, false]);
    threads.at(0).end('lost');
    await pass(10_000);
    expect(threads.all.length).toBe(1);
    expect([heard(), supervisor.problem, taken?.state]).toEqual([['ended 3', 'failed: lost'], undefined, 'ended']);
    void supervisor.start();
    threads.at(1).ready();
    expect((await supervisor.whenReady())?.state).toBe('ready');
  });

  test('and says nothing while it is looked after is replaced; one that says something is not', async () => {
    await start({ watch: { everyMs: 50, missedMax: 2, ping: { type: 'ping' } } });
    for (let i = 0; i < 5; i++) {
      await pass(100);
      threads.at(0).say({ type: 'pong' });
    }
    expect(threads.at(0).terminations).toBe(0);
    await pass(150);
    expect(threads.at(0).terminations).toBe(1);
    expect(supervisor.problem).toContain('does not answer');
    await pass(100);
    expect(threads.all.length).toBe(2);
    // One that starts is given the time that it has for that.
    await pass(900);
    expect(threads.at(1).terminations).toBe(0);
  });

  test('whenReady() waits for the one that takes the place of the one that is waited for', async () => {
    await start();
    void supervisor.replace();
    const waiting = supervisor.whenReady();
    void supervisor.replace();
    await pass(0);
    threads.at(2).ready();
    expect(await waiting).toBe(supervisor.thread);
  });
});

describe('close()', () => {
  const stop: Message = { type: 'stop' };

  test('has a thread end as it is told to, which is no failure, and starts none any more', async () => {
    const supervisor = make();
    void supervisor.start();
    threads.last.ready();
    const closing = supervisor.close(stop, 2000);
    expect([threads.last.types, threads.last.terminations]).toEqual([['stop'], 0]);
    threads.last.end();
    await closing;
    await supervisor.replace();
    await supervisor.start();
    await pass(60_000);
    expect([threads.all.length, heard()]).toEqual([1, ['ready', 'ended 0']]);
  });

  test('ends a thread that does not when its time is over', async () => {
    const supervisor = make();
    void supervisor.start();
    threads.last.ready();
    const closing = supervisor.close(stop, 2000);
    await pass(1999);
    expect(threads.last.terminations).toBe(0);
    await pass(1);
    await closing;
    expect(threads.last.ended).toBe(true);
  });

  test.each([
    { name: 'between two attempts', act: () => threads.last.end() },
    { name: 'while one starts', act: () => {} },
  ])('$name starts none any more', async ({ act }) => {
    const supervisor = make();
    void supervisor.start();
    act();
    const closing = supervisor.close(stop, 2000);
    if (!threads.last.ended) threads.last.end();
    await closing;
    expect(threads.all.length).toBe(1);
    // Nor is there a clock that runs on.
    expect(vi.getTimerCount()).toBe(0);
  });

  test('returns when nobody is left: neither one that was handed out, nor one that was replaced and does not end at once', async () => {
    threads.endsAtOnce = false;
    const supervisor = make();
    void supervisor.start();
    threads.at(0).ready();
    supervisor.take();
    void supervisor.start();
    threads.at(1).ready();
    void supervisor.replace();
    threads.at(2).ready();
    let closed = false;
    const closing = supervisor.close(stop, 2000).then(() => {
      closed = true;
    });
    for (const each of [0, 2, 1]) {
      await pass(0);
      expect(closed).toBe(false);
      threads.at(each).end();
    }
    await closing;
    expect(threads.all.map(({ types }) => types)).toEqual([['stop'], [], ['stop']]);
  });
});

describe('launchWorker()', () => {
  test('hears the last words of a thread that says more than can be listened to by then, and then why it ended', async () => {
    vi.useRealTimers();
    const script = `import { workerData } from 'node:worker_threads';
      for (let i = 0; i < 50000; i++) workerData.port.postMessage(i);
      throw new Error('on purpose');`;
    let messages = 0;
    let error = '';
    await new Promise<void>((resolve) =>
      launchWorker(
        { worker: new URL(`data:text/javascript,${encodeURIComponent(script)}`), data: {} },
        { message: () => (messages += 1), error: ({ message }) => (error = message), exit: resolve },
      ),
    );
    expect([messages, error]).toEqual([50_000, 'on purpose']);
  });
});

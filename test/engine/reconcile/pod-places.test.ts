/** When the node is read, and who is told what: pods come and go, and clocks are the test's. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { EngineError } from '../../../engine/errors.ts';
import type { Veth } from '../../../engine/kernel/veths.ts';
import { silentLogger } from '../../../engine/log.ts';
import type { Pod } from '../../../engine/policy/objects.ts';
import { PodPlaces } from '../../../engine/reconcile/pod-places.ts';
import type { SandboxRecord } from '../../../engine/reconcile/sandbox-records.ts';
import { localPod, sandboxRecord, veth } from '../../support/local-pods.ts';

class Stand {
  veths: Veth[] = [];
  records: SandboxRecord[] = [];
  fails = false;
  /** How many milliseconds a reading takes. */
  takesMs = 0;
  /** When each reading began. */
  readonly readMs: number[] = [];
  recordsChanged: () => void = () => undefined;
  changes = 0;
  readonly places: PodPlaces;
  #pods: readonly Pod[] = [];

  constructor() {
    this.places = new PodPlaces({
      readVeths: async () => {
        this.readMs.push(performance.now());
        const veths = [...this.veths];
        if (this.takesMs) await new Promise((resolve) => setTimeout(resolve, this.takesMs));
        if (this.fails) throw new EngineError('KERNEL_CALL', 'Cannot list the veths of this node: EAGAIN');
        return { veths, networks: new Map() };
      },
      records: { read: () => this.records, follow: (onChange) => (this.recordsChanged = onChange), close: () => undefined },
      log: silentLogger,
    });
    this.places.onChange = () => void (this.changes += 1);
  }

  /** Has these pods be those of the node; returns the names of those that are elsewhere. */
  tell(...pods: Pod[]): string[] {
    const changed = [...this.#pods, ...pods];
    this.#pods = pods;
    return this.places.update(changed, (pod) => pods.includes(pod)).map(({ name }) => name);
  }

  /** Takes over what a reading brought. */
  take(): string[] {
    return this.places.update([], () => true).map(({ name }) => name);
  }

  idsOf(pod: Pod): number[] {
    return this.places.find(pod).sites.map(({ id }) => id);
  }
}

const web = localPod('web', ['10.0.0.1']);
const wait = (ms: number) => vi.advanceTimersByTimeAsync(ms);

describe('pods of this node', () => {
  let stand: Stand;
  beforeEach(() => {
    vi.useFakeTimers();
    stand = new Stand();
  });
  afterEach(async () => {
    const closed = stand.places.close();
    await wait(1000);
    await closed;
    expect(vi.getTimerCount()).toBe(0);
    vi.useRealTimers();
  });

  test('nothing is read while there are none', async () => {
    stand.tell(localPod('file', [], { interface: 'i-file' }), localPod('away', ['10.0.0.9'], { local: undefined as never }));
    stand.recordsChanged();
    await stand.places.look([]);
    await wait(60_000);
    expect(stand.readMs).toEqual([]);
  });

  test('one that is named is looked for at once, and nothing is said of it before', async () => {
    stand.veths = [veth(5, ['10.0.0.1'])];
    stand.tell(web);
    expect(stand.places.find(web)).toEqual({ sites: [] });
    await wait(1);
    expect(stand.changes).toBe(1);
    expect(stand.take()).toEqual(['web']);
    expect(stand.idsOf(web)).toEqual([5]);
    expect(stand.take()).toEqual([]);
  });

  test('one that is there already is found before it is told', async () => {
    stand.veths = [veth(5, ['10.0.0.1'])];
    await stand.places.look([web]);
    expect(stand.tell(web)).toEqual(['web']);
    expect(stand.idsOf(web)).toEqual([5]);
  });

  test('one that is not found is looked for after 100 ms, then ever more rarely, every 5 s at last', async () => {
    stand.tell(web);
    await wait(30_000);
    const waits = stand.readMs.slice(1).map((ms, i) => Math.round(ms - (stand.readMs[i] as number)));
    expect(waits.slice(0, 8)).toEqual([100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    expect(stand.take()).toEqual(['web']);
    expect(stand.places.find(web).problem?.pending).toBe(true);
    stand.veths = [veth(5, ['10.0.0.1'])];
    await wait(5000);
    expect(stand.take()).toEqual(['web']);
    expect(stand.places.find(web)).toMatchObject({ sites: [{ id: 5 }] });
  });

  test('one that was only written anew stays where it is, and is not looked for', async () => {
    stand.veths = [veth(5, ['10.0.0.1'])];
    stand.tell(web);
    await wait(1);
    stand.take();
    const labelled = { ...web, labels: new Map([['app', 'other']]) };
    expect(stand.tell(labelled)).toEqual([]);
    await wait(1000);
    expect(stand.idsOf(labelled)).toEqual([5]);
    expect(stand.readMs).toHaveLength(1);
  });

  test('what the runtime notes is read at once, however often it is told only each 50 ms', async () => {
    stand.tell(localPod('quiet', []));
    stand.recordsChanged();
    await wait(1);
    const before = stand.readMs.length;
    for (let i = 0; i < 100; i++) {
      stand.recordsChanged();
      await wait(1);
    }
    expect(stand.readMs.length - before).toBe(2);
    stand.records = [sandboxRecord('web', { interfaces: ['veth5'] })];
    stand.veths = [veth(5, [])];
    await wait(50);
    expect(stand.tell(web)).toEqual(['web']);
    expect(stand.idsOf(web)).toEqual([5]);
  });

  test('a change during a reading has another one follow', async () => {
    stand.takesMs = 300;
    stand.tell(web);
    await wait(100);
    stand.veths = [veth(5, ['10.0.0.1'])];
    stand.places.lookSoon();
    await wait(600);
    stand.take();
    expect(stand.idsOf(web)).toEqual([5]);
  });

  test('everything is read again every 30 s', async () => {
    stand.veths = [veth(5, ['10.0.0.1'])];
    stand.tell(web);
    await wait(1);
    stand.take();
    stand.veths = [veth(6, ['10.0.0.1'])];
    await wait(30_000);
    expect(stand.take()).toEqual(['web']);
    expect(stand.idsOf(web)).toEqual([6]);
  });

  test('a reading that fails moves nobody, and is made again; who waits for it hears of it', async () => {
    stand.veths = [veth(5, ['10.0.0.1'])];
    stand.tell(web);
    await wait(1);
    stand.take();
    stand.fails = true;
    await expect(stand.places.look([])).rejects.toThrow('EAGAIN');
    stand.veths = [];
    stand.places.lookSoon();
    await wait(1000);
    expect(stand.take()).toEqual([]);
    expect(stand.idsOf(web)).toEqual([5]);
    stand.fails = false;
    await wait(30_000);
    expect(stand.take()).toEqual(['web']);
  });

  test('one that goes is forgotten, and nothing is read any more', async () => {
    stand.veths = [veth(5, ['10.0.0.1'])];
    stand.tell(web);
    await wait(1);
    stand.tell();
    expect(stand.places.find(web)).toEqual({ sites: [] });
    const before = stand.readMs.length;
    await wait(60_000);
    expect(stand.readMs.length - before).toBe(0);
  });
});

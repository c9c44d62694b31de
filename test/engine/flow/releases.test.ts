/** Releases leave a worker for the kernel in their order; nothing leaves twice or is left behind. */
import { beforeEach, describe, expect, test } from 'vitest';
import { Abi, Context, PluginAction, Scope, Verdict } from '../../../engine/abi.gen.ts';
import { BatchInHand } from '../../../engine/flow/batch-in-hand.ts';
import { Result } from '../../../engine/flow/batch-results.ts';
import { Releases } from '../../../engine/flow/releases.ts';
import { Settlement } from '../../../engine/flow/settlement.ts';
import { BATCH_BYTES, BATCH_RECORDS_MAX, createSharedMemory, type SharedMemory } from '../../../engine/flow/shared-memory.ts';
import type { Content } from '../../../engine/held/content.ts';
import { FakeKernel } from '../../support/fake-kernel.ts';
import { held } from '../../support/held.ts';
import { tcp } from '../../support/packets.ts';
import { FakeGuest, fill, loaded, word } from '../../support/plugin-threads.ts';

const packet = (sport: number, payload = 0) =>
  held(tcp({ sport, dport: 443, flags: 'PA', payload }), { context: Context.CONNECT, plugin: 5 });

let memory: SharedMemory;
let kernel: FakeKernel;
beforeEach(() => {
  memory = createSharedMemory();
  kernel = new FakeKernel(memory);
});
const ports = (): number[] => kernel.released.map(({ sourcePort }) => sourcePort);

describe('Releases', () => {
  let releases: Releases;
  beforeEach(() => {
    releases = new Releases(memory, kernel);
  });

  test('sends what comes in between in the order that it came in, each with its own mark', () => {
    fill(memory, [packet(1)]);
    releases.send(packet(2), 'decided');
    releases.release(0);
    releases.send(packet(3), 'passed');
    releases.send(packet(4), 'plain');
    expect(releases.flush()).toBe(0);
    expect(kernel.released.map(({ sourcePort, mark }) => [sourcePort, mark])).toEqual([
      [2, 'decided'],
      [1, ''],
      [3, 'passed'],
      [4, ''],
    ]);
  });

  test('sends each packet once, however often it is flushed', () => {
    releases.send(packet(1), 'plain');
    releases.flush();
    releases.flush();
    expect(ports()).toEqual([1]);
  });

  test('makes room where more is sent than there is room for, and loses none', () => {
    const sports = Array.from({ length: 300 }, (_, i) => i + 1);
    for (const sport of sports) releases.send(packet(sport, 1400), 'decided');
    expect(ports().length).toBeGreaterThan(0);
    releases.flush();
    expect(ports()).toEqual(sports);
    for (const { bytes } of kernel.released) expect(bytes.length).toBe(14 + 20 + 20 + 1400);
  });

  test('writes verdicts once, with the first packets that go, where there is no room for all', () => {
    releases.addVerdict();
    for (let i = 0; i <= BATCH_RECORDS_MAX; i++) releases.release(0);
    releases.flush();
    expect(kernel.order[0]).toBe('verdict');
    expect(kernel.verdicts.length).toBe(1);
    expect(kernel.released.length).toBe(BATCH_RECORDS_MAX + 1);
  });

  test('tells failures of all settlements once', () => {
    kernel.failures = 2;
    for (let i = 0; i <= BATCH_RECORDS_MAX; i++) releases.release(0);
    expect(releases.flush()).toBe(2);
    releases.release(0);
    expect(releases.flush()).toBe(0);
  });

  test('begins anew behind the batch when what is here is abandoned', () => {
    releases.addVerdict();
    releases.send(packet(1), 'plain');
    releases.abandon();
    releases.send(packet(2), 'plain');
    releases.flush();
    expect(kernel.verdicts).toEqual([]);
    expect(ports()).toEqual([2]);
    expect(new Uint32Array(memory.offsets)[0]).toBe(BATCH_BYTES);
  });
});

describe('Settlement', () => {
  let batch: BatchInHand;
  let settlement: Settlement;
  const { ALLOW, DENY } = PluginAction;
  beforeEach(() => {
    batch = new BatchInHand(memory);
    settlement = new Settlement(batch, memory, kernel);
    batch.plugins.set(5, loaded({ live: new FakeGuest(word(ALLOW)) }));
  });
  /** Settles packets of ports 1, 2, … with these words; undefined fails. */
  const settle = (...words: (number | undefined)[]): number => {
    const count = fill(
      memory,
      words.map((_, i) => packet(i + 1)),
    );
    batch.asks.index(count);
    for (const [i, each] of words.entries()) batch.results.set(i, each === undefined ? Result.FAILED : Result.DECIDED, each ?? 1);
    batch.conclude(count);
    try {
      return settlement.settle(count, 0n);
    } finally {
      batch.clear();
    }
  };
  const breaking: Content = {
    reading: { state: 'read' },
    describe: () => {},
    wait: () => {},
    settle: (_outcome, outbox) => {
      outbox.send(packet(99), 'decided');
      throw new Error('a content breaks down');
    },
  };

  test('writes each verdict at its own place, also behind packets that have none', () => {
    settle(word(DENY), word(ALLOW, Scope.FLOW, 50), word(DENY), word(DENY, Scope.FLOW, 50));
    expect(kernel.verdicts.map(({ sourcePort, verdict }) => [sourcePort, verdict])).toEqual([
      [2, Verdict.ALLOW],
      [4, Verdict.DENY],
    ]);
    expect(ports()).toEqual([2]);
  });

  test('a content that breaks down takes its batch with it, and nothing of that is sent with the next one', () => {
    const { of } = batch.contents;
    batch.contents.of = (asks, index) => (asks.plugin(asks.at(index)) === 5 && index === 1 ? breaking : undefined);
    expect(() => settle(word(ALLOW), word(ALLOW))).toThrow('a content breaks down');
    batch.contents.of = of;
    settle(word(DENY, Scope.FLOW, 50));
    expect(kernel.verdicts.map(({ sourcePort, verdict }) => [sourcePort, verdict])).toEqual([[1, Verdict.DENY]]);
    expect(ports()).toEqual([]);
  });

  test('of the packets of an unknown plugin none is released, whatever its result says', () => {
    batch.plugins.clear();
    settle(word(ALLOW), undefined);
    expect(kernel.order).toEqual([]);
  });

  test('the engine’s own work that failed passes as it says: pieces do, server names do not', () => {
    const count = fill(memory, [
      held(tcp({ sport: 1, dport: 443, flags: 'PA' }), { context: Context.CONNECT, plugin: Abi.PIECES }),
      held(tcp({ sport: 2, dport: 443, flags: 'PA' }), { context: Context.CONNECT, plugin: Abi.SERVER_NAMES }),
    ]);
    batch.asks.index(count);
    for (let i = 0; i < count; i++) batch.results.fail(i, 1);
    batch.conclude(count);
    expect([0, 1].map((i) => batch.outcome(i).allowed)).toEqual([true, false]);
  });
});

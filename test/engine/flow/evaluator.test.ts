/** A batch of held packets, from the ring to the kernel's maps: against a kernel that only notes, and guests that say what a test wants. */
import { beforeEach, describe, expect, test } from 'vitest';
import { Abi, Context, PluginAction, Scope, Verdict } from '../../../engine/abi.gen.ts';
import { BatchResults, Result } from '../../../engine/flow/batch-results.ts';
import { EvaluationGuard } from '../../../engine/flow/evaluation-guard.ts';
import { Evaluator } from '../../../engine/flow/evaluator.ts';
import { createSharedMemory, type SharedMemory } from '../../../engine/flow/shared-memory.ts';
import type { HeldPacket } from '../../../engine/held/held-packet.ts';
import { FAILURE_TEXT, Failure } from '../../../engine/plugin-runtime/failure.ts';
import type { LoadedPlugin } from '../../../engine/plugin-runtime/loaded-plugin.ts';
import { FakeKernel } from '../../support/fake-kernel.ts';
import { type HeldFields, held } from '../../support/held.ts';
import { tcp } from '../../support/packets.ts';
import { FakeGuest, fill, loaded, word } from '../../support/plugin-threads.ts';
import { clientHello } from '../../support/tls.ts';

const { ALLOW, DENY, AUDIT, NEXT } = PluginAction;
const HOLD_MS = 100;

/** A packet of a new connection that plugin 5 is asked about, held just now. */
function packet(sport: number, fields: HeldFields = {}): HeldPacket {
  return held(tcp({ sport, dport: 443, flags: 'S' }), { context: Context.CONNECT, plugin: 5, heldNs: process.hrtime.bigint(), ...fields });
}

describe('Evaluator', () => {
  let memory: SharedMemory;
  let kernel: FakeKernel;
  let evaluator: Evaluator;
  const make = (holdTimeoutMs = HOLD_MS): Evaluator =>
    new Evaluator({
      memory,
      guard: new EvaluationGuard(memory),
      kernel,
      cluster: { identities: new Map(), pods: new Map(), services: new Map(), domain: () => '' },
      holdTimeoutMs,
      flowHash: (question) => question.sourcePort,
      onTrap: () => {},
    });
  beforeEach(() => {
    memory = createSharedMemory();
    kernel = new FakeKernel(memory);
    evaluator = make();
  });
  const run = (plugin: LoadedPlugin | undefined, ...packets: HeldPacket[]): void => {
    if (plugin) evaluator.plugins.set(plugin.setup.id, plugin);
    evaluator.process(fill(memory, packets));
  };
  const report = () => evaluator.reporter.take();

  describe('a verdict', () => {
    test('that allows is written before its packet is released', () => {
      run(loaded({ live: new FakeGuest(word(ALLOW, Scope.ADDRESS, 50)) }, { epoch: 9 }), packet(1), packet(2));
      expect(kernel.order).toEqual(['verdict', 'verdict', 'release', 'release']);
      expect(kernel.verdicts[0]).toMatchObject({
        plugin: 5,
        epoch: 9,
        verdict: Verdict.ALLOW,
        scope: Scope.ADDRESS,
        once: 0,
        sourcePort: 0,
      });
      expect(kernel.released.map(({ sourcePort, mark }) => [sourcePort, mark])).toEqual([
        [1, ''],
        [2, ''],
      ]);
    });

    test.each([
      { name: 'that denies is written, and nothing released', answer: word(DENY, Scope.FLOW, 50), verdicts: [Verdict.DENY], released: 0 },
      { name: 'that denies this connection only needs no entry', answer: word(DENY), verdicts: [], released: 0 },
      { name: 'that allows this connection only is for one packet', answer: word(ALLOW), verdicts: [Verdict.ALLOW], released: 1 },
      { name: 'without an opinion lets it pass', answer: word(NEXT), verdicts: [Verdict.ALLOW], released: 1 },
    ])('$name', ({ answer, verdicts, released }) => {
      run(loaded({ live: new FakeGuest(answer) }), packet(1));
      expect(kernel.verdicts.map(({ verdict }) => verdict)).toEqual(verdicts);
      expect(kernel.released.length).toBe(released);
      for (const { scope, once } of kernel.verdicts)
        expect([scope, once]).toEqual([Scope.FLOW, answer === word(DENY, Scope.FLOW, 50) ? 0 : 1]);
    });

    test('of a plugin that is not enforced is told, and the flow passes', () => {
      run(loaded({ live: new FakeGuest(word(DENY)) }, { enforced: false }), packet(1));
      expect(kernel.released.length).toBe(1);
      expect(report()?.flows[0]).toMatchObject({ allowed: true, reason: 'because' });
    });

    test('answers the packets of its flow that were held before it was there', () => {
      const guest = new FakeGuest(word(ALLOW));
      run(loaded({ live: guest }), packet(1), packet(1), packet(2));
      expect(guest.asked).toBe(2);
      expect(kernel.released.length).toBe(3);
    });

    test('of an epoch before answers nothing', () => {
      const guests = [new FakeGuest(word(ALLOW)), new FakeGuest(word(DENY))] as const;
      const early = packet(1);
      run(loaded({ live: guests[0] }, { epoch: 1 }), early);
      run(loaded({ live: guests[1] }, { epoch: 2 }), early);
      expect(guests.map(({ asked }) => asked)).toEqual([1, 1]);
      expect(kernel.released.length).toBe(1);
    });

    test('of a plugin with a canary is no wider than its flow, and a flow stays with a version', () => {
      const [live, canary] = [new FakeGuest(word(ALLOW, Scope.IDENTITY, 50)), new FakeGuest(word(ALLOW, Scope.IDENTITY, 50))];
      run(loaded({ live, candidate: { guest: canary, mode: 'canary', weight: 30 } }), packet(29), packet(30), packet(129));
      expect([live.asked, canary.asked]).toEqual([1, 2]);
      expect(kernel.verdicts.map(({ scope }) => scope)).toEqual([Scope.FLOW, Scope.FLOW, Scope.FLOW]);
    });
  });

  describe('the failure policy', () => {
    const trap = (): never => {
      throw new Error('unreachable');
    };
    const late = { heldNs: process.hrtime.bigint() - BigInt(HOLD_MS + 1) * 1_000_000n };
    test.each([
      { name: 'of a plugin that traps', live: new FakeGuest(trap), failure: Failure.TRAP },
      { name: 'of a plugin that could not be started again', live: undefined, failure: Failure.TRAP },
      { name: 'of a plugin that answers nonsense', live: new FakeGuest(-1), failure: Failure.NONSENSE },
      { name: 'of a plugin without the hook', live: new FakeGuest(word(ALLOW), [Context.HTTP]), failure: Failure.NO_HOOK },
      { name: 'of a packet that was held for too long', live: new FakeGuest(word(ALLOW)), failure: Failure.EXPIRED, fields: late },
    ])('$name decides', ({ live, failure, fields = {} }) => {
      for (const failureAllow of [true, false]) {
        run(loaded({ live }, { failureAllow }), packet(1, fields));
        const told = report();
        expect(told?.flows[0]).toMatchObject({ allowed: failureAllow, reason: FAILURE_TEXT[failure], audited: false });
        expect(told?.counts.get(5)?.failures[failure]).toBe(1);
      }
      expect(kernel.released.length).toBe(1);
      expect(kernel.verdicts.map(({ verdict, once }) => [verdict, once])).toEqual([[Verdict.ALLOW, 1]]);
    });

    test('is asked for nobody who is unknown: the packet is not released', () => {
      run(undefined, packet(1));
      expect(kernel.order).toEqual([]);
      expect(report()?.flows[0]).toMatchObject({ allowed: false, reason: FAILURE_TEXT[Failure.UNKNOWN_PLUGIN] });
    });

    test('of a suspended plugin decides, and it is not asked', () => {
      const guest = new FakeGuest(word(DENY));
      const plugin = loaded({ live: guest }, { failureAllow: true });
      plugin.standing.on('overrun');
      run(plugin, packet(1));
      expect([guest.asked, kernel.released.length]).toEqual([0, 1]);
    });

    test('comes after the version before, which is asked where the live one traps', () => {
      const previous = new FakeGuest(word(ALLOW));
      run(loaded({ live: new FakeGuest(trap), previous }), packet(1));
      expect([previous.asked, kernel.released.length]).toEqual([1, 1]);
    });

    test('of a plugin that has had its share of a batch decides; another plugin is still asked', () => {
      // Long, so that a machine that is busy otherwise does not use it up.
      evaluator = make(1000);
      const slow = new FakeGuest(() => {
        for (const until = performance.now() + 220; performance.now() < until; );
        return word(ALLOW);
      });
      const other = new FakeGuest(word(ALLOW));
      evaluator.plugins.set(6, loaded({ live: other }, { id: 6 }));
      run(loaded({ live: slow }), packet(1), packet(2), packet(3, { plugin: 6 }));
      expect([slow.asked, other.asked]).toEqual([1, 1]);
      expect(report()?.flows.map(({ reason }) => reason)).toEqual(['', FAILURE_TEXT[Failure.OVER_SHARE], '']);
    });
  });

  describe('a shadow', () => {
    test('changes nothing, and what it would have decided otherwise is told', () => {
      const shadow = new FakeGuest(word(DENY));
      run(loaded({ live: new FakeGuest(word(ALLOW)), candidate: { guest: shadow, mode: 'shadow', weight: 0 } }), packet(1));
      expect([shadow.asked, kernel.released.length]).toEqual([1, 1]);
      expect(report()?.differences).toMatchObject([{ live: 'allow', shadow: 'deny', reason: 'because', flow: { sourcePort: 1 } }]);
    });

    test('that says the same, or is not asked because nobody decided, tells nothing', () => {
      const shadow = new FakeGuest(word(DENY));
      const candidate = { guest: shadow, mode: 'shadow', weight: 0 } as const;
      run(loaded({ live: new FakeGuest(word(DENY)), candidate }), packet(1));
      run(loaded({ live: new FakeGuest(-1), candidate }), packet(2));
      expect(shadow.asked).toBe(1);
      expect(report()?.differences).toEqual([]);
    });

    test('without the hook is told so', () => {
      const shadow = new FakeGuest(word(DENY), [Context.TLS]);
      run(loaded({ live: new FakeGuest(word(ALLOW)), candidate: { guest: shadow, mode: 'shadow', weight: 0 } }), packet(1));
      expect(report()?.differences).toMatchObject([{ shadow: 'no hook', reason: '' }]);
    });
  });

  describe('a client hello', () => {
    const hello = (serverName: string, sport: number, plugin: number): HeldPacket => {
      const data = clientHello({ serverName });
      const segment = tcp({ sport, dport: 443, flags: 'PA', seq: 1001, ack: 9001, payload: data.length });
      data.copy(segment.bytes, 20);
      return held(segment, { plugin, start: 1001, heldNs: process.hrtime.bigint() });
    };
    beforeEach(() => {
      evaluator.serverNames = new Map([[1, { patterns: ['*.example.com'], allowMissing: false, allowEncrypted: false }]]) as never;
    });

    test('that a list allows goes on with its decision in its mark, beside packets with verdicts, in one settlement', () => {
      run(loaded({ live: new FakeGuest(word(ALLOW)) }), hello('api.example.com', 7, Abi.SERVER_NAMES), packet(1));
      expect(kernel.order).toEqual(['verdict', 'release', 'release']);
      expect(kernel.released.map(({ sourcePort, mark }) => [sourcePort, mark])).toEqual([
        [1, ''],
        [7, 'decided'],
      ]);
      expect(report()?.flows[0]).toMatchObject({ contentName: 'api.example.com', allowed: true });
    });

    test('that a list refuses ends both sides, and the reason is told', () => {
      run(undefined, hello('evil.example.org', 7, Abi.SERVER_NAMES));
      expect(kernel.released.map(({ mark }) => mark)).toEqual(['', '']);
      expect(report()?.flows[0]).toMatchObject({ allowed: false, reason: "server name evil.example.org is not in the rule's list" });
    });

    test('is put to a plugin with the name in it', () => {
      const guest = new FakeGuest(({ serverName }) => word(serverName === 'api.example.com' ? AUDIT : DENY));
      run(loaded({ live: guest }), hello('api.example.com', 7, 5));
      expect(kernel.released.map(({ mark }) => mark)).toEqual(['decided']);
      expect(report()?.flows[0]).toMatchObject({ audited: true, contentName: 'api.example.com' });
    });
  });

  test('a kernel that refuses verdicts is an error, and nothing of that batch is in the next one', () => {
    kernel.refuses = true;
    expect(() => run(loaded({ live: new FakeGuest(word(ALLOW)) }), packet(1))).toThrow('E2BIG');
    run(undefined, packet(2));
    expect(kernel.released.map(({ sourcePort }) => sourcePort)).toEqual([2]);
    expect(kernel.verdicts.length).toBe(1);
  });

  test('a batch that cannot be settled leaves the next one neither its reasons nor its response codes', () => {
    const denied = new FakeGuest(word(DENY));
    denied.responseCode = 3;
    kernel.refuses = true;
    // The first is there for the kernel to refuse.
    evaluator.plugins.set(6, loaded({ live: new FakeGuest(word(ALLOW)) }, { id: 6 }));
    expect(() => run(loaded({ live: denied }), packet(1), packet(2, { plugin: 6 }))).toThrow('E2BIG');
    run(loaded({ live: new FakeGuest(word(ALLOW)) }), packet(3));
    expect(report()?.flows.map(({ reason }) => reason)).toEqual(['']);
    expect(new BatchResults(memory).count).toBe(0);
  });

  test('a guest behind which the loop breaks down leaves nothing of its batch to the next one', () => {
    const watch = new EvaluationGuard(memory);
    const broken = new Evaluator({
      memory,
      guard: watch,
      kernel,
      cluster: { identities: new Map(), pods: new Map(), services: new Map(), domain: () => '' },
      holdTimeoutMs: HOLD_MS,
      flowHash: () => 0,
      onTrap: () => {
        throw new Error('no memory for another instance');
      },
    });
    const trap = (): never => {
      throw new Error('unreachable');
    };
    broken.plugins.set(5, loaded({ live: new FakeGuest(word(DENY)) }));
    broken.plugins.set(6, loaded({ live: new FakeGuest(trap) }, { id: 6 }));
    expect(() => broken.process(fill(memory, [packet(1), packet(2, { plugin: 6 })]))).toThrow('no memory');
    broken.plugins.set(5, loaded({ live: new FakeGuest(word(ALLOW)) }));
    broken.process(fill(memory, [packet(3)]));
    expect(broken.reporter.take()?.flows.map(({ sourcePort, reason }) => [sourcePort, reason])).toEqual([[3, '']]);
    expect(kernel.released.map(({ sourcePort }) => sourcePort)).toEqual([3]);
  });

  test('packets that could not be released are counted', () => {
    kernel.failures = 1;
    run(loaded({ live: new FakeGuest(word(ALLOW)) }), packet(1));
    expect(report()?.releaseFailures).toBe(1);
  });

  test('a standby finishes the batch of a worker that was stopped: its record fails, those before it keep their verdict', () => {
    const packets = [packet(1), packet(2), packet(3)];
    const results = new BatchResults(memory);
    results.count = fill(memory, packets);
    results.set(0, Result.DECIDED, word(DENY));
    results.next = 1;
    const guest = new FakeGuest(word(ALLOW));
    evaluator.plugins.set(5, loaded({ live: guest }, { failureAllow: true }));
    evaluator.finishUnfinished();
    expect(guest.asked).toBe(1);
    expect(kernel.released.map(({ sourcePort }) => sourcePort)).toEqual([2, 3]);
    expect(report()?.flows.map(({ reason }) => reason)).toEqual(['', FAILURE_TEXT[Failure.TIMEOUT], '']);
  });

  test('a worker that was stopped before its batch was settled leaves it to the standby: all keep their verdicts', () => {
    const results = new BatchResults(memory);
    results.count = fill(memory, [packet(1)]);
    results.set(0, Result.DECIDED, word(ALLOW));
    results.next = 1;
    evaluator.plugins.set(5, loaded({ live: new FakeGuest(word(DENY)) }));
    evaluator.finishUnfinished();
    expect(kernel.released.length).toBe(1);
  });

  test('a worker that is stopped in a shadow has released its batch: the standby releases nothing of it once more', () => {
    const standby = make();
    standby.plugins.set(5, loaded({ live: new FakeGuest(word(ALLOW)) }));
    const shadow = new FakeGuest(() => {
      standby.finishUnfinished();
      return word(ALLOW);
    });
    run(loaded({ live: new FakeGuest(word(ALLOW)), candidate: { guest: shadow, mode: 'shadow', weight: 0 } }), packet(1), packet(2));
    expect(shadow.asked).toBe(2);
    expect(kernel.order).toEqual(['verdict', 'verdict', 'release', 'release']);
    expect(standby.reporter.take()).toBeUndefined();
  });

  test('a standby that takes over before there was a batch finishes none', () => {
    evaluator.finishUnfinished();
    expect(kernel.order).toEqual([]);
    expect(report()).toBeUndefined();
  });
});

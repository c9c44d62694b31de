/** A plugin asked one question: who decides, who answers where that one traps, and that each evaluation is watched and counted. */
import { beforeEach, describe, expect, test } from 'vitest';
import { Context, PluginAction, Scope } from '../../../engine/abi.gen.ts';
import { Failure } from '../../../engine/plugin-runtime/failure.ts';
import type { LoadedPlugin, RunningVersion } from '../../../engine/plugin-runtime/loaded-plugin.ts';
import { PluginCaller } from '../../../engine/plugin-runtime/plugin-caller.ts';
import { Question } from '../../../engine/plugin-runtime/question.ts';
import { Reporter } from '../../../engine/plugin-runtime/reporter.ts';
import { scopeOf } from '../../../engine/plugin-runtime/verdict-word.ts';
import { FakeGuest, loaded, word } from '../../support/plugin-threads.ts';

const { ALLOW, DENY, AUDIT } = PluginAction;
const trap = (): never => {
  throw new Error('unreachable');
};

let reporter: Reporter;
let hash: number;
/** Everything that was done, in its order. */
let done: string[];
let trapped: RunningVersion[];
let caller: PluginCaller;
const question = new Question();
question.hook = Context.CONNECT;
beforeEach(() => {
  reporter = new Reporter();
  hash = 0;
  done = [];
  trapped = [];
  caller = new PluginCaller({
    reporter,
    watch: { begin: () => done.push('begin'), end: () => done.push('end'), spend: (_plugin, _ms, fuel) => done.push(`spend ${fuel}`) },
    flowHash: () => hash,
    onTrap: (running) => {
      done.push('trap');
      trapped.push(running);
    },
  });
});
const counts = ({ version }: RunningVersion) => reporter.version(version.serial);
/** The candidate of a plugin, as the one that decides the flow of hash 0. */
const canaryOf = (plugin: LoadedPlugin): RunningVersion => plugin.decider(0);

describe('an evaluation', () => {
  test('is watched from its beginning to its end, and its time and fuel are somebody’s', () => {
    expect(caller.ask(loaded({ live: new FakeGuest(word(ALLOW)) }), question)).toBe(Failure.NONE);
    expect(done).toEqual(['begin', 'end', 'spend 10']);
  });

  test('that traps is no longer watched when its instance is replaced', () => {
    expect(caller.ask(loaded({ live: new FakeGuest(trap) }), question)).toBe(Failure.TRAP);
    expect(done).toEqual(['begin', 'end', 'trap', 'spend 10']);
  });

  test('is counted by its action and its reason; one that traps or answers nonsense has neither', () => {
    const plugin = loaded({ live: new FakeGuest(word(DENY)) });
    caller.ask(plugin, question);
    expect(counts(plugin.live)).toMatchObject({ evaluations: 1, traps: 0, nonsense: 0 });
    expect(counts(plugin.live).actions[DENY]).toBe(1);
    const nonsense = loaded({ live: new FakeGuest(-1) });
    expect(caller.ask(nonsense, question)).toBe(Failure.NONSENSE);
    expect(counts(nonsense.live)).toMatchObject({ evaluations: 1, nonsense: 1 });
    expect(counts(nonsense.live).actions.every((count) => count === 0)).toBe(true);
  });

  test('of a version without an instance counts as a trap, is not watched, and nothing more is replaced', () => {
    const plugin = loaded({ live: undefined });
    expect(caller.ask(plugin, question)).toBe(Failure.TRAP);
    expect([done, counts(plugin.live).traps]).toEqual([[], 1]);
  });

  test('of a hook that the plugin does not have is none: nobody is asked, nothing is counted', () => {
    const guest = new FakeGuest(word(ALLOW), [Context.TLS]);
    expect(caller.ask(loaded({ live: guest }), question)).toBe(Failure.NO_HOOK);
    expect([guest.asked, done, reporter.take()]).toEqual([0, [], undefined]);
  });
});

describe('where a version traps', () => {
  test('the one before answers, and its verdict and reason are what counts', () => {
    const previous = new FakeGuest(word(AUDIT));
    const plugin = loaded({ live: new FakeGuest(trap), previous });
    expect(caller.ask(plugin, question)).toBe(Failure.NONE);
    expect([caller.decider === plugin.previous, caller.reason, trapped[0] === plugin.live]).toEqual([true, 'because', true]);
  });

  test('of a canary, the live one answers, not the one before', () => {
    const [live, previous] = [new FakeGuest(word(ALLOW)), new FakeGuest(word(DENY))];
    const plugin = loaded({ live, previous, candidate: { guest: new FakeGuest(trap), mode: 'canary', weight: 50 } });
    expect(caller.ask(plugin, question)).toBe(Failure.NONE);
    expect([live.asked, previous.asked]).toEqual([1, 0]);
  });

  test.each([
    { name: 'traps, too', previous: new FakeGuest(trap), asked: 1 },
    { name: 'has no such hook', previous: new FakeGuest(word(ALLOW), [Context.TLS]), asked: 0 },
  ])('and the one before $name, nobody has an answer: never the one of the question before', ({ previous, asked }) => {
    caller.ask(loaded({ live: new FakeGuest(word(ALLOW)) }), question);
    const plugin = loaded({ live: new FakeGuest(trap), previous });
    expect(caller.ask(plugin, question)).toBe(Failure.TRAP);
    expect(previous.asked).toBe(asked);
  });

  test('and the one before answers nonsense, that is its failure', () => {
    expect(caller.ask(loaded({ live: new FakeGuest(trap), previous: new FakeGuest(-1) }), question)).toBe(Failure.NONSENSE);
  });
});

describe('with a canary', () => {
  test('no verdict is wider than its flow, whichever version gives it; a narrower one stays', () => {
    const plugin = loaded({
      live: new FakeGuest(word(ALLOW, Scope.IDENTITY, 50)),
      candidate: { guest: new FakeGuest(word(ALLOW)), mode: 'canary', weight: 1 },
    });
    hash = 1;
    caller.ask(plugin, question);
    expect(scopeOf(caller.word)).toBe(Scope.FLOW);
    hash = 0;
    caller.ask(plugin, question);
    expect(scopeOf(caller.word)).toBe(Scope.NONE);
  });

  test('each flow is one version’s, as many of a hundred as its weight says', () => {
    const plugin = loaded({
      live: new FakeGuest(word(ALLOW)),
      candidate: { guest: new FakeGuest(word(ALLOW)), mode: 'canary', weight: 30 },
    });
    const canary = canaryOf(plugin);
    const deciders = Array.from({ length: 1000 }, (_, flowHash) => plugin.decider(flowHash));
    expect(deciders.filter((each) => each === canary).length).toBe(300);
  });
});

test('a shadow decides nothing, and does not split flows', () => {
  const plugin = loaded({ live: new FakeGuest(word(ALLOW)), candidate: { guest: new FakeGuest(word(DENY)), mode: 'shadow', weight: 100 } });
  expect([canaryOf(plugin) === plugin.live, plugin.splitsFlows, plugin.shadow !== undefined, plugin.versions.length]).toEqual([
    true,
    false,
    true,
    2,
  ]);
});

test('the reason is of verdicts that deny or want to be shown only', () => {
  for (const [action, reason] of [
    [ALLOW, ''],
    [DENY, 'because'],
    [AUDIT, 'because'],
  ] as const) {
    caller.ask(loaded({ live: new FakeGuest(word(action)) }), question);
    expect(caller.reason).toBe(reason);
  }
});

/** The states of plugins as a worker writes them: by one worker only, and never one that the kernel does not have. */
import { beforeEach, expect, test } from 'vitest';
import { Abi, type PluginState, PluginStatus, Verdict } from '../../../engine/abi.gen.ts';
import { PluginStates } from '../../../engine/flow/plugin-states.ts';
import { setup } from '../../support/plugin-threads.ts';

const OFF: PluginState = { name: 1n, module: 0n, epoch: 3, failure: Verdict.DENY, status: PluginStatus.OFF, scopes: 0 };

let kernel: Map<number, PluginState>;
let refused: number | undefined;
let states: PluginStates;
beforeEach(() => {
  kernel = new Map();
  refused = undefined;
  states = new PluginStates((id, state) => {
    if (id === refused) throw new Error('Cannot write plugin state: EINVAL');
    kernel.set(id, state);
  });
});

test('a standby writes nothing; what it was told is written when it serves, and each change from then on', () => {
  states.run(setup({ epoch: 4 }));
  states.declare(6, OFF);
  expect(kernel.size).toBe(0);
  states.serve();
  expect(kernel.get(5)).toMatchObject({ epoch: 4, status: PluginStatus.ON });
  expect(kernel.get(6)).toEqual(OFF);
  states.run(setup({ epoch: 5 }));
  expect(kernel.get(5)?.epoch).toBe(5);
});

test.each([
  { name: 'enforced, closed', treatment: { enforced: true, failureAllow: false }, failure: Verdict.DENY },
  { name: 'enforced, open', treatment: { enforced: true, failureAllow: true }, failure: Verdict.ALLOW },
  { name: 'in shadow mode, whatever its policy says', treatment: { enforced: false, failureAllow: false }, failure: Verdict.ALLOW },
])('a plugin that is $name has its failure policy in the kernel, and keeps it when it stops', ({ treatment, failure }) => {
  states.serve();
  states.run(setup(treatment));
  states.stop(5);
  expect(kernel.get(5)).toMatchObject({ failure, status: PluginStatus.OFF, epoch: 1 });
});

test('the engine’s own work has its states from the start: server names fail closed, the others open', () => {
  states.serve();
  expect(kernel.get(Abi.SERVER_NAMES)).toMatchObject({ failure: Verdict.DENY, status: PluginStatus.ON });
  expect(kernel.get(Abi.PIECES)).toMatchObject({ failure: Verdict.ALLOW, status: PluginStatus.ON });
});

test('one that nobody knows is not stopped into being', () => {
  states.serve();
  states.stop(9);
  expect(kernel.has(9)).toBe(false);
});

test('a state that the kernel refuses is not so: what is written later begins with the one before', () => {
  states.serve();
  states.run(setup({ epoch: 1 }));
  refused = 5;
  expect(() => states.run(setup({ epoch: 2 }))).toThrow('EINVAL');
  refused = undefined;
  states.stop(5);
  expect(kernel.get(5)).toMatchObject({ epoch: 1, status: PluginStatus.OFF });
});

test('a standby that takes over writes every state that the kernel takes, and says that it did not take one', () => {
  states.run(setup());
  states.declare(6, OFF);
  refused = 5;
  expect(() => states.serve()).toThrow('EINVAL');
  expect(kernel.get(6)).toEqual(OFF);
});

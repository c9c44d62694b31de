/** State machines are drawn beside their tables: each drawing has the arrows of the table that the code goes by. */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { EVALUATION, EvaluationGuard, type EvaluationState } from '../../engine/flow/evaluation-guard.ts';
import { createSharedMemory } from '../../engine/flow/shared-memory.ts';
import { WORKER_ROLE } from '../../engine/flow/worker-role.ts';
import { STANDING } from '../../engine/plugin-runtime/standing.ts';
import { VERSION } from '../../engine/plugins/version-moves.ts';
import { BACKEND } from '../../engine/proxy/backend-connection.ts';
import { EXCHANGE } from '../../engine/proxy/exchange-states.ts';
import { CLIENT } from '../../engine/proxy/http1-client.ts';
import { THREAD } from '../../engine/threads/thread.ts';
import { next, type Transitions } from '../../engine/transitions.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const read = (path: string): string => readFileSync(root + path, 'utf8');

/** Of each line ` *   from -> to   events: text` its arrow, once for each event. */
function drawn(text: string): string[] {
  const lines = [...text.matchAll(/^ \* +(\w.* -> .*)$/gm)].map(([, line = '']) => line.split(/ {2,}/));
  return lines.flatMap(([arrow, events = '']) => (events.split(':')[0] as string).split(', ').map((event) => `${arrow}  ${event}`));
}

function arrows(table: Transitions<string, string>): string[] {
  return Object.entries(table).flatMap(([from, ways]) => Object.entries(ways).map(([event, to]) => `${from} -> ${to}  ${event}`));
}

const MACHINES = [
  { file: 'flow/evaluation-guard.ts', table: EVALUATION },
  { file: 'flow/worker-role.ts', table: WORKER_ROLE },
  { file: 'plugin-runtime/standing.ts', table: STANDING },
  { file: 'plugins/version-moves.ts', table: VERSION },
  { file: 'proxy/backend-connection.ts', table: BACKEND },
  { file: 'proxy/exchange-states.ts', table: EXCHANGE },
  { file: 'proxy/http1-client.ts', table: CLIENT },
  { file: 'threads/thread.ts', table: THREAD },
];

test.each(MACHINES)('$file draws what its table says', ({ file, table }) => {
  expect(drawn(read(`engine/${file}`)).sort()).toEqual(arrows(table).sort());
});

test('there is no table that this test does not know', () => {
  const files = readdirSync(`${root}engine`, { recursive: true, encoding: 'utf8' }).filter(
    (file) => file.endsWith('.ts') && /^export const \w+: Transitions</m.test(read(`engine/${file}`)),
  );
  expect(files.sort()).toEqual(MACHINES.map(({ file }) => file).sort());
});

test.each(MACHINES)('every state of $file is reached, or is one that it begins with', ({ table }) => {
  const reached = new Set(Object.values(table).flatMap((ways) => Object.values(ways)));
  expect(Object.keys(table).filter((state) => !reached.has(state as never)).length).toBeLessThanOrEqual(1);
});

test('no other way is gone', () => {
  expect(next(BACKEND, 'waiting', 'begin')).toBe('busy');
  expect(() => next(BACKEND, 'closed', 'begin')).toThrow('Cannot go on from state closed: there is no way for begin');
});

test('sockets.h draws what socket.c does', () => {
  const table = [...read('native/socket.c').matchAll(/\[SOCKET_(\w+)\] = (.*),/g)].flatMap(([, from, bits]) =>
    [...(bits as string).matchAll(/1 << SOCKET_(\w+)/g)].map(([, to]) => `${from} -> ${to}`),
  );
  expect(table.length).toBeGreaterThan(5);
  const drawing = [...read('native/sockets.h').matchAll(/^ \*\s+(\w+) -> (\w+)/gm)].map(([, from, to]) => `${from} -> ${to}`);
  expect(drawing.sort()).toEqual(table.sort());
});

describe('the flags of a connection', () => {
  const names = (text: string): string[] => [...new Set([...text.matchAll(/CONNECTION_(\w+)/g)].map(([, name]) => name as string))].sort();

  /** The flags that each function of the programs sets (+) and clears (-), as its assignments say. */
  function written(): Map<string, string> {
    const found = new Map<string, string>();
    for (const file of readdirSync(`${root}bpf`).filter((name) => /\.[ch]$/.test(name) && name !== 'abi.h'))
      for (const [, name, body = ''] of read(`bpf/${file}`).matchAll(/^\w[^;{}#]*?\b(\w+)\([^;{}]*\)\n\{\n([\s\S]*?)^\}/gm)) {
        const sets = [...body.matchAll(/connection->flags \|?= ([^;]*);|connection_renew\(([^;]*)\);/g)];
        const clears = [...body.matchAll(/connection->flags &= ~([^;]*);/g)];
        const [set, cleared] = [sets, clears].map((each) => names(each.map(([text]) => text).join(' '))) as [string[], string[]];
        if (set.length || cleared.length) found.set(name as string, `+ ${set.join(' ')} - ${cleared.join(' ')}`);
      }
    return found;
  }

  test('are changed as abi.h says, and nowhere else', () => {
    const listed = [...read('bpf/abi.h').matchAll(/^ \* {3}(\w+) +\+ ([A-Z_ ]*[A-Z])(?: +- ([A-Z_ ]+))?$/gm)].map(
      ([, name, set = '', cleared = '']): [string, string] => {
        const [sets, clears] = [set, cleared].map((each) => each.split(' ').filter(Boolean).sort().join(' '));
        return [name as string, `+ ${sets} - ${clears}`];
      },
    );
    expect(Object.fromEntries(listed)).toEqual(Object.fromEntries(written()));
    expect(listed.length).toBeGreaterThan(4);
  });

  test('are written in no way that the test above does not see', () => {
    const writes = readdirSync(`${root}bpf`)
      .filter((name) => /\.[ch]$/.test(name))
      .flatMap((file) =>
        [...read(`bpf/${file}`).matchAll(/(?:->|\.)flags\s*(?:[|&^]?=)(?!=)[^;]*CONNECTION_[^;]*;/g)].map(([text]) => text),
      );
    expect(writes.filter((text) => !/^->flags (\|?=|&= ~)/.test(text))).toEqual([]);
    expect(writes.length).toBeGreaterThan(5);
  });
});

describe('the evaluation in shared memory', () => {
  const STATES = Object.keys(EVALUATION) as EvaluationState[];
  const EVENTS = ['begin', 'end', 'stop', 'resume'] as const;

  /** A worker, and the standby that looks at the same words. */
  function pair(state: EvaluationState): { worker: EvaluationGuard; standby: EvaluationGuard; stop: () => boolean } {
    const memory = createSharedMemory();
    const [worker, standby] = [new EvaluationGuard(memory), new EvaluationGuard(memory)];
    const stop = (): boolean => {
      standby.stopOverdue(0);
      return standby.stopOverdue(100);
    };
    worker.begin(5, 50);
    if (state === 'idle') worker.end();
    if (state === 'stopped') stop();
    expect(worker.state).toBe(state);
    return { worker, standby, stop };
  }

  for (const state of STATES)
    for (const event of EVENTS) {
      // Only a worker that serves begins, one evaluation after the other.
      if (event === 'begin' && state !== 'idle') continue;
      const to = EVALUATION[state][event];
      test(`${state}: ${event} ${to === undefined ? 'does nothing' : `leads to ${to}`}`, () => {
        const { worker, standby, stop } = pair(state);
        if (event === 'begin') worker.begin(5, 50);
        else if (event === 'resume') standby.resume();
        else expect(event === 'end' ? worker.end() : stop()).toBe(to !== undefined);
        expect(standby.state).toBe(to ?? state);
      });
    }

  test('of a worker that was stopped has no say any more, although the standby evaluates by then', () => {
    const { worker, standby } = pair('stopped');
    standby.resume();
    standby.begin(6, 50);
    expect([worker.end(), standby.state]).toEqual([false, 'under way']);
    expect(standby.end()).toBe(true);
  });

  test('is stopped only by one that has seen that very evaluation for as long as it may take', () => {
    const { worker, standby } = pair('idle');
    worker.begin(5, 50);
    expect([standby.stopOverdue(0), standby.stopOverdue(49)]).toEqual([false, false]);
    worker.end();
    worker.begin(5, 50);
    expect([standby.stopOverdue(60), standby.stopOverdue(109), standby.stopOverdue(110)]).toEqual([false, false, true]);
  });
});

/** Which backends one request is tried with, in either version of HTTP. */
import { expect, test } from 'vitest';
import { Attempts } from '../../../engine/proxy/attempts.ts';
import type { Backend } from '../../../engine/proxy/backends.ts';
import { ALLOWED, backendOf, flowOf } from '../../support/proxy-stand.ts';

const [one, two] = [backendOf('one'), backendOf('two')];

function attempts(...backends: Backend[]) {
  const rested: Backend[] = [];
  const counts = { retries: 0 };
  const routing = {
    choose: (_flow: unknown, _verdict: unknown, except: Backend | undefined) => backends.find((each) => each !== except) ?? backends[0],
    noteFailure: (backend: Backend) => void rested.push(backend),
  };
  return { made: new Attempts({ routing, counts }, { flow: flowOf(1) }, ALLOWED), rested, counts };
}

test.each([
  { name: 'another one, where the first was not reached', code: 'ECONNREFUSED', unreached: true, all: [one, two], next: two },
  { name: 'the same one, where there is no other', code: 'ECONNREFUSED', unreached: true, all: [one], next: one },
  { name: 'the same one again, where it had been reached', code: 'ECONNRESET', unreached: false, all: [one, two], next: one },
])('the second try is with $name', ({ code, unreached, all, next }) => {
  const { made, rested, counts } = attempts(...all);
  expect(made.first(0)).toBe(one);
  expect(made.next(code, unreached, true, 0)).toBe(next);
  expect(made.backend).toBe(next);
  expect(rested).toEqual(unreached ? [one] : []);
  expect(counts.retries).toBe(1);
  expect(made.next(code, unreached, true, 0)).toBeUndefined();
  expect(made.unanswered?.status).toBe(unreached ? 503 : 502);
});

test.each([
  { name: 'there is none', all: [], code: undefined, reason: 'there is no backend that is ready and allowed' },
  { name: 'the only one did not accept in time', all: [one], code: 'ETIMEDOUT', reason: 'the backend cannot be reached (ETIMEDOUT)' },
  { name: 'the connection failed without a name', all: [one], code: '', reason: 'the backend cannot be reached', repeatable: false },
])('it is told why nobody answers, where $name', ({ all, code, reason, repeatable = true }) => {
  const { made } = attempts(...all);
  const first = made.first(0);
  if (code !== undefined) {
    expect(first).toBe(one);
    expect(made.next(code, true, repeatable, 0)).toBeUndefined();
  } else expect(first).toBeUndefined();
  expect(made.unanswered).toEqual({ status: 503, reason });
});

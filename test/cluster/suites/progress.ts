/** The sight of a suite that runs: a line for each test that ends, and the sum. */
import { styleText } from 'node:util';
import type { Outcome } from './ginkgo-report.ts';

/** `passed  12.3 s  name`, with a count before it. */
export function outcomeLine({ name, state, seconds }: Outcome, count: number): string {
  const word = styleText(state === 'passed' ? 'green' : 'red', state);
  return `${String(count).padStart(3)}  ${word}  ${seconds ? `${seconds.toFixed(1).padStart(6)} s  ` : ''}${name}`;
}

/** The end of every run: `47 passed, 0 failed`. */
export function summary(outcomes: readonly Outcome[]): string {
  const failed = outcomes.filter(({ state }) => state === 'failed');
  return `${outcomes.length - failed.length} passed, ${failed.length} failed`;
}

/** Each failure with its reason, cut where it goes on for long. */
export function failures(outcomes: readonly Outcome[]): string[] {
  return outcomes
    .filter(({ state }) => state === 'failed')
    .map(({ name, reason = '' }) => `${name}\n    ${reason.slice(0, 600).replaceAll('\n', '\n    ')}`);
}

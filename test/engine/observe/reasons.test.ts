/** Every reason that a packet can have is shown with a sentence, and by the name that metrics give it. */
import { expect, test } from 'vitest';
import { Reason } from '../../../engine/abi.gen.ts';
import { REASON_CODES, reasonCode, reasonText } from '../../../engine/observe/reasons.ts';

const reasons = Object.entries(Reason).filter(([name]) => name !== 'MAX');

test('has a code and a text for each, and no two the same', () => {
  const codes = reasons.map(([, reason]) => reasonCode(reason));
  expect(codes).toEqual(REASON_CODES);
  expect(new Set(codes).size).toBe(reasons.length);
  for (const [name, reason] of reasons) expect(reason, `${name} has a counter`).toBeLessThan(Reason.MAX);
  const texts = reasons.map(([, reason]) => reasonText(reason));
  expect(new Set(texts).size).toBe(reasons.length);
});

test('says more of each drop than its code does', () => {
  for (const [name, reason] of reasons)
    if (name.startsWith('DROP_')) expect(reasonText(reason), name).not.toBe(name.toLowerCase().replaceAll('_', ' '));
});

test('shows a number that a newer kernel side has', () => {
  expect(reasonCode(250)).toBe('250');
  expect(reasonText(250)).toBe('reason 250');
});

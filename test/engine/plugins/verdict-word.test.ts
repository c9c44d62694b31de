import { describe, expect, test } from 'vitest';
import { PluginField, Scope, Verdict } from '../../../engine/abi.gen.ts';
import { decodeVerdict, effectiveScope } from '../../../engine/plugins/verdict-word.ts';

describe('decodeVerdict()', () => {
  test.each([
    { name: 'next', word: 0, want: { verdict: Verdict.NEXT, scope: Scope.NONE, ttlMs: 0 } },
    { name: 'a denial for a flow and 10 ms', word: 2 | (1 << 4) | (1 << 8), want: { verdict: Verdict.DENY, scope: Scope.FLOW, ttlMs: 10 } },
    {
      name: 'an exponent',
      word: 1 | (4 << 4) | (200 << 8) | (3 << 16),
      want: { verdict: Verdict.ALLOW, scope: Scope.IDENTITY, ttlMs: 16_000 },
    },
  ])('reads $name', ({ word, want }) => {
    expect(decodeVerdict(word)).toEqual(want);
  });

  test.each([
    { name: 'an action that does not exist', word: 3 },
    { name: 'two scopes at once', word: 1 | (3 << 4) },
    { name: 'all bits', word: 0xffffffff },
  ])('refuses $name', ({ word }) => {
    expect(decodeVerdict(word)).toBeUndefined();
  });
});

describe('effectiveScope()', () => {
  test.each([
    { name: 'identities only', read: PluginField.IDENTITY, asked: Scope.IDENTITY, want: Scope.IDENTITY },
    { name: 'an address', read: PluginField.IDENTITY | PluginField.ADDRESS, asked: Scope.IDENTITY, want: Scope.ADDRESS },
    { name: 'the source port', read: PluginField.SOURCE_PORT, asked: Scope.ADDRESS, want: Scope.FLOW },
    { name: 'the time', read: PluginField.MOMENT | PluginField.IDENTITY, asked: Scope.IDENTITY, want: Scope.NONE },
    { name: 'nothing', read: 0, asked: Scope.IDENTITY, want: Scope.IDENTITY },
  ])('is no wider than $name allows', ({ read, asked, want }) => {
    expect(effectiveScope(asked, read)).toBe(want);
  });

  test('is never wider than the plugin asks for', () => {
    for (const asked of Object.values(Scope))
      for (let read = 0; read < 16; read++) expect(effectiveScope(asked, read)).toBeLessThanOrEqual(asked);
  });
});

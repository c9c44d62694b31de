import { expect, test } from 'vitest';
import { digestOf, isChosen } from '../../../engine/plugins/rollout.ts';
import type { Canary, ModuleReference } from '../../../engine/policy/objects.ts';

const url = (sha256: string): ModuleReference => ({ kind: 'url', url: 'https://example.com/p.wasm', sha256 });
const canary = (percent: number, module = url('a'.repeat(64))): Canary => ({
  module,
  percent,
  nodeNames: ['chosen'],
  mode: 'Enforce',
  failed: [],
});
const NODES = Array.from({ length: 5000 }, (_, i) => `ip-10-0-${i >> 8}-${i & 255}.ec2.internal`);
const chosen = (of: Canary): string[] => NODES.filter((node) => isChosen(node, of));

test.each([0, 1, 10, 50, 100])('%i of 100 nodes try a canary', (percent) => {
  const share = (chosen(canary(percent)).length / NODES.length) * 100;
  // Four standard deviations of a fair draw.
  expect(Math.abs(share - percent)).toBeLessThanOrEqual(4 * Math.sqrt((percent * (100 - percent)) / NODES.length));
});

test('a greater share has the nodes of a lesser one, and another module has other nodes', () => {
  const few = chosen(canary(5));
  expect(chosen(canary(20))).toEqual(expect.arrayContaining(few));
  const others = new Set(chosen(canary(5, url('b'.repeat(64)))));
  expect(few.filter((node) => others.has(node)).length).toBeLessThan(few.length / 4);
});

test('a node that is named tries it whatever the share', () => {
  expect(isChosen('chosen', canary(0))).toBe(true);
});

test('the digest is that by which a module is named', () => {
  const artifact: ModuleReference = { kind: 'oci', registry: 'r.example', repository: 'p', reference: `sha256:${'c'.repeat(64)}` };
  expect(digestOf(artifact)).toBe(`sha256:${'c'.repeat(64)}`);
  expect(digestOf({ ...artifact, reference: '1.2', sha256: 'd'.repeat(64) })).toBe(`sha256:${'d'.repeat(64)}`);
  expect(digestOf({ kind: 'inline', bytes: Buffer.from('') })).toBe(
    'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  );
});

/** The registry between fake workers and fake states of the kernel: what is declared, while versions are tried. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { type PluginState, PluginStatus, Verdict } from '../../../engine/abi.gen.ts';
import { silentLogger } from '../../../engine/log.ts';
import { PluginRegistry } from '../../../engine/plugins/registry.ts';
import type { Declaration } from '../../../engine/plugins/version.ts';
import { VersionStore } from '../../../engine/plugins/version-store.ts';

const declared = (name: string): Declaration => ({
  name,
  failurePolicy: 'Allow',
  mode: 'Enforce',
  evaluateMs: 5,
  memoryPages: 64,
  fuel: 100_000,
  capabilities: [],
  sets: {},
  config: '',
});

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-registry-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

function registryWith(remove: (id: number) => Promise<void>): { registry: PluginRegistry; states: Map<number, PluginState> } {
  const states = new Map<number, PluginState>();
  const registry = new PluginRegistry({
    runner: { install: async () => {}, remove, declare: (id, state) => void states.set(id, state) },
    left: new Map(),
    store: new VersionStore(directory),
    trustedKeys: [],
    log: silentLogger,
  });
  return { registry, states };
}

test('a plugin has its id, and the kernel its failure policy, before anything else is done about it', async () => {
  const ends: (() => void)[] = [];
  const { registry, states } = registryWith(() => new Promise((resolve) => ends.push(resolve)));
  await registry.sync([declared('old')]);
  // The removal hangs, as a trial would.
  const syncing = registry.sync([declared('new')]);
  const id = registry.ids.get('new') as number;
  expect([...registry.ids.keys()]).toEqual(['new']);
  expect(states.get(id)).toMatchObject({ failure: Verdict.ALLOW, status: PluginStatus.OFF });
  expect(() => registry.get('old')).toThrow('the source has no PolicyPlugin of this name');
  await vi.waitFor(() => expect(ends).toHaveLength(1));
  ends[0]?.();
  await syncing;
  expect(registry.problems).toEqual([{ name: 'new', reason: 'no module yet: push one' }]);
});

test('a plugin that is declared once more while its removal goes on is there, under the same id', async () => {
  const ends: (() => void)[] = [];
  const { registry } = registryWith(() => new Promise((resolve) => ends.push(resolve)));
  await registry.sync([declared('p')]);
  const id = registry.ids.get('p');
  const removing = registry.sync([]);
  expect(registry.ids.size).toBe(0);
  await vi.waitFor(() => expect(ends).toHaveLength(1));
  const again = registry.sync([declared('p')]);
  expect(registry.ids.get('p')).toBe(id);
  ends[0]?.();
  await Promise.all([removing, again]);
  expect(registry.ids.get('p')).toBe(id);
  expect(ends).toHaveLength(1);
  expect(registry.plugins.map(({ declaration }) => declaration.name)).toEqual(['p']);
});

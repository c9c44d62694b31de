/** The registry between fake workers and fake states of the kernel: what is declared, while versions are tried. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { type PluginState, PluginStatus, Verdict } from '../../../engine/abi.gen.ts';
import { EngineError } from '../../../engine/errors.ts';
import { silentLogger } from '../../../engine/log.ts';
import type { PluginSetup } from '../../../engine/plugin-runtime/plugin-setup.ts';
import { PluginRegistry } from '../../../engine/plugins/registry.ts';
import type { Declaration } from '../../../engine/plugins/version.ts';
import { VersionStore } from '../../../engine/plugins/version-store.ts';
import { plugin } from '../../support/plugin-modules.ts';

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

function registryWith(
  remove: (id: number) => Promise<void>,
  install: (setup: PluginSetup) => Promise<void> = async () => {},
): { registry: PluginRegistry; states: Map<number, PluginState> } {
  const states = new Map<number, PluginState>();
  const registry = new PluginRegistry({
    runner: { install, remove, declare: (id, state) => void states.set(id, state) },
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

test('a module that is no regular file is waited for by nobody, and is told', async () => {
  const pipe = join(directory, 'pipe.wasm');
  execFileSync('mkfifo', [pipe]);
  const { registry } = registryWith(async () => {});
  await registry.sync([
    { ...declared('pipe'), file: pipe },
    { ...declared('device'), file: '/dev/zero' },
  ]);
  expect(registry.problems).toEqual([
    { name: 'device', reason: 'Cannot load module /dev/zero: not a regular file' },
    { name: 'pipe', reason: `Cannot load module ${pipe}: not a regular file` },
  ]);
});

test('a plugin that cannot be removed keeps the others waiting for nothing, and is tried again with the next change', async () => {
  const removed: number[] = [];
  let refuses = true;
  const { registry } = registryWith(async (id) => {
    removed.push(id);
    if (refuses) throw new EngineError('PLUGIN_INVALID', 'Cannot remove plugin: nobody says that it did');
  });
  await registry.sync([declared('old')]);
  const id = registry.ids.get('old') as number;
  await registry.sync([declared('new')]);
  expect(registry.problems).toEqual([{ name: 'new', reason: 'no module yet: push one' }]);
  expect([...registry.ids.keys()]).toEqual(['new']);
  refuses = false;
  await registry.sync([declared('new')]);
  await registry.sync([declared('new')]);
  expect(removed).toEqual([id, id]);
});

test('an epoch is used for one version only, also where that was refused: some worker may have decided under it', async () => {
  const epochs: number[] = [];
  let refuses = false;
  const { registry } = registryWith(
    async () => {},
    async ({ epoch }) => {
      epochs.push(epoch);
      if (refuses) throw new EngineError('PLUGIN_INVALID', 'Cannot load module: the flow worker ended');
    },
  );
  await registry.sync([declared('p')]);
  const push = (value: number): Promise<unknown> => registry.push('p', plugin({ evaluate: `(i32.const ${value})` }), 'enforce', 0); // one byte of each module differs
  await push(1);
  refuses = true;
  await expect(push(2)).rejects.toThrow('the flow worker ended');
  expect(registry.get('p').epoch).toBe(1);
  refuses = false;
  await push(3);
  // The version in force has its epoch already.
  await push(3);
  expect(epochs).toEqual([1, 2, 3, 3]);
});

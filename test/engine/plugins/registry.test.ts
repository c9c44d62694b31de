/** The registry between fake workers and fake states of the kernel: what is declared, while versions are tried. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, assert, beforeEach, describe, expect, test, vi } from 'vitest';
import { type PluginState, PluginStatus, Verdict } from '../../../engine/abi.gen.ts';
import { EngineError } from '../../../engine/errors.ts';
import { silentLogger } from '../../../engine/log.ts';
import { emptyCounts, type VersionCounts } from '../../../engine/plugin-runtime/counts.ts';
import type { PluginSetup } from '../../../engine/plugin-runtime/plugin-setup.ts';
import { BlobStore } from '../../../engine/plugins/modules/blob-store.ts';
import { DeclaredModules, type Modules } from '../../../engine/plugins/modules/declared-modules.ts';
import { PluginRegistry } from '../../../engine/plugins/registry.ts';
import type { Declaration } from '../../../engine/plugins/version.ts';
import { hashOf, VersionStore } from '../../../engine/plugins/version-store.ts';
import type { Canary, ModuleReference } from '../../../engine/policy/objects.ts';
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
  modules: Modules = new DeclaredModules({
    store: new BlobStore(directory),
    fetch: async () => assert.fail('nothing is fetched'),
    log: silentLogger,
  }),
): { registry: PluginRegistry; states: Map<number, PluginState> } {
  const states = new Map<number, PluginState>();
  const registry = new PluginRegistry({
    runner: { install, remove, declare: (id, state) => void states.set(id, state) },
    left: new Map(),
    store: new VersionStore(directory),
    modules,
    nodeName: 'n1',
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
    { ...declared('pipe'), module: { kind: 'file', path: pipe } },
    { ...declared('device'), module: { kind: 'file', path: '/dev/zero' } },
  ]);
  expect(registry.problems).toEqual([
    { name: 'device', reason: 'Cannot load module /dev/zero: not a regular file', pending: false },
    { name: 'pipe', reason: `Cannot load module ${pipe}: not a regular file`, pending: false },
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

describe('a module that is fetched', () => {
  const [first, second] = [plugin({ evaluate: '(i32.const 1)' }), plugin({ evaluate: '(i32.const 2)' })];
  const at = (bytes: Uint8Array): Declaration => ({
    ...declared('p'),
    module: { kind: 'url', url: 'https://example.com/p.wasm', sha256: hashOf(bytes) },
  });

  /** As DeclaredModules is, for what was put there. */
  function shelf(...here: readonly Uint8Array[]): Modules & { put(bytes: Uint8Array): void } {
    const modules = new Map(here.map((bytes) => [hashOf(bytes), bytes]));
    return {
      find: ({ sha256 = '' }) => {
        const bytes = modules.get(sha256);
        return bytes ? { module: { bytes, sha256 } } : { problem: { reason: 'it is being fetched', pending: true } };
      },
      keep: () => {},
      put: (bytes) => modules.set(hashOf(bytes), bytes),
    };
  }
  const nothing = async (): Promise<void> => {};

  test('is waited for by nobody, and in force when it has come', async () => {
    const modules = shelf();
    const { registry } = registryWith(nothing, nothing, modules);
    await registry.sync([at(first)]);
    expect(registry.problems).toEqual([{ name: 'p', reason: 'it is being fetched', pending: true }]);
    modules.put(first);
    await registry.takeModules();
    expect(registry.problems).toEqual([]);
    expect(registry.get('p').versions?.live).toMatchObject({ sha256: hashOf(first), origin: 'url' });
  });

  test('leaves in force what was, until it has come; so does one that does not load', async () => {
    const modules = shelf(first);
    const { registry } = registryWith(nothing, nothing, modules);
    await registry.sync([at(first)]);
    await registry.sync([at(second)]);
    expect(registry.problems).toEqual([{ name: 'p', reason: 'it is being fetched', pending: true }]);
    expect(registry.get('p').versions?.live.sha256).toBe(hashOf(first));
    const rubbish = Buffer.from('rubbish');
    modules.put(rubbish);
    await registry.sync([at(rubbish)]);
    expect(registry.problems).toEqual([{ name: 'p', reason: expect.stringContaining('Cannot load module') }]);
    expect(registry.get('p').versions?.live.sha256).toBe(hashOf(first));
    modules.put(second);
    await registry.sync([at(second)]);
    expect(registry.problems).toEqual([]);
    expect(registry.get('p').versions).toMatchObject({ live: { sha256: hashOf(second) }, previous: { sha256: hashOf(first) } });
  });

  test('is not here after a restart: what was in force before is, and gives way when it comes', async () => {
    await registryWith(nothing, nothing, shelf(first)).registry.sync([at(first)]);
    const modules = shelf();
    const { registry } = registryWith(nothing, nothing, modules);
    await registry.sync([at(second)]);
    expect(registry.problems).toEqual([{ name: 'p', reason: 'it is being fetched', pending: true }]);
    expect(registry.get('p').versions?.live).toMatchObject({ sha256: hashOf(first), origin: 'url' });
    modules.put(second);
    await registry.takeModules();
    expect(registry.problems).toEqual([]);
    expect(registry.get('p').versions?.live.sha256).toBe(hashOf(second));
  });

  test('does not push aside what was pushed since, when it comes once more after a restart', async () => {
    const before = registryWith(nothing, nothing, shelf(first)).registry;
    await before.sync([at(first)]);
    await before.push('p', second, 'enforce', 0);
    const modules = shelf();
    const { registry } = registryWith(nothing, nothing, modules);
    await registry.sync([at(first)]);
    modules.put(first);
    await registry.takeModules();
    expect(registry.get('p').versions?.live).toMatchObject({ sha256: hashOf(second), origin: 'pushed' });
    await registry.remove('p');
    expect(registry.get('p').versions?.live).toMatchObject({ sha256: hashOf(first), origin: 'url' });
  });
});

describe('a canary', () => {
  const [stable, tried] = [plugin({ evaluate: '(i32.const 1)' }), plugin({ evaluate: '(i32.const 2)' })];
  const inline = (bytes: Uint8Array): ModuleReference => ({ kind: 'inline', bytes, sha256: hashOf(bytes) });
  const withCanary = (bytes: Uint8Array, more: Partial<Canary> = {}): Declaration => ({
    ...declared('p'),
    module: inline(stable),
    canary: { module: inline(bytes), percent: 0, nodeNames: ['n1'], mode: 'Enforce', failed: [], ...more },
  });
  const nothing = async (): Promise<void> => {};
  const live = (registry: PluginRegistry): string | undefined => registry.get('p').versions?.live.sha256;
  const counts = (traps: number): VersionCounts => ({ ...emptyCounts(), traps, evaluations: traps });

  function watched(install?: (setup: PluginSetup) => Promise<void>) {
    const { registry } = registryWith(nothing, install ?? nothing);
    const failed: string[] = [];
    registry.onCanaryFailed(({ plugin: name, digest }) => failed.push(`${name} ${digest}`));
    return { registry, failed };
  }

  test('decides on the nodes that try it, and the module of all on the others; promoted, it stays', async () => {
    const { registry } = watched();
    await registry.sync([withCanary(tried, { nodeNames: ['n2'] })]);
    expect([live(registry), registry.get('p').here.canary?.is]).toEqual([hashOf(stable), 'elsewhere']);
    await registry.sync([withCanary(tried)]);
    expect([live(registry), registry.get('p').here.canary?.is]).toEqual([hashOf(tried), 'enforced']);
    const { epoch } = registry.get('p');
    await registry.sync([{ ...declared('p'), module: inline(tried) }]);
    expect([live(registry), registry.get('p').epoch, registry.problems]).toEqual([hashOf(tried), epoch, []]);
  });

  test('is gone with its declaration', async () => {
    const { registry } = watched();
    await registry.sync([withCanary(tried)]);
    await registry.sync([{ ...declared('p'), module: inline(stable) }]);
    expect([live(registry), registry.get('p').here.canary]).toEqual([hashOf(stable), undefined]);
  });

  test('in shadow runs beside the module of all, over a restart, and no longer than it is declared', async () => {
    const { registry } = watched();
    await registry.sync([withCanary(tried, { mode: 'Shadow' })]);
    expect(registry.get('p').versions).toMatchObject({
      live: { sha256: hashOf(stable) },
      candidate: { version: { sha256: hashOf(tried), origin: 'inline' }, mode: 'shadow' },
    });
    const { registry: after } = watched();
    await after.sync([withCanary(tried, { mode: 'Shadow' })]);
    expect(after.get('p').versions?.candidate?.version.sha256).toBe(hashOf(tried));
    expect(after.get('p').history).toHaveLength(2);
    await after.sync([{ ...declared('p'), module: inline(stable) }]);
    expect(after.get('p').versions?.candidate).toBeUndefined();
  });

  test.each(['Enforce', 'Shadow'] as const)('that does not load gives way, and that is told: %s', async (mode) => {
    const { registry, failed } = watched();
    const rubbish = Buffer.from('rubbish');
    await registry.sync([withCanary(rubbish, { mode })]);
    expect(live(registry)).toBe(hashOf(stable));
    expect(failed).toEqual([`p sha256:${hashOf(rubbish)}`]);
    expect(registry.problems).toEqual([
      { name: 'p', reason: expect.stringMatching(/^canary sha256:\w{12} is not used any more: it failed on this node: Cannot load/) },
    ]);
    await registry.sync([withCanary(rubbish, { mode })]);
    expect(failed).toHaveLength(1);
    await registry.sync([withCanary(tried, { mode })]);
    expect(registry.problems).toEqual([]);
  });

  test.each(['Enforce', 'Shadow'] as const)('that traps gives way to the module of all: %s', async (mode) => {
    const { registry, failed } = watched();
    await registry.sync([withCanary(tried, { mode })]);
    const { versions } = registry.get('p');
    const version = mode === 'Enforce' ? versions?.live : versions?.candidate?.version;
    registry.tally.add(new Map(), new Map([[version?.serial as number, counts(100)]]));
    await vi.waitFor(() => expect(failed).toEqual([`p sha256:${hashOf(tried)}`]));
    await registry.takeModules();
    expect(registry.get('p').versions).toMatchObject({ live: { sha256: hashOf(stable) }, candidate: undefined });
    expect(registry.problems.map(({ reason }) => reason)).toEqual([expect.stringContaining('it trapped 100 times in 100 evaluations')]);
  });

  test('that is switched off for its time-outs gives way, and the module of all is on', async () => {
    const { registry, failed } = watched();
    await registry.sync([withCanary(tried)]);
    registry.tally.noteTimeout(registry.get('p').id, true);
    await registry.takeModules();
    expect([live(registry), registry.get('p').on, failed.length]).toEqual([hashOf(stable), true, 1]);
    expect(registry.problems.map(({ reason }) => reason)).toEqual([expect.stringContaining('switched off: overran its 5 ms')]);
  });

  test('that failed on another node is used on none, and which one is said', async () => {
    const { registry, failed } = watched();
    await registry.sync([withCanary(tried)]);
    const elsewhere = { node: 'n7', digest: `sha256:${hashOf(tried)}`, reason: 'it trapped' };
    await registry.sync([withCanary(tried, { failed: [elsewhere] })]);
    expect([live(registry), failed]).toEqual([hashOf(stable), []]);
    expect(registry.problems.map(({ reason }) => reason)).toEqual([expect.stringMatching(/it failed on node n7: it trapped$/)]);
    // Of one before it that is no matter.
    await registry.sync([withCanary(tried, { failed: [{ ...elsewhere, digest: `sha256:${hashOf(stable)}` }] })]);
    expect(live(registry)).toBe(hashOf(tried));
  });

  test('is not blamed for the module of all, which does not load', async () => {
    const { registry, failed } = watched();
    await registry.sync([{ ...withCanary(tried, { mode: 'Shadow' }), module: inline(Buffer.from('rubbish')) }]);
    expect(failed).toEqual([]);
  });

  test('that was not fetched yet leaves the module of all', async () => {
    const modules: Modules = {
      find: (module) =>
        module.kind === 'inline'
          ? { module: { bytes: module.bytes, sha256: hashOf(module.bytes) } }
          : { problem: { reason: 'it is being fetched', pending: true } },
      keep: () => {},
    };
    const { registry } = registryWith(nothing, nothing, modules);
    await registry.sync([withCanary(tried, { module: { kind: 'url', url: 'https://example.com/p.wasm', sha256: hashOf(tried) } })]);
    expect(live(registry)).toBe(hashOf(stable));
    expect(registry.problems).toEqual([{ name: 'p', reason: 'it is being fetched', pending: true }]);
  });
});

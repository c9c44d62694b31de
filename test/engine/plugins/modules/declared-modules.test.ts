/** Modules between a store and something that fetches: nobody waits, each is tried again, and a restart has what was there. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { EngineError } from '../../../../engine/errors.ts';
import { silentLogger } from '../../../../engine/log.ts';
import { BlobStore } from '../../../../engine/plugins/modules/blob-store.ts';
import { DeclaredModules, type DeclaredModulesParts } from '../../../../engine/plugins/modules/declared-modules.ts';
import type { Fetched } from '../../../../engine/plugins/modules/module-fetcher.ts';
import { ModuleFetcher } from '../../../../engine/plugins/modules/module-fetcher.ts';
import { hashOf } from '../../../../engine/plugins/version-store.ts';
import { objectName } from '../../../../engine/policy/object-name.ts';
import type { ModuleReference } from '../../../../engine/policy/objects.ts';

const MODULE = Buffer.from('\0asm and so on');
const URL_MODULE: ModuleReference = { kind: 'url', url: 'https://example.com/p.wasm?token=secret', sha256: hashOf(MODULE) };
const CONFIG_MAP: ModuleReference = { kind: 'configMap', namespace: 'kube-system', name: 'plugins', key: 'p.wasm' };
const MANIFEST = Buffer.from(
  JSON.stringify({
    schemaVersion: 2,
    layers: [{ mediaType: 'application/wasm', digest: `sha256:${hashOf(MODULE)}`, size: MODULE.length }],
  }),
);
const ARTIFACT: ModuleReference = { kind: 'oci', registry: 'r.example', repository: 'p', reference: `sha256:${hashOf(MANIFEST)}` };

let directory: string;
const opened: DeclaredModules[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-modules-'));
});
afterEach(() => {
  for (const modules of opened.splice(0)) modules.close();
  rmSync(directory, { recursive: true, force: true });
});

function open(fetch: DeclaredModulesParts['fetch'], more: Partial<DeclaredModulesParts> = {}) {
  const modules = new DeclaredModules({ store: new BlobStore(directory), fetch, log: silentLogger, retryMs: () => 1, ...more });
  opened.push(modules);
  let changes = 0;
  modules.onChange = () => (changes += 1);
  return { modules, changes: () => changes };
}

const away = async (): Promise<Fetched> => {
  throw new EngineError('MODULE_UNAVAILABLE', 'nobody there');
};
const bytesOf = ({ modules }: { modules: DeclaredModules }, module: ModuleReference): string | undefined => {
  const found = modules.find(module).module;
  return found && Buffer.from(found.bytes).toString();
};

test('who asks for what is not here is told at once, and hears when it is', async () => {
  let deliver: (fetched: Fetched) => void = () => {};
  const asked: ModuleReference[] = [];
  const opened = open((module) => {
    asked.push(module);
    return new Promise((resolve) => (deliver = resolve));
  });
  for (let i = 0; i < 3; i++)
    expect(opened.modules.find(URL_MODULE)).toEqual({
      problem: { reason: 'Cannot use module https://example.com/p.wasm: it is being fetched', pending: true },
    });
  expect(asked).toEqual([URL_MODULE]);
  deliver({ bytes: MODULE });
  await vi.waitFor(() => expect(opened.changes()).toBe(1));
  expect(opened.modules.find(URL_MODULE)).toEqual({ module: { bytes: MODULE, sha256: hashOf(MODULE) } });
  expect(asked).toHaveLength(1);
});

test('what was fetched is there after a restart without a network; an artifact by its manifest', async () => {
  const before = open(async (module) => ({ bytes: MODULE, ...(module.kind === 'oci' && { manifest: MANIFEST }) }));
  before.modules.find(URL_MODULE);
  before.modules.find(ARTIFACT);
  await vi.waitFor(() => expect(before.changes()).toBe(2));
  const after = open(away);
  expect([bytesOf(after, URL_MODULE), bytesOf(after, ARTIFACT)]).toEqual([MODULE.toString(), MODULE.toString()]);
});

test('what is damaged on the disk is fetched again', async () => {
  const opened = open(async () => ({ bytes: MODULE }));
  opened.modules.find(URL_MODULE);
  await vi.waitFor(() => expect(opened.changes()).toBe(1));
  writeFileSync(join(directory, 'fetched', hashOf(MODULE)), 'rubbish');
  expect(bytesOf(opened, URL_MODULE)).toBeUndefined();
  await vi.waitFor(() => expect(bytesOf(opened, URL_MODULE)).toBe(MODULE.toString()));
});

test('a disk that takes nothing keeps nobody from the module', async () => {
  writeFileSync(join(directory, 'fetched'), 'in the way');
  const opened = open(async () => ({ bytes: MODULE, manifest: MANIFEST }));
  opened.modules.find(ARTIFACT);
  await vi.waitFor(() => expect(bytesOf(opened, ARTIFACT)).toBe(MODULE.toString()));
});

describe('an attempt that fails', () => {
  test('is a problem that says whether it may mend itself, is repeated, and told once', async () => {
    const attempts: [number, boolean][] = [];
    let error = new EngineError('MODULE_UNAVAILABLE', 'https://example.com/p.wasm: ECONNREFUSED');
    const opened = open(
      async () => {
        throw error;
      },
      {
        retryMs: (...attempt) => {
          attempts.push(attempt);
          return 1;
        },
      },
    );
    opened.modules.find(URL_MODULE);
    await vi.waitFor(() => expect(attempts.length).toBeGreaterThan(3));
    expect(attempts.slice(0, 3)).toEqual([
      [1, false],
      [2, false],
      [3, false],
    ]);
    expect(opened.changes()).toBe(1);
    const reason = 'Cannot fetch module: https://example.com/p.wasm: ECONNREFUSED';
    expect(opened.modules.find(URL_MODULE).problem).toEqual({ reason, pending: true });
    error = new EngineError('PLUGIN_INVALID', 'https://example.com/p.wasm: its SHA-256 is another');
    await vi.waitFor(() => expect(opened.modules.find(URL_MODULE).problem?.pending).toBe(false));
    expect(attempts.at(-1)?.[1]).toBe(true);
    expect(opened.changes()).toBe(2);
  });

  test('is over when it succeeds, and counts from the start then', async () => {
    let left = 3;
    const opened = open(async () => {
      if ((left -= 1) > 0) throw new Error('unforeseen');
      return { bytes: MODULE };
    });
    opened.modules.find(URL_MODULE);
    await vi.waitFor(() => expect(opened.modules.find(URL_MODULE)).toEqual({ module: { bytes: MODULE, sha256: hashOf(MODULE) } }));
    expect(opened.changes()).toBe(2);
  });

  test('waits longer each time, and never exactly as long as another node', async () => {
    vi.useFakeTimers();
    try {
      let attempts = 0;
      const modules = new DeclaredModules({
        store: new BlobStore(directory),
        fetch: () => {
          attempts += 1;
          return away();
        },
        log: silentLogger,
      });
      opened.push(modules);
      modules.find(URL_MODULE);
      // At most 1 + 2 + 4 + 8 seconds; at least half of that.
      await vi.advanceTimersByTimeAsync(7400);
      expect(attempts).toBeGreaterThanOrEqual(3);
      await vi.advanceTimersByTimeAsync(7700);
      expect(attempts).toBeLessThanOrEqual(6);
      const before = attempts;
      await vi.advanceTimersByTimeAsync(3_600_000);
      expect(attempts - before).toBeGreaterThan(10);
      expect(attempts - before).toBeLessThan(40);
    } finally {
      vi.useRealTimers();
    }
  });
});

test('no more than four are fetched at once, and those that nobody wants any more end', async () => {
  const running = new Set<string>();
  const ended: string[] = [];
  const { modules } = open((module, signal) => {
    const { url } = module as { url: string };
    running.add(url);
    return new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => {
        running.delete(url);
        ended.push(url);
        reject(new Error('ended'));
      });
    });
  });
  const named = (i: number): ModuleReference => ({ kind: 'url', url: `https://example.com/${i}`, sha256: String(i).repeat(64) });
  for (let i = 0; i < 6; i++) modules.find(named(i));
  expect([...running]).toEqual([0, 1, 2, 3].map((i) => `https://example.com/${i}`));
  modules.keep([named(3), named(5)]);
  await vi.waitFor(() => expect([...running]).toEqual(['https://example.com/3', 'https://example.com/5']));
  expect(ended).toHaveLength(3);
});

test('what nobody names any more stays for a while: the latest sixteen', async () => {
  const opened = open(async ({ sha256 = '' }) => ({ bytes: Buffer.from(sha256) }));
  const named = (i: number): ModuleReference => {
    const sha256 = String(i).padStart(64, '0');
    return { kind: 'url', url: `https://example.com/${i}`, sha256 };
  };
  for (let i = 0; i < 20; i++) opened.modules.find(named(i));
  await vi.waitFor(() => expect(opened.changes()).toBe(20));
  opened.modules.keep([URL_MODULE]);
  expect(readdirSync(join(directory, 'fetched'))).toHaveLength(16);
});

describe('a ConfigMap', () => {
  const settings = { namespaces: ['kube-system'], plainText: [], tokenHosts: {}, loopback: false };

  function cluster(values: Map<string, Buffer>) {
    const fetcher = new ModuleFetcher({
      settings,
      cluster: {
        configMapValue: async (namespace, name, key) => values.get(`${objectName({ namespace, name })}/${key}`),
        secret: async () => undefined,
      },
    });
    return open((module, signal) => fetcher.fetch(module, signal), { rereadMs: 1 });
  }

  test('is read again: another module is taken, and one that is gone is a problem beside the last', async () => {
    const values = new Map([['kube-system/plugins/p.wasm', MODULE]]);
    const opened = cluster(values);
    opened.modules.find(CONFIG_MAP);
    await vi.waitFor(() => expect(bytesOf(opened, CONFIG_MAP)).toBe(MODULE.toString()));
    values.set('kube-system/plugins/p.wasm', Buffer.from('another'));
    await vi.waitFor(() => expect(bytesOf(opened, CONFIG_MAP)).toBe('another'));
    values.clear();
    await vi.waitFor(() =>
      expect(opened.modules.find(CONFIG_MAP).problem?.reason).toMatch(/ConfigMap kube-system\/plugins has no p.wasm, or/),
    );
    expect(bytesOf(opened, CONFIG_MAP)).toBe('another');
    expect(opened.modules.find(CONFIG_MAP).problem?.pending).toBe(false);
  });

  test('with another hash than is named is refused', async () => {
    const opened = cluster(new Map([['kube-system/plugins/p.wasm', MODULE]]));
    const pinned = { ...CONFIG_MAP, sha256: '0'.repeat(64) };
    opened.modules.find(pinned);
    await vi.waitFor(() =>
      expect(opened.modules.find(pinned).problem?.reason).toContain(`the SHA-256 of p.wasm is ${hashOf(MODULE)}, and not 000`),
    );
  });

  test('is read only in namespaces that the configuration names, and only by an engine that follows a cluster', async () => {
    const opened = cluster(new Map([['shop/plugins/p.wasm', MODULE]]));
    const module: ModuleReference = { ...CONFIG_MAP, namespace: 'shop' };
    opened.modules.find(module);
    await vi.waitFor(() =>
      expect(opened.modules.find(module).problem?.reason).toBe(
        'Cannot fetch module p.wasm of ConfigMap shop/plugins: ConfigMap shop/plugins: modules and their credentials come from kube-system only; modules.namespaces of --config says so',
      ),
    );
    const alone = new ModuleFetcher({ settings });
    await expect(alone.fetch(CONFIG_MAP, new AbortController().signal)).rejects.toThrow(
      'this version reads none of a cluster; use inline, url or oci',
    );
  });

  test('and so are the Secrets of registries, which must be of the right type', async () => {
    const secrets: Record<string, { type: string; data: Map<string, Uint8Array> }> = {
      'kube-system/opaque': { type: 'Opaque', data: new Map([['.dockerconfigjson', Buffer.from('{}')]]) },
    };
    const fetcher = new ModuleFetcher({
      settings,
      cluster: { configMapValue: async () => undefined, secret: async (namespace, name) => secrets[objectName({ namespace, name })] },
    });
    const fetch = (namespace: string, name: string): Promise<unknown> =>
      fetcher.fetch({ ...ARTIFACT, pullSecret: { namespace, name } }, new AbortController().signal);
    await expect(fetch('shop', 'opaque')).rejects.toThrow('Secret shop/opaque: modules and their credentials come from kube-system only');
    await expect(fetch('kube-system', 'none')).rejects.toThrow('Secret kube-system/none: there is none');
    await expect(fetch('kube-system', 'opaque')).rejects.toThrow('must be of type kubernetes.io/dockerconfigjson');
  });
});

test('files and inline modules are there at once, and a file with another hash than is named is not', () => {
  const path = join(directory, 'p.wasm');
  writeFileSync(path, MODULE);
  const { modules } = open(away);
  expect(modules.find({ kind: 'file', path }).module?.sha256).toBe(hashOf(MODULE));
  expect(modules.find({ kind: 'inline', bytes: MODULE }).module?.sha256).toBe(hashOf(MODULE));
  expect(modules.find({ kind: 'file', path, sha256: '0'.repeat(64) })).toEqual({
    problem: { reason: `Cannot load module ${path}: its SHA-256 is ${hashOf(MODULE)}, and not ${'0'.repeat(64)}`, pending: false },
  });
});

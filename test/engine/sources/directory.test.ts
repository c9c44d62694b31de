/** A directory as a source: what is told when files come, change, break and go. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Direction } from '../../../engine/abi.gen.ts';
import { silentLogger } from '../../../engine/log.ts';
import type { ObjectChange } from '../../../engine/policy/objects.ts';
import { formatProblem, viewProblem } from '../../../engine/policy/problem.ts';
import { ClusterFeed } from '../../../engine/sources/cluster-feed.ts';
import { DirectorySource } from '../../../engine/sources/directory.ts';

const namespace = (name: string): string => `apiVersion: v1\nkind: Namespace\nmetadata: { name: ${name} }\n`;
const networkPolicy = (spec: string): string =>
  `apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: web, namespace: shop }\nspec:\n${spec}\n`;
const plugin = (file: string): string =>
  `apiVersion: sluice.dev/v1alpha1\nkind: PolicyPlugin\nmetadata: { name: p }\nspec: { module: { file: ${file} } }\n`;

describe('DirectorySource', () => {
  let directory: string;
  let feed: ClusterFeed;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-source-'));
    feed = new ClusterFeed([new DirectorySource(directory, silentLogger)]);
  });
  afterEach(async () => {
    await feed.close();
    rmSync(directory, { recursive: true, force: true });
  });
  const write = (name: string, text: string): void => writeFileSync(join(directory, name), text);
  const problems = (): string[] => feed.problems.all.map((problem) => formatProblem(viewProblem(problem)).replaceAll(`${directory}/`, ''));
  /** The changes by now: `+` came or changed, `-` went. */
  const taken = async (): Promise<string[]> => {
    await feed.catchUp();
    return feed.take().map(({ kind, key, value }) => `${value ? '+' : '-'} ${kind} ${key}`);
  };

  test('refuses a directory that does not exist, and a file', () => {
    expect(() => new DirectorySource(join(directory, 'none'), silentLogger)).toThrow(/no such directory/);
    write('file', '');
    expect(() => new DirectorySource(join(directory, 'file'), silentLogger)).toThrow(/not a directory/);
  });

  test('has told everything when it has started, and tells changes by object after that', async () => {
    write('a.yaml', `${namespace('a')}---\n${namespace('b')}`);
    mkdirSync(join(directory, 'below'));
    write('below/c.yml', namespace('c'));
    write('.hidden.yaml', namespace('d'));
    write('notes.txt', 'no manifest');
    await feed.start();
    expect(feed.status).toEqual([{ name: `dir:${directory}`, state: { is: 'following' } }]);
    expect(await taken()).toEqual(['+ Namespace a', '+ Namespace b', '+ Namespace c']);
    expect(await taken()).toEqual([]);
    // An object that was only moved, or written otherwise, is no change.
    write(
      'a.yaml',
      `# text before\n${namespace('b')}---\n${namespace('a').replace('{ name: a }', '{ "name": "a" }')}---\n${namespace('e')}`,
    );
    expect(await taken()).toEqual(['+ Namespace e']);
    write('a.yaml', namespace('b'));
    expect((await taken()).sort()).toEqual(['- Namespace a', '- Namespace e']);
    rmSync(join(directory, 'below'), { recursive: true });
    expect(await taken()).toEqual(['- Namespace c']);
  });

  test('tells what the watch saw, without being asked', async () => {
    await feed.start();
    const seen: ObjectChange[] = [];
    feed.onChange(() => seen.push(...feed.take()));
    write('a.yaml', namespace('a'));
    await vi.waitFor(() => expect(seen.map(({ key }) => key)).toEqual(['a']), 5000);
    rmSync(join(directory, 'a.yaml'));
    await vi.waitFor(() => expect(seen.at(-1)).toEqual({ kind: 'Namespace', key: 'a', value: undefined }), 5000);
  });

  test('reads regular files only, waits for no pipe, and reports what is none', async () => {
    write('a.yaml', namespace('a'));
    write('text', namespace('b'));
    symlinkSync('text', join(directory, 'link.yaml'));
    await feed.start();
    expect(await taken()).toEqual(['+ Namespace a', '+ Namespace b']);
    execFileSync('mkfifo', [join(directory, 'pipe.yaml')]);
    symlinkSync('/dev/zero', join(directory, 'device.yaml'));
    expect(await taken()).toEqual([]);
    expect(problems().sort()).toEqual(['device.yaml: not a regular file', 'pipe.yaml: not a regular file']);
    // It keeps what it said in place of a pipe, too.
    rmSync(join(directory, 'a.yaml'));
    execFileSync('mkfifo', [join(directory, 'a.yaml')]);
    expect(await taken()).toEqual([]);
    expect(problems()).toContain('a.yaml: not a regular file');
    for (const name of ['pipe.yaml', 'device.yaml', 'a.yaml']) rmSync(join(directory, name));
    expect(await taken()).toEqual(['- Namespace a']);
    expect(problems()).toEqual([]);
  });

  test('enters each directory once, however many links lead there, and back', async () => {
    mkdirSync(join(directory, 'below'));
    write('below/a.yaml', namespace('a'));
    for (const name of ['one', 'two', 'below/three']) symlinkSync(directory, join(directory, name));
    symlinkSync('below', join(directory, 'again'));
    symlinkSync('self.yaml', join(directory, 'self.yaml'));
    await feed.start();
    expect(await taken()).toEqual(['+ Namespace a']);
    expect(problems()).toEqual([expect.stringMatching(/^self.yaml: cannot be read: ELOOP/)]);
    rmSync(join(directory, 'self.yaml'));
    // A link is entered where the directory lies elsewhere.
    const elsewhere = mkdtempSync(join(tmpdir(), 'sluice-source-'));
    try {
      writeFileSync(join(elsewhere, 'b.yaml'), namespace('b'));
      symlinkSync(elsewhere, join(directory, 'linked'));
      expect(await taken()).toEqual(['+ Namespace b']);
    } finally {
      rmSync(elsewhere, { recursive: true });
    }
    expect(problems()).toEqual([]);
  });

  describe('with a link to a directory that lies beside it', () => {
    beforeEach(() => {
      for (const name of ['aaa', 'bank']) mkdirSync(join(directory, name));
      write('bank/a.yaml', `${namespace('a')}---\nkind: [`);
      symlinkSync('../bank', join(directory, 'aaa/link'));
    });

    test('knows its files where they lie', async () => {
      await feed.start();
      expect(problems()).toEqual([expect.stringMatching(/^bank\/a.yaml:\d+: not valid YAML/)]);
      write('bank/a.yaml', namespace('a'));
      expect(await taken()).toEqual(['+ Namespace a']);
      expect(problems()).toEqual([]);
    });

    test('the watch makes no second definition of them, and the end of the link is none of theirs', async () => {
      write('bank/a.yaml', namespace('a'));
      await feed.start();
      await feed.catchUp();
      const seen: string[] = [];
      const reported: string[] = [];
      feed.onChange(() => {
        seen.push(...feed.take().map(({ key, value }) => `${value ? '+' : '-'} ${key}`));
        reported.push(...problems());
      });
      // Once a change is seen everything is watched, both ways.
      let count = 0;
      const touch = async (): Promise<void> => {
        const name = `n${++count}`;
        write('bank/b.yaml', namespace(name));
        await vi.waitFor(() => expect(seen).toContain(`+ ${name}`), 5000);
      };
      for (let i = 0; i < 3; i++) await touch();
      rmSync(join(directory, 'aaa/link'));
      for (let i = 0; i < 3; i++) await touch();
      rmSync(join(directory, 'bank/b.yaml'));
      await vi.waitFor(() => expect(seen.at(-1)).toBe(`- n${count}`), 5000);
      expect(seen.filter((change) => change.endsWith(' a'))).toEqual(['+ a']);
      expect(reported).toEqual([]);
    });
  });

  test('watches a directory once, however many links lead there, and back', async () => {
    const watches = (): number => process.getActiveResourcesInfo().filter((resource) => resource === 'FSEventWrap').length;
    const before = watches();
    mkdirSync(join(directory, '.hidden'));
    mkdirSync(join(directory, 'below'));
    for (const name of ['one', 'two', 'below/three', '.hidden/four']) symlinkSync(directory, join(directory, name));
    symlinkSync('.hidden', join(directory, 'shown'));
    for (const name of ['five', 'six']) symlinkSync('.', join(directory, '.hidden', name));
    await feed.start();
    const seen: string[] = [];
    feed.onChange(() => seen.push(...feed.take().map(({ key }) => key)));
    for (const [place, name] of [
      ['below', 'a'],
      ['.hidden', 'b'],
    ] as const) {
      write(`${place}/${name}.yaml`, namespace(name));
      await vi.waitFor(() => expect(seen).toContain(name), 5000);
    }
    expect(watches() - before).toBeLessThan(20);
  });

  test('follows a link that leads elsewhere by now, and what changes there', async () => {
    const elsewhere = mkdtempSync(join(tmpdir(), 'sluice-source-'));
    const lead = (name: string, target: string): void => {
      symlinkSync(join(elsewhere, target), join(directory, '.new'));
      renameSync(join(directory, '.new'), join(directory, name));
    };
    const say = (place: string, name: string): void => writeFileSync(join(elsewhere, place), namespace(name));
    const seen: string[] = [];
    const changes = (...wanted: string[]): Promise<void> =>
      vi.waitFor(() => {
        expect(seen.toSorted()).toEqual(wanted);
        seen.length = 0;
      }, 5000);
    try {
      for (const version of ['1', '2']) {
        mkdirSync(join(elsewhere, version));
        say(`${version}/a.yaml`, `a${version}`);
        say(`${version}.yaml`, `b${version}`);
      }
      lead('link', '1');
      lead('link.yaml', '1.yaml');
      await feed.start();
      feed.onChange(() => seen.push(...feed.take().map(({ key, value }) => `${value ? '+' : '-'} ${key}`)));
      await changes('+ a1', '+ b1');
      say('1/a.yaml', 'a');
      await changes('+ a', '- a1');
      lead('link', '2');
      await changes('+ a2', '- a');
      say('2/a.yaml', 'a3');
      await changes('+ a3', '- a2');
      lead('link.yaml', '2.yaml');
      await changes('+ b2', '- b1');
      say('2.yaml', 'b3');
      await changes('+ b3', '- b2');
    } finally {
      rmSync(elsewhere, { recursive: true });
    }
  });

  test('a file that is known by a link alone is known by another one when that goes', async () => {
    const elsewhere = mkdtempSync(join(tmpdir(), 'sluice-source-'));
    try {
      writeFileSync(join(elsewhere, 'a.yaml'), namespace('a'));
      for (const name of ['one', 'two']) symlinkSync(elsewhere, join(directory, name));
      await feed.start();
      const seen: string[] = [];
      feed.onChange(() => seen.push(...feed.take().map(({ key, value }) => `${value ? '+' : '-'} ${key}`)));
      write('b.yaml', namespace('b'));
      await vi.waitFor(() => expect(seen).toContain('+ b'), 5000);
      // The watch names what is gone in this order.
      rmSync(join(directory, 'one'));
      rmSync(join(directory, 'b.yaml'));
      await vi.waitFor(() => expect(seen).toContain('- b'), 5000);
      expect(seen.filter((change) => change.endsWith(' a'))).toEqual(['+ a']);
    } finally {
      rmSync(elsewhere, { recursive: true });
    }
  });

  test('a link that is too deep for its files to have a path loses none', async () => {
    const deep = Array.from({ length: 39 }, () => 'd'.repeat(100)).join('/');
    mkdirSync(join(directory, deep), { recursive: true });
    mkdirSync(join(directory, 'ways'));
    write(`ways/${'a'.repeat(240)}.yaml`, namespace('a'));
    symlinkSync(join(directory, 'ways'), join(directory, deep, 'link'));
    await feed.start();
    expect(await taken()).toEqual(['+ Namespace a']);
    expect(problems()).toEqual([]);
  });

  test('a mounted ConfigMap says each object once, and is followed when it is another', async () => {
    const version = (name: string, text: string): void => {
      mkdirSync(join(directory, name));
      write(`${name}/a.yaml`, text);
      symlinkSync(name, join(directory, '..data.tmp'));
      renameSync(join(directory, '..data.tmp'), join(directory, '..data'));
    };
    version('..2026_01', namespace('a'));
    symlinkSync('..data/a.yaml', join(directory, 'a.yaml'));
    await feed.start();
    expect(await taken()).toEqual(['+ Namespace a']);
    expect(problems()).toEqual([]);
    const seen: ObjectChange[] = [];
    feed.onChange(() => seen.push(...feed.take()));
    version('..2026_02', namespace('b'));
    await vi.waitFor(() => expect(seen.map(({ key, value }) => `${value ? '+' : '-'} ${key}`).sort()).toEqual(['+ b', '- a']), 5000);
    expect(problems()).toEqual([]);
  });

  test('keeps what a file said while it cannot be read as YAML, and reports it', async () => {
    write('a.yaml', namespace('a'));
    await feed.start();
    await taken();
    write('a.yaml', 'kind: [');
    expect(await taken()).toEqual([]);
    expect(problems()[0]).toMatch(/^a\.yaml:1: not valid YAML/);
    write('a.yaml', namespace('c'));
    expect((await taken()).sort()).toEqual(['+ Namespace c', '- Namespace a']);
    expect(problems()).toEqual([]);
  });

  test('keeps what it knew while the directory cannot be read, and says since when', async () => {
    write('a.yaml', namespace('a'));
    await feed.start();
    await taken();
    rmSync(directory, { recursive: true });
    expect(await taken()).toEqual([]);
    expect(feed.status[0]?.state).toMatchObject({ is: 'behind', sinceMs: expect.any(Number) });
    expect(problems()[0]).toMatch(/^dir:.*cannot be read: .*: what was known before stays in force$/);
    mkdirSync(directory);
    write('b.yaml', namespace('b'));
    expect((await taken()).sort()).toEqual(['+ Namespace b', '- Namespace a']);
    expect(feed.status[0]?.state).toEqual({ is: 'following' });
  });

  test('a plugin whose module is another one is another object', async () => {
    write('p.yaml', plugin('p.wasm'));
    await feed.start();
    expect(await taken()).toEqual(['+ PolicyPlugin p']);
    write('p.wasm', 'one');
    expect(await taken()).toEqual(['+ PolicyPlugin p']);
    rmSync(join(directory, 'p.wasm'));
    expect(await taken()).toEqual(['+ PolicyPlugin p']);
    expect(await taken()).toEqual([]);
  });

  test('reports an object that is defined twice, and lets the second one open nothing', async () => {
    write('a.yaml', networkPolicy('  podSelector: {}\n'));
    write('b.yaml', networkPolicy('  podSelector: {}\n  ingress: [{}]'));
    await feed.start();
    const policies = feed.take().flatMap((change) => (change.kind === 'NetworkPolicy' && change.value ? [change.value] : []));
    expect(policies.map(({ name, rules }) => [name.replaceAll(`${directory}/`, ''), rules[Direction.INGRESS]])).toEqual([
      ['web', []],
      ['web (b.yaml:1)', []],
    ]);
    expect(problems()).toEqual(['b.yaml:1: NetworkPolicy shop/web: defined already in a.yaml:1']);
    rmSync(join(directory, 'a.yaml'));
    await feed.catchUp();
    const changes = feed.take().map(({ kind, key, value }) => (value ? `${kind} ${key}` : `${kind} is gone`));
    expect(changes.sort()).toEqual(['NetworkPolicy is gone', 'NetworkPolicy shop/web']);
    expect(problems()).toEqual([]);
  });
});

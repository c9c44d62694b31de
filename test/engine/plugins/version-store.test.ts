import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { hashOf, type StoredPlugin, VersionStore } from '../../../engine/plugins/version-store.ts';
import { random } from '../../support/plugin-modules.ts';

let directory: string;
let store: VersionStore;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-store-'));
  store = new VersionStore(directory);
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const one = Buffer.from('module one');
const two = Buffer.from('module two');
const state = (live: Buffer, previous?: Buffer): StoredPlugin => ({
  live: { sha256: hashOf(live), origin: 'pushed' },
  previous: previous ? { sha256: hashOf(previous), origin: 'file' } : null,
  candidate: null,
  fileSha256: '',
  history: [],
});

describe('VersionStore', () => {
  test('gives back what it was given, and nothing where there was nothing', () => {
    expect(store.load('p')).toEqual({ state: undefined, problem: '' });
    store.remove('p');
    store.save('p', state(two, one), [one, two]);
    expect(new VersionStore(directory).load('p')).toEqual({ state: state(two, one), problem: '' });
    expect(Buffer.from(store.readModule(hashOf(one)))).toEqual(one);
  });

  test('lets nobody else read it', () => {
    store.save('p', state(one), [one]);
    for (const path of ['plugins/p.json', `modules/${hashOf(one)}.wasm`]) expect(statSync(join(directory, path)).mode & 0o077).toBe(0);
    for (const path of ['plugins', 'modules']) expect(statSync(join(directory, path)).mode & 0o077).toBe(0);
  });

  test('keeps the modules that some plugin names, those of the state before included, and no others', () => {
    store.save('p', state(one), [one]);
    store.save('q', state(two), [two]);
    store.save('p', state(two), [two]);
    expect(existsSync(join(directory, 'modules', `${hashOf(one)}.wasm`))).toBe(true);
    store.save('p', state(two), [two]);
    expect(readdirSync(join(directory, 'modules'))).toEqual([`${hashOf(two)}.wasm`]);
    store.remove('p');
    store.remove('q');
    expect(readdirSync(join(directory, 'modules'))).toEqual([]);
    expect(readdirSync(join(directory, 'plugins'))).toEqual([]);
  });

  test('mends a module that was damaged when it comes again', () => {
    store.save('p', state(one), [one]);
    writeFileSync(join(directory, 'modules', `${hashOf(one)}.wasm`), 'damaged');
    expect(() => store.readModule(hashOf(one))).toThrow('is damaged: its content has another checksum');
    store.save('p', state(one), [one]);
    expect(Buffer.from(store.readModule(hashOf(one)))).toEqual(one);
  });

  test('whatever happens to a file, it gives the state, the one before, or none: never a third, and says so', () => {
    const next = random(21);
    store.save('p', state(one), [one]);
    store.save('p', state(two, one), [one, two]);
    const path = join(directory, 'plugins/p.json');
    const sound = readFileSync(path);
    for (let i = 0; i < 300; i++) {
      const bytes = Buffer.from(sound);
      if (i % 3 === 0) writeFileSync(path, bytes.subarray(0, next(bytes.length)));
      else {
        bytes[next(bytes.length)] = next(256);
        writeFileSync(path, bytes);
      }
      const { state: found, problem } = store.load('p');
      if (problem) {
        expect(problem).toContain('p.json is damaged');
        expect(found).toEqual(state(one));
      } else expect(found).toEqual(state(two, one));
    }
  });
});

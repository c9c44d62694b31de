/** Checksums of versions: equal for who has the same, whatever the way there; and different in the part of what somebody is behind with. */
import { describe, expect, test } from 'vitest';
import {
  formatChecksums,
  type ObjectVersion,
  ObjectVersions,
  PARTS,
  parseChecksums,
  partOf,
  versionKey,
} from '../../../engine/policy/object-versions.ts';

const version = (name: string, generation?: number, uid = `uid-${name}`): ObjectVersion => ({
  apiVersion: 'sluice.dev/v1alpha1',
  kind: 'PluginPolicy',
  namespace: 'shop',
  name,
  uid,
  ...(generation !== undefined && { generation }),
});
const filled = (...versions: readonly ObjectVersion[]): ObjectVersions => {
  const all = new ObjectVersions();
  for (const each of versions) all.set(versionKey(each), each);
  return all;
};

describe('ObjectVersions', () => {
  const [a, b] = [version('a', 1), version('b', 3)];

  test.each([
    { name: 'in another order', other: filled(b, a) },
    { name: 'with an older version between', other: filled(version('a', 7), b, a) },
    { name: 'twice', other: filled(a, a, b, b) },
    { name: 'with one of which nobody counts versions', other: filled(a, b, version('c')) },
  ])('has the same checksums when it is told $name', ({ other }) => {
    expect(other.checksums).toEqual(filled(a, b).checksums);
  });

  test.each([
    { name: 'another generation', other: filled(a, version('b', 4)) },
    { name: 'another object of the name', other: filled(a, version('b', 3, 'another')) },
    { name: 'one that is gone', other: filled(a) },
  ])('differs in the part of the object alone with $name', ({ other }) => {
    const own = filled(a, b).checksums;
    const different = [...other.checksums].flatMap((sum, part) => (sum === own[part] ? [] : [part]));
    expect(different).toEqual([partOf(versionKey(b))]);
  });

  test('counts changes, and an object that is gone leaves nothing', () => {
    const all = filled(a);
    all.set(versionKey(a), { ...a });
    expect(all.revision).toBe(1);
    all.set(versionKey(a), undefined);
    expect([all.revision, [...all], all.checksums]).toEqual([2, [], new Uint32Array(PARTS)]);
  });
});

test('checksums are read as they were written, and nothing else is', () => {
  const { checksums } = filled(version('a', 1), version('b', 2), version('c', 3));
  expect(parseChecksums(formatChecksums(checksums))).toEqual(checksums);
  for (const text of ['', 'z'.repeat(PARTS * 8), '0'.repeat(PARTS * 8 - 1)]) expect(parseChecksums(text)).toBeUndefined();
});

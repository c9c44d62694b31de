/** The moves of versions do to each version of a plugin what the table of a version's life says. */
import { expect, test } from 'vitest';
import type { VersionsOf } from '../../../engine/plugin-runtime/plugin-setup.ts';
import { enforce, promote, rollBack, runBeside, VERSION, type VersionPlace, withdraw } from '../../../engine/plugins/version-moves.ts';

const of = (hash: string) => ({ hash });
type V = ReturnType<typeof of>;

const [live, previous, candidate, fresh] = ['live', 'previous', 'candidate', 'fresh'].map(of) as [V, V, V, V];
const FULL: VersionsOf<V> = { live, previous, candidate: { version: candidate, mode: 'canary', weight: 10 } };

function place(versions: VersionsOf<V> | undefined, version: V): VersionPlace {
  if (versions?.live === version) return 'live';
  if (versions?.previous === version) return 'previous';
  return versions?.candidate?.version === version ? 'candidate' : 'gone';
}

test.each([
  { name: 'enforce', after: enforce(FULL, fresh), own: 'enforce', live: 'enforce another' },
  { name: 'run beside', after: runBeside(FULL, fresh, 'shadow', 0), own: 'run beside', candidate: 'run another beside' },
  { name: 'promote', after: promote(FULL), candidate: 'promote', live: 'promote another', previous: 'promote another' },
  { name: 'withdraw', after: withdraw(FULL), candidate: 'withdraw' },
  { name: 'roll back', after: rollBack(FULL), live: 'roll back', previous: 'roll back', candidate: 'roll back' },
] as const)('$name does to each version as it says', ({ after, ...events }) => {
  const moves = { live: undefined, previous: undefined, candidate: undefined, own: undefined, ...events };
  // Who enforces another, does so to all.
  if (moves.own === 'enforce') Object.assign(moves, { previous: 'enforce another', candidate: 'enforce another' });
  const to = (from: VersionPlace, event: string | undefined): VersionPlace | undefined =>
    event === undefined ? from : VERSION[from][event as keyof (typeof VERSION)[typeof from]];
  expect(place(after, live)).toBe(to('live', moves.live));
  expect(place(after, previous)).toBe(to('previous', moves.previous));
  expect(place(after, candidate)).toBe(to('candidate', moves.candidate));
  if (moves.own) expect(place(after, fresh)).toBe(to('trial', moves.own));
});

test('the first version of a plugin has none before it', () => {
  expect(enforce(undefined, fresh)).toEqual({ live: fresh, previous: undefined, candidate: undefined });
});

test('the same version once more keeps the one before: it is no step that could be taken back', () => {
  expect(enforce(FULL, of('live'))).toMatchObject({ live: { hash: 'live' }, previous });
});

test('nothing is promoted where nothing runs beside; twice rolled back is nothing', () => {
  expect(promote(withdraw(FULL))).toBeUndefined();
  const once = rollBack(FULL) as VersionsOf<V>;
  expect(once).toEqual({ live: previous, previous: undefined, candidate: undefined });
  expect(rollBack(once)).toBeUndefined();
});

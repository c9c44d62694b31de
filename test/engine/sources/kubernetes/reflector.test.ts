/** A reflector and an API server that does what servers do on bad days: nothing that was told is taken back but by a list that is whole, or an event. */
import { afterEach, expect, test, vi } from 'vitest';
import { ApiFailure } from '../../../../engine/sources/kubernetes/api-failure.ts';
import { catchUp } from '../../../../engine/sources/kubernetes/catch-up.ts';
import { PAGE_LIMIT } from '../../../../engine/sources/kubernetes/reflector.ts';
import { Followed, page, SHORT_TIMING } from '../../../support/scripted-api.ts';

const open: Followed[] = [];
const follow = (options?: ConstructorParameters<typeof Followed>[0]): Followed => {
  const followed = new Followed(options);
  open.push(followed);
  return followed;
};
/** One that has been told of these, by a list, and watches. */
async function following(
  names: readonly string[],
  version = 10,
): Promise<{ followed: Followed; watch: Awaited<ReturnType<Followed['watch']>> }> {
  const followed = follow();
  await followed.list(page(version, names));
  return { followed, watch: await followed.watch() };
}
const unreachable = new ApiFailure('unreachable', 'connect ECONNREFUSED');
const expired = new ApiFailure('expired', '410 Expired: too old resource version');

afterEach(async () => {
  for (const { reflector } of open.splice(0)) await reflector.close();
});

test('a list of pages is told page by page, and watched from the version of the first', async () => {
  const followed = follow();
  await followed.list(page(10, ['a', 'b'], 'page 2'));
  const second = await followed.asked('list');
  expect(second.question).toEqual({ ask: 'list', limit: PAGE_LIMIT, continue: 'page 2' });
  expect([followed.names, followed.reflector.told]).toEqual(['a b', false]);
  second.answer(page(10, ['c']));
  const watch = await followed.watch();
  expect(watch.question).toEqual({ ask: 'watch', from: 10 });
  expect([followed.names, followed.reflector.told, followed.reflector.trouble]).toEqual(['a b c', true, undefined]);
});

test('events add, change and delete; one that is not newer than what was told is no news', async () => {
  const { followed, watch } = await following(['a', 'b']);
  watch.event('ADDED', 11, 'c').event('DELETED', 12, 'a');
  expect(followed.names).toBe('b c');
  watch.event('DELETED', 12, 'b').event('ADDED', 9, 'old');
  expect(followed.names).toBe('b c');
  expect(followed.reflector.counts.events).toBe(2);
});

test('a bookmark moves the version on, so that the next watch begins there', async () => {
  const { followed, watch } = await following(['a']);
  watch.event('BOOKMARK', 500).end();
  expect((await followed.watch()).question).toEqual({ ask: 'watch', from: 500 });
  expect(followed.reflector.trouble).toBeUndefined();
});

test('half a list deletes nothing: the next one begins at its beginning', async () => {
  const { followed, watch } = await following(['a', 'b', 'c']);
  watch.answer(expired);
  await followed.list(page(20, ['a'], 'page 2'));
  await followed.list(unreachable);
  const again = await followed.asked('list');
  expect(again.question).toMatchObject({ continue: '' });
  expect(followed.names).toBe('a b c');
  again.answer(page(21, ['a', 'd']));
  await followed.watch();
  expect(followed.names).toBe('a d');
});

test('where a list expires in its middle it begins anew, and what is there stays', async () => {
  const { followed, watch } = await following(['a', 'b']);
  watch.answer(expired);
  await followed.list(page(20, ['a'], 'page 2'));
  await followed.list(expired);
  await followed.list(page(30, ['a', 'b'], 'page 2'));
  await followed.list(page(30, ['c']));
  await followed.watch();
  expect(followed.names).toBe('a b c');
});

test('an empty list that is whole is believed; one that goes on is not yet', async () => {
  const { followed, watch } = await following(['a', 'b']);
  watch.answer(expired);
  await followed.list(page(20, [], 'page 2'));
  const second = await followed.asked('list');
  expect(followed.names).toBe('a b');
  second.answer(page(20, []));
  await followed.watch();
  expect(followed.names).toBe('');
});

test('a server that is away is tried again from the last version, and what was told holds', async () => {
  const { followed, watch } = await following(['a', 'b']);
  const before = Date.now();
  watch.event('ADDED', 11, 'c').answer(unreachable);
  for (let i = 0; i < 5; i++) (await followed.asked('watch')).answer(unreachable);
  const back = await followed.asked('watch');
  expect(back.question).toEqual({ ask: 'watch', from: 11 });
  expect(followed.names).toBe('a b c');
  expect(followed.reflector.trouble?.reason).toBe('cannot watch pods: connect ECONNREFUSED');
  expect(followed.reflector.trouble?.sinceMs).toBeGreaterThanOrEqual(before);
  back.opened().event('DELETED', 12, 'a');
  expect([followed.names, followed.reflector.trouble]).toEqual(['b c', undefined]);
});

test('a watch that broke once and is there again is no trouble', async () => {
  const { followed, watch } = await following(['a']);
  watch.answer(unreachable);
  await followed.asked('watch');
  expect(followed.reflector.trouble).toBeUndefined();
});

test('how long ago the server was heard grows until it says something', async () => {
  const { followed, watch } = await following(['a']);
  await vi.waitFor(() => expect(followed.reflector.ageMs).toBeGreaterThan(20));
  watch.event('BOOKMARK', 11);
  expect(followed.reflector.ageMs).toBeLessThan(20);
});

test('a watch that ends at once, again and again, is a trouble and no busy loop', async () => {
  const { followed, watch } = await following(['a']);
  watch.end();
  for (let i = 0; i < 6; i++) (await followed.watch()).end();
  expect(followed.reflector.trouble?.reason).toBe('cannot watch pods: a watch that ends at once');
  // Waits of 1 to 8 ms: more watches than that would mean that nobody waits.
  expect(followed.reflector.counts.errors).toBeGreaterThanOrEqual(6);
});

test('an object without a name ends the watch as nonsense, and changes nothing', async () => {
  const { followed, watch } = await following(['a']);
  expect(() => watch.event('DELETED', 11, '')).toThrow('an object without a name');
  watch.answer(new ApiFailure('nonsense', 'nonsense: an object without a name'));
  expect((await followed.asked('watch')).question).toEqual({ ask: 'watch', from: 10 });
  expect([followed.names, followed.reflector.trouble?.reason]).toEqual(['a', 'cannot watch pods: nonsense: an object without a name']);
});

test('a list that goes on where it was does not go on forever', async () => {
  const { followed, watch } = await following(['a', 'b']);
  watch.answer(expired);
  await followed.list(page(20, ['a'], 'again'));
  await followed.list(page(20, ['a'], 'again'));
  expect((await followed.asked('list')).question).toMatchObject({ continue: '' });
  expect([followed.names, followed.reflector.trouble?.reason]).toEqual([
    'a b',
    'cannot list pods: nonsense: a list that goes on where it was',
  ]);
});

test('objects that are very large are asked for a few at a time, from the same place', async () => {
  const followed = follow();
  await followed.list(page(10, ['a'], 'page 2'));
  await followed.list(new ApiFailure('too-large', 'an answer of more than 25165824 bytes'));
  const smaller = await followed.asked('list');
  expect(smaller.question).toEqual({ ask: 'list', limit: PAGE_LIMIT / 10, continue: 'page 2' });
  smaller.answer(page(10, ['b']));
  await followed.watch();
  expect(followed.names).toBe('a b');
});

test('a kind whose CRD was deleted has no objects; one that only answers 404 keeps them', async () => {
  const followed = follow({
    resource: { kind: 'Pod', apiVersion: 'sluice.dev/v1alpha1', plural: 'pods', encoding: 'json' },
  });
  const absent = new ApiFailure('absent', '404 NotFound');
  await followed.list(page(10, ['a']));
  const watch = await followed.watch();
  // It is in the list of what the server has: somebody on the way says 404.
  watch.answer(absent);
  (await followed.asked('watch')).answer(absent);
  const third = await followed.asked('watch');
  expect(followed.names).toBe('a');
  followed.api.served = new ApiFailure('unreachable', 'no answer');
  third.answer(absent);
  const fourth = await followed.asked('watch');
  expect(followed.names).toBe('a');
  followed.api.served = false;
  fourth.answer(absent);
  // It is looked for, and followed when it is there again.
  const looked = await followed.asked('list');
  expect([followed.names, followed.reflector.told, followed.reflector.trouble]).toEqual(['', true, undefined]);
  looked.answer(page(30, ['b']));
  await followed.watch();
  expect(followed.names).toBe('b');
});

test('a version that the server drops is followed in the other, and nothing is deleted between', async () => {
  const [older, newer] = ['policy.example/v1alpha2', 'policy.example/v1beta1'];
  const followed = follow({
    resource: { kind: 'Pod', apiVersion: older, otherVersion: newer, plural: 'pods', encoding: 'json' },
  });
  const absent = new ApiFailure('absent', '404 NotFound');
  await followed.list(page(10, ['a', 'b']));
  const watch = await followed.watch();
  followed.api.served = newer;
  watch.answer(absent);
  const looked = await followed.asked('list');
  expect([followed.names, followed.reflector.resource.apiVersion]).toEqual(['a b', newer]);
  looked.answer(page(20, ['a', 'c']));
  const again = await followed.watch();
  expect([followed.names, followed.reflector.trouble]).toEqual(['a c', undefined]);
  // Neither is there; then the first one alone.
  followed.api.served = false;
  again.answer(absent);
  const nowhere = await followed.asked('list');
  expect([followed.names, followed.reflector.trouble]).toEqual(['', undefined]);
  followed.api.served = older;
  nowhere.answer(absent);
  await followed.list(page(40, ['d']));
  await followed.watch();
  expect([followed.names, followed.reflector.resource.apiVersion]).toEqual(['d', older]);
});

test('the first list that cannot be had is a trouble, and nothing counts as told', async () => {
  const followed = follow();
  await followed.list(new ApiFailure('forbidden', '403 Forbidden: pods is forbidden'));
  const again = await followed.asked('list');
  expect([followed.reflector.told, followed.reflector.trouble?.reason]).toEqual([
    false,
    'cannot list pods: 403 Forbidden: pods is forbidden',
  ]);
  again.answer(page(1, []));
  await followed.watch();
  expect([followed.reflector.told, followed.reflector.trouble]).toEqual([true, undefined]);
});

test('catching up lists what fits on a page, and tells it, without breaking the watch', async () => {
  const { followed, watch } = await following(['a', 'b']);
  const caughtUp = catchUp(followed.reflector, followed.api, AbortSignal.timeout(SHORT_TIMING.catchUpMs));
  await followed.list(page(20, ['b', 'c']));
  await caughtUp;
  expect(followed.names).toBe('b c');
  // The same events come by the watch, and are none.
  watch.event('ADDED', 15, 'c').event('DELETED', 19, 'b').event('ADDED', 21, 'd');
  expect(followed.names).toBe('b c d');
});

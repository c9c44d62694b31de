/** The API client and a server, or whoever is in its place, that hangs, stops in the middle, says too much, something else or nothing. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { ApiFailure } from '../../../../engine/sources/kubernetes/api-failure.ts';
import type { ApiEvent } from '../../../../engine/sources/kubernetes/encodings.ts';
import type { Resource } from '../../../../engine/sources/kubernetes/resources.ts';
import type { Timing } from '../../../../engine/sources/kubernetes/timing.ts';
import { ApiStand, begin, JSON_TYPE, say, sayForever } from '../../../support/api-stand.ts';
import { PODS, SHORT_TIMING } from '../../../support/scripted-api.ts';

const PROTOBUF_TYPE = 'application/vnd.kubernetes.protobuf';
const POLICIES: Resource = { kind: 'PluginPolicy', apiVersion: 'sluice.dev/v1alpha1', plural: 'pluginpolicies', encoding: 'json' };

let stand: ApiStand;
beforeEach(async () => {
  stand = await ApiStand.start();
});
afterEach(async () => await stand.close());
async function restart(timing: Partial<Timing>): Promise<void> {
  await stand.close();
  stand = await ApiStand.start({ ...SHORT_TIMING, ...timing });
}

const never = new AbortController().signal;
const list = (resource = POLICIES) => stand.client.list(resource, { limit: 500, continue: '' }, never);
const listText = (resourceVersion: unknown, items: unknown = [], more = '') =>
  JSON.stringify({
    kind: 'PluginPolicyList',
    apiVersion: POLICIES.apiVersion,
    metadata: { resourceVersion, ...(more && { continue: more }) },
    items,
  });
const policyEvent = (type: string, version: string, name = 'p') =>
  `${JSON.stringify({ type, object: { kind: 'PluginPolicy', apiVersion: POLICIES.apiVersion, metadata: { name, namespace: 'shop', resourceVersion: version } } })}\n`;

async function failure(promise: Promise<unknown>): Promise<Pick<ApiFailure, 'kind' | 'message' | 'retryAfterMs'>> {
  try {
    await promise;
  } catch (error) {
    const { kind, message, retryAfterMs } = error as ApiFailure;
    return { kind, message, ...(retryAfterMs !== undefined && { retryAfterMs }) } as ApiFailure;
  }
  throw new Error('It did not fail');
}

/** Watches until it ends: what was told, and why it ended. */
async function watch(resource = POLICIES): Promise<{ events: ApiEvent[]; error?: string }> {
  const events: ApiEvent[] = [];
  const listen = { opened: () => {}, event: (event: ApiEvent) => void events.push(event) };
  try {
    await stand.client.watch(resource, { resourceVersion: 1, lastMs: 1000 }, listen, never);
    return { events };
  } catch (error) {
    return { events, error: `${(error as ApiFailure).kind}: ${(error as ApiFailure).message}` };
  }
}

describe('a list', () => {
  test('is asked for with its limit, and read', async () => {
    let asked = '';
    stand.answer = (stream, path) => {
      asked = path;
      say(200, JSON_TYPE, listText('12', [{ metadata: { name: 'p' } }], 'there'))(stream, path);
    };
    expect(await list()).toEqual({
      items: [{ kind: 'PluginPolicy', apiVersion: POLICIES.apiVersion, metadata: { name: 'p' } }],
      resourceVersion: 12,
      continue: 'there',
    });
    expect(asked).toBe('/apis/sluice.dev/v1alpha1/pluginpolicies?limit=500');
  });

  test('a server that takes the question and says nothing', async () => {
    expect(await failure(list())).toEqual({ kind: 'unreachable', message: `no answer within ${SHORT_TIMING.answerMs / 1000} s` });
  });

  test('a body that begins and does not end', async () => {
    stand.answer = begin(JSON_TYPE, '{"kind":"PluginPolicyList",');
    expect(await failure(list())).toEqual({
      kind: 'unreachable',
      message: `an answer that does not end within ${SHORT_TIMING.pageMs / 1000} s`,
    });
  });

  test('a body that is cut: the stream, the connection, or by an end that comes too early', async () => {
    stand.answer = (stream, path) => {
      begin(JSON_TYPE, listText('1').slice(0, 30))(stream, path);
      setTimeout(() => stream.destroy(new Error('broken')), 20);
    };
    expect((await failure(list())).kind).toBe('unreachable');
    stand.answer = (stream, path) => {
      begin(JSON_TYPE, listText('1').slice(0, 30))(stream, path);
      setTimeout(() => stand.wire.cut(), 20);
    };
    expect((await failure(list())).kind).toBe('unreachable');
    stand.answer = say(200, JSON_TYPE, listText('1').slice(0, 30));
    expect((await failure(list())).kind).toBe('nonsense');
  });

  test('more bytes than are read: the memory that an answer takes is bounded', async () => {
    await restart({ pageMs: 20_000 });
    stand.answer = sayForever(' ');
    expect(await failure(list())).toEqual({ kind: 'too-large', message: 'an answer of more than 25165824 bytes' });
  });

  test.each([
    ['a page of a proxy', 'text/html', '<html>', 'nonsense: text/html where application/json was asked for'],
    ['no JSON', JSON_TYPE, '<html>', /^nonsense: Unexpected token/],
    ['JSON that is no object', JSON_TYPE, '[]', 'nonsense: JSON that is no object'],
    ['a list of something else', JSON_TYPE, listText('1').replace('PluginPolicyList', 'PodList'), /^nonsense: a PodList of sluice.dev/],
    ['of another version', JSON_TYPE, listText('1').replace('v1alpha1', 'v9'), /^nonsense: a PluginPolicyList of sluice.dev\/v9/],
    ['items that are none', JSON_TYPE, listText('1', 'all'), /items are no list of objects/],
    ['items that are no objects', JSON_TYPE, listText('1', [1]), /items are no list of objects/],
    ['no version', JSON_TYPE, listText(undefined), /resourceVersion undefined, which is no number/],
    ['a version that is no number', JSON_TYPE, listText('1; drop'), /which is no number/],
    ['a version beyond what a number holds', JSON_TYPE, listText('99999999999999999999'), /which is no number/],
    [
      'going on nobody knows where',
      JSON_TYPE,
      listText('1').replace('"items"', '"x":1,"items"').replace('"1"', '"1","continue":7'),
      /nobody knows where/,
    ],
  ])('nonsense: %s', async (_, type, body, message) => {
    stand.answer = say(200, type, body);
    const { kind, message: told } = await failure(list());
    expect(kind).toBe('nonsense');
    expect(told).toMatch(message);
  });

  test('nonsense: protobuf that is none, or another message', async () => {
    for (const body of [Buffer.from('{}'), Buffer.from('k8s\0'), Buffer.from('k8s\0\xff\xff\xff', 'latin1'), Buffer.alloc(0)]) {
      stand.answer = say(200, PROTOBUF_TYPE, body);
      expect((await failure(list(PODS))).kind).toBe('nonsense');
    }
  });

  test.each([
    [401, 'Unauthorized', 'unknown-user'],
    [403, 'Forbidden', 'forbidden'],
    [404, 'NotFound', 'absent'],
    [410, 'Expired', 'expired'],
    [500, 'InternalError', 'refused'],
  ] as const)('status %i is %s', async (code, reason, kind) => {
    stand.answer = say(code, JSON_TYPE, JSON.stringify({ kind: 'Status', code, reason, message: 'says why' }));
    expect(await failure(list())).toEqual({ kind, message: `${code} ${reason}: says why` });
    expect(stand.renewed).toBe(code === 401 ? 1 : 0);
  });

  test('a server that wants to be left alone says for how long, in either way', async () => {
    stand.answer = say(429, JSON_TYPE, '{}', { 'retry-after': '7' });
    expect(await failure(list())).toEqual({ kind: 'refused', message: '429', retryAfterMs: 7000 });
    stand.answer = say(503, JSON_TYPE, JSON.stringify({ kind: 'Status', code: 503, details: { retryAfterSeconds: 3 } }));
    expect(await failure(list())).toMatchObject({ kind: 'refused', retryAfterMs: 3000 });
  });

  test('an error whose text does not end is an error all the same', async () => {
    stand.answer = (stream) => {
      stream.respond({ ':status': 500, 'content-type': JSON_TYPE });
      stream.write('{"kind":"Status"');
    };
    expect(await failure(list())).toEqual({ kind: 'refused', message: '500' });
  });
});

describe('a watch', () => {
  test('is told until the server ends it', async () => {
    stand.answer = say(200, JSON_TYPE, policyEvent('ADDED', '5') + policyEvent('BOOKMARK', '9'));
    const { events, error } = await watch();
    expect([events.map(({ type, resourceVersion }) => `${type} ${resourceVersion}`), error]).toEqual([
      ['ADDED 5', 'BOOKMARK 9'],
      undefined,
    ]);
  });

  test('cut in the middle of an object: what came before is told, the half is not, and the end is a failure', async () => {
    const two = policyEvent('ADDED', '5') + policyEvent('DELETED', '6');
    for (const cut of [
      (stream: Parameters<ApiStand['answer']>[0]) => void stream.end(),
      (stream: Parameters<ApiStand['answer']>[0]) => void stream.destroy(new Error('broken')),
      () => stand.wire.cut(),
    ]) {
      stand.answer = (stream, path) => {
        begin(JSON_TYPE, two.slice(0, -20))(stream, path);
        setTimeout(() => cut(stream), 20);
      };
      const { events, error } = await watch();
      expect(events.map(({ type }) => type)).toEqual(['ADDED']);
      expect(error).toMatch(/^unreachable: /);
    }
  });

  test('that goes silent is broken', async () => {
    stand.answer = begin(JSON_TYPE, policyEvent('ADDED', '5'));
    const { events, error } = await watch();
    expect([events.length, error]).toEqual([1, `unreachable: a watch without a bookmark for ${SHORT_TIMING.silenceMs / 1000} s`]);
  });

  test('that sends bytes and no message is silent, too', async () => {
    stand.answer = (stream, path) => {
      begin(JSON_TYPE, '')(stream, path);
      const timer = setInterval(() => (stream.destroyed ? clearInterval(timer) : stream.write(' ')), 20);
    };
    expect((await watch()).error).toBe(`unreachable: a watch without a bookmark for ${SHORT_TIMING.silenceMs / 1000} s`);
  });

  test('a message that does not end is not gathered forever', async () => {
    stand.answer = sayForever('x');
    expect((await watch()).error).toBe('nonsense: nonsense: a message of more than 8388608 bytes');
    stand.answer = begin(`${PROTOBUF_TYPE};stream=watch`, Buffer.from([0xff, 0xff, 0xff, 0xff, 0]));
    expect((await watch(PODS)).error).toBe('nonsense: nonsense: a message of more than 8388608 bytes');
  });

  test.each([
    ['no JSON', 'x\n', /^nonsense: nonsense: Unexpected/],
    ['of an unknown type', policyEvent('RENAMED', '5'), /an event of type RENAMED/],
    ['about another kind', policyEvent('ADDED', '5').replace('"PluginPolicy"', '"Secret"'), /an event about a Secret/],
    ['about nothing', '{"type":"ADDED"}\n', /an event about nothing/],
    ['without a version', policyEvent('ADDED', ''), /which is no number/],
    [
      'that says the version is too old',
      `${JSON.stringify({ type: 'ERROR', object: { kind: 'Status', code: 410, reason: 'Expired', message: 'too old' } })}\n`,
      /^expired: 410 Expired: too old/,
    ],
    [
      'of a server that was set back',
      `${JSON.stringify({ type: 'ERROR', object: { kind: 'Status', code: 504, reason: 'Timeout', message: 'Too large resource version: 900, current: 7', details: { causes: [{ reason: 'ResourceVersionTooLarge' }] } } })}\n`,
      /^expired: /,
    ],
  ])('an event %s', async (_, text, message) => {
    stand.answer = say(200, JSON_TYPE, policyEvent('ADDED', '4') + text);
    const { events, error } = await watch();
    expect(events.map(({ resourceVersion }) => resourceVersion)).toEqual([4]);
    expect(error).toMatch(message);
  });
});

test('a connection that does not answer any more is found out by asking it, and the next question goes over a new one', async () => {
  await restart({ silenceMs: 60_000, pingMs: 50 });
  stand.answer = (stream, path) => {
    begin(JSON_TYPE, policyEvent('ADDED', '5'))(stream, path);
    setTimeout(() => stand.wire.freeze(), 20);
  };
  expect(await watch()).toMatchObject({ events: [{ type: 'ADDED' }], error: 'unreachable: the connection does not answer any more' });
  stand.wire.thaw();
  stand.answer = say(200, JSON_TYPE, listText('3'));
  expect((await list()).resourceVersion).toBe(3);
});

test('a server that goes away politely is asked over a new connection', async () => {
  stand.answer = say(200, JSON_TYPE, listText('3'));
  await list();
  const [first] = stand.sessions;
  first?.goaway(0);
  // A question that crosses that message is refused.
  await vi.waitFor(async () => expect((await list()).resourceVersion).toBe(3));
  expect(stand.sessions.size).toBeGreaterThan(first?.destroyed ? 0 : 1);
});

/** A flow's fields, from each origin, and where they come out. */
import { describe, expect, expectTypeOf, test } from 'vitest';
import { z } from 'zod';
import { Abi, Context, Direction, Reason, Scope, Verdict } from '../../../engine/abi.gen.ts';
import {
  FLOW_FIELDS,
  FLOW_LABELS,
  type FlowField,
  type FlowView,
  flowSchema,
  labelsOf,
  lineParts,
} from '../../../engine/observe/flow-fields.ts';
import { address, decided, denied, NO_ADDRESS, requested } from '../../support/flows.ts';

describe('a field', () => {
  test('that leaves out an origin is a type error', () => {
    // @ts-expect-error request is missing
    const wrong: FlowField<string> = { schema: z.string(), kernel: () => '', asked: () => '' };
    expectTypeOf(wrong).not.toBeAny();
    expectTypeOf<FlowView['verdict']>().toEqualTypeOf<'allow' | 'deny'>();
  });

  test.each([
    { name: 'the kernel', flow: denied() },
    { name: 'a plugin', flow: decided() },
    { name: 'a request', flow: requested() },
  ])('is in every flow that $name decided, and the schema describes them all', ({ flow }) => {
    expect(Object.keys(flow)).toEqual(Object.keys(FLOW_FIELDS));
    expect(z.strictObject((flowSchema as unknown as z.ZodObject).shape).parse(flow)).toEqual(flow);
  });
});

describe('a flow that the kernel denied alone', () => {
  test('has the reason, as a sentence and as a code', () => {
    expect(denied()).toMatchObject({
      verdict: 'deny',
      reason: 'no rule allows it',
      reasonCode: 'drop_policy',
      source: { pod: 'shop/web', address: '10.0.0.1', port: 40_000, labels: [] },
      endpoint: 'shop/web',
      hook: '',
      http: null,
    });
  });

  test('is told to have passed where its failure policy let it', () => {
    expect(denied({ verdict: Verdict.ALLOW, reason: Reason.FAIL_ENGINE_ABSENT, plugin: 3 })).toMatchObject({
      verdict: 'allow',
      reasonCode: 'fail_engine_absent',
      plugin: 'plugin-3',
    });
  });

  test('that cannot be read has no addresses, and the pod that sent it', () => {
    const flow = denied({
      ...{ source: NO_ADDRESS, destination: NO_ADDRESS, sourcePort: 0, destinationPort: 0, sourceIdentity: 0, destinationIdentity: 0 },
      protocol: 0,
      reason: Reason.DROP_MALFORMED,
    });
    expect(flow).toMatchObject({
      source: { address: '', port: 0, pod: 'shop/web' },
      destination: { address: '', port: 0, pod: '' },
      protocol: '',
      reasonCode: 'drop_malformed',
    });
  });

  test('on its way in has the pod that it was sent to', () => {
    const flow = denied({
      ...{ source: NO_ADDRESS, destination: NO_ADDRESS },
      direction: Direction.INGRESS,
      endpoint: 8,
      reason: Reason.DROP_MALFORMED,
    });
    expect([flow.source.pod, flow.destination.pod, flow.endpoint]).toEqual(['', 'shop/db', 'shop/db']);
  });

  test('with an address that is not its own is the pod’s that sent it, not whose address it is', () => {
    const flow = denied({ source: address('10.0.1.9'), reason: Reason.DROP_SPOOFED });
    expect(flow.source).toMatchObject({ address: '10.0.1.9', pod: 'shop/web' });
  });
});

describe('a flow that a plugin decided', () => {
  test.each([
    {
      name: 'allowed',
      flow: decided(),
      want: { reasonCode: 'pass_verdict', reason: 'the plugin allows it', scope: 'address', ttlMs: 1000 },
    },
    { name: 'denied', flow: decided({ allowed: false }), want: { reasonCode: 'drop_verdict', reason: 'the plugin denies it' } },
    { name: 'with its own reason', flow: decided({ allowed: false, reason: 'too many' }), want: { reason: 'too many' } },
    {
      name: 'that could not decide',
      flow: decided({ allowed: false, failed: true, reason: 'plugin trapped' }),
      want: { reasonCode: 'drop_failure_policy', reason: 'plugin trapped' },
    },
    {
      name: 'that could not decide, and fails open',
      flow: decided({ failed: true }),
      want: { reasonCode: 'pass_failure_policy' },
    },
    { name: 'by a list of server names', flow: decided({ plugin: Abi.SERVER_NAMES }), want: { reason: 'the server name is in the list' } },
    { name: 'for its connection only', flow: decided({ scope: Scope.NONE }), want: { scope: 'connection', ttlMs: 0 } },
    {
      name: 'by the hello of TLS',
      flow: decided({ context: Context.TLS, contentName: 'a.example', name: 1n }),
      want: { hook: 'tls', serverName: 'a.example', name: 'api.example.com' },
    },
    {
      name: 'by a DNS answer',
      flow: decided({ context: Context.DNS, contentName: 'b.example', name: 1n }),
      want: { hook: 'dns', serverName: '', name: 'b.example' },
    },
  ])('$name', ({ flow, want }) => {
    expect(flow).toMatchObject(want);
    expect(flow.source.labels).toEqual(['identity=3']);
  });
});

test.each([
  { name: 'a rule let through', request: { cause: Reason.PASS_POLICY, plugin: 0 }, code: 'pass_policy', reason: 'the rule allows it' },
  { name: 'a plugin let through', request: {}, code: 'pass_verdict', reason: 'the plugin allows it' },
  { name: 'a plugin denied', request: { cause: Reason.DROP_VERDICT, reason: 'not you' }, code: 'drop_verdict', reason: 'not you' },
  {
    name: 'nobody could read',
    request: { cause: Reason.DROP_UNREADABLE },
    code: 'drop_unreadable',
    reason: 'it cannot be read whole, and a rule is about what it says',
  },
  {
    name: 'was let through and has no answer',
    request: { reason: 'the backend broke off', status: 502 },
    code: 'pass_verdict',
    reason: 'the backend broke off',
  },
])('a request that $name has the code and the sentence of the table of reasons', ({ request, code, reason }) => {
  expect(requested(request)).toMatchObject({ reasonCode: code, reason });
});

test('a request has what is about HTTP, and its pod as the endpoint', () => {
  expect(requested({ status: 503, allowed: false, cause: Reason.DROP_NO_BACKEND, reason: 'no backend' })).toMatchObject({
    time: '2026-11-28T12:00:00.000Z',
    verdict: 'deny',
    reason: 'no backend',
    reasonCode: 'drop_no_backend',
    hook: 'http',
    endpoint: 'shop/web',
    http: { method: 'GET', host: 'shop.example', path: '/cart', status: 503, backend: 'shop/checkout-v2:80 10.0.0.2:80', durationUs: 900 },
  });
  expect(Object.keys(requested().http ?? {})).toHaveLength(9);
});

test('labels of metrics are few, and never addresses, ports or names', () => {
  expect(FLOW_LABELS).toEqual(['verdict', 'protocol', 'direction', 'reason', 'plugin']);
  expect(labelsOf(denied({ plugin: 2 }))).toEqual({
    verdict: 'deny',
    protocol: 'TCP',
    direction: 'egress',
    reason: 'drop_policy',
    plugin: 'plugin-2',
  });
});

test('a line leaves out what says nothing', () => {
  expect(lineParts(denied()).map(({ field }) => field)).toEqual([
    'time',
    'verdict',
    'source',
    'destination',
    'protocol',
    'direction',
    'reason',
  ]);
});

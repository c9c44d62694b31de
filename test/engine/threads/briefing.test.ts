/** A thread that starts is told what all others were told, as it came to: no more, no less, and in an order that works. */
import { beforeEach, expect, test } from 'vitest';
import type { PluginState } from '../../../engine/abi.gen.ts';
import type { ClusterChange } from '../../../engine/plugin-runtime/messages.ts';
import type { ProxyPolicy } from '../../../engine/proxy/messages.ts';
import { Briefing } from '../../../engine/threads/briefing.ts';
import { setup } from '../../support/plugin-threads.ts';

const STATE: PluginState = { name: 1n, module: 0n, epoch: 3, failure: 1, status: 0, scopes: 0 };
const NOTHING: ClusterChange = { identities: [], identitiesGone: [], pods: [], services: [] };
const pod = (name: string, serviceAccount = '') => ({ name, serviceAccount });
const identity = (id: number, labels = '') => ({ id, namespace: 'shop', labels });

let briefing: Briefing;
beforeEach(() => {
  briefing = new Briefing();
});
/** The messages to a flow worker, each as its type and its id. */
const told = (): string[] =>
  briefing.forFlowWorker().map((message) => {
    if (message.type === 'plugin') return `plugin ${message.setup.id} ${message.setup.epoch}`;
    return 'id' in message ? `${message.type} ${message.id}` : message.type;
  });

test('changes of the cluster are one: what was there and has gone is not told', () => {
  briefing.setCluster({
    ...NOTHING,
    identities: [identity(1), identity(2)],
    pods: [
      ['a', pod('web')],
      ['b', pod('db', 'reader')],
    ],
    services: [
      ['c', 'shop/cart'],
      ['d', 'shop/bank'],
    ],
  });
  briefing.setCluster({ identities: [identity(2, 'app=db')], identitiesGone: [1], pods: [['a', undefined]], services: [['d', '']] });
  expect(briefing.forFlowWorker()).toEqual([
    {
      type: 'cluster',
      identities: [identity(2, 'app=db')],
      identitiesGone: [],
      pods: [['b', pod('db', 'reader')]],
      services: [['c', 'shop/cart']],
      serverNames: undefined,
    },
  ]);
});

test('lists of server names are the last that were told, whatever changed since; an empty one is a list', () => {
  const lists = new Map([[1, { patterns: ['a.test'], allowMissing: false, allowEncrypted: false }]]) as never;
  briefing.setCluster({ ...NOTHING, serverNames: lists });
  briefing.setCluster(NOTHING);
  expect(briefing.forFlowWorker()[0]).toMatchObject({ serverNames: lists });
  briefing.setCluster({ ...NOTHING, serverNames: new Map() });
  expect(briefing.forFlowWorker()[0]).toMatchObject({ serverNames: new Map() });
});

test('an identity that is gone and comes again in one change is there', () => {
  briefing.setCluster({ ...NOTHING, identities: [identity(1, 'app=web\ntier=a')] });
  briefing.setCluster({ ...NOTHING, identities: [identity(1, 'app=api')], identitiesGone: [1] });
  expect([briefing.labels(1), briefing.labels(9)]).toEqual([['app=api'], []]);
});

test('a plugin has one state: declared, or as its version says, or off', () => {
  briefing.declare(5, STATE);
  expect(told()).toEqual(['declare 5', 'cluster']);
  briefing.install(setup({ id: 5, epoch: 4 }));
  expect(told()).toEqual(['cluster', 'plugin 5 4']);
  briefing.switchOff(5);
  expect(told()).toEqual(['cluster', 'plugin 5 4', 'switch-off 5']);
  briefing.install(setup({ id: 5, epoch: 5 }));
  expect(told()).toEqual(['cluster', 'plugin 5 5']);
});

test('one that is removed is not told, nor switched off; what nobody runs is not switched off', () => {
  briefing.install(setup({ id: 5 }));
  briefing.switchOff(5);
  briefing.remove(5);
  briefing.switchOff(6);
  expect(told()).toEqual(['cluster']);
});

test('a version that is taken back leaves what was before it: a version that is off, or a state', () => {
  briefing.install(setup({ id: 5, epoch: 1 }));
  briefing.switchOff(5);
  briefing.declare(6, STATE);
  for (const id of [5, 6]) briefing.install(setup({ id, epoch: 2 }))();
  expect(told()).toEqual(['declare 6', 'cluster', 'plugin 5 1', 'switch-off 5']);
});

test('the proxy is told the same of plugins, no states of the kernel, and the last policy after everything', () => {
  const policy = { revision: 2 } as unknown as ProxyPolicy;
  briefing.declare(6, STATE);
  briefing.install(setup({ id: 5 }));
  expect(briefing.forProxy().map(({ type }) => type)).toEqual(['cluster', 'plugin']);
  briefing.setPolicy({ revision: 1 } as unknown as ProxyPolicy);
  briefing.setPolicy(policy);
  expect(briefing.forProxy().at(-1)).toEqual({ type: 'policy', policy });
});

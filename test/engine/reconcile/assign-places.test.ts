/** Whose a veth is, with and without notes of the container runtime, and when a pod lies. */
import { describe, expect, test } from 'vitest';
import type { Veth } from '../../../engine/kernel/veths.ts';
import type { Pod } from '../../../engine/policy/objects.ts';
import { assignPlaces, type Found } from '../../../engine/reconcile/assign-places.ts';
import type { SandboxRecord } from '../../../engine/reconcile/sandbox-records.ts';
import { localPod, sandboxRecord, veth } from '../../support/local-pods.ts';

/** A node on which one reading follows another. */
class Node {
  #before = new Map<string, { pod: Pod; found: Found }>();

  /** Each pod's interfaces, with `closed` where nothing passes there. */
  see(
    pods: readonly Pod[],
    veths: readonly Veth[],
    records: readonly SandboxRecord[] = [],
    networks: Readonly<Record<string, number>> = {},
  ): Record<string, string> {
    const assigned = assignPlaces(pods, { veths, records, networks: new Map(Object.entries(networks)) }, this.#before);
    this.#before = new Map([...assigned].map(([pod, found]) => [`${pod.namespace}/${pod.name}`, { pod, found }]));
    return Object.fromEntries([...assigned].map(([{ name }, found]) => [name, textOf(found)]));
  }

  problemOf(name: string): Found['problem'] {
    return this.#before.get(`shop/${name}`)?.found.problem;
  }
}

function textOf({ sites, closed }: Found): string {
  const names = sites.map(({ place }) => ('interface' in place ? place.interface : place.cgroup));
  return [...names, ...(closed ? ['closed'] : [])].join(' ');
}

const web = localPod('web', ['10.0.0.1', 'fd00::1']);
const db = localPod('db', ['10.0.0.2']);

describe('by its addresses', () => {
  test('a pod is at the veth that leads to them', () => {
    expect(new Node().see([web, db], [veth(5, ['10.0.0.1', 'fd00::1']), veth(6, ['10.0.0.2']), veth(7, ['10.0.0.9'])])).toEqual({
      web: 'veth5',
      db: 'veth6',
    });
  });

  test('one that is not there is said to be missing, and may come', () => {
    const node = new Node();
    expect(node.see([web], [veth(6, ['10.0.0.2'])])).toEqual({ web: '' });
    expect(node.problemOf('web')).toEqual({
      reason:
        'not found on this node, nothing is enforced: the container runtime has no record of it, and no veth of the node leads to 10.0.0.1 or fd00::1',
      pending: true,
    });
    expect(node.see([web], [veth(5, ['fd00::1'])])).toEqual({ web: 'veth5' });
    expect(node.problemOf('web')).toBeUndefined();
  });

  test('one whose addresses the API does not have yet is nowhere, and that is no problem', () => {
    const node = new Node();
    expect(node.see([localPod('new', [])], [veth(5, ['10.0.0.1'])])).toEqual({ new: '' });
    expect(node.problemOf('new')).toBeUndefined();
  });

  test('one whose sandbox is made anew moves when the old veth is gone, and is closed at both until then', () => {
    const node = new Node();
    node.see([web], [veth(5, ['10.0.0.1'])]);
    const again = localPod('web', ['10.0.0.7']);
    expect(node.see([again], [veth(5, ['10.0.0.1'])])).toEqual({ web: 'veth5' });
    expect(node.see([again], [veth(5, ['10.0.0.1']), veth(8, ['10.0.0.7'])])).toEqual({ web: 'veth5 veth8 closed' });
    expect(node.see([again], [veth(8, ['10.0.0.7'])])).toEqual({ web: 'veth8' });
  });

  test('another pod of the same name keeps nothing', () => {
    const node = new Node();
    node.see([web], [veth(5, ['10.0.0.1'])]);
    expect(node.see([localPod('web', ['10.0.0.7'], { uid: 'another' })], [veth(5, ['10.0.0.1'])])).toEqual({ web: '' });
  });

  test('a veth made anew with the same name and index is another place', () => {
    const node = new Node();
    const [site] =
      assignPlaces([web], { veths: [veth(5, ['10.0.0.1'])], records: [], networks: new Map() }, new Map()).get(web)?.sites ?? [];
    node.see([web], [veth(5, ['10.0.0.1'])]);
    expect(node.see([web], [veth(5, [], { hardware: '02000000ffff' })])).toEqual({ web: '' });
    const later = { veths: [veth(5, ['10.0.0.1'], { hardware: '02000000ffff' })], records: [], networks: new Map() };
    expect(assignPlaces([web], later, new Map()).get(web)?.sites).not.toEqual([site]);
  });
});

describe('a pod that is root in its own network', () => {
  const [own, other] = [veth(5, ['10.0.0.1', 'fd00::1']), veth(6, ['10.0.0.2'])];

  test.each([
    { name: 'takes its address away', now: veth(5, []) },
    { name: 'takes another pod’s address', now: veth(5, ['10.0.0.2', '10.0.0.1']) },
    { name: 'takes another pod’s address and gives its own up', now: veth(5, ['10.0.0.2']) },
    { name: 'moves its end into a namespace of its own', now: veth(5, [], { network: 99, peer: 40 }) },
  ])('keeps its place, and the other its own, when it $name', ({ now }) => {
    const node = new Node();
    node.see([web, db], [own, other]);
    expect(node.see([web, db], [now, other])).toEqual({ web: 'veth5', db: 'veth6' });
  });

  test('gains nothing by the address of a pod that comes later', () => {
    const node = new Node();
    node.see([web], [own]);
    const greedy = veth(5, ['10.0.0.1', '10.0.0.2']);
    expect(node.see([web, db], [greedy])).toEqual({ web: 'veth5', db: '' });
    expect(node.see([web, db], [greedy, other])).toEqual({ web: 'veth5', db: 'veth6' });
  });

  test('does not touch a pod that has its place, before it has its own', () => {
    const node = new Node();
    node.see([db], [other]);
    const unknown = veth(5, ['10.0.0.2']);
    expect(node.see([db], [other, unknown])).toEqual({ db: 'veth6' });
    expect(node.see([db, web], [other, veth(5, ['10.0.0.2', '10.0.0.1'])])).toEqual({ db: 'veth6', web: 'veth5' });
  });

  test.each([
    { name: 'beside its own', liar: veth(5, ['10.0.0.1', '10.0.0.2']), web: 'veth5 closed' },
    { name: 'instead of its own', liar: veth(5, ['10.0.0.2']), web: '' },
  ])('closes both when it had another’s address $name before either was found', ({ liar, web: want }) => {
    const node = new Node();
    expect(node.see([web, db], [liar, other])).toEqual({ web: want, db: 'veth5 veth6 closed' });
    expect(node.problemOf('db')).toMatchObject({ pending: false, reason: expect.stringContaining('veth5, veth6') });
    expect(node.see([web, db], [own, other])).toEqual({ web: 'veth5', db: 'veth6' });
  });

  test('that is found with two pods’ addresses is closed for both, and says whose they are', () => {
    const node = new Node();
    expect(node.see([web, db], [veth(5, ['10.0.0.1', '10.0.0.2'])])).toEqual({ web: 'veth5 closed', db: 'veth5 closed' });
    expect(node.problemOf('web')?.reason).toContain('leads to addresses of shop/db as well');
  });
});

describe('by the container runtime’s notes', () => {
  const lying = [veth(5, ['10.0.0.2']), veth(6, ['10.0.0.1'])];

  test('a pod is at the interface that they name, whatever addresses are there', () => {
    const records = [sandboxRecord('web', { interfaces: ['cni0', 'veth5'] }), sandboxRecord('db', { interfaces: ['veth6'] })];
    expect(new Node().see([web, db], lying, records)).toEqual({ web: 'veth5', db: 'veth6' });
  });

  test('a pod is at all veths of its namespace where they name none', () => {
    const records = [sandboxRecord('web', { network: '/run/netns/cni-1' }), sandboxRecord('db', { network: '/run/netns/cni-2' })];
    const networks = { '/run/netns/cni-1': 5, '/run/netns/cni-2': 6 };
    const second = veth(9, ['192.168.0.1'], { network: 5 });
    expect(new Node().see([web, db], [...lying, second], records, networks)).toEqual({ web: 'veth5 veth9', db: 'veth6' });
  });

  test('what is another pod’s by them is nobody’s by its addresses', () => {
    const records = [sandboxRecord('unknown', { interfaces: ['veth5'] })];
    expect(new Node().see([db], lying, records)).toEqual({ db: '' });
  });

  test('a note of this very pod counts before one of a pod that had its name', () => {
    const records = [sandboxRecord('web', { uid: 'older', interfaces: ['veth6'] }), sandboxRecord('web', { interfaces: ['veth5'] })];
    expect(new Node().see([web], lying, records)).toEqual({ web: 'veth5' });
  });

  test('a static pod, whose uid no API has, is found by its name', () => {
    expect(new Node().see([web], lying, [sandboxRecord('web', { uid: 'hash', interfaces: ['veth5'] })])).toEqual({ web: 'veth5' });
  });

  test('a pod stays where it was when its note goes before its veth', () => {
    const node = new Node();
    node.see([web], [veth(5, ['10.0.0.1'])], [sandboxRecord('web', { interfaces: ['veth5'] })]);
    expect(node.see([web], [veth(5, ['10.0.0.1'])])).toEqual({ web: 'veth5' });
    expect(node.see([web], [])).toEqual({ web: '' });
  });

  test('a pod whose addresses are unknown has no place yet, and keeps the one that it had', () => {
    const node = new Node();
    const records = [sandboxRecord('web', { interfaces: ['veth5'] })];
    const early = localPod('web', []);
    expect(node.see([early], lying, records)).toEqual({ web: '' });
    expect(node.see([web], lying, records)).toEqual({ web: 'veth5' });
    expect(node.see([early], lying, records)).toEqual({ web: 'veth5' });
  });
});

/** Where endpoints are, of pods whose place is found by somebody else. */
import { beforeEach, describe, expect, test } from 'vitest';
import { Compiler } from '../../../engine/policy/compile.ts';
import type { ObjectChange, Pod } from '../../../engine/policy/objects.ts';
import { formatProblem, viewProblem } from '../../../engine/policy/problem.ts';
import type { Found, Site } from '../../../engine/reconcile/assign-places.ts';
import { Placement } from '../../../engine/reconcile/placement.ts';
import { localPod } from '../../support/local-pods.ts';

const site = (id: number, end = 'a'): Site => ({ id, place: { interface: `veth${id}`, end } });

/** A placement whose pods are where the test says. */
class Stand {
  readonly found = new Map<string, Found>();
  /** Indexes of interfaces, by name. */
  readonly interfaces = new Map<string, number>();
  looks = 0;
  readonly placement: Placement;
  readonly #compiler = new Compiler();
  #moved: Pod[] = [];

  constructor() {
    this.placement = new Placement((place) => this.interfaces.get('interface' in place ? place.interface : ''), {
      update: () => this.#moved.splice(0),
      find: (pod) => this.found.get(pod.name) ?? { sites: [] },
      lookSoon: () => void (this.looks += 1),
      look: async () => undefined,
    });
  }

  tell(...pods: Pod[]): void {
    this.#compiler.update(
      pods.map((value): ObjectChange => ({ kind: 'Pod', key: value.name, value })),
      new Map(),
      [],
    );
    this.#update();
  }

  move(pod: Pod, found: Found): void {
    this.found.set(pod.name, found);
    this.#moved.push(pod);
    this.#update();
  }

  #update(): void {
    this.placement.update(this.#compiler.endpoints, this.#compiler.takeChanges().endpoints, undefined);
  }

  get placed(): Record<number, string> {
    return Object.fromEntries(
      [...this.placement.placed].map(([id, { place, closed }]) => [
        id,
        `${'interface' in place ? `${place.interface} ${place.end}` : ''}${closed ? ' closed' : ''} ${this.placement.ownerOf(id)?.name}`,
      ]),
    );
  }

  get problems(): string[] {
    return this.placement.problems.all.map((problem) => formatProblem(viewProblem(problem)));
  }
}

describe('a pod whose place is found', () => {
  const [web, db] = [localPod('web', ['10.0.0.1']), localPod('db', ['10.0.0.2'])];
  let stand: Stand;
  beforeEach(() => {
    stand = new Stand();
  });

  test('is nowhere, without a problem, until somebody has looked', () => {
    stand.tell(web);
    expect([stand.placed, stand.problems, stand.placement.isPlaced(web)]).toEqual([{}, [], false]);
    stand.move(web, { sites: [], problem: { reason: 'not found on this node', pending: true } });
    expect(stand.problems).toEqual(['Pod shop/web: not found on this node']);
    stand.move(web, { sites: [site(5)] });
    expect([stand.placed, stand.problems, stand.placement.isPlaced(web)]).toEqual([{ 5: 'veth5 a web' }, [], true]);
    expect(stand.placement.views).toMatchObject([{ pod: 'shop/web', id: 5, interface: 'veth5', isolated: { ingress: false } }]);
    expect(stand.placement.views[0]).not.toHaveProperty('end');
  });

  test('moves, and leaves nothing where it was', () => {
    stand.found.set('web', { sites: [site(5)] });
    stand.tell(web);
    stand.move(web, { sites: [site(6)] });
    expect(stand.placed).toEqual({ 6: 'veth6 a web' });
    stand.move(web, { sites: [site(6, 'b')] });
    expect(stand.placed).toEqual({ 6: 'veth6 b web' });
  });

  test('is judged at each of its places', () => {
    stand.found.set('web', { sites: [site(5), site(7)] });
    stand.tell(web);
    expect(stand.placed).toEqual({ 5: 'veth5 a web', 7: 'veth7 a web' });
    stand.move(web, { sites: [site(7)] });
    expect(stand.placed).toEqual({ 7: 'veth7 a web' });
  });

  test('is closed at every place that may be its, with one problem each', () => {
    const closed = (name: string, ...sites: Site[]): Found => ({
      sites,
      closed: true,
      problem: { reason: `${name} is disputed`, pending: false },
    });
    stand.found.set('web', closed('web', site(5)));
    stand.found.set('db', closed('db', site(5), site(6)));
    stand.tell(web, db);
    expect(stand.placed).toEqual({ 5: 'veth5 a closed db', 6: 'veth6 a closed db' });
    expect(stand.problems.sort()).toEqual(['Pod shop/db: db is disputed', 'Pod shop/web: web is disputed']);
    expect(stand.placement.views).toMatchObject([
      { isolated: { ingress: true, egress: true } },
      { isolated: { ingress: true, egress: true } },
    ]);
    stand.move(web, { sites: [site(5)] });
    stand.move(db, { sites: [site(6)] });
    expect([stand.placed, stand.problems]).toEqual([{ 5: 'veth5 a web', 6: 'veth6 a db' }, []]);
  });

  test('is looked for anew when its interface is gone or another one, and stays until that is known', () => {
    stand.interfaces.set('veth5', 5);
    stand.found.set('web', { sites: [site(5)] });
    stand.tell(web);
    expect([stand.placement.recheck(), stand.looks]).toEqual([[], 0]);
    stand.interfaces.set('veth5', 9);
    expect([stand.placement.recheck(), stand.looks]).toEqual([[], 1]);
    stand.interfaces.clear();
    expect([stand.placement.recheck(), stand.looks, stand.placed]).toEqual([[], 2, { 5: 'veth5 a web' }]);
  });
});

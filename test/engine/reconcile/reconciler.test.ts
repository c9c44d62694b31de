/** Runs of the reconciler between a fake source, fake plugins, fake threads and a fake kernel: what it does, in which order. */
import { isDeepStrictEqual } from 'node:util';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { endpointCodec } from '../../../engine/abi.gen.ts';
import { EngineError } from '../../../engine/errors.ts';
import type { Place } from '../../../engine/kernel/datapath.ts';
import type { Applied, PolicyState } from '../../../engine/kernel/policy-maps.ts';
import { silentLogger } from '../../../engine/log.ts';
import { addressKey, parseAddress } from '../../../engine/policy/address.ts';
import { Compiler } from '../../../engine/policy/compile.ts';
import type { HostPolicy, ObjectChange, Pod, PolicyPlugin } from '../../../engine/policy/objects.ts';
import { formatProblem, ProblemLedger, viewProblem } from '../../../engine/policy/problem.ts';
import type { ProxyPolicy } from '../../../engine/proxy/messages.ts';
import type { HostEndpoints } from '../../../engine/reconcile/host-firewall.ts';
import { Reconciler, type ReconcilerParts } from '../../../engine/reconcile/reconciler.ts';
import { changesBetween, EMPTY_SNAPSHOT, type Snapshot, snapshotOf } from '../../support/compiled.ts';

const pod = (name: string, ip: string, labels = `{ app: ${name} }`): string =>
  `apiVersion: v1\nkind: Pod\nmetadata: { name: ${name}, namespace: shop, labels: ${labels}, annotations: { sluice.dev/interface: i-${name} } }\nspec: {}\nstatus: { podIPs: [{ ip: ${ip} }] }\n---\n`;
const closed =
  'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: closed, namespace: shop }\nspec: { podSelector: {} }\n---\n';
const asks =
  'apiVersion: sluice.dev/v1alpha1\nkind: PluginPolicy\nmetadata: { name: asks, namespace: shop }\nspec: { podSelector: {}, egress: [{ ask: { plugin: slow } }] }\n---\n';
const requests =
  'apiVersion: sluice.dev/v1alpha1\nkind: PluginPolicy\nmetadata: { name: requests, namespace: shop }\nspec: { podSelector: {}, egress: [{ ask: { plugin: slow, context: http } }] }\n---\n';
const plugin =
  'apiVersion: sluice.dev/v1alpha1\nkind: PolicyPlugin\nmetadata: { name: slow }\nspec: { module: { file: /slow.wasm } }\n---\n';

/** Everything around a reconciler, and what it did to it. */
class Stand {
  /** Every step that was taken, in order. */
  readonly log: string[] = [];
  readonly compiler = new Compiler();
  readonly applied: PolicyState[] = [];
  /** As the proxy was told it last. */
  proxy: ProxyPolicy | undefined;
  readonly places = new Map<string, number>();
  readonly nodeAddresses: Uint8Array[] = [];
  readonly pluginIds = new Map<string, number>();
  readonly pluginProblems: { name: string; reason: string }[] = [];
  /** Ends the trials that are under way. */
  endTrials: (() => void)[] = [];
  trialsHang = false;
  failures: EngineError[] = [];
  host: HostEndpoints | undefined;
  readonly reconciler: Reconciler;
  #changes: ObjectChange[] = [];
  #snapshot: Snapshot = EMPTY_SNAPSHOT;
  #pending: ObjectChange[] = [];

  constructor() {
    const parts: ReconcilerParts = {
      feed: {
        catchUp: async () => {
          this.#changes.push(...this.#pending);
          this.#pending = [];
        },
        take: () => this.#changes.splice(0),
        problems: new ProblemLedger(),
      },
      compiler: this.compiler,
      plugins: {
        sync: (declarations) => this.#sync(declarations as readonly PolicyPlugin[]),
        ids: this.pluginIds,
        problems: this.pluginProblems,
      },
      workers: {
        setCluster: ({ identities, identitiesGone, pods, services }) => {
          this.log.push(`cluster +${identities.length} -${identitiesGone.length} pods ${pods.map(([, told]) => told?.name ?? '').join()}`);
          for (const [, told] of pods) if (told?.serviceAccount) this.log.push(`${told.name} runs as ${told.serviceAccount}`);
          for (const [, name] of services) this.log.push(`service ${name || 'gone'}`);
        },
        setPolicy: (policy) => {
          this.proxy = policy;
          this.log.push(`proxy ${policy.rules.size}`);
        },
      },
      maps: { apply: (state) => this.#apply(state) },
      hostFirewall: { next: (_wanted: readonly HostPolicy[]) => this.host },
      findPlace: (place: Place) => this.places.get('interface' in place ? place.interface : place.cgroup),
      podPlaces: { update: () => [], find: () => ({ sites: [] }), lookSoon: () => undefined, look: async () => undefined },
      nodeAddresses: () => this.nodeAddresses,
      log: silentLogger,
    };
    this.reconciler = new Reconciler(parts);
  }

  /** Has the source say this, and nothing else any more. */
  tell(...texts: string[]): void {
    this.#changes.push(...this.#difference(texts));
  }

  /** The same of a source that tells it only when it is asked to catch up. */
  tellLate(...texts: string[]): void {
    this.#pending.push(...this.#difference(texts));
  }

  get problems(): string[] {
    return this.reconciler.status.problems.map((problem) => formatProblem(viewProblem(problem)));
  }

  get events(): string[] {
    const { events } = this.reconciler;
    return events.latest(100).map(({ type, message }) => `${type} ${message}`);
  }

  #difference(texts: readonly string[]): ObjectChange[] {
    const before = this.#snapshot;
    this.#snapshot = snapshotOf(texts.join(''));
    const known = Object.values(before).flat() as object[];
    // As sources do: what says the same is no change.
    return changesBetween(before, this.#snapshot).filter(({ value }) => !value || !known.some((each) => isDeepStrictEqual(each, value)));
  }

  async #sync(declarations: readonly PolicyPlugin[]): Promise<void> {
    this.log.push(`sync ${declarations.map(({ name }) => name).join()}`);
    for (const { name } of declarations) this.pluginIds.set(name, 7);
    if (this.trialsHang) await new Promise<void>((resolve) => this.endTrials.push(resolve));
  }

  #apply(state: PolicyState): Applied {
    this.applied.push({ ...state, endpoints: new Map(state.endpoints) });
    const touched = Object.entries(this.compiler.maps).reduce((sum, [, map]) => sum + map.touched.size, 0);
    this.log.push(`maps ${touched ? 'changed' : 'same'}`);
    if (this.failures.length) return { changes: 3, failures: this.failures };
    for (const map of Object.values(this.compiler.maps)) map.touched.clear();
    return { changes: touched, failures: [] };
  }
}

describe('Reconciler', () => {
  let stand: Stand;
  beforeEach(() => {
    stand = new Stand();
  });
  afterEach(() => stand.reconciler.close());

  test('says who is behind an identity before the kernel can ask, and forgets it when the kernel cannot ask any more', () => {
    stand.places.set('i-web', 3);
    stand.tell(pod('web', '10.0.0.1'));
    stand.reconciler.run();
    expect(stand.log).toEqual(['sync ', 'cluster +1 -0 pods web', 'maps changed']);
    stand.log.length = 0;
    stand.tell(pod('web', '10.0.0.1', '{ app: other }'));
    stand.reconciler.run();
    expect(stand.log).toEqual(['cluster +1 -0 pods web', 'maps changed', 'cluster +0 -1 pods ']);
  });

  test('tells whose account a pod runs as, and which Service has a cluster address, as they change', () => {
    const runsAs = (account: string): string => pod('web', '10.0.0.1').replace('spec: {}', `spec: { serviceAccountName: ${account} }`);
    const service =
      'apiVersion: v1\nkind: Service\nmetadata: { name: api, namespace: shop }\nspec: { clusterIP: 10.96.0.1, ports: [{ port: 80 }] }\n---\n';
    const told = (...texts: string[]): string[] => {
      stand.log.length = 0;
      stand.tell(...texts);
      stand.reconciler.run();
      return stand.log.filter((line) => / runs as |^service /.test(line));
    };
    expect(told(runsAs('reader'), service)).toEqual(['web runs as reader', 'service shop/api']);
    expect(told(runsAs('writer'), service)).toEqual(['web runs as writer']);
    expect(told(runsAs('writer'))).toEqual(['service gone']);
  });

  test('a rule set that an endpoint leaves goes in a second step, when the first is in force', () => {
    stand.places.set('i-web', 3);
    stand.tell(pod('web', '10.0.0.1'), closed);
    stand.reconciler.run();
    stand.log.length = 0;
    stand.tell(pod('web', '10.0.0.1'));
    stand.reconciler.run();
    expect(stand.log.filter((line) => line.startsWith('maps'))).toEqual(['maps same', 'maps changed']);
    stand.tell(pod('web', '10.0.0.1'), closed);
    stand.reconciler.run();
    stand.failures = [new EngineError('MAP_FULL', 'Cannot put the policy in force: map policies is full')];
    stand.log.length = 0;
    stand.tell(pod('web', '10.0.0.1'));
    stand.reconciler.run();
    expect(stand.log.filter((line) => line.startsWith('maps'))).toHaveLength(1);
  });

  test('calls nothing applied that failed, says why, and says so when it is over', () => {
    stand.failures = [new EngineError('MAP_FULL', 'Cannot put the policy in force: map peers is full')];
    stand.tell(pod('web', '10.0.0.1'));
    stand.reconciler.run();
    const { revision, appliedAt } = stand.reconciler.status;
    expect([revision, appliedAt]).toEqual([0, '']);
    expect(stand.problems).toContain('Cannot put the policy in force: map peers is full');
    expect(stand.events.filter((event) => event.startsWith('applied'))).toEqual([]);
    stand.failures = [];
    stand.reconciler.run();
    expect(stand.reconciler.status.revision).toBe(1);
    expect(stand.events.slice(-2)).toEqual([
      'resolved Cannot put the policy in force: map peers is full',
      'applied revision 1: 1 map entries',
    ]);
    stand.reconciler.run();
    expect(stand.reconciler.status.revision).toBe(1);
  });

  test('does not ask the maps for endpoints that are the same', () => {
    stand.places.set('i-web', 3);
    stand.tell(pod('web', '10.0.0.1'));
    stand.reconciler.run();
    stand.tell(pod('web', '10.0.0.1'), pod('db', '10.0.0.2'));
    stand.reconciler.run();
    expect(stand.applied.map(({ sameEndpoints }) => sameEndpoints)).toEqual([false, true]);
  });

  test('an address that several pods say they have is one’s in the maps and the proxy, also as it passes from one to another', async () => {
    for (const [i, name] of ['b', 'c', 'd'].entries()) stand.places.set(`i-${name}`, i + 1);
    const holders = (...names: string[]): unknown => {
      stand.tell(plugin, requests, ...names.map((name) => pod(name, '10.0.0.9')));
      stand.reconciler.run();
      const key = addressKey(parseAddress('10.0.0.9') as Uint8Array);
      const state = stand.applied.filter(({ sameEndpoints }) => !sameEndpoints).at(-1);
      const owners = [1, 2, 3].filter((id) => state?.endpoints.has(id) && state.ownsAddress(id, key));
      return [owners, stand.proxy?.endpoints.get(key)?.id];
    };
    expect(holders('c')).toEqual([[2], 2]);
    expect(holders('c', 'd')).toEqual([[2], 2]);
    expect(holders('d')).toEqual([[3], 3]);
    expect(holders('b', 'd')).toEqual([[1], 1]);
    // The first of all only says so: it is on another node, maybe one that is lost, whose address was given out anew. The packets
    // here are from who has an interface here, and its HTTP must not end with somebody else's name.
    expect(holders('a', 'b', 'd')).toEqual([[1], 1]);
    expect(stand.compiler.podsByAddress.get(addressKey(parseAddress('10.0.0.9') as Uint8Array))?.name).toBe('a');
    // Without its interface it is not here either.
    stand.places.delete('i-b');
    await stand.reconciler.settle();
    expect(holders('a', 'b', 'd')).toEqual([[3], 3]);
    expect(holders('a')).toEqual([[], undefined]);
  });

  test('an address of the node is no pod’s, also where one here says that it has it', () => {
    stand.places.set('i-web', 1);
    stand.nodeAddresses.push(parseAddress('10.0.0.9') as Uint8Array);
    stand.tell(plugin, requests, pod('web', '10.0.0.9'));
    stand.reconciler.run();
    expect(stand.applied.at(-1)?.ownsAddress(1, addressKey(parseAddress('10.0.0.9') as Uint8Array))).toBe(false);
    expect(stand.proxy?.endpoints.size).toBe(0);
  });

  describe('places', () => {
    beforeEach(() => void vi.useFakeTimers());
    afterEach(() => void vi.useRealTimers());

    test('an interface that is not there yet is a problem, and taken when it comes, goes, or is another one', async () => {
      const late = new Stand();
      late.tell(pod('web', '10.0.0.1'));
      await late.reconciler.settle();
      expect(late.problems).toEqual(['Pod shop/web: no interface i-web here']);
      expect(late.reconciler.status.problems[0]?.pending).toBe(true);
      late.places.set('i-web', 3);
      vi.advanceTimersByTime(500);
      expect(late.problems).toEqual([]);
      expect([...(late.applied.at(-1)?.endpoints.keys() ?? [])]).toEqual([3]);
      late.places.set('i-web', 4);
      vi.advanceTimersByTime(500);
      expect([...(late.applied.at(-1)?.endpoints.keys() ?? [])]).toEqual([4]);
      late.places.delete('i-web');
      vi.advanceTimersByTime(500);
      expect(late.reconciler.status.endpoints).toEqual([]);
      const runs = late.applied.length;
      vi.advanceTimersByTime(5000);
      expect(late.applied).toHaveLength(runs);
      late.reconciler.close();
    });

    test('of two pods at one interface the first by name has it, and the other one takes its place', () => {
      const both = new Stand();
      both.places.set('i-web', 3);
      const second = pod('also', '10.0.0.2').replace('i-also', 'i-web');
      both.tell(pod('web', '10.0.0.1'), second);
      both.reconciler.run();
      expect(both.reconciler.status.endpoints.map((endpoint) => endpoint.pod)).toEqual(['shop/also']);
      expect(both.reconciler.endpointOwner(3)?.name).toBe('also');
      expect(both.problems).toEqual(['Pod shop/web: interface i-web belongs to another pod already']);
      both.tell(pod('web', '10.0.0.1'));
      both.reconciler.run();
      expect(both.reconciler.status.endpoints.map((endpoint) => endpoint.pod)).toEqual(['shop/web']);
      // Who has it keeps it, also as another object of his name, whatever the name of one that comes later.
      both.tell(pod('web', '10.0.0.1', '{ app: other }'), second);
      both.reconciler.run();
      expect(both.reconciler.endpointOwner(3)?.name).toBe('web');
      expect(both.problems).toEqual(['Pod shop/also: interface i-web belongs to another pod already']);
      both.tell(pod('web', '10.0.0.1'));
      both.reconciler.run();
      expect(both.problems).toEqual([]);
      expect(both.reconciler.endpointOwner(3)?.name).toBe('web');
      expect(both.reconciler.endpointOwner(4)).toBeUndefined();
      both.reconciler.close();
    });
  });

  describe('while a plugin’s version is tried', () => {
    beforeEach(() => {
      stand.trialsHang = true;
      stand.places.set('i-web', 3);
      stand.tell(pod('web', '10.0.0.1'), plugin, asks);
      stand.reconciler.run();
    });

    test('policy is in force: what the plugin is to decide is tagged for it, and everything else goes on', async () => {
      expect(stand.reconciler.status.revision).toBe(1);
      expect(stand.problems).toEqual([]);
      stand.tell(pod('web', '10.0.0.1'), plugin, asks, closed);
      stand.reconciler.run();
      expect(stand.reconciler.status.endpoints[0]?.isolated).toEqual({ ingress: true, egress: false });
      // Nothing was declared anew: nobody is tried twice.
      expect(stand.log.filter((line) => line.startsWith('sync'))).toEqual(['sync slow']);
      stand.endTrials.forEach((end) => void end());
    });

    test('the trial’s outcome has another run', async () => {
      stand.pluginProblems.push({ name: 'slow', reason: 'Cannot load module: it did not start' });
      const runs = stand.applied.length;
      stand.endTrials.forEach((end) => void end());
      await vi.waitFor(() => expect(stand.applied.length).toBeGreaterThan(runs));
      expect(stand.problems).toEqual(['PolicyPlugin slow: Cannot load module: it did not start']);
    });

    test('only who asks for everything waits for the trial', async () => {
      stand.tellLate(pod('web', '10.0.0.1'), plugin, asks, closed);
      let settled = false;
      const settling = stand.reconciler.settle().then((status) => {
        settled = true;
        return status;
      });
      await vi.waitFor(() => expect(stand.reconciler.status.endpoints[0]?.isolated.ingress).toBe(true));
      expect(settled).toBe(false);
      stand.endTrials.forEach((end) => void end());
      expect((await settling).endpoints[0]?.isolated.ingress).toBe(true);
    });
  });

  test('changes that were taken when a run failed are not lost', () => {
    stand.places.set('i-web', 3);
    let fails = true;
    Object.defineProperty(stand, 'host', {
      get: () => {
        if (fails) throw new EngineError('STATE_DAMAGED', 'Cannot write');
        return undefined;
      },
    });
    stand.tell(pod('web', '10.0.0.1'));
    expect(() => stand.reconciler.run()).toThrow('Cannot write');
    fails = false;
    stand.reconciler.run();
    expect(stand.reconciler.status.endpoints.map((endpoint) => endpoint.pod)).toEqual(['shop/web']);
  });

  test('what is pending for the host is its endpoint, and falls back to what was confirmed; when it lapses, that is the endpoint', () => {
    const hostPod = (policy: HostPolicy[]): Pod => ({
      namespace: '',
      name: 'host',
      labels: new Map(),
      addresses: [],
      ports: [],
      hostNetwork: true,
      ended: false,
      cgroup: '/host',
      hostPolicies: policy,
    });
    const [confirmed, wanted] = [hostPod([]), hostPod([{ name: 'ssh@1', rules: { 0: [] } }])];
    stand.places.set('/host', 9);
    stand.host = { current: confirmed };
    stand.reconciler.run();
    const entry = (): { ruleSets: readonly number[]; fallback: bigint | undefined } => {
      const placed = stand.applied.at(-1)?.endpoints.get(9);
      return { ruleSets: endpointCodec.read(placed?.value as Buffer, 0).ruleSets, fallback: placed?.fallback?.atNs };
    };
    expect(entry()).toEqual({ ruleSets: [0, 0], fallback: undefined });
    stand.host = { current: wanted, fallback: { confirmed, confirmByNs: 55n } };
    stand.reconciler.run();
    expect(entry()).toMatchObject({ ruleSets: [expect.any(Number), 0], fallback: 55n });
    expect(entry().ruleSets[0]).not.toBe(0);
    stand.host = { current: confirmed };
    stand.reconciler.run();
    expect(entry()).toEqual({ ruleSets: [0, 0], fallback: undefined });
    expect(stand.reconciler.status.endpoints).toMatchObject([{ pod: 'host', id: 9, cgroup: '/host' }]);
    stand.host = { current: wanted };
    stand.reconciler.run();
    expect(entry().ruleSets[0]).not.toBe(0);
  });

  test('the proxy is told once there are rules about requests, what changed for it, and that there are none any more', () => {
    const service =
      'apiVersion: v1\nkind: Service\nmetadata: { name: red, namespace: shop }\nspec: { clusterIP: 10.96.0.1, ports: [{ port: 80 }], selector: { app: db } }\n---\n';
    const route =
      'apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: r, namespace: shop }\nspec: { parentRefs: [{ group: "", kind: Service, name: red }], rules: [{ backendRefs: [{ name: red, port: 80 }] }] }\n---\n';
    const told = (...texts: string[]): string[] => {
      stand.log.length = 0;
      stand.tell(...texts);
      stand.reconciler.run();
      return stand.log.filter((line) => line.startsWith('proxy'));
    };
    stand.places.set('i-web', 3);
    const web = pod('web', '10.0.0.1');
    expect(told(web, service)).toEqual([]);
    expect(told(web, service, route)).toEqual(['proxy 1']);
    expect(told(web, service, route)).toEqual([]);
    // Another backend, and a change that its clients may be judged otherwise by.
    expect(told(web, service, route, pod('db', '10.0.0.2').replace('sluice.dev/interface', 'other'))).toEqual(['proxy 1']);
    expect(told(web, service, route, closed)).toEqual(['proxy 1']);
    expect(told(web, service)).toEqual(['proxy 0']);
    expect(told(web)).toEqual([]);
  });
});

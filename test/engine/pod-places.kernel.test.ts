/** Pods that an API names are found on a real node, followed, and judged there, whatever they do in their own networks. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { DEFAULT_LIMITS } from '../../engine/config.ts';
import { createPodNetwork, enableForwarding, listNetns, removeNetns, restoreForwarding } from '../../engine/lab/network.ts';
import { silentLogger } from '../../engine/log.ts';
import { parseAddress } from '../../engine/policy/address.ts';
import { Compiler } from '../../engine/policy/compile.ts';
import type { ObjectChange, Pod } from '../../engine/policy/objects.ts';
import { ProblemLedger } from '../../engine/policy/problem.ts';
import { nodeAddresses } from '../../engine/reconcile/node-addresses.ts';
import { PodPlaces } from '../../engine/reconcile/pod-places.ts';
import { Reconciler } from '../../engine/reconcile/reconciler.ts';
import { SandboxRecords } from '../../engine/reconcile/sandbox-records.ts';
import { snapshotOf } from '../support/compiled.ts';
import { localPod } from '../support/local-pods.ts';
import { until } from '../support/test-node.ts';

const PIN = `/sys/fs/bpf/sluice-test-places-${process.pid}`;
const PREFIX = `slp${process.pid}.`;
const POD_COUNT = 110;

/** Ends what may have been made, also in half. */
function removeAll(): void {
  for (const name of listNetns(PREFIX)) removeNetns(name);
}

const ip = (...args: string[]): string => execFileSync('ip', args, { encoding: 'utf8' });
const inside = (pod: string, ...args: string[]): string => ip('-n', PREFIX + pod, ...args);

function indexOf(name: string): number {
  const file = `/sys/class/net/${name}/ifindex`;
  return existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0;
}

describe.skipIf(inject('missing'))('pods that an API names', async () => {
  const { Datapath } = await import('../../engine/kernel/datapath.ts');
  const { removeDatapath } = await import('../../engine/kernel/pins.ts');
  const { PolicyMaps } = await import('../../engine/kernel/policy-maps.ts');
  const { readVeths } = await import('../../engine/kernel/veths.ts');

  type Loaded = Awaited<ReturnType<typeof Datapath.load>>;

  /** A node with an engine's part that enforces, fed by the test. */
  class Node {
    readonly results = mkdtempSync(join(tmpdir(), 'sluice-places-'));
    readonly reconciler: Reconciler;
    readonly #datapath: Loaded;
    readonly #places: PodPlaces;
    #changes: ObjectChange[] = [];

    private constructor(datapath: Loaded) {
      this.#datapath = datapath;
      this.#places = new PodPlaces({ readVeths, records: new SandboxRecords([this.results], silentLogger), log: silentLogger });
      this.reconciler = new Reconciler({
        feed: { catchUp: async () => undefined, take: () => this.#changes.splice(0), problems: new ProblemLedger() },
        compiler: new Compiler(),
        plugins: { sync: async () => undefined, ids: new Map(), problems: [] },
        workers: { setCluster: () => undefined, setPolicy: () => undefined },
        maps: new PolicyMaps(datapath, DEFAULT_LIMITS),
        hostFirewall: { next: () => undefined },
        findPlace: (place) => datapath.find(place),
        podPlaces: this.#places,
        nodeAddresses,
        log: silentLogger,
      });
      this.#places.onChange = () => this.reconciler.schedule();
    }

    static async start(): Promise<Node> {
      const node = new Node(await Datapath.load(PIN));
      await node.reconciler.settle();
      return node;
    }

    tell(...changes: ObjectChange[]): void {
      this.#changes.push(...changes);
      this.reconciler.schedule();
    }

    /** Says of a pod what the API does: it has these addresses. */
    say(name: string, addresses: readonly string[], more: Partial<Pod> = {}): void {
      this.tell({ kind: 'Pod', key: `shop/${name}`, value: localPod(name, addresses, more) });
    }

    forget(name: string): void {
      this.tell({ kind: 'Pod', key: `shop/${name}`, value: undefined });
    }

    /** Interfaces that are there with the programs of a pod, by the status and by what is pinned. */
    of(name: string): string[] {
      return this.reconciler.status.endpoints
        .filter(({ pod, id }) => pod === `shop/${name}` && existsSync(`${PIN}/from_pod-${id}`) && existsSync(`${PIN}/to_pod-${id}`))
        .filter((endpoint) => indexOf(endpoint.interface as string) === endpoint.id)
        .map((endpoint) => endpoint.interface as string);
    }

    async becomes(name: string, ...interfaces: string[]): Promise<void> {
      await until(
        () => this.of(name).join() === interfaces.join(),
        5000,
        () => JSON.stringify(this.reconciler.status, undefined, 1),
      );
    }

    async stop(): Promise<void> {
      this.reconciler.close();
      await this.#places.close();
      this.#datapath.close();
      rmSync(this.results, { recursive: true });
    }
  }

  const address = (n: number): string => `10.87.0.${n}`;
  const make = (name: string, n: number, veth = `slp${n}.${process.pid}`): string => {
    createPodNetwork({ netns: PREFIX + name, interface: veth, addresses: [address(n), `fd87::${n}`] });
    return veth;
  };
  /** Whether one pod hears from another one within half a second; `netns` is where it asks from. */
  const hears = (from: string, n: number): boolean => {
    try {
      execFileSync('nsenter', [`--net=/run/netns/${PREFIX}${from}`, 'ping', '-c1', '-W0.5', '-q', address(n)], { stdio: 'ignore' });
      return true;
    } catch {
      return false;
    }
  };
  const isolate = snapshotOf(
    'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: shut, namespace: shop }\nspec: { podSelector: { matchLabels: { app: shut } }, policyTypes: [Ingress, Egress] }\n',
  ).NetworkPolicy[0];

  let node: Node;
  let forwarding: Record<string, string>;
  beforeAll(async () => {
    removeAll();
    forwarding = enableForwarding();
    node = await Node.start();
    node.tell({ kind: 'NetworkPolicy', key: 'shop/shut', value: isolate as never });
    make('peer', 1);
    node.say('peer', [address(1), 'fd87::1']);
    await node.becomes('peer', `slp1.${process.pid}`);
  });
  afterAll(async () => {
    await node?.stop();
    await removeDatapath(PIN);
    rmSync(PIN, { recursive: true, force: true });
    removeAll();
    if (forwarding) restoreForwarding(forwarding);
  });

  test('one that comes after its network is found by its address and judged, and left when it goes', async () => {
    const veth = make('early', 2);
    expect(hears('early', 1)).toBe(true);
    node.say('early', [address(2)], { labels: new Map([['app', 'shut']]) });
    await node.becomes('early', veth);
    expect(hears('early', 1)).toBe(false);
    node.forget('early');
    await node.becomes('early');
    expect(hears('early', 1)).toBe(true);
    removeNetns(`${PREFIX}early`);
  });

  test('one that is named before its network is there is found when it comes, and missed until then', async () => {
    node.say('late', [address(3), 'fd87::3']);
    await until(
      () => node.reconciler.status.problems.some(({ reason }) => reason.includes(`no veth of the node leads to ${address(3)} or fd87::3`)),
      5000,
    );
    await node.becomes('late', make('late', 3));
    expect(node.reconciler.status.problems).toEqual([]);
    node.forget('late');
    removeNetns(`${PREFIX}late`);
  });

  test.each([
    { name: 'under another name', again: `slpx.${process.pid}`, index: undefined },
    { name: 'under the same name', again: `slp4.${process.pid}`, index: undefined },
    { name: 'with the same name and index', again: `slp4.${process.pid}`, index: true },
  ])('one whose sandbox is made anew $name is judged there', async ({ again, index }) => {
    const veth = make('moves', 4);
    node.say('moves', [address(4)], { labels: new Map([['app', 'shut']]) });
    await node.becomes('moves', veth);
    const { id } = node.reconciler.status.endpoints.find(({ pod }) => pod === 'shop/moves') as { id: number };
    removeNetns(`${PREFIX}moves`);
    if (index) {
      // As createPodNetwork() makes it, but for the index.
      ip('link', 'add', again, 'index', String(id), 'type', 'veth', 'peer', 'name', 'tmp0');
      ip('netns', 'add', `${PREFIX}moves`);
      ip('link', 'set', 'tmp0', 'netns', `${PREFIX}moves`);
      inside('moves', 'link', 'set', 'tmp0', 'name', 'eth0');
      inside('moves', 'link', 'set', 'eth0', 'up');
      ip('link', 'set', again, 'up');
      ip('addr', 'add', '169.254.1.1/32', 'dev', again, 'scope', 'link');
      ip('route', 'add', address(4), 'dev', again);
      inside('moves', 'addr', 'add', `${address(4)}/32`, 'dev', 'eth0');
      inside('moves', 'route', 'add', '169.254.1.1', 'dev', 'eth0', 'scope', 'link');
      inside('moves', 'route', 'add', 'default', 'via', '169.254.1.1', 'dev', 'eth0');
    } else make('moves', 4, again);
    // Neither name nor index says that it is another one: that is seen when the node is read.
    if (index) await node.reconciler.settle();
    await node.becomes('moves', again);
    expect(hears('moves', 1)).toBe(false);
    node.forget('moves');
    await node.becomes('moves');
    expect(hears('moves', 1)).toBe(true);
    removeNetns(`${PREFIX}moves`);
  });

  describe('a pod that is root in its own network', () => {
    const hostile = `slp6.${process.pid}`;
    const victim = `slp7.${process.pid}`;
    beforeAll(async () => {
      make('hostile', 6);
      make('victim', 7);
      node.say('hostile', [address(6)], { labels: new Map([['app', 'shut']]) });
      node.say('victim', [address(7)]);
      await node.becomes('hostile', hostile);
      await node.becomes('victim', victim);
    });
    afterAll(() => {
      node.forget('hostile');
      node.forget('victim');
    });

    const same = async (): Promise<void> => {
      await node.reconciler.settle();
      expect([node.of('hostile'), node.of('victim')]).toEqual([[hostile], [victim]]);
      expect(hears('hostile', 1)).toBe(false);
      expect(hears('victim', 1)).toBe(true);
    };

    test('takes nothing by another pod’s address, nor by more addresses than are read', async () => {
      inside('hostile', 'addr', 'add', `${address(7)}/32`, 'dev', 'eth0');
      for (let n = 0; n < 64; n++) inside('hostile', 'addr', 'add', `10.86.0.${n}/32`, 'dev', 'eth0');
      await same();
      inside('hostile', 'addr', 'del', `${address(6)}/32`, 'dev', 'eth0');
      await same();
      inside('hostile', 'addr', 'flush', 'dev', 'eth0');
      await same();
      inside('hostile', 'addr', 'add', `${address(6)}/32`, 'dev', 'eth0');
      inside('hostile', 'route', 'replace', '169.254.1.1', 'dev', 'eth0', 'scope', 'link');
      inside('hostile', 'route', 'replace', 'default', 'via', '169.254.1.1', 'dev', 'eth0');
      await same();
    });

    test('takes nothing by veths and namespaces that it makes inside', async () => {
      ip('netns', 'add', `${PREFIX}nested`);
      inside('hostile', 'link', 'add', 'veth0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', `${PREFIX}nested`);
      inside('nested', 'addr', 'add', `${address(7)}/32`, 'dev', 'eth0');
      const { veths } = await readVeths([`/run/netns/${PREFIX}nested`]);
      expect(veths.map(({ name }) => name)).not.toContain('veth0');
      await same();
      inside('nested', 'link', 'del', 'eth0');
    });

    test('does not get away by renaming its end, nor by moving it into a namespace of its own', async () => {
      inside('hostile', 'link', 'set', 'eth0', 'down');
      inside('hostile', 'link', 'set', 'eth0', 'name', 'eth7');
      await node.reconciler.settle();
      expect(node.of('hostile')).toEqual([hostile]);
      inside('hostile', 'link', 'set', 'eth7', 'netns', `${PREFIX}nested`, 'name', 'eth0');
      await node.reconciler.settle();
      expect(node.of('hostile')).toEqual([hostile]);
      inside('nested', 'link', 'set', 'eth0', 'up');
      inside('nested', 'addr', 'add', `${address(6)}/32`, 'dev', 'eth0');
      inside('nested', 'route', 'add', '169.254.1.1', 'dev', 'eth0', 'scope', 'link');
      inside('nested', 'route', 'add', 'default', 'via', '169.254.1.1', 'dev', 'eth0');
      expect(hears('nested', 1)).toBe(false);
      node.say('hostile', [address(6)]);
      await until(() => hears('nested', 1), 5000);
    });
  });

  test('is where the container runtime says, whatever addresses say', async () => {
    const [first, second] = [make('liar', 11), make('quiet', 12)];
    const note = (name: string, result: object, netns: string): void =>
      writeFileSync(
        join(node.results, `pods-${name}-eth0`),
        JSON.stringify({
          kind: 'cniCacheV1',
          ifName: 'eth0',
          netns,
          cniArgs: [
            ['K8S_POD_NAMESPACE', 'shop'],
            ['K8S_POD_NAME', name],
            ['K8S_POD_UID', `uid-${name}`],
          ],
          result,
        }),
      );
    mkdirSync(node.results, { recursive: true });
    inside('liar', 'addr', 'flush', 'dev', 'eth0');
    inside('liar', 'addr', 'add', `${address(12)}/32`, 'dev', 'eth0');
    note('liar', {}, `/run/netns/${PREFIX}liar`);
    note('quiet', { interfaces: [{ name: second }, { name: 'eth0', sandbox: 'gone' }] }, 'gone');
    node.say('liar', [address(11)]);
    node.say('quiet', [address(12)]);
    await node.becomes('liar', first);
    await node.becomes('quiet', second);
    expect(node.reconciler.status.problems).toEqual([]);
    node.forget('liar');
    node.forget('quiet');
  });

  test('several that could be its are closed, and open when one is left', async () => {
    const [first, second] = [make('twin', 13), `slpt.${process.pid}`];
    createPodNetwork({ netns: `${PREFIX}other`, interface: second, addresses: [address(14)] });
    inside('other', 'addr', 'add', `${address(13)}/32`, 'dev', 'eth0');
    node.say('twin', [address(13)]);
    await node.becomes('twin', first, second);
    expect(hears('twin', 1)).toBe(false);
    expect(node.reconciler.status.problems.map(({ reason }) => reason)).toEqual([
      `${first}, ${second} lead to its addresses, and the container runtime does not say which is its: all are closed`,
    ]);
    inside('other', 'addr', 'del', `${address(13)}/32`, 'dev', 'eth0');
    await node.reconciler.settle();
    await node.becomes('twin', first);
    expect(hears('twin', 1)).toBe(true);
    node.forget('twin');
  });

  test(`${POD_COUNT} pods are read without keeping anybody waiting`, async () => {
    for (let n = 0; n < POD_COUNT; n++) {
      ip('netns', 'add', `${PREFIX}n${n}`);
      ip('link', 'add', `slpn${n}.${process.pid}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', `${PREFIX}n${n}`);
      inside(`n${n}`, 'addr', 'add', `10.85.0.${n}/32`, 'dev', 'eth0');
    }
    const files = listNetns(PREFIX).map((name) => `/run/netns/${name}`);
    const took: number[] = [];
    const blocked: number[] = [];
    for (let i = 0; i < 20; i++) {
      const started = performance.now();
      const reading = readVeths(files);
      blocked.push(performance.now() - started);
      const { veths, networks } = await reading;
      took.push(performance.now() - started);
      expect(veths.filter(({ name }) => name.startsWith('slpn'))).toHaveLength(POD_COUNT);
      expect(networks.size).toBeGreaterThanOrEqual(POD_COUNT);
    }
    const middle = (times: number[]): string => ([...times].sort((a, b) => a - b)[times.length >> 1] as number).toFixed(2);
    console.log(`${POD_COUNT} namespaces are read in ${middle(took)} ms, the call itself takes ${middle(blocked)} ms (medians of 20)`);
    const [n0] = (await readVeths([])).veths.filter(({ name }) => name.startsWith('slpn0.'));
    expect(n0?.addresses).toEqual([Buffer.from(parseAddress('10.85.0.0') as Uint8Array).toString('latin1')]);
  }, 60_000);
});

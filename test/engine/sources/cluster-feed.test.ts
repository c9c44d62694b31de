/** Several sources as one: names that they contest, resynchronizing, and how they are. */
import { describe, expect, test } from 'vitest';
import { Action, Direction } from '../../../engine/abi.gen.ts';
import { parseAddress } from '../../../engine/policy/address.ts';
import { Compiler } from '../../../engine/policy/compile.ts';
import { ASK_NOBODY, type ObjectChange, type Pod } from '../../../engine/policy/objects.ts';
import { formatProblem, viewProblem } from '../../../engine/policy/problem.ts';
import { ClusterFeed } from '../../../engine/sources/cluster-feed.ts';
import { DENY_EVERYONE, readObject } from '../../../engine/sources/read-object.ts';
import type { Entry, Source, SourceListener } from '../../../engine/sources/source.ts';
import { ruleOfMaps } from '../../support/compiled.ts';

/** A source that tells what the test says, as one that follows an API would. */
class FakeSource implements Source {
  readonly name: string;
  listener: SourceListener | undefined;
  constructor(name: string) {
    this.name = name;
  }
  async start(listener: SourceListener): Promise<void> {
    this.listener = listener;
    listener.setState({ is: 'following' });
  }
  async catchUp(): Promise<void> {}
  async close(): Promise<void> {}
  tell(...pods: string[]): void {
    this.listener?.tell(pods.map((text) => ({ slot: slotOf(text), entry: entryOf(text) })));
  }
}

/** `web 10.0.0.1` */
const slotOf = (text: string): string => `Pod shop/${text.split(' ')[0]}`;

function entryOf(text: string): Entry {
  const [name = '', ip] = text.split(' ');
  const raw = { apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'shop' }, spec: {}, status: { podIPs: [{ ip }] } };
  return readObject(raw, { locate: () => ({ at: 'object', object: { kind: 'Pod', namespace: 'shop', name } }) });
}

/** Each app another policy. */
function policyOf(name: string, app = ''): Entry {
  const raw = {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name, namespace: 'shop' },
    spec: { podSelector: app ? { matchLabels: { app } } : {} },
  };
  return readObject(raw, { locate: () => ({ at: 'object', object: { kind: 'NetworkPolicy', namespace: 'shop', name } }) });
}

async function started(...names: string[]): Promise<{ feed: ClusterFeed; sources: FakeSource[] }> {
  const sources = names.map((name) => new FakeSource(name));
  const feed = new ClusterFeed(sources);
  await feed.start();
  return { feed, sources };
}

/** Names and last bytes of addresses; `-`: gone. */
const taken = (feed: ClusterFeed): string[] =>
  feed.take().map(({ key, value }) => (value ? `${key} ${(value as Pod).addresses.map((address) => address[15]).join()}` : `- ${key}`));
const problems = (feed: ClusterFeed): string[] => feed.problems.all.map((problem) => formatProblem(viewProblem(problem)));

describe('ClusterFeed', () => {
  test('an object that says the same as before is no change, and of several changes of one the last counts', async () => {
    const { feed, sources } = await started('api');
    sources[0]?.tell('web 10.0.0.1', 'db 10.0.0.2');
    expect(taken(feed)).toEqual(['shop/web 1', 'shop/db 2']);
    sources[0]?.tell('web 10.0.0.1');
    expect(taken(feed)).toEqual([]);
    sources[0]?.tell('web 10.0.0.3');
    sources[0]?.tell('web 10.0.0.4');
    expect(taken(feed)).toEqual(['shop/web 4']);
    sources[0]?.tell('web 10.0.0.3');
    sources[0]?.tell('web 10.0.0.4');
    expect(taken(feed)).toEqual([]);
  });

  test('of objects with one name that of the earlier source counts, until it goes', async () => {
    const { feed, sources } = await started('dir', 'api');
    sources[1]?.tell('web 10.0.0.1');
    expect(taken(feed)).toEqual(['shop/web 1']);
    sources[0]?.tell('web 10.0.0.2');
    expect(taken(feed)).toEqual(['shop/web 2']);
    expect(problems(feed)).toEqual(['Pod shop/web: defined already in dir']);
    sources[0]?.listener?.tell([{ slot: 'Pod shop/web' }]);
    expect(taken(feed)).toEqual(['shop/web 1']);
    expect(problems(feed)).toEqual([]);
  });

  test('each policy whose name another one has is closed by itself, though several stand in one place', async () => {
    const { feed, sources } = await started('dir');
    const change = (slot: string, entry?: Entry): { slot: string; entry?: Entry } => ({ slot, ...(entry && { entry }) });
    sources[0]?.listener?.tell([change('1', policyOf('web')), change('2', policyOf('web', 'a')), change('3', policyOf('web', 'b'))]);
    expect(feed.take().map(({ value }) => value?.name)).toEqual(['web', 'web (dir)', 'web (dir, 2)']);
    // One that bears the name which a stand-in is shown by, and goes again, takes no stand-in along.
    sources[0]?.listener?.tell([change('4', policyOf('web (dir)'))]);
    expect(feed.take().map(({ key }) => key)).toEqual(['shop/web (dir)']);
    sources[0]?.listener?.tell([change('4')]);
    expect(feed.take()).toEqual([{ kind: 'NetworkPolicy', key: 'shop/web (dir)', value: undefined }]);
    sources[0]?.listener?.tell([change('2')]);
    expect(feed.take()).toEqual([
      { kind: 'NetworkPolicy', key: expect.stringMatching(/2$/), value: undefined },
      { kind: 'NetworkPolicy', key: expect.stringMatching(/3$/), value: expect.objectContaining({ name: 'web (dir)' }) },
    ]);
  });

  test('a policy that says the same as the one that has its name is reported, and closes nothing: an object that moves from file to file', async () => {
    const { feed, sources } = await started('old', 'new');
    const tell = (source: number, entry?: Entry): string[] => {
      sources[source]?.listener?.tell([{ slot: '1', ...(entry && { entry }) }]);
      return feed.take().map(({ value }) => value?.name ?? 'gone');
    };
    expect(tell(0, policyOf('web'))).toEqual(['web']);
    expect(tell(1, policyOf('web'))).toEqual([]);
    expect(feed.problems.all.map(({ reason }) => reason)).toEqual(['defined already in old']);
    expect(tell(1, policyOf('web', 'a'))).toEqual(['web (new)']);
    expect(tell(1, policyOf('web'))).toEqual(['gone']);
    expect(tell(0)).toEqual([]);
    expect(problems(feed)).toEqual([]);
  });

  test.each([
    {
      kind: 'PluginPolicy',
      apiVersion: 'sluice.dev/v1alpha1',
      first: { podSelector: {}, egress: [{ ask: { plugin: 'p' } }] },
      spec: {
        podSelector: { matchLabels: { app: 'db' } },
        precedence: 'Admin',
        egress: [{ ask: { plugin: 'p' } }, { ask: { plugin: 'q' } }],
      },
      closed: { selector: [expect.anything()], overrides: false, rules: { [Direction.EGRESS]: [ASK_NOBODY] } },
    },
    {
      kind: 'ClusterNetworkPolicy',
      apiVersion: 'policy.networking.k8s.io/v1alpha2',
      first: { tier: 'Admin', priority: 8, subject: { namespaces: {} }, ingress: [{ action: 'Accept', from: [{ namespaces: {} }] }] },
      spec: { tier: 'Admin', priority: 7, subject: { namespaces: {} }, ingress: [{ action: 'Accept', from: [{ namespaces: {} }] }] },
      closed: { priority: 7, rules: { [Direction.INGRESS]: [DENY_EVERYONE] } },
    },
    {
      kind: 'HTTPRoute',
      apiVersion: 'gateway.networking.k8s.io/v1',
      first: { parentRefs: [{ group: '', kind: 'Service', name: 'api' }], rules: [{ matches: [{ method: 'GET' }] }] },
      spec: { parentRefs: [{ group: '', kind: 'Service', name: 'api' }], rules: [{}] },
      closed: { parents: [{ service: 'shop/api' }], rules: [], closed: true },
    },
  ])('of a $kind whose name another one has something stays that closes', async ({ kind, apiVersion, first: said, spec, closed }) => {
    const { feed, sources } = await started('dir');
    const entry = (said: unknown): Entry =>
      readObject(
        { apiVersion, kind, metadata: { name: 'web', namespace: 'shop' }, spec: said },
        { locate: () => ({ at: 'object', object: { kind, namespace: 'shop', name: 'web' } }) },
      );
    sources[0]?.listener?.tell([
      { slot: '1', entry: entry(said) },
      { slot: '2', entry: entry(spec) },
    ]);
    const [first, other] = feed.take();
    expect(feed.problems.all.map(({ reason }) => reason)).toEqual(['defined already in dir']);
    expect(first?.value).toEqual(entry(said).object?.value);
    expect(other).toMatchObject({ kind, value: { name: 'web (dir)', ...closed } });
  });

  test('HTTPRoutes of one name in one place are closed for each of their Services by rules of their own', async () => {
    const { feed, sources } = await started('dir');
    const routeTo = (service: string): Entry =>
      readObject(
        {
          apiVersion: 'gateway.networking.k8s.io/v1',
          kind: 'HTTPRoute',
          metadata: { name: 'r', namespace: 'shop' },
          spec: { parentRefs: [{ group: '', kind: 'Service', name: service }], rules: [{}] },
        },
        { locate: () => ({ at: 'file', file: 'r.json', line: 1 }) },
      );
    const services = ['a', 'b', 'c'].map((name, i): ObjectChange => {
      const address = parseAddress(`10.96.0.${i}`) as Uint8Array;
      const ports = [{ name: '', protocol: 6, port: 80, target: 80 }];
      return { kind: 'Service', key: `shop/${name}`, value: { namespace: 'shop', name, addresses: [address], ports } };
    });
    sources[0]?.listener?.tell(['a', 'b', 'c'].map((name) => ({ slot: name, entry: routeTo(name) })));
    const compiler = new Compiler();
    const web: ObjectChange = {
      kind: 'Pod',
      key: 'shop/web',
      value: { ...(entryOf('web 10.0.0.1').object?.value as Pod), interface: 'i' },
    };
    compiler.update([web, ...services, ...feed.take()], new Map(), []);
    expect([...compiler.requestRules.keys()].map((id) => compiler.origins.get(id)?.name).sort()).toEqual([
      'r',
      'r (r.json:1)',
      'r (r.json:1, 2)',
    ]);
  });

  test('what PluginPolicies of one name select is denied what the first one does not ask about', async () => {
    const { feed, sources } = await started('dir');
    const asks = (direction: string, port: number): Entry =>
      readObject(
        {
          apiVersion: 'sluice.dev/v1alpha1',
          kind: 'PluginPolicy',
          metadata: { name: 'asks', namespace: 'shop' },
          spec: { [direction]: [{ ports: [{ port }], ask: { plugin: 'p' } }] },
        },
        { locate: () => ({ at: 'object', object: { kind: 'PluginPolicy', namespace: 'shop', name: 'asks' } }) },
      );
    const pod = entryOf('web 10.0.0.1').object?.value as Pod;
    const compiler = new Compiler();
    compiler.update([{ kind: 'Pod', key: 'shop/web', value: { ...pod, interface: 'i' } }], new Map([['p', 7]]), []);
    const action = (...slots: [string, Entry?][]): number[] => {
      sources[0]?.listener?.tell(slots.map(([slot, entry]) => ({ slot, ...(entry && { entry }) })));
      compiler.update(feed.take(), new Map([['p', 7]]), []);
      const peer = parseAddress('10.0.0.9') as Uint8Array;
      return [80, 81].flatMap((port) =>
        [Direction.EGRESS, Direction.INGRESS].map((direction) => ruleOfMaps(compiler, 'shop/web', direction, peer, 6, port).action),
      );
    };
    const { ALLOW, ASK, DENY } = Action;
    expect(action(['1', asks('egress', 80)])).toEqual([ASK, ALLOW, ALLOW, ALLOW]);
    expect(action(['2', asks('egress', 81)])).toEqual([ASK, ALLOW, DENY, ALLOW]);
    expect(action(['3', asks('ingress', 80)])).toEqual([ASK, DENY, DENY, DENY]);
    expect(action(['2'])).toEqual([ASK, DENY, ALLOW, DENY]);
    expect(action(['3'])).toEqual([ASK, ALLOW, ALLOW, ALLOW]);
  });

  test('a source that tells all anew takes away what it does not list, and nothing of another one', async () => {
    const { feed, sources } = await started('dir', 'api');
    sources[0]?.tell('own 10.0.0.9');
    sources[1]?.tell('web 10.0.0.1', 'db 10.0.0.2');
    taken(feed);
    sources[1]?.listener?.tellAll(new Map(['db 10.0.0.2', 'new 10.0.0.3'].map((text) => [slotOf(text), entryOf(text)])));
    expect(taken(feed).sort()).toEqual(['- shop/web', 'shop/new 3']);
  });

  test('a source that is behind says so, and what it told stays', async () => {
    const { feed, sources } = await started('dir', 'api');
    let notified = 0;
    feed.onChange(() => (notified += 1));
    sources[1]?.listener?.setState({ is: 'behind', sinceMs: 1000, reason: 'no answer' });
    sources[1]?.listener?.setState({ is: 'behind', sinceMs: 2000, reason: 'no answer' });
    expect(notified).toBe(1);
    expect(feed.status.map(({ state }) => state)).toEqual([{ is: 'following' }, { is: 'behind', sinceMs: 1000, reason: 'no answer' }]);
    expect(problems(feed)).toEqual(['api: no answer: what was known before stays in force']);
    sources[1]?.listener?.setState({ is: 'following' });
    expect(problems(feed)).toEqual([]);
    expect(taken(feed)).toEqual([]);
  });

  test('what is wrong with an object of an API is told with its name, and no file', () => {
    const raw = { apiVersion: 'sluice.dev/v1alpha1', kind: 'PolicyPlugin', metadata: { name: 'p' }, spec: { module: { file: 'p.wasm' } } };
    const { problems: found } = readObject(raw, { locate: () => ({ at: 'object', object: { kind: 'PolicyPlugin', name: 'p' } }) });
    expect(found.map((problem) => viewProblem(problem))).toEqual([
      { object: 'PolicyPlugin p', reason: 'spec.module.file: only a manifest in a file can name one' },
    ]);
  });
});

/** Compiling, but for what decides: plugins, ids, damage. The meaning of policies is in test/cases/policy.ts. */
import { describe, expect, test } from 'vitest';
import { Abi, Action, Context, Direction, endpointCodec, Identity } from '../../../engine/abi.gen.ts';
import { addressKey, parseAddress } from '../../../engine/policy/address.ts';
import { Compiler } from '../../../engine/policy/compile.ts';
import { findIdentity } from '../../../engine/policy/decide.ts';
import type { EntryMap } from '../../../engine/policy/entry-map.ts';
import type { Pod } from '../../../engine/policy/objects.ts';
import { formatProblem, viewProblem } from '../../../engine/policy/problem.ts';
import { readManifest } from '../../../engine/sources/manifest.ts';
import { compiled, ruleOfMaps, snapshotOf, update } from '../../support/compiled.ts';
import { localPod } from '../../support/local-pods.ts';

const address = (text: string): Uint8Array => parseAddress(text) as Uint8Array;

const podText = (namespace: string, name: string, labels: string, ip: string, extra = ''): string => `
apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: ${namespace}, labels: { ${labels} }, annotations: { sluice.dev/interface: i-${name} } }
spec: { containers: [{ name: c, ports: [{ name: web, containerPort: 8080 }, { name: dns, containerPort: 53, protocol: UDP }] }]${extra} }
status: { podIPs: [{ ip: ${ip} }] }
---`;

const base = `
apiVersion: v1
kind: Namespace
metadata: { name: shop, labels: { team: red } }
---
apiVersion: v1
kind: Namespace
metadata: { name: bank, labels: { team: blue } }
---${podText('shop', 'web', 'app: web, constructor: "", tier: front', '10.0.0.1')}${podText('shop', 'db', 'app: db', '10.0.0.2')}${podText('bank', 'web', 'app: web', '10.0.1.1').replace('i-web', 'i-bank')}`;

const policy = (spec: string, namespace = 'shop'): string => `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: p, namespace: ${namespace} }
spec: ${spec}
`;

/** Its problems, as people read them. */
const told = ({ problems }: Compiler): string[] => problems.all.map((problem) => formatProblem(viewProblem(problem)));

describe('Compiler', () => {
  test.each<{ name: string; pod: Pod; is: boolean }>([
    { name: 'a pod that an API says runs here is an endpoint', pod: localPod('web', ['10.0.0.1']), is: true },
    { name: 'also before it has an address', pod: localPod('web', []), is: true },
    { name: 'one that has ended is none', pod: localPod('web', ['10.0.0.1'], { ended: true }), is: false },
    { name: 'one in the network of the node is none', pod: localPod('web', ['10.0.0.1'], { hostNetwork: true }), is: false },
    {
      name: 'one of another node is none',
      pod: (({ local, ...rest }) => ({ ...rest, node: 'there' }))(localPod('web', ['10.0.0.1'])),
      is: false,
    },
  ])('$name', ({ pod, is }) => {
    const compiler = new Compiler();
    compiler.update([{ kind: 'Pod', key: 'shop/web', value: pod }], new Map(), []);
    expect([...compiler.endpoints.keys()]).toEqual(is ? [pod] : []);
  });

  const ask = (extra = ''): string => `
---
apiVersion: sluice.dev/v1alpha1
kind: PluginPolicy
metadata: { name: asks, namespace: shop }
spec: { podSelector: { matchLabels: { app: db } }, ingress: [{ ports: [{ port: 80 }], ask: { plugin: p } }]${extra} }
`;

  test('asks a plugin only where the tiers allow, unless its policy says otherwise', () => {
    const closed = policy('{ podSelector: {} }');
    const action = (text: string, plugins = new Map([['p', 7]])): number =>
      ruleOfMaps(compiled(snapshotOf(base + text), plugins, []), 'shop/db', Direction.INGRESS, address('10.0.0.1'), 6, 80).action;
    expect(action(ask())).toBe(Action.ASK);
    expect(action(closed + ask())).toBe(Action.DENY);
    expect(action(closed + ask(', precedence: Admin'))).toBe(Action.ASK);
    // A plugin that nobody declared answers nothing.
    expect(action(ask(), new Map())).toBe(Action.DENY);
  });

  test('says which rule is not asked where two tag one flow for different plugins', () => {
    const second = ask().replace('asks', 'asks-too').replace('plugin: p', 'plugin: q');
    const plugins = new Map([
      ['p', 7],
      ['q', 8],
    ]);
    expect(told(compiled(snapshotOf(base + ask() + second), plugins))).toEqual([
      'PluginPolicy shop/asks-too ingress[0]: tags flows that PluginPolicy shop/asks ingress[0] tags for another plugin: only that one is asked',
    ]);
    expect(told(compiled(snapshotOf(base + ask() + second.replace('port: 80', 'port: 81')), plugins))).toEqual([]);
  });

  describe('contents', () => {
    const tagged = (name: string, rule: string): string =>
      `\napiVersion: sluice.dev/v1alpha1\nkind: PluginPolicy\nmetadata: { name: ${name}, namespace: shop }\nspec: { podSelector: { matchLabels: { app: db } }, egress: [${rule}] }\n---`;
    const plugins = new Map([
      ['p', 7],
      ['q', 8],
    ]);
    const build = (...rules: string[]) => compiled(snapshotOf(base + rules.map((rule, i) => tagged(`r${i}`, rule)).join('')), plugins, []);
    const ruleFor = (compiler: ReturnType<typeof build>, protocol: number, port: number) =>
      ruleOfMaps(compiler, 'shop/db', Direction.EGRESS, address('10.0.0.1'), protocol, port);
    const endpointOf = (compiler: ReturnType<typeof build>) =>
      endpointCodec.read([...compiler.endpoints.values()].find(({ pod }) => pod.name === 'db')?.value as Buffer, 0);
    /** Names of the policies whose rule is not asked, and of those that are asked instead. */
    const conflicts = (compiler: ReturnType<typeof build>): (string | undefined)[][] =>
      told(compiler).flatMap((text) => {
        const found = /^PluginPolicy shop\/(\S+) .* PluginPolicy shop\/(\S+) .*only that one is asked$/.exec(text);
        return found ? [found.slice(1)] : [];
      });

    test('the hello of TLS is read on port 443, or on those that the rule names; QUIC is part of it', () => {
      const compiler = build(
        '{ serverNames: { names: [API.example.com., "*.cdn.example"] } }',
        '{ ports: [{ port: 8443 }], ask: { plugin: p, context: tls } }',
      );
      const list = ruleFor(compiler, 6, 443);
      expect(list).toMatchObject({ action: Action.ASK, plugin: Abi.SERVER_NAMES, context: Context.TLS });
      expect(compiler.serverNames.get(list.id)).toEqual({
        patterns: ['api.example.com', '*.cdn.example'],
        allowMissing: false,
        allowEncrypted: false,
      });
      expect([ruleFor(compiler, 17, 443), ruleFor(compiler, 6, 8443), ruleFor(compiler, 17, 8443)]).toMatchObject([
        { action: Action.ASK, plugin: Abi.SERVER_NAMES },
        { action: Action.ASK, plugin: 7, context: Context.TLS },
        { action: Action.ASK, plugin: 7, context: Context.TLS },
      ]);
      expect([ruleFor(compiler, 6, 80).action, ruleFor(compiler, 17, 53).action]).toEqual([Action.ALLOW, Action.ALLOW]);
    });

    test('a list that changes keeps its rule, and one that goes leaves nothing', () => {
      const compiler = build('{ serverNames: { names: [a.test] } }');
      const { id } = ruleFor(compiler, 6, 443);
      update(compiler, snapshotOf(base + tagged('r0', '{ serverNames: { names: [b.test], withoutName: Allow } }')), plugins);
      expect(ruleFor(compiler, 6, 443).id).toBe(id);
      expect(compiler.serverNames.get(id)).toEqual({ patterns: ['b.test'], allowMissing: true, allowEncrypted: false });
      update(compiler, snapshotOf(base), plugins);
      compiler.retire();
      expect(compiler.serverNames.size).toBe(0);
    });

    test('a plugin for answers is the endpoint’s, and tags no flow; one that nobody declared is asked all the same', () => {
      const compiler = build('{ ask: { plugin: p, context: dns } }');
      const { dnsPlugin, dnsRule, ruleSets } = endpointOf(compiler);
      expect([dnsPlugin, compiler.origins.get(dnsRule)?.name]).toEqual([7, 'r0']);
      expect(ruleSets[Direction.EGRESS]).not.toBe(0);
      expect([ruleFor(compiler, 17, 53).action, ruleFor(compiler, 6, 443).action]).toEqual([Action.ALLOW, Action.ALLOW]);
      expect(endpointOf(build('{ ask: { plugin: nobody, context: dns } }')).dnsPlugin).toBe(0xffffffff);
      expect(endpointOf(build('{ ask: { plugin: p } }')).dnsPlugin).toBe(0);
    });

    test('says which rule is not asked: of two lists, two plugins for answers, and where rules are about the same name', () => {
      const list = '{ serverNames: { names: [a.test] } }';
      expect(conflicts(build(list, list.replace('a.test', 'b.test')))).toEqual([['r1', 'r0']]);
      const answers = '{ ask: { plugin: p, context: dns } }';
      expect(conflicts(build(answers, answers.replace('plugin: p', 'plugin: q')))).toEqual([['r1', 'r0']]);
      expect(conflicts(build(answers, answers))).toEqual([]);
      const named = '{ to: [{ names: [a.test] }], ask: { plugin: p } }';
      expect(conflicts(build(named, named.replace('plugin: p', 'plugin: q')))).toEqual([['r1', 'r0']]);
      expect(conflicts(build(named, named.replace('a.test', 'b.test').replace('plugin: p', 'plugin: q')))).toEqual([]);
    });
  });

  test('gives the same ids and entries to the same cluster, in whatever order it is read', () => {
    const snapshot = snapshotOf(
      base + policy('{ podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: 10.0.0.0/8 } }], ports: [{ port: 80 }] }] }'),
    );
    const one = compiled(snapshot, new Map(), []);
    const two = compiled({ ...snapshot, Pod: [...snapshot.Pod].reverse() }, new Map(), []);
    const sorted = ({ entries }: EntryMap) => [...entries].map(([key, value]) => key + value.toString('latin1')).sort();
    for (const map of ['peers', 'networks', 'policies', 'ports'] as const) expect(sorted(one[map])).toEqual(sorted(two[map]));
  });

  const allowWeb = policy(
    '{ podSelector: { matchLabels: { app: db } }, ingress: [{ from: [{ podSelector: { matchLabels: { app: web } } }] }] }',
  );
  const fromWeb = (compiler: Compiler, ip: string): number => ruleOfMaps(compiler, 'shop/db', Direction.INGRESS, address(ip), 6, 80).action;

  test('a completed pod is no peer, and its address may be another pod’s', () => {
    const done = podText('shop', 'job', 'app: web', '10.0.0.9').replace('status: {', 'status: { phase: Succeeded,');
    expect(fromWeb(compiled(snapshotOf(base + done + allowWeb)), '10.0.0.9')).toBe(Action.DENY);
    const heir = podText('shop', 'heir', 'app: other', '10.0.0.9');
    expect(fromWeb(compiled(snapshotOf(base + done + heir + allowWeb)), '10.0.0.9')).toBe(Action.DENY);
    expect(fromWeb(compiled(snapshotOf(base + done + heir.replace('app: other', 'app: web') + allowWeb)), '10.0.0.9')).toBe(Action.ALLOW);
  });

  test('an address that two pods claim is the first’s by name, and told', () => {
    const both = compiled(
      snapshotOf(base + podText('shop', 'a', 'app: other', '10.0.0.9') + podText('shop', 'b', 'app: web', '10.0.0.9') + allowWeb),
    );
    expect(fromWeb(both, '10.0.0.9')).toBe(Action.DENY);
    expect(told(both)).toEqual(["Pod shop/b: has the address 10.0.0.9 of pod shop/a: the address counts as that one's"]);
  });

  test('an address passes to its next bearer when the first one goes, and follows labels and namespaces that change', () => {
    const compiler = new Compiler();
    const change = (text: string): void => {
      update(compiler, snapshotOf(text));
      compiler.retire();
    };
    change(base + podText('shop', 'a', 'app: other', '10.0.0.9') + allowWeb);
    expect(fromWeb(compiler, '10.0.0.9')).toBe(Action.DENY);
    change(base + podText('shop', 'b', 'app: web', '10.0.0.9') + allowWeb);
    expect(fromWeb(compiler, '10.0.0.9')).toBe(Action.ALLOW);
    change(base + podText('shop', 'b', 'app: former', '10.0.0.9') + allowWeb);
    expect(fromWeb(compiler, '10.0.0.9')).toBe(Action.DENY);
    const byTeam = policy(
      '{ podSelector: { matchLabels: { app: db } }, ingress: [{ from: [{ namespaceSelector: { matchLabels: { team: blue } } }] }] }',
    );
    change(base + byTeam);
    expect(fromWeb(compiler, '10.0.1.1')).toBe(Action.ALLOW);
    change(base.replace('team: blue', 'team: green') + byTeam);
    expect(fromWeb(compiler, '10.0.1.1')).toBe(Action.DENY);
  });

  test('a pod in the host’s network is its node as a peer, whatever its labels', () => {
    const agent = podText('shop', 'agent', 'app: web', '192.168.0.1').replace('spec: {', 'spec: { hostNetwork: true,');
    const compiler = new Compiler();
    update(compiler, snapshotOf(base + agent + allowWeb), new Map(), [address('192.168.0.1')]);
    expect(findIdentity(compiler, address('192.168.0.1'))).toBe(Identity.WORLD);
    expect([...compiler.maps.node_addresses.entries.keys()]).toEqual([addressKey(address('192.168.0.1'))]);
    expect(fromWeb(compiled(snapshotOf(base + agent + allowWeb)), '192.168.0.1')).toBe(Action.DENY);
  });

  test('an address of a node is no pod’s, and a pod that says it has it is told', () => {
    const liar = podText('shop', 'liar', 'app: web', '192.168.0.1');
    const other =
      'apiVersion: v1\nkind: Node\nmetadata: { name: n2 }\nstatus: { addresses: [{ type: InternalIP, address: 192.168.0.1 }] }\n';
    const here = compiled(snapshotOf(base + liar + allowWeb), new Map(), [address('192.168.0.1')]);
    const there = compiled(snapshotOf(`${base + liar + allowWeb}---\n${other}`));
    for (const [compiler, bearer] of [
      [here, 'this node'],
      [there, 'node n2'],
    ] as const) {
      expect(fromWeb(compiler, '192.168.0.1')).toBe(Action.DENY);
      expect(told(compiler)).toEqual([`Pod shop/liar: has the address 192.168.0.1 of ${bearer}: the address counts as that one's`]);
    }
    update(there, snapshotOf(base + liar + allowWeb));
    expect(fromWeb(there, '192.168.0.1')).toBe(Action.ALLOW);
    expect(told(there)).toEqual([]);
  });

  test('service accounts are peers by name and namespace, and a pod without one runs as "default"', () => {
    const asks = (accounts: string): string => `
apiVersion: sluice.dev/v1alpha1
kind: PluginPolicy
metadata: { name: by-account, namespace: shop }
spec: { podSelector: { matchLabels: { app: db } }, ingress: [{ from: [{ serviceAccounts: [${accounts}] }], ask: { plugin: p } }] }
`;
    const runsAs = (name: string, account: string, ip: string): string =>
      podText('bank', name, 'app: same', ip).replace('spec: {', `spec: { serviceAccountName: ${account},`);
    const pods = `${base}${runsAs('one', 'reader', '10.0.1.7')}${runsAs('two', 'writer', '10.0.1.8')}`;
    const compiler = new Compiler();
    const asked = (accounts: string, cluster = pods): string[] => {
      update(compiler, snapshotOf(cluster + asks(accounts)), new Map([['p', 7]]));
      compiler.retire();
      const addresses = { one: '10.0.1.7', two: '10.0.1.8', 'bank/web': '10.0.1.1', 'shop/web': '10.0.0.1' };
      return Object.entries(addresses).flatMap(([name, ip]) => (fromWeb(compiler, ip) === Action.ASK ? [name] : []));
    };
    expect(asked('{ name: reader, namespace: bank }')).toEqual(['one']);
    expect(asked('{ name: reader, namespace: bank }, { name: writer, namespace: bank }')).toEqual(['one', 'two']);
    expect(asked('{ name: reader }')).toEqual([]);
    expect(asked('{ name: default }')).toEqual(['shop/web']);
    expect(asked('{ name: default, namespace: bank }')).toEqual(['bank/web']);
    expect(asked('{ name: writer, namespace: bank }', pods.replace('serviceAccountName: reader', 'serviceAccountName: writer'))).toEqual([
      'one',
      'two',
    ]);
  });

  test('policies of one name in several namespaces are different policies', () => {
    const two = `${policy('{ podSelector: {}, ingress: [{}] }', 'bank')}---${policy('{ podSelector: {} }')}`;
    expect(fromWeb(compiled(snapshotOf(base + two)), '10.0.0.1')).toBe(Action.DENY);
    expect(ruleOfMaps(compiled(snapshotOf(base + two)), 'bank/web', Direction.INGRESS, address('10.0.0.1'), 6, 80).action).toBe(
      Action.ALLOW,
    );
  });

  test('closes the pods of a namespace whose labels cannot all be read, until they can', () => {
    const admin = `
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: { name: apart }
spec:
  tier: Admin
  priority: 1
  subject: { namespaces: { matchLabels: { team: red } } }
  ingress: [{ action: Deny, from: [{ namespaces: { matchLabels: { team: blue } } }] }]
`;
    const compiler = new Compiler();
    const actions = (shop: string): number[] => {
      const { objects } = readManifest('t.yaml', `${base.replace('{ team: red }', shop)}${admin}`);
      const of = (kind: string): never[] => objects.filter((object) => object.kind === kind).map(({ value }) => value) as never[];
      update(compiler, { ...snapshotOf(''), Namespace: of('Namespace'), Pod: of('Pod'), ClusterNetworkPolicy: of('ClusterNetworkPolicy') });
      compiler.retire();
      const open = (pod: string, peer: string): number => ruleOfMaps(compiler, pod, Direction.INGRESS, address(peer), 6, 80).action;
      return [open('shop/db', '10.0.1.1'), open('shop/db', '10.0.0.1'), open('bank/web', '10.0.0.1')];
    };
    const { ALLOW, DENY } = Action;
    expect(actions('{ team: red }')).toEqual([DENY, ALLOW, ALLOW]);
    for (const damaged of ['{ team: red, version: 1.2 }', '{ team: 7 }', '[team]', 'red', '{ team: red, "-": a }'])
      expect(actions(damaged), damaged).toEqual([DENY, DENY, ALLOW]);
    expect(actions('{ team: other }')).toEqual([ALLOW, ALLOW, ALLOW]);
    expect(actions('{ team: red }, annotations: { a: 1 }')).toEqual([DENY, ALLOW, ALLOW]);
  });

  test('closes a pod whose manifest is damaged', () => {
    const { objects } = readManifest('t.yaml', podText('shop', 'odd', 'app: [1]', '10.0.0.5'));
    const pod = objects[0]?.value as Pod;
    const compiler = compiled({ ...snapshotOf(base), Pod: [pod] }, new Map(), []);
    for (const direction of [Direction.INGRESS, Direction.EGRESS])
      expect(ruleOfMaps(compiler, 'shop/odd', direction, address('10.0.0.1'), 6, 80).action).toBe(Action.DENY);
  });
});

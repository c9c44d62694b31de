/** Every kind of bad input has a line and a reason, and no invalid policy opens anything. */
import { describe, expect, test } from 'vitest';
import { Direction } from '../../../engine/abi.gen.ts';
import { formatAddress } from '../../../engine/policy/address.ts';
import type { Kind, ObjectsByKind, Policy } from '../../../engine/policy/objects.ts';
import { readManifest } from '../../../engine/sources/manifest.ts';
import type { ReadObject } from '../../../engine/sources/read-object.ts';
import { RandomCluster } from '../../support/random-cluster.ts';

const networkPolicy = (spec: string): string => `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: web, namespace: shop }
spec:
${spec}
`;

/** The only object, which is a policy. */
function policyIn(objects: readonly ReadObject[]): Policy {
  const [object] = objects;
  if (object?.kind !== 'NetworkPolicy') throw new Error('no NetworkPolicy was read');
  return object.value;
}

/** The only object, of that kind. */
function valueIn<K extends Kind>(kind: K, { objects }: { readonly objects: readonly ReadObject[] }): ObjectsByKind[K] {
  const [object] = objects;
  if (object?.kind !== kind) throw new Error(`no ${kind} was read`);
  return object.value as ObjectsByKind[K];
}

describe('readManifest()', () => {
  test.each([
    {
      name: 'a bad CIDR',
      spec: '  podSelector: {}\n  ingress:\n  - from:\n    - ipBlock: { cidr: 10.0.0/8 }',
      line: 8,
      reason: '"10.0.0/8" is not a CIDR',
    },
    {
      name: 'an except outside its block',
      spec: '  podSelector: {}\n  ingress: [{ from: [{ ipBlock: { cidr: 10.0.0.0/8, except: [11.0.0.0/16] } }] }]',
      line: 6,
      reason: '11.0.0.0/16 is not inside 10.0.0.0/8',
    },
    { name: 'a port of zero', spec: '  podSelector: {}\n  ingress:\n  - ports:\n    - port: 0', line: 8, reason: 'a port is 1 to 65535' },
    {
      name: 'a port that is no name',
      spec: '  podSelector: {}\n  ingress: [{ ports: [{ port: NOT_A_NAME }] }]',
      line: 6,
      reason: 'a port is 1 to 65535 or a port name',
    },
    {
      name: 'an endPort below its port',
      spec: '  podSelector: {}\n  ingress: [{ ports: [{ port: 80, endPort: 79 }] }]',
      line: 6,
      reason: '79 is below port 80',
    },
    {
      name: 'an endPort beside a name',
      spec: '  podSelector: {}\n  ingress: [{ ports: [{ port: web, endPort: 79 }] }]',
      line: 6,
      reason: 'needs a numeric port',
    },
    {
      name: 'an unknown operator',
      spec: '  podSelector: { matchExpressions: [{ key: a, operator: Near }] }',
      line: 5,
      reason: 'Invalid option',
    },
    {
      name: 'In without values',
      spec: '  podSelector: { matchExpressions: [{ key: a, operator: In }] }',
      line: 5,
      reason: 'needs at least one value',
    },
    {
      name: 'a label value that is a number',
      spec: '  podSelector: { matchLabels: { a: 1 } }',
      line: 5,
      reason: '1 is not a label value: put it in quotes',
    },
    { name: 'a misspelt field', spec: '  podSelector: {}\n  ingres: []', line: 5, reason: 'ingres' },
    {
      name: 'an empty peer',
      spec: '  podSelector: {}\n  ingress: [{ from: [{}] }]',
      line: 6,
      reason: 'must have podSelector, namespaceSelector or ipBlock',
    },
    { name: 'a policy type that does not exist', spec: '  podSelector: {}\n  policyTypes: [Sideways]', line: 6, reason: 'Invalid option' },
  ])('reports $name with its line', ({ spec, line, reason }) => {
    const { problems, objects } = readManifest('p.yaml', networkPolicy(spec));
    expect(problems[0]).toMatchObject({ place: { at: 'file', file: 'p.yaml', line, object: 'NetworkPolicy shop/web' } });
    expect(problems[0]?.reason).toContain(reason);
    // It still isolates, and allows nothing.
    const { rules } = policyIn(objects);
    expect(Object.values(rules).flat()).toEqual([]);
    expect(Direction.INGRESS in rules).toBe(true);
  });

  test.each([
    {
      name: 'ingress by default',
      spec: '  podSelector: { matchLabels: { app: web } }\n  ingress: [{ ports: [{ port: 0 }] }]',
      directions: ['0'],
      selects: 1,
    },
    {
      name: 'what policyTypes say',
      spec: '  podSelector: {}\n  policyTypes: [Egress]\n  egress: [{ ports: [{ port: 0 }] }]',
      directions: ['1'],
      selects: 0,
    },
    { name: 'both when policyTypes cannot be read', spec: '  podSelector: {}\n  policyTypes: [Up]', directions: ['0', '1'], selects: 0 },
    { name: 'every pod when the selector cannot be read', spec: '  podSelector: { matchLabels: { a: 1 } }', directions: ['0'], selects: 0 },
  ])('an invalid policy isolates $name', ({ spec, directions, selects }) => {
    const policy = policyIn(readManifest('p.yaml', networkPolicy(spec)).objects);
    expect(Object.keys(policy.rules)).toEqual(directions);
    expect(policy.selector).toHaveLength(selects);
  });

  test('an invalid PluginPolicy asks a plugin that cannot exist, for everything in the directions it names', () => {
    const { objects, problems } = readManifest(
      'p.yaml',
      'apiVersion: sluice.dev/v1alpha1\nkind: PluginPolicy\nmetadata: { name: p }\nspec: { egress: [{ ask: { plugin: p, context: smtp } }] }\n',
    );
    expect(problems[0]?.reason).toContain('must be connect, dns, tls or http');
    expect(objects[0]?.value).toMatchObject({ rules: { [Direction.EGRESS]: [{ plugin: '' }] } });
  });

  test.each([
    { rule: '{}', reason: 'must have ask or serverNames' },
    { rule: '{ ask: { plugin: p }, serverNames: { names: [a.test] } }', reason: 'cannot stand beside ask' },
    { rule: '{ serverNames: { names: [] } }', reason: 'needs at least one name' },
    { rule: '{ serverNames: { names: [localhost] } }', reason: 'must be a domain name such as' },
    { rule: '{ serverNames: { names: [a.test], withoutName: Maybe } }', reason: 'Invalid option' },
    { rule: '{ serverNames: { names: [a.test], ech: Allow } }', reason: 'Unrecognized key' },
    { rule: '{ ports: [{ protocol: UDP, port: 443 }], serverNames: { names: [a.test] } }', reason: 'TLS is read over TCP' },
    { rule: '{ ports: [{ protocol: UDP, port: 443 }], ask: { plugin: p, context: tls } }', reason: 'TLS is read over TCP' },
    { rule: '{ to: [{ cidr: 10.0.0.0/8 }], ask: { plugin: p, context: dns } }', reason: 'its plugin is asked about every answer' },
    { rule: '{ ports: [{ port: 53 }], ask: { plugin: p, context: dns } }', reason: 'its plugin is asked about every answer' },
    { rule: '{ ask: { plugin: p, context: dns } }', direction: 'ingress', reason: 'dns is for egress rules' },
  ])('a PluginPolicy with $rule says what is wrong, and closes what it selects', ({ rule, direction = 'egress', reason }) => {
    const { objects, problems } = readManifest(
      'p.yaml',
      `apiVersion: sluice.dev/v1alpha1\nkind: PluginPolicy\nmetadata: { name: p }\nspec: { ${direction}: [${rule}] }\n`,
    );
    expect(problems.map((problem) => problem.reason).join()).toContain(reason);
    expect(objects[0]?.value).toMatchObject({
      rules: { [direction === 'egress' ? Direction.EGRESS : Direction.INGRESS]: [{ plugin: '' }] },
    });
  });

  const clusterPolicy = (spec: string): string =>
    `apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: { name: guard }\nspec: ${spec}\n`;
  const rule = (rest: string): string => `{ tier: Admin, priority: 1, subject: { namespaces: {} }, egress: [{ action: Deny, ${rest} }] }`;

  test.each([
    { name: 'no tier', spec: '{ priority: 1, subject: { namespaces: {} } }', reason: 'tier: ' },
    { name: 'a tier that does not exist', spec: '{ tier: Middle, priority: 1, subject: { namespaces: {} } }', reason: 'Invalid option' },
    {
      name: 'a priority above 1000',
      spec: '{ tier: Admin, priority: 1001, subject: { namespaces: {} } }',
      reason: 'priority is 0 to 1000',
    },
    {
      name: 'a subject of two kinds',
      spec: '{ tier: Admin, priority: 1, subject: { namespaces: {}, pods: { namespaceSelector: {}, podSelector: {} } } }',
      reason: 'exactly one of namespaces, pods',
    },
    { name: 'a peer that is none', spec: rule('to: [web]'), reason: 'to[0]' },
    { name: 'no peers', spec: rule('to: []'), reason: 'needs at least one entry' },
    { name: 'a bad network', spec: rule('to: [{ networks: [10.0.0.0/40] }]'), reason: '"10.0.0.0/40" is not a CIDR' },
    { name: 'an action that does not exist', spec: rule('to: [{ namespaces: {} }]').replace('Deny', 'Allow'), reason: 'Invalid option' },
    {
      name: 'a range upside down',
      spec: rule('to: [{ namespaces: {} }], protocols: [{ tcp: { destinationPort: { range: { start: 9, end: 8 } } } }]'),
      reason: '8 is not above start 9',
    },
    {
      name: 'a number and a range',
      spec: rule('to: [{ namespaces: {} }], protocols: [{ tcp: { destinationPort: { number: 1, range: { start: 1, end: 2 } } } }]'),
      reason: 'exactly one of number, range',
    },
    {
      name: 'two protocols in one',
      spec: rule(
        'to: [{ namespaces: {} }], protocols: [{ tcp: { destinationPort: { number: 1 } }, udp: { destinationPort: { number: 1 } } }]',
      ),
      reason: 'exactly one of tcp, udp, sctp, destinationNamedPort',
    },
    {
      name: 'a protocol without an attribute that is known',
      spec: rule('to: [{ namespaces: {} }], protocols: [{ tcp: {} }]').replace('Deny', 'Accept'),
      reason: 'needs a destinationPort',
    },
    {
      name: 'two peers in one',
      spec: rule('to: [{ namespaces: {}, nodes: {} }]'),
      reason: 'exactly one of namespaces, pods, nodes, networks, domainNames',
    },
    {
      name: 'a port’s name beside who gives none',
      spec: rule('to: [{ namespaces: {} }, { nodes: {} }], protocols: [{ destinationNamedPort: web }]'),
      reason: 'only stand beside pods and namespaces',
    },
    {
      name: 'nodes as a source, which the API does not have',
      spec: rule('to: [{ namespaces: {} }]').replace('egress', 'ingress').replace('to: [{ namespaces: {} }]', 'from: [{ nodes: {} }]'),
      reason: 'nodes',
    },
    {
      name: 'a domain name that is none',
      spec: rule('to: [{ domainNames: ["*"] }]').replace('Deny', 'Accept'),
      reason: 'must be a domain name',
    },
    {
      name: 'domain names that are denied',
      spec: rule('to: [{ domainNames: [example.com] }]'),
      reason: 'only stand in a rule with action Accept',
    },
    { name: 'ports, as its forerunner had', spec: rule('to: [{ namespaces: {} }], ports: []'), reason: 'ports' },
  ])('ClusterNetworkPolicy: $name, and the policy denies its subject everything', ({ spec, reason }) => {
    const { objects, problems } = readManifest('f.yaml', clusterPolicy(spec));
    expect(problems.map((problem) => problem.reason).join('; ')).toContain(reason);
    const [object] = objects;
    if (object?.kind !== 'ClusterNetworkPolicy') throw new Error('no ClusterNetworkPolicy was read');
    expect(Object.values(object.value.rules)).not.toEqual([]);
    for (const rules of Object.values(object.value.rules)) expect(rules).toEqual([{ action: 'deny', name: '' }]);
  });

  test('domain names are peers, in canonical form', () => {
    const { objects, problems } = readManifest(
      'f.yaml',
      clusterPolicy(rule('to: [{ domainNames: ["*.Example.com.", a.b, "*.example.com"] }]').replace('Deny', 'Accept')),
    );
    expect(problems).toEqual([]);
    const peers = [{ kind: 'names', patterns: ['*.example.com', 'a.b'] }];
    expect(objects[0]?.value).toMatchObject({ rules: { [Direction.EGRESS]: [{ action: 'accept', peers }] } });
  });

  test.each([
    { kind: 'HostPolicy', spec: 'egress: [{ to: [{ names: ["*.example.com"] }] }]', reason: undefined },
    { kind: 'PluginPolicy', spec: 'egress: [{ to: [{ names: ["*.example.com"] }], ask: { plugin: p } }]', reason: undefined },
    { kind: 'HostPolicy', spec: 'ingress: [{ from: [{ names: [example.com] }] }]', reason: 'names' },
    { kind: 'PluginPolicy', spec: 'ingress: [{ from: [{ names: [example.com] }], ask: { plugin: p } }]', reason: 'names' },
    { kind: 'PluginPolicy', spec: 'egress: [{ to: [{ names: [] }], ask: { plugin: p } }]', reason: 'needs at least one name' },
    { kind: 'HostPolicy', spec: 'egress: [{ to: [{ names: [a.b], ipBlock: { cidr: 10.0.0.0/8 } }] }]', reason: 'cannot stand beside' },
  ])('$kind: $spec is refused for: $reason', ({ kind, spec, reason }) => {
    const text = `apiVersion: sluice.dev/v1alpha1\nkind: ${kind}\nmetadata: { name: n }\nspec: { ${spec} }\n`;
    const { objects, problems } = readManifest('f.yaml', text);
    if (reason) expect(problems.map((problem) => problem.reason).join('; ')).toContain(reason);
    else {
      expect(problems).toEqual([]);
      const peers = [{ kind: 'names', patterns: ['*.example.com'] }];
      expect(objects[0]?.value).toMatchObject({ rules: { [Direction.EGRESS]: [{ peers }] } });
    }
  });

  test.each([
    { name: 'one label', pattern: 'com' },
    { name: 'a wildcard of everything', pattern: '*' },
    { name: 'a wildcard of a top domain', pattern: '*.com' },
    { name: 'a wildcard within', pattern: 'a.*.com' },
    { name: 'a label of 64 characters', pattern: `${'a'.repeat(64)}.com` },
    { name: 'an empty label', pattern: 'a..com' },
    { name: 'an address with a port', pattern: 'a.com:80' },
  ])('no domain name: $name, and the policy is closed', ({ pattern }) => {
    const { problems } = readManifest('f.yaml', clusterPolicy(rule(`to: [{ domainNames: ["${pattern}"] }]`).replace('Deny', 'Accept')));
    expect(problems[0]?.reason).toContain('must be a domain name such as example.com or *.example.com');
  });

  const part = 'a'.repeat(64);
  const longest = `${'a'.repeat(188)}.${part}`;
  test.each([
    { name: 'a part of 64 characters', key: `${part}.example.com/team`, good: true },
    { name: '253 characters', key: `${longest}/team`, good: true },
    { name: '254 characters', key: `a${longest}/team`, good: false },
    { name: 'no character', key: '/team', good: false },
    { name: 'an empty part', key: 'a..b/team', good: false },
    { name: 'a dash at the end of a part', key: 'a-.b/team', good: false },
    { name: 'a capital letter', key: 'Example.com/team', good: false },
    { name: 'a prefix of its own', key: 'a/b/team', good: false },
  ])('a label key whose prefix has $name is as good as in Kubernetes: $good', ({ key, good }) => {
    const text = `apiVersion: v1\nkind: Namespace\nmetadata: { name: shop, labels: { "${key}": red } }\n`;
    const { objects, problems } = readManifest('f.yaml', text);
    expect(problems.map(({ reason }) => reason)).toEqual(good ? [] : [expect.stringContaining(`"${key}" is not a label key`)]);
    expect(objects[0]?.value).toEqual({
      name: 'shop',
      labels: new Map([...(good ? [[key, 'red'] as const] : []), ['kubernetes.io/metadata.name', 'shop']]),
      ...(!good && { quarantined: true }),
    });
  });

  test.each([
    { name: longest, good: true },
    { name: `a${longest}`, good: false },
  ])('an object’s name has 253 characters at most, and no bound for a part: $good', ({ name, good }) => {
    const text = networkPolicy('  podSelector: {}').replace('name: web', `name: ${name}`);
    const { problems } = readManifest('f.yaml', text);
    expect(problems.map(({ reason }) => reason)).toEqual(good ? [] : [expect.stringContaining('of at most 253 characters')]);
  });

  test.each([
    { action: 'Accept', means: { action: 'accept', name: 'r', peers: [] } },
    { action: 'Deny', means: { action: 'deny', name: 'r' } },
    { action: 'Pass', means: { action: 'deny', name: 'r' } },
  ])('ClusterNetworkPolicy: a peer whose field nobody here knows fails its rule closed, and no other: $action', ({ action, means }) => {
    for (const [direction, side] of [
      ['ingress', 'from'],
      ['egress', 'to'],
    ]) {
      const rules = `[{ name: r, action: ${action}, ${side}: [{ namespaces: {} }, {}], protocols: [{ tcp: { destinationPort: { number: 1 } } }] }, { action: Accept, ${side}: [{ namespaces: {} }] }]`;
      const file = readManifest(
        'f.yaml',
        clusterPolicy(`{ tier: Admin, priority: 1, subject: { namespaces: {} }, ${direction}: ${rules} }`),
      );
      expect(file.problems.map(({ reason }) => reason)).toEqual([expect.stringContaining(`spec.${direction}[0].${side}[1]: has no field`)]);
      const [first, second] = Object.values(valueIn('ClusterNetworkPolicy', file).rules).flat();
      expect(first).toMatchObject(means);
      expect(Object.hasOwn(first ?? {}, 'peers')).toBe(Object.hasOwn(means, 'peers'));
      expect(second).toMatchObject({ action: 'accept', peers: [{ kind: 'pods' }] });
    }
  });

  test('ClusterNetworkPolicy: both versions of the API mean the same, and a missing namespaceSelector every namespace', () => {
    const text = clusterPolicy(
      '{ tier: Admin, priority: 1, subject: { pods: { podSelector: {} } }, egress: [{ action: Deny, to: [{ nodes: {} }] }] }',
    );
    const [one, two] = [text, text.replace('v1alpha2', 'v1beta1')].map((each) => readManifest('f.yaml', each));
    expect(two?.problems).toEqual([]);
    expect(two?.objects[0]?.value).toEqual(one?.objects[0]?.value);
    expect(two?.objects[0]?.value).toMatchObject({
      subject: { namespaces: [], pods: [] },
      rules: { [Direction.EGRESS]: [{ peers: [{ kind: 'nodes', nodes: [] }] }] },
    });
  });

  test('a Node: its addresses that are addresses, and the networks of its pods', () => {
    const node = (spec: string, status: string) => {
      const file = readManifest(
        'f.yaml',
        `apiVersion: v1\nkind: Node\nmetadata: { name: n1, namespace: odd, labels: { kubernetes.io/hostname: n1 } }\nspec: ${spec}\nstatus: ${status}\n`,
      );
      const { name, labels, addresses, podCidrs } = valueIn('Node', file);
      const cidrs = podCidrs.map(({ text }) => text);
      return {
        name,
        labels: [...labels],
        addresses: addresses.map(formatAddress),
        cidrs,
        problems: file.problems.map(({ reason }) => reason),
      };
    };
    const bare = { name: 'n1', labels: [['kubernetes.io/hostname', 'n1']], addresses: [], cidrs: [], problems: [] };
    expect(
      node(
        '{ podCIDR: 10.1.0.0/24, podCIDRs: [10.1.0.0/24, "fd00:1::/64"] }',
        `{ addresses: [{ type: InternalIP, address: 192.0.2.1 }, { type: InternalIP, address: "fd00::1" }, { type: Hostname, address: n1 },
           { type: ExternalIP, address: 192.0.2.1 }, { type: ExternalIP, address: 203.0.113.1 }, { type: InternalDNS, address: 192.0.2.9 }] }`,
      ),
    ).toEqual({ ...bare, addresses: ['192.0.2.1', 'fd00::1', '203.0.113.1'], cidrs: ['10.1.0.0/24', 'fd00:1::/64'] });
    expect(node('{ podCIDR: 10.1.0.0/24 }', '{}')).toEqual({ ...bare, cidrs: ['10.1.0.0/24'] });
    for (const nothing of ['', '{}', '{ podCIDRs: [], addresses: [] }', '{ podCIDRs: , addresses: , podCIDR: "" }'])
      expect(node(nothing, nothing)).toEqual(bare);
    expect(node('{ podCIDRs: [10.1.0.0/24, x] }', '{ addresses: [{ type: InternalIP, address: 10.0.0.256 }] }')).toEqual({
      ...bare,
      cidrs: ['10.1.0.0/24'],
      problems: ['status: "10.0.0.256" is not an address', 'spec: "x" is not a network'],
    });
  });

  test('nodes and service accounts as peers of our own kinds', () => {
    const peers = `[{ nodes: { matchLabels: { zone: a } } }, { serviceAccounts: [{ name: writer }, { namespace: other, name: reader }] }]`;
    const meant = [
      { kind: 'nodes', nodes: [{ key: 'zone', operator: 'In', values: ['a'] }] },
      { kind: 'serviceAccounts', accounts: [{ namespace: 'other', name: 'reader' }, { name: 'writer' }] },
    ];
    const read = (kind: string, spec: string) =>
      readManifest('f.yaml', `apiVersion: sluice.dev/v1alpha1\nkind: ${kind}\nmetadata: { name: p }\nspec: ${spec}\n`);
    const rules = (to: string): string => `{ ingress: [{ from: ${to}, ask: { plugin: p } }], egress: [{ to: ${to}, ask: { plugin: p } }] }`;
    const asks = read('PluginPolicy', rules(peers));
    expect(asks.problems).toEqual([]);
    for (const list of Object.values(valueIn('PluginPolicy', asks).rules)) expect(list?.[0]?.peers).toEqual(meant);
    const named = peers.replace('{ name: writer }', '{ name: writer, namespace: own }');
    const host = read(
      'HostPolicy',
      `{ nodeSelector: { matchLabels: { zone: a } }, ingress: [{ from: ${named} }], egress: [{ to: ${named} }] }`,
    );
    expect(host.problems).toEqual([]);
    expect(host.objects[0]?.value).toMatchObject({ nodes: [{ key: 'zone', operator: 'In', values: ['a'] }] });
    for (const [spec, reason] of [
      [rules('[{ serviceAccounts: [] }]'), 'at least one'],
      [rules('[{ serviceAccounts: [{ namespace: a }] }]'), 'name'],
      [rules('[{ serviceAccounts: [{ name: A }] }]'), 'ServiceAccount'],
      [rules('[{ serviceAccounts: [{ name: a }], podSelector: {} }]'), 'cannot stand beside'],
      [rules('[{ nodes: {}, cidr: 10.0.0.0/8 }]'), 'cannot stand beside'],
    ] as const)
      expect(
        read('PluginPolicy', spec)
          .problems.map((problem) => problem.reason)
          .join('; '),
        spec,
      ).toContain(reason);
    const ownAccount = read('HostPolicy', '{ ingress: [{ from: [{ serviceAccounts: [{ name: a }] }] }] }');
    expect(ownAccount.problems[0]?.reason).toContain('serviceAccounts[0].namespace');
  });

  test('a HostPolicy whose text changes has another name; one that is invalid says so', () => {
    const host = (spec: string) =>
      readManifest('f.yaml', `apiVersion: sluice.dev/v1alpha1\nkind: HostPolicy\nmetadata: { name: h }\nspec: ${spec}\n`);
    const name = (spec: string): string => host(spec).objects[0]?.value.name ?? '';
    expect(name('{ ingress: [] }')).toMatch(/^h@[0-9a-f]{8}$/);
    expect(name('{ ingress: [] }')).not.toBe(name('{ ingress: [{}] }'));
    const invalid = host('{ ingress: [{ from: [{ podSelector: {} }] }] }');
    expect(invalid.problems[0]?.reason).toContain('podSelector needs a namespaceSelector beside it');
    expect(invalid.objects[0]?.value).toMatchObject({ invalid: true });
  });

  test('never throws, whatever stands where', () => {
    let state = 20_261_123;
    const random = (below: number): number => (state = (state * 48_271) % 0x7fffffff) % below;
    const junk = [null, 0, -1, '', 'x', [], [null], {}, { x: 1 }, true, '10.0.0.0/8', 99_999, [[]], [{}], { matchLabels: 7 }];
    /** The value with one thing in it replaced, left out or added. */
    const damage = (value: unknown): unknown => {
      if (typeof value !== 'object' || value === null || random(8) === 0) return junk[random(junk.length)];
      if (Array.isArray(value))
        return value.length ? value.map((each, i) => (i === random(value.length) ? damage(each) : each)) : [junk[random(junk.length)]];
      const keys = Object.keys(value);
      const key = keys[random(keys.length)] ?? 'spec';
      if (random(10) === 0) return { ...value, odd: 1 };
      return { ...value, [key]: damage((value as Record<string, unknown>)[key]) };
    };
    const cluster = new RandomCluster(7);
    for (let i = 0; i < 4000; i++) {
      if (i % 8 === 0) cluster.change();
      const items = [...cluster.namespaces, ...cluster.pods, ...cluster.policies, ...cluster.clusterPolicies];
      const host = {
        apiVersion: 'sluice.dev/v1alpha1',
        kind: 'HostPolicy',
        metadata: { name: 'h' },
        spec: { ingress: [{ from: [{ namespaceSelector: {} }] }] },
      };
      const text = JSON.stringify(damage(damage(random(5) ? items[random(items.length)] : host)));
      const { problems, objects } = readManifest('f.yaml', text);
      for (const problem of problems) expect(problem.reason, text).not.toBe('');
      for (const object of objects) expect(object.title, text).not.toBe('');
    }
  });

  test.each([
    { name: '{ toString: 1 }', title: 'Pod shop/?' },
    { name: '[web]', title: 'Pod shop/?' },
    { name: '12', title: 'Pod shop/12' },
    { name: '"a\\e[31mb"', title: 'Pod shop/a?[31mb' },
  ])('an object whose name is $name is told by what of it is text', ({ name, title }) => {
    const text = `apiVersion: v1\nkind: Pod\nmetadata: { name: ${name}, namespace: shop }\nspec: {}\n`;
    const { problems } = readManifest('f.yaml', text);
    expect(problems.map(({ place }) => (place.at === 'file' ? place.object : place))).toEqual([title]);
  });

  test.each([
    { name: 'text that is no YAML', text: 'a: [1\nb: }', unreadable: true, reason: 'not valid YAML' },
    {
      name: 'an alias bomb',
      text: `a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c,*c]`,
      unreadable: true,
      reason: 'not valid YAML',
    },
    { name: 'a kind that nobody knows', text: 'apiVersion: v1\nkind: Unicorn\n', unreadable: false, reason: 'unknown kind Unicorn of v1' },
    {
      name: 'a known kind of another group',
      text: 'apiVersion: crd.projectcalico.org/v1\nkind: NetworkPolicy\n',
      unreadable: false,
      reason: 'unknown kind NetworkPolicy',
    },
    { name: 'a document that is no object', text: '- 1\n', unreadable: false, reason: 'not a Kubernetes object' },
    {
      name: 'a kind called constructor',
      text: 'apiVersion: v1\nkind: constructor\n',
      unreadable: false,
      reason: 'unknown kind constructor',
    },
  ])('reports $name', ({ text, unreadable, reason }) => {
    const manifest = readManifest('f.yaml', text);
    expect(manifest.unreadable).toBe(unreadable);
    expect(manifest.problems[0]?.reason).toContain(reason);
  });

  test('reads Lists, JSON and many documents, and passes over kinds that no policy depends on', () => {
    const list = JSON.stringify({
      apiVersion: 'v1',
      kind: 'List',
      items: [
        { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'a' } },
        { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 's' } },
      ],
    });
    const { objects, problems } = readManifest('f.yaml', `${list}\n---\napiVersion: v1\nkind: Namespace\nmetadata: { name: b }\n---\n`);
    expect(problems).toEqual([]);
    expect(objects.map((object) => object.value.name)).toEqual(['a', 'b']);
  });

  test('a pod has the service account that its manifest names, and none where it names none', () => {
    const account = (spec: string): unknown => {
      const { objects, problems } = readManifest('f.yaml', `apiVersion: v1\nkind: Pod\nmetadata: { name: p }\nspec: ${spec}\n`);
      expect(problems).toEqual([]);
      return objects[0]?.value;
    };
    expect(account('{ serviceAccountName: reader }')).toMatchObject({ serviceAccount: 'reader' });
    for (const spec of ['{}', '{ serviceAccountName: }', '{ serviceAccountName: "" }'])
      expect(account(spec)).not.toHaveProperty('serviceAccount');
  });

  test('a pod with an address that is none keeps its other ones, and is closed', () => {
    const { objects, problems } = readManifest(
      'f.yaml',
      'apiVersion: v1\nkind: Pod\nmetadata: { name: p }\nspec: {}\nstatus: { podIPs: [{ ip: 10.0.0.1 }, { ip: 10.0.0.300 }] }\n',
    );
    expect(problems[0]?.reason).toBe('status: "10.0.0.300" is not an address');
    expect(objects[0]?.value).toMatchObject({ quarantined: true, addresses: [expect.any(Uint8Array)] });
  });
});

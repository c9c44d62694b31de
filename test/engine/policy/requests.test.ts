/** Rules about requests, from manifests to entries: Services as peers, backend sets, HTTPRoutes. */
import { describe, expect, test } from 'vitest';
import { Action, Context } from '../../../engine/abi.gen.ts';
import { parseAddress } from '../../../engine/policy/address.ts';
import type { Compiler } from '../../../engine/policy/compile.ts';
import { findIdentity, findRule } from '../../../engine/policy/decide.ts';
import type { HttpRoute, Service } from '../../../engine/policy/objects.ts';
import { formatProblem, viewProblem } from '../../../engine/policy/problem.ts';
import { formatOrigin } from '../../../engine/policy/rules.ts';
import { readManifest } from '../../../engine/sources/manifest.ts';
import { compiled as compiledSnapshot, snapshotOf, update } from '../../support/compiled.ts';
import { CHECKOUT, CHECKOUT_IPV6, SERVICES, tag } from '../../support/http-cluster.ts';

const pod = (name: string, ip: string, labels: string): string =>
  `apiVersion: v1\nkind: Pod\nmetadata: { name: ${name}, namespace: shop, labels: ${labels}, annotations: { sluice.dev/interface: ${name} } }\nspec: { containers: [{ name: a, ports: [{ name: web, containerPort: 8080 }] }] }\nstatus: { podIPs: [{ ip: ${ip} }] }\n`;
const PODS = [
  pod('client', '10.0.0.1', '{ app: client }'),
  pod('one', '10.0.0.2', '{ app: checkout, version: v1 }'),
  pod('two', '10.0.0.3', '{ app: checkout, version: v2 }'),
].join('---\n');
const PLUGINS = new Map([['canary', 7]]);

function compiled(...texts: string[]): Compiler {
  return compiledSnapshot(snapshotOf(texts.join('---\n')), PLUGINS);
}

/** The rule that the client's packets to an address and port meet. */
function ruleFor(compiler: Compiler, to: string, port: number, podName = 'client') {
  const endpoint = [...compiler.endpoints.values()].find((each) => each.pod.name === podName);
  const ruleSet = endpoint?.ruleSets[1];
  return ruleSet && findRule(compiler, ruleSet.id, findIdentity(compiler, parseAddress(to) as Uint8Array), 6, port);
}

const textOf = (compiler: Compiler, set: string): string[] =>
  (compiler.backends.sets.get(set)?.backends ?? []).map(({ address, port }) => `${address.slice(12).join('.')}:${port}`);

const slice = (name: string, service: string, endpoints: string): string =>
  `apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: { name: ${name}, namespace: shop, labels: { kubernetes.io/service-name: ${service} } }\naddressType: IPv4\nports: [{ name: "", port: 9090, protocol: TCP }]\nendpoints: ${endpoints}\n`;

describe('a PluginPolicy of context http', () => {
  test('tags the cluster addresses of Services, at their ports only', () => {
    const compiler = compiled(PODS, SERVICES, tag('canary'));
    expect(ruleFor(compiler, CHECKOUT, 80)).toMatchObject({ action: Action.ASK, plugin: 7, context: Context.HTTP });
    expect(ruleFor(compiler, CHECKOUT, 81)?.action).toBe(Action.ALLOW);
    expect(ruleFor(compiler, '10.0.0.2', 80)?.action).toBe(Action.ALLOW);
    expect(ruleFor(compiler, CHECKOUT, 80, 'one')).toBeUndefined();
    expect(compiler.problems.all).toEqual([]);
  });

  test('also where the tiers know nothing of the cluster address, for policy is about the backends', () => {
    const isolated =
      'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: { name: p, namespace: shop }\nspec: { podSelector: {}, policyTypes: [Egress] }\n';
    const compiler = compiled(PODS, SERVICES, tag('canary'), isolated);
    expect(ruleFor(compiler, CHECKOUT, 80)?.action).toBe(Action.ASK);
    expect(ruleFor(compiler, '10.0.0.2', 8080)?.action).toBe(Action.DENY);
  });

  test('sends to what slices say is ready, or, where nobody writes them, to whom the selector means', () => {
    const compiler = compiled(PODS, SERVICES, tag('canary'));
    expect(textOf(compiler, 'shop/checkout-v1:80')).toEqual(['10.0.0.2:8080']);
    expect(textOf(compiler, 'shop/checkout:80')).toEqual(['10.0.0.2:8080', '10.0.0.3:8080']);
    const endpoints =
      '[{ addresses: [10.0.1.1] }, { addresses: [10.0.1.2], conditions: { ready: false } }, { addresses: [10.0.1.3], conditions: { ready: false, serving: true, terminating: true } }]';
    const sliced = compiled(
      PODS,
      SERVICES,
      tag('canary'),
      slice('s', 'checkout-v1', endpoints),
      slice('t', 'checkout-v1', '[{ addresses: [10.0.1.1] }, { addresses: [10.0.1.4], conditions: { ready: true } }]'),
    );
    expect(textOf(sliced, 'shop/checkout-v1:80')).toEqual(['10.0.1.1:9090', '10.0.1.4:9090']);
  });

  test('matches ports of slices by name', () => {
    const named = slice('s', 'checkout-v1', '[{ addresses: [10.0.1.1] }]').replace('name: ""', 'name: web');
    const compiler = compiled(PODS, SERVICES.replaceAll('{ port: 80,', '{ name: web, port: 80,'), tag('canary'), named);
    expect(textOf(compiler, 'shop/checkout-v1:80')).toEqual(['10.0.1.1:9090']);
  });

  test('writes sets whose ids stay, and takes away what nobody names any more', () => {
    const compiler = compiled(PODS, SERVICES, tag('canary'));
    const { id } = compiler.backends.sets.get('shop/checkout-v1:80') ?? { id: 0 };
    expect(compiler.backends.ruleBackends.entries.size).toBe(1);
    expect([...compiler.backends.ruleBackends.entries.values()][0]?.readUInt32LE(0)).toBe(id);
    expect(compiled(PODS, SERVICES, tag('canary')).backends.sets.get('shop/checkout-v1:80')?.id).toBe(id);
    update(compiler, snapshotOf([PODS, SERVICES].join('---\n')), PLUGINS);
    compiler.retire();
    expect(compiler.backends.requested.size).toBe(0);
    expect(compiler.backends.ruleBackends.entries.size).toBe(0);
    update(compiler, snapshotOf(PODS), PLUGINS);
    for (const map of ['backends', 'backend_sets', 'services', 'rule_backends'] as const)
      expect(compiler.maps[map].entries.size, map).toBe(0);
  });

  test('waits for a Service that is not there, and says so', () => {
    const compiler = compiled(PODS, tag('canary'));
    expect(ruleFor(compiler, CHECKOUT, 80)?.action).toBe(Action.ALLOW);
    const waiting = compiler.problems.all.filter(({ pending }) => pending);
    expect(waiting.map((problem) => formatProblem(viewProblem(problem)))).toContain('PluginPolicy shop/canary: no Service shop/checkout');
  });

  describe('about a Service that is damaged', () => {
    const port = '{ port: 80, protocol: Tcp, targetPort: web }';
    const damages = [
      { name: 'a port of no protocol', text: SERVICES.replace('{ port: 80,', '{ port: 80, protocol: Tcp,') },
      { name: 'a port beside a good one', text: SERVICES.replace('ports: [', `ports: [${port}, `) },
      { name: 'a label that is no text', text: SERVICES.replace('name: checkout,', 'name: checkout, labels: { a: 1 },') },
      { name: 'an address beside a good one', text: SERVICES.replace(CHECKOUT_IPV6, 'fd96::x') },
    ];
    const damaged = (text: string, ...more: string[]): Compiler => {
      const { objects, problems } = readManifest('s.yaml', text);
      expect(problems.map(({ reason }) => reason)).toEqual([expect.any(String)]);
      const Service = objects.map(({ value }) => value) as readonly Service[];
      return compiledSnapshot({ ...snapshotOf([PODS, ...more].join('---\n')), Service }, PLUGINS);
    };

    test.each(damages)('denies what is sent to its addresses, and says so: $name', ({ text }) => {
      const compiler = damaged(text, tag('canary'));
      expect(ruleFor(compiler, CHECKOUT, 80)?.action).toBe(Action.DENY);
      expect(ruleFor(compiler, CHECKOUT, 81)?.action).toBe(Action.DENY);
      expect(ruleFor(compiler, '10.0.0.2', 80)?.action).toBe(Action.ALLOW);
      expect(compiler.problems.all.map((problem) => formatProblem(viewProblem(problem)))).toEqual([
        'PluginPolicy shop/canary: Service shop/checkout is damaged: what is sent to it is denied',
      ]);
    });

    test.each(damages)('also where a HTTPRoute is: $name', ({ text }) => {
      const route =
        'apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: r, namespace: shop }\nspec: { parentRefs: [{ group: "", kind: Service, name: checkout }], rules: [{}] }\n';
      expect(ruleFor(damaged(text, route), CHECKOUT, 80)?.action).toBe(Action.DENY);
    });

    test('says so at the rule that names it, and the rules behind that one keep their names and ids', () => {
      const text = tag('canary').replace(
        'egress:',
        'egress:\n    - { to: [{ service: { name: checkout-v1 } }, { service: { name: checkout } }, { service: { name: checkout-v2 } }], ask: { plugin: canary, context: http } }',
      );
      const behind = text.replace(/to: \[\{ service: \{ name: checkout \} \}\]/, 'to: [{ ipBlock: { cidr: 192.0.2.0/24 } }]');
      const [whole, part] = [
        compiled(PODS, SERVICES, behind),
        damaged(SERVICES.replace('{ port: 80,', '{ port: 80, protocol: Tcp,'), behind),
      ];
      const named = (compiler: Compiler, to: string): string => formatOrigin(compiler.origins.get(ruleFor(compiler, to, 80)?.id ?? 0));
      for (const compiler of [whole, part])
        expect([CHECKOUT, '192.0.2.1'].map((to) => named(compiler, to))).toEqual([
          'PluginPolicy shop/canary egress[0]',
          'PluginPolicy shop/canary egress[1]',
        ]);
      expect(ruleFor(part, '192.0.2.1', 80)).toEqual(ruleFor(whole, '192.0.2.1', 80));
      expect(ruleFor(part, CHECKOUT, 80)?.action).toBe(Action.DENY);
    });

    test('asks about the other Services of its rule', () => {
      const both = tag('canary').replace('to: [', 'to: [{ service: { name: checkout-v1 } }, ');
      expect(ruleFor(compiled(PODS, SERVICES, both), '10.96.0.11', 80)?.action).toBe(Action.ASK);
      const compiler = damaged(SERVICES.replace('{ port: 80,', '{ port: 80, protocol: Tcp,'), both);
      expect(ruleFor(compiler, '10.96.0.11', 80)?.action).toBe(Action.ASK);
      expect(ruleFor(compiler, '10.96.0.11', 81)?.action).toBe(Action.ALLOW);
      expect(ruleFor(compiler, CHECKOUT, 80)?.action).toBe(Action.DENY);
    });
  });

  test.each([
    ['ingress: [{ ask: { plugin: p, context: http } }]', 'http is for egress rules'],
    ['egress: [{ ask: { plugin: p, context: connect }, http: {} }]', 'needs ask with context http'],
    ['egress: [{ to: [{ service: { name: a } }], ask: { plugin: p } }]', 'a service can be named with context http only'],
    ['egress: [{ ask: { plugin: p, context: http }, ports: [{ protocol: UDP, port: 80 }] }]', 'HTTP is read over TCP'],
    ['egress: [{ ask: { plugin: p, context: http }, http: { default: none } }]', '"none" is none of the routes'],
    ['egress: [{ ask: { plugin: p, context: http }, http: { routes: { a: { service: A, port: 80 } } } }]', 'must be the name of a Service'],
    ['egress: [{ ask: { plugin: p, context: http }, http: { deny: { status: 200 } } }]', '400'],
  ])('refuses %s', (spec, reason) => {
    const { problems } = readManifest(
      'p.yaml',
      `apiVersion: sluice.dev/v1alpha1\nkind: PluginPolicy\nmetadata: { name: p }\nspec: { ${spec} }\n`,
    );
    expect(problems.map((problem) => problem.reason).join()).toContain(reason);
  });
});

describe('an HTTPRoute', () => {
  const route = (name: string, rules: string, more = '', namespace = 'shop'): string =>
    `apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: ${name}, namespace: ${namespace} }\nspec: { parentRefs: [{ group: "", kind: Service, name: checkout, namespace: shop${more} }], rules: ${rules} }\n`;
  const to = (name: string): string => `backendRefs: [{ name: ${name}, namespace: shop, port: 80 }]`;

  test('tags what everybody sends to its Service, or, from another namespace, what that namespace does', () => {
    const compiler = compiled(PODS, SERVICES, route('r', `[{ ${to('checkout-v1')} }]`));
    for (const name of ['client', 'one'])
      expect(ruleFor(compiler, CHECKOUT, 80, name)).toMatchObject({ action: Action.ASK, context: Context.HTTP });
    expect(ruleFor(compiled(PODS, SERVICES, route('r', `[{ ${to('checkout-v1')} }]`, '', 'elsewhere')), CHECKOUT, 80)).toBeUndefined();
  });

  test('is asked with others for the same Service, the most specific match first', () => {
    const compiler = compiled(
      PODS,
      SERVICES,
      route('b', `[{ ${to('checkout-v1')} }, { matches: [{ path: { value: /cart } }, { method: PUT }], ${to('checkout-v2')} }]`),
      route(
        'a',
        `[{ matches: [{ path: { type: Exact, value: /cart } }], ${to('checkout-v1')} }, { matches: [{ headers: [{ name: X-A, value: "1" }], path: { value: /cart } }], ${to('checkout-v2')} }]`,
      ),
    );
    const [rule] = [...compiler.requestRules.values()];
    expect(
      rule?.requests?.rules.map(({ matches: [match] }) =>
        match ? [match.path?.type, match.path?.value, match.method, match.headers.length] : [],
      ),
    ).toEqual([
      ['Exact', '/cart', undefined, 0],
      ['PathPrefix', '/cart', undefined, 1],
      ['PathPrefix', '/cart', undefined, 0],
      [undefined, undefined, 'PUT', 0],
      [],
    ]);
    expect(compiler.problems.all).toEqual([]);
  });

  test.each([
    { at: 'every port', other: '', closed: '', want: [[], []] },
    { at: 'its port', other: ', port: 80', closed: ', port: 80', want: [[], ['ALLOW']] },
    { at: 'every port, beside one for a port', other: ', port: 80', closed: '', want: [[], []] },
    { at: 'its port, beside one for every port', other: '', closed: ', port: 80', want: [[], ['/']] },
    { at: 'its port only', other: ', port: 80', closed: ', port: 81', want: [['/'], []] },
  ])('that is closed refuses what other ones would take: $at', ({ other, closed, want }) => {
    const services = SERVICES.replace('ports: [', 'ports: [{ name: more, port: 81, targetPort: web }, ').replace(
      '{ port: 80,',
      '{ name: web, port: 80,',
    );
    const text = route('a', `[{ ${to('checkout-v1')} }]`, other);
    const damaged = route('b', '[{ filters: [{ type: URLRewrite }] }]', closed);
    const { objects } = readManifest('b.yaml', damaged);
    const snapshot = snapshotOf([PODS, services, text].join('---\n'));
    const compiler = compiledSnapshot(
      { ...snapshot, HTTPRoute: [...snapshot.HTTPRoute, ...objects.map(({ value }) => value as HttpRoute)] },
      PLUGINS,
    );
    const said = (port: number): unknown => {
      const rule = ruleFor(compiler, CHECKOUT, port);
      if (rule?.action !== Action.ASK) return ['ALLOW'];
      return compiler.requestRules.get(rule.id)?.requests?.rules.map(({ matches: [match] }) => match?.path?.value ?? '/');
    };
    expect([said(80), said(81)]).toEqual(want);
  });

  test('that is somebody else’s is left alone, and one with what we do not know refuses', () => {
    const gateway = readManifest(
      'g.yaml',
      'apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: r }\nspec: { parentRefs: [{ name: gateway }], hostnames: [a.b], rules: [{ filters: [{ type: RequestRedirect }] }] }\n',
    );
    expect(gateway).toMatchObject({ objects: [], problems: [] });
    for (const [rules, reason] of [
      ['[{ filters: [{ type: URLRewrite }] }]', 'only ExtensionRef is supported here'],
      ['[{ matches: [{ path: { type: RegularExpression, value: "/(a+)+" } }] }]', 'regular expressions are not supported'],
      ['[{ matches: [{ headers: [{ type: RegularExpression, name: a, value: b }] }] }]', 'regular expressions are not supported'],
      ['[{ timeouts: { request: 1s } }]', 'timeouts'],
    ] as const) {
      const manifest = readManifest('r.yaml', route('r', rules));
      expect(manifest.problems.map((problem) => problem.reason).join(), rules).toContain(reason);
      expect(manifest.objects[0]?.value).toMatchObject({ parents: [{ service: 'shop/checkout' }], rules: [], closed: true });
    }
  });
});

/** Whose flow a connection is, by which rule, and which backends its client may be connected to: what policy says, asked once. */
import { beforeEach, expect, test } from 'vitest';
import { Action } from '../../../engine/abi.gen.ts';
import type { ProbeAnswer } from '../../../engine/kernel/probe.ts';
import { parseAddress } from '../../../engine/policy/address.ts';
import { frontendKey } from '../../../engine/policy/requests.ts';
import type { ProxyPolicy, ProxyRule } from '../../../engine/proxy/messages.ts';
import { endsOf, originOf, TaggedFlows } from '../../../engine/proxy/tagged-flow.ts';
import { backendOf } from '../../support/proxy-stand.ts';

const address = (text: string): Uint8Array => parseAddress(text) as Uint8Array;
const keyOf = (text: string): string => String.fromCharCode(...address(text));
const [POD, SERVICE, OTHER] = ['10.0.0.1', '10.96.0.1', '10.0.0.9'];
/** Which asks what its rules say: the path of each, and its plugin. */
function ruleOf(id: number, ...asked: readonly (readonly [path: string, plugin: string, route?: string])[]): ProxyRule {
  const rules = asked.map(([value, plugin, route]) => ({
    matches: value ? [{ path: { type: 'PathPrefix' as const, value }, headers: [], query: [] }] : [],
    plugin,
    routes: route ? { [route]: [{ service: 'shop/web', port: 80, weight: 1 }] } : {},
    deny: { status: 403, body: '' },
  }));
  const plugins = new Map(Object.entries({ canary: 70, guard: 80 }).filter(([name]) => asked.some(([, plugin]) => plugin === name)));
  return { id, name: `rule ${id}`, requests: { rules }, plugins };
}
const RULE = ruleOf(7, ['', 'canary', 'stable']);
const POLICY: ProxyPolicy = {
  rules: new Map([[7, RULE]]),
  sets: new Map(),
  frontends: new Map([[frontendKey(address(SERVICE), 80), 'shop/web:80']]),
  endpoints: new Map([[keyOf(POD), { id: 3, identity: 30 }]]),
  processes: new Map([[4, { id: 4, identity: 40, ipv4: address('192.0.2.1'), ipv6: new Uint8Array(16) }]]),
};
const ends = (remote: string, local: string, endpoint = 0) => ({
  remote: address(remote),
  remotePort: 40_000,
  local: address(local),
  localPort: 80,
  endpoint,
});

let asked: string[];
let answers: Map<string, Partial<ProbeAnswer>>;
let flows: TaggedFlows;
beforeEach(() => {
  asked = [];
  answers = new Map([[SERVICE, { action: Action.ASK, rule: 7, identity: 50 }]]);
  flows = new TaggedFlows({
    judge: (endpoint, _source, destination, port) => {
      const to = destination.slice(12).join('.');
      asked.push(`${endpoint} ${to}:${port}`);
      return answers.get(to) as ProbeAnswer | undefined;
    },
  });
  flows.set(POLICY);
});

test('a pod is known by its address, a process by its endpoint; policy is asked once for each pair', () => {
  const pod = flows.find(ends(POD, SERVICE));
  expect(pod).toMatchObject({
    endpoint: 3,
    process: false,
    sourceIdentity: 30,
    destinationIdentity: 50,
    rule: RULE,
    service: 'shop/web:80',
  });
  flows.find(ends(POD, SERVICE));
  const process = flows.find(ends('127.0.0.1', SERVICE, 4));
  expect(process).toMatchObject({ endpoint: 4, process: true, sourceIdentity: 40, source: address('192.0.2.1') });
  expect(asked).toEqual([`3 ${SERVICE}:80`, `4 ${SERVICE}:80`]);
  flows.set(POLICY);
  expect(pod && flows.find(endsOf(pod))).toMatchObject({ endpoint: 3, rule: RULE });
  expect(process && flows.find(endsOf(process))).toMatchObject({ endpoint: 4, process: true });
  expect(asked).toHaveLength(4);
});

test('there is no flow of a stranger, nor where policy does not have requests decided', () => {
  expect(flows.find(ends(OTHER, SERVICE))).toBeUndefined();
  expect(flows.find(ends('127.0.0.1', SERVICE, 99))).toBeUndefined();
  expect(flows.find(ends(POD, OTHER))).toBeUndefined();
  answers.set(OTHER, { action: Action.ASK, rule: 8 });
  flows.set(POLICY);
  expect(flows.find(ends(POD, OTHER))).toBeUndefined();
});

test('a client may be connected only where policy lets it, which is asked once', () => {
  const flow = flows.find(ends(POD, SERVICE));
  if (!flow) throw new Error('no flow');
  const backend = (ip: string) => ({ ...backendOf(ip), address: address(ip), port: 8080 });
  const [open, shut, tagged, elsewhere, itself, other] = [
    backend('10.0.0.2'),
    backend('10.0.0.3'),
    backend('10.0.0.4'),
    backend('10.0.0.5'),
    backend(POD),
    backend('2001:db8::1'),
  ];
  answers.set('10.0.0.2', { action: Action.ALLOW });
  answers.set('10.0.0.3', { action: Action.DENY });
  answers.set('10.0.0.4', { action: Action.ASK, rule: 7 });
  // Tagged by a rule that has not decided this flow's requests: a Service in front of it is no way round its plugin.
  answers.set('10.0.0.5', { action: Action.ASK, rule: 8 });
  flows.set({ ...POLICY, rules: new Map([...POLICY.rules, [8, ruleOf(8, ['', 'guard', 'stable'])]]) });
  asked = [];
  expect([open, shut, tagged, elsewhere, itself, other].map((each) => flows.permits(flow, each))).toEqual([
    true,
    false,
    true,
    false,
    true,
    false,
  ]);
  expect([open, shut].map((each) => flows.permits(flow, each))).toEqual([true, false]);
  expect(asked.filter((each) => each.includes('10.0.0.2'))).toHaveLength(1);
  // A pod would not believe a packet from its own address.
  expect([originOf(flow, open), originOf(flow, itself)]).toEqual([address(POD), undefined]);
});

test.each([
  {
    what: 'the same plugin about every request',
    own: ruleOf(7, ['', 'canary', 'stable']),
    other: ruleOf(8, ['', 'canary', 'stable']),
    is: true,
  },
  { what: 'it with other routes', own: ruleOf(7, ['', 'canary', 'stable']), other: ruleOf(8, ['', 'canary']), is: true },
  { what: 'another plugin', own: ruleOf(7, ['', 'canary']), other: ruleOf(8, ['', 'guard']), is: false },
  { what: 'a plugin that nobody declared', own: ruleOf(7, ['', 'canary']), other: ruleOf(8, ['', 'gone']), is: false },
  { what: 'the plugin about more', own: ruleOf(7, ['/a', 'canary']), other: ruleOf(8, ['', 'canary']), is: false },
  { what: 'the plugin about less', own: ruleOf(7, ['', 'canary']), other: ruleOf(8, ['/a', 'canary']), is: false },
  { what: 'the same routes', own: ruleOf(7, ['/a', ''], ['/b', 'guard']), other: ruleOf(8, ['/a', ''], ['/b', 'guard']), is: true },
  { what: 'other routes', own: ruleOf(7, ['/a', ''], ['/b', '']), other: ruleOf(8, ['/a', ''], ['/b', 'guard']), is: false },
  { what: 'no rule about requests', own: ruleOf(7, ['', 'canary']), other: ruleOf(9, ['', 'canary']), is: false },
])('a backend about which another rule asks is reached only where that one asks the same: $what', ({ own, other, is }) => {
  const rules = new Map([own, other].map((each) => [each.id, each]));
  flows.set({ ...POLICY, rules });
  answers.set('10.0.0.5', { action: Action.ASK, rule: 8 });
  const flow = flows.find(ends(POD, SERVICE));
  expect(flow && flows.permits(flow, { ...backendOf('10.0.0.5'), address: address('10.0.0.5'), port: 8080 })).toBe(is);
});

/** The decision about a request: by a rule, by the plugin that it asks, by a verdict that was kept, or by the failure policy. */
import { beforeEach, describe, expect, test } from 'vitest';
import {
  PluginAction,
  PluginField,
  Reason,
  Scope,
  Verdict,
  type VerdictEntry,
  type VerdictKey,
  VerdictWord,
} from '../../../engine/abi.gen.ts';
import { Failure } from '../../../engine/plugin-runtime/failure.ts';
import { type Guest, LoadedPlugin } from '../../../engine/plugin-runtime/loaded-plugin.ts';
import type { PluginCaller } from '../../../engine/plugin-runtime/plugin-caller.ts';
import type { PluginSetup } from '../../../engine/plugin-runtime/plugin-setup.ts';
import { type PodTexts, Question } from '../../../engine/plugin-runtime/question.ts';
import type { RequestRule } from '../../../engine/policy/objects.ts';
import { Decider } from '../../../engine/proxy/decider.ts';
import { KernelVerdicts } from '../../../engine/proxy/kernel-verdicts.ts';
import type { Request } from '../../../engine/proxy/messages.ts';
import type { TaggedFlow } from '../../../engine/proxy/tagged-flow.ts';
import { flowOf } from '../../support/proxy-stand.ts';

const STABLE = [{ service: 'shop/stable', port: 80, weight: 1 }];
const NEW = [{ service: 'shop/new', port: 80, weight: 1 }];
const PLUGIN = 5;
const TTL_MS = 100;

const request = (cookie = '', path = '/'): Request => ({ method: 'GET', host: 'shop', path, query: '', headers: ['cookie', cookie] });

function rule(spec: Partial<RequestRule> = {}): RequestRule {
  return { matches: [], plugin: 'canary', routes: { new: NEW }, fallback: STABLE, deny: { status: 403, body: 'no\n' }, ...spec };
}

function word(action: PluginAction, ttl = 0, scope: Scope = Scope.NONE): number {
  return action | (scope << VerdictWord.SCOPE_SHIFT) | ((ttl / VerdictWord.TTL_UNIT_MS) << VerdictWord.TTL_SHIFT);
}

/** A plugin that answers as it is told, beside everything that a decider needs. */
class Bench {
  readonly flow: TaggedFlow;
  readonly counts = { cached: 0, verdicts: 0 };
  readonly written: { key: VerdictKey; entry: VerdictEntry }[] = [];
  readonly errors: string[] = [];
  readonly guest = {
    route: '',
    cookie: '',
    fieldsRead: 0,
    reads: { fields: 0, headers: [] as string[], cookies: ['canary'] },
  };
  readonly plugins = new Map<number, LoadedPlugin>();
  readonly pods = new Map<string, PodTexts>();
  readonly services = new Map<string, Uint8Array>();
  readonly question = new Question();
  asked = 0;
  answer = word(PluginAction.ALLOW);
  failure: Failure = Failure.NONE;
  reason = '';
  readonly decider: Decider;

  constructor(...rules: RequestRule[]) {
    this.flow = {
      ...flowOf(1),
      rule: { id: 7, name: 'rule', requests: { rules }, plugins: new Map([['canary', PLUGIN]]) },
    } as unknown as TaggedFlow;
    this.install({});
    this.tell('web', 'reader', 'shop/stable');
    const kernel = new KernelVerdicts({ writeVerdict: (key, entry) => void this.written.push({ key, entry }) });
    kernel.sets = new Map([['shop/stable:80', { id: 44, name: 'shop/stable:80', backends: [] }]]);
    this.decider = new Decider({
      plugins: this.plugins,
      caller: this.#caller(),
      question: this.question,
      identities: new Map(),
      pods: this.pods,
      services: this.services,
      kernel,
      counts: this.counts,
      versionName: (serial) => `canary ${serial}`,
      error: (reason) => this.errors.push(reason),
    });
  }

  install(setup: Partial<PluginSetup>): LoadedPlugin {
    const live = { serial: 1 } as PluginSetup['live'];
    const whole = { id: PLUGIN, name: 'canary', epoch: 1, failureAllow: false, enforced: true, live, ...setup } as PluginSetup;
    const plugin = new LoadedPlugin(whole, (version) => ({ version, guest: this.guest as unknown as Guest }));
    this.plugins.set(PLUGIN, plugin);
    return plugin;
  }

  /** Says who is at the flow's addresses, as a worker is told it. */
  tell(name: string, serviceAccount: string, service: string): void {
    const pod = { name: new TextEncoder().encode(name), serviceAccount: new TextEncoder().encode(serviceAccount) };
    this.pods.set(this.flow.sourceKey, pod).set(this.flow.destinationKey, pod);
    this.services.set(this.flow.destinationKey, new TextEncoder().encode(service));
  }

  decide(sent: Request = request(), nowMs = 0, flow = this.flow) {
    return this.decider.decide(flow, sent, nowMs);
  }

  #caller(): PluginCaller {
    const bench = this;
    return {
      get word() {
        return bench.answer;
      },
      get decider() {
        return bench.plugins.get(PLUGIN)?.live;
      },
      get reason() {
        return bench.reason;
      },
      ask: () => {
        bench.asked += 1;
        return bench.failure;
      },
    } as unknown as PluginCaller;
  }
}

let bench: Bench;
beforeEach(() => {
  bench = new Bench(rule());
});

describe('a rule', () => {
  test('that matches first decides, however the path is written; none means 404', () => {
    const admin = { path: { type: 'PathPrefix', value: '/admin' }, headers: [], query: [] } as const;
    bench = new Bench(rule({ plugin: '', matches: [admin], fallback: NEW }));
    expect(bench.decide(request('', '/a'))).toMatchObject({ allowed: false, status: 404, cause: Reason.DROP_POLICY });
    expect(bench.decide(request('', '//x/../%61dmin/b'))).toMatchObject({ allowed: true, to: NEW, plugin: 0, cause: Reason.PASS_POLICY });
    expect(bench.decide(request('', '/admin'))).toBe(bench.decide(request('', '/admin')));
    expect(bench.asked).toBe(0);
  });
});

describe('a plugin', () => {
  test('routes by the names of the rule, and to no other', () => {
    bench.answer = word(PluginAction.ROUTE);
    bench.guest.route = 'new';
    expect(bench.decide()).toMatchObject({
      allowed: true,
      route: 'new',
      to: NEW,
      plugin: PLUGIN,
      version: 'canary 1',
      cause: Reason.PASS_VERDICT,
    });
    bench.guest.route = 'constructor';
    expect(bench.decide()).toMatchObject({
      allowed: false,
      status: 503,
      reason: 'the rule has no route constructor',
      cause: Reason.DROP_NO_BACKEND,
    });
  });

  test('denies with the answer of the rule, and its own reason', () => {
    bench.answer = word(PluginAction.DENY);
    bench.reason = 'not you';
    expect(bench.decide()).toMatchObject({
      allowed: false,
      status: 403,
      body: 'no\n',
      reason: 'not you',
      audited: false,
      cause: Reason.DROP_VERDICT,
    });
    bench.install({ enforced: false });
    expect(bench.decide()).toMatchObject({ allowed: true, to: STABLE, audited: true });
  });

  test('is told the account of who asks, and the Service whose cluster address is asked for', () => {
    bench.decide();
    const texts = [bench.question.sourcePod?.serviceAccount, bench.question.destinationService];
    expect(texts.map((text) => Buffer.from(text ?? []).toString())).toEqual(['reader', 'shop/stable']);
    bench.decide(request(), 0, { ...bench.flow, sourceKey: 'another', destinationKey: 'another' });
    expect([bench.question.sourcePod, bench.question.destinationService]).toEqual([undefined, undefined]);
  });

  test('that says what it said before is given the same verdict, unless it adds a cookie', () => {
    expect(bench.decide()).toBe(bench.decide());
    bench.guest.cookie = 'a=b';
    const [first, second] = [bench.decide(), bench.decide()];
    expect(first).toMatchObject({ cookie: 'a=b' });
    expect(first).not.toBe(second);
  });

  test.each([
    { name: 'is unknown', arrange: () => void bench.plugins.clear(), allow: false },
    { name: 'is suspended', arrange: () => void bench.install({}).standing.on('overrun'), allow: false },
    { name: 'is suspended and fails open', arrange: () => void bench.install({ failureAllow: true }).standing.on('overrun'), allow: true },
    { name: 'traps', arrange: () => void (bench.failure = Failure.TRAP), allow: false },
  ])('that $name leaves it to the failure policy', ({ arrange, allow }) => {
    arrange();
    const verdict = bench.decide();
    expect(verdict).toMatchObject(
      allow
        ? { allowed: true, to: STABLE, cause: Reason.PASS_FAILURE_POLICY }
        : { allowed: false, status: 503, cause: Reason.DROP_FAILURE_POLICY },
    );
    expect(verdict.reason).toMatch(/^failure policy: /);
  });
});

describe('a verdict that holds for longer', () => {
  beforeEach(() => {
    bench.answer = word(PluginAction.ALLOW, TTL_MS);
  });

  test('is kept by the values that the plugin declares, until its time or its epoch is over', () => {
    bench.decide(request('canary=1'));
    bench.decide(request('canary=1; other=2'), TTL_MS - 1);
    expect([bench.asked, bench.counts.cached]).toEqual([1, 1]);
    bench.decide(request('canary=2'));
    expect(bench.asked).toBe(2);
    bench.decide(request('canary=1'), TTL_MS);
    expect(bench.asked).toBe(3);
    bench.install({ epoch: 2 });
    bench.decide(request('canary=1'), TTL_MS);
    expect(bench.asked).toBe(4);
    bench.decider.forget();
    bench.decide(request('canary=1'), TTL_MS);
    expect(bench.asked).toBe(5);
  });

  test('of one rule is no answer to another that asks the same plugin the same', () => {
    const named = (header: string, deny: RequestRule['deny']): RequestRule =>
      rule({ matches: [{ headers: [{ name: header, value: '1' }], query: [] }], deny });
    const two = new Bench(named('a', { status: 403, body: '' }), named('b', { status: 404, body: '' }));
    two.answer = word(PluginAction.DENY, TTL_MS);
    const statusOf = (header: string): number => two.decide({ ...request(), headers: [header, '1'] }).status;
    expect([statusOf('a'), statusOf('b'), statusOf('a')]).toEqual([403, 404, 403]);
  });

  test.each([
    { field: 'SOURCE_ADDRESS', word: 3, asked: 2 },
    { field: 'DESTINATION_ADDRESS', word: 7, asked: 2 },
    { field: 'SOURCE_ADDRESS', word: 7, asked: 1 },
    { field: 'SOURCE_LABELS', word: 3, asked: 1 },
  ] as const)('on $field is asked for $asked times where word $word of the addresses differs', ({ field, word: at, asked }) => {
    bench.guest.reads.fields = PluginField[field];
    bench.decide();
    const words = bench.flow.words.map((each, i) => (i === at ? each + 1 : each));
    bench.decide(request(), 0, { ...bench.flow, words });
    expect(bench.asked).toBe(asked);
  });

  test.each([
    { field: 'SOURCE_POD', now: ['other', 'reader', 'shop/stable'] },
    { field: 'SOURCE_SERVICE_ACCOUNT', now: ['web', 'writer', 'shop/stable'] },
    { field: 'DESTINATION_POD', now: ['other', 'reader', 'shop/stable'] },
    { field: 'DESTINATION_SERVICE', now: ['web', 'reader', 'shop/new'] },
  ] as const)('on $field is no answer for who has the same address later', ({ field, now }) => {
    bench.guest.reads.fields = PluginField[field];
    bench.decide();
    bench.decide();
    expect(bench.asked).toBe(1);
    const [pod, account, service] = now;
    bench.tell(pod, account, service);
    bench.decide();
    expect(bench.asked).toBe(2);
  });

  test('on a header or cookie that is empty is no answer for one that is absent', () => {
    bench.guest.reads.headers = ['x-team'];
    const [none, header, cookie] = [[], ['x-team', ''], ['cookie', 'canary=']].map((headers) => ({ ...request(), headers }));
    for (const sent of [none, header, cookie, none, header, cookie]) bench.decide(sent);
    expect([bench.asked, bench.counts.cached]).toEqual([3, 3]);
  });

  test('on one text is no answer for another that only looks the same where texts are put together', () => {
    bench.guest.reads.headers = ['a', 'b'];
    bench.decide({ ...request(), headers: ['a', '1', 'b', '1:2'] });
    bench.decide({ ...request(), headers: ['a', '11:', 'b', '2'] });
    bench.decide({ ...request(), headers: ['a', '1\n1', 'b', ''] });
    bench.decide({ ...request(), headers: ['a', '1', 'b', '1\n'] });
    expect(bench.asked).toBe(4);
  });

  test('is not kept for a plugin that declares what the key does not have', () => {
    const fields = ['SOURCE_PORT', 'FLOW', 'TIME', 'ESTABLISHED', 'HOST_STATE'] as const;
    for (const field of [...fields, ...fields]) {
      bench.guest.reads.fields = PluginField[field];
      bench.decide();
    }
    expect([bench.asked, bench.counts.cached]).toEqual([10, 0]);
  });

  test.each([
    { name: 'depends on the time', arrange: () => void (bench.guest.fieldsRead = PluginField.TIME) },
    { name: 'adds a cookie', arrange: () => void (bench.guest.cookie = 'a=b') },
  ])('is not kept where it $name', ({ arrange }) => {
    arrange();
    bench.decide();
    bench.decide();
    expect(bench.asked).toBe(2);
  });

  test('is not kept for somebody who only wants to know', () => {
    bench.decider.explain(bench.flow, request(), 0);
    bench.decide();
    expect(bench.asked).toBe(2);
  });

  test('on who talks to whom is told to the kernel, with the set that it may use', () => {
    bench.answer = word(PluginAction.ALLOW, TTL_MS, Scope.IDENTITY);
    bench.decide();
    expect(bench.written).toMatchObject([
      {
        key: { plugin: PLUGIN, sourceIdentity: 1, destinationIdentity: 2, sourcePort: 0 },
        entry: { verdict: Verdict.ROUTE, backendSet: 44 },
      },
    ]);
    bench.answer = word(PluginAction.DENY, TTL_MS, Scope.FLOW);
    bench.decide();
    expect(bench.written[1]).toMatchObject({
      key: { sourcePort: 40_000, sourceIdentity: 0 },
      entry: { verdict: Verdict.DENY, backendSet: 0 },
    });
    expect(bench.counts.verdicts).toBe(2);
  });

  test('is not told to the kernel where only the proxy can follow it', () => {
    bench.answer = word(PluginAction.ROUTE, TTL_MS, Scope.FLOW);
    bench.guest.route = 'new';
    bench.decide();
    bench = new Bench(rule(), rule());
    bench.answer = word(PluginAction.ALLOW, TTL_MS, Scope.FLOW);
    bench.decide();
    expect(bench.written).toEqual([]);
  });
});

/**
 * What becomes of a request: the first rule that matches, the plugin that it asks, and what that says.
 *
 * A verdict that is to hold for longer is kept: here by the values of all that the plugin declares, where it depends on the
 * request; in the kernel, where it depends only on who talks to whom. Then the next connections never come here.
 */
import { Context, Direction, PluginAction, PluginField, Scope, Verdict } from '../abi.gen.ts';
import type { ProxyNetwork } from '../kernel/proxy-network.ts';
import { FAILURE_TEXT, Failure } from '../plugin-runtime/failure.ts';
import type { Guest, LoadedPlugin, RunningVersion } from '../plugin-runtime/loaded-plugin.ts';
import type { PluginCaller } from '../plugin-runtime/plugin-caller.ts';
import { findCookie, type IdentityTexts, type Question } from '../plugin-runtime/question.ts';
import { actionOf, scopeOf, ttlMsOf } from '../plugin-runtime/verdict-word.ts';
import { matchesRequest, type RequestFacts, setName } from '../policy/requests.ts';
import type { BackendRef, RequestRule } from '../policy/snapshot.ts';
import { headerOf } from './head.ts';
import type { ProxyRule, ProxySet, Request } from './messages.ts';
import type { Party } from './party.ts';
import { policyPath } from './policy-path.ts';
import type { Tally } from './tally.ts';

/** Verdicts kept by the values that they depend on; the oldest go first. */
const KEPT_MAX = 16_384;
/** Longer keys are not worth their room. */
const KEY_MAX = 2048;
/** Fields that no two requests can be said to share. */
const UNSHARED = PluginField.TIME | PluginField.FLOW | PluginField.HOST_STATE | PluginField.SOURCE_PORT | PluginField.ESTABLISHED;

export interface Decision {
  readonly allowed: boolean;
  /** What the plugin calls where it goes; empty where it does not say. */
  readonly route: string;
  /** Services that may take it; undefined: the destination itself. */
  readonly to: readonly BackendRef[] | undefined;
  /** Of an answer that is made here. */
  readonly status: number;
  readonly body: string;
  readonly reason: string;
  /** A cookie to set with the answer. */
  readonly cookie: string;
  readonly audited: boolean;
  readonly plugin: number;
  /** That decided: `canary 1.2.0`. */
  readonly version: string;
}

interface Kept {
  readonly decision: Decision;
  readonly epoch: number;
  readonly expiresMs: number;
}

export interface DeciderParts {
  readonly plugins: ReadonlyMap<number, LoadedPlugin>;
  readonly caller: PluginCaller;
  readonly question: Question;
  readonly identities: ReadonlyMap<number, IdentityTexts>;
  readonly pods: ReadonlyMap<string, Uint8Array>;
  readonly network: Pick<ProxyNetwork, 'writeVerdict'>;
  readonly tally: Tally;
  /** Names a version for people: `canary 1.2.0`. */
  readonly versionName: (serial: number) => string;
  readonly error: (reason: string) => void;
}

const NO_RULE: Decision = decided({ allowed: false, status: 404, body: 'no rule matches this request\n', reason: 'no rule matches' });

export class Decider {
  sets: ReadonlyMap<string, ProxySet> = new Map();
  readonly #parts: DeciderParts;
  readonly #kept = new Map<string, Kept>();
  #made = new WeakMap<RunningVersion, Map<RequestRule, Map<string, Decision>>>();
  #keeps = true;
  /** Of rules that ask nobody. */
  #plain = new WeakMap<RequestRule, Decision>();
  /** Plugins of which verdicts were kept. */
  readonly #keepers = new Set<number>();

  constructor(parts: DeciderParts) {
    this.#parts = parts;
  }

  /** Forgets verdicts: what policy means by them is another thing now. */
  forget(): void {
    this.#kept.clear();
    this.#made = new WeakMap();
    this.#plain = new WeakMap();
    this.#keepers.clear();
  }

  decide(rule: ProxyRule, party: Party, request: Request, nowMs: number): Decision {
    const path = policyPath(request.path);
    for (const candidate of rule.requests.rules) {
      if (candidate.matches.length && !matchesRequest(candidate.matches, factsOf(request, path))) continue;
      if (candidate.plugin) return this.#ask(rule, candidate, party, request, path, nowMs);
      let decision = this.#plain.get(candidate);
      if (!decision) this.#plain.set(candidate, (decision = decided({ allowed: true, to: candidate.fallback })));
      return decision;
    }
    return NO_RULE;
  }

  /** The same for somebody who only wants to know: nothing is kept of it. The plugin is asked all the same. */
  explain(rule: ProxyRule, party: Party, request: Request, nowMs: number): Decision {
    this.#keeps = false;
    try {
      return this.decide(rule, party, request, nowMs);
    } finally {
      this.#keeps = true;
    }
  }

  #ask(rule: ProxyRule, spec: RequestRule, party: Party, request: Request, path: string, now: number): Decision {
    const id = rule.plugins.get(spec.plugin) ?? 0;
    const plugin = this.#parts.plugins.get(id);
    if (!plugin) return failed(spec, undefined, id, FAILURE_TEXT[Failure.UNKNOWN_PLUGIN]);
    if (plugin.suspended) return failed(spec, plugin, id, FAILURE_TEXT[Failure.SUSPENDED]);
    this.#fill(rule, party, request, path, now);
    const { caller, question, tally } = this.#parts;
    // A plugin that wants nothing kept is not looked up.
    const keeps = this.#keepers.has(id) && !plugin.splitsFlows;
    const kept = keeps ? this.#kept.get(this.#keyOf(plugin, spec, question)) : undefined;
    if (kept && kept.epoch === plugin.setup.epoch && kept.expiresMs > now) {
      tally.counts.cached += 1;
      return kept.decision;
    }
    const failure = caller.ask(plugin, question);
    if (failure) return failed(spec, plugin, id, FAILURE_TEXT[failure]);
    const { word } = caller;
    const decision = this.#known(spec, plugin, word) ?? this.#decisionOf(spec, plugin);
    if (this.#keeps && ttlMsOf(word)) this.#keep(rule, spec, plugin, party, decision, now);
    return decision;
  }

  /** What was made of the same verdict before, where it adds nothing of its own: most requests have one of a few. */
  #known(spec: RequestRule, plugin: LoadedPlugin, word: number): Decision | undefined {
    const { decider } = this.#parts.caller;
    if (!decider?.guest || decider.guest.cookie || (actionOf(word) !== PluginAction.ROUTE && actionOf(word) !== PluginAction.ALLOW))
      return undefined;
    let bySpec = this.#made.get(decider);
    if (!bySpec) this.#made.set(decider, (bySpec = new Map()));
    let byRoute = bySpec.get(spec);
    if (!byRoute) bySpec.set(spec, (byRoute = new Map()));
    const route = actionOf(word) === PluginAction.ROUTE ? decider.guest.route : '';
    let decision = byRoute.get(route);
    if (!decision) byRoute.set(route, (decision = this.#decisionOf(spec, plugin)));
    return decision;
  }

  #decisionOf(spec: RequestRule, plugin: LoadedPlugin): Decision {
    const { caller, versionName } = this.#parts;
    const { word, decider, reason } = caller;
    const guest = decider?.guest;
    const action = actionOf(word);
    const common = { plugin: plugin.setup.id, version: decider ? versionName(decider.version.serial) : '', reason };
    if (action === PluginAction.DENY)
      return plugin.setup.enforced
        ? decided({ ...common, allowed: false, ...spec.deny, reason: reason || 'denied' })
        : decided({ ...common, allowed: true, to: spec.fallback, audited: true });
    if (action === PluginAction.ROUTE && plugin.setup.enforced) {
      const route = guest?.route ?? '';
      const to = Object.hasOwn(spec.routes, route) ? spec.routes[route] : undefined;
      if (!to)
        return decided({
          ...common,
          allowed: false,
          route,
          status: 503,
          body: 'no such route\n',
          reason: `the rule has no route ${route}`,
        });
      return decided({ ...common, allowed: true, route, to, cookie: guest?.cookie ?? '' });
    }
    const audited = action === PluginAction.AUDIT;
    return decided({ ...common, allowed: true, to: spec.fallback, audited, cookie: audited ? '' : (guest?.cookie ?? '') });
  }

  /** Keeps a verdict as widely as it may be. */
  #keep(rule: ProxyRule, spec: RequestRule, plugin: LoadedPlugin, party: Party, decision: Decision, nowMs: number): void {
    const { caller, question } = this.#parts;
    const { word, decider } = caller;
    const scope = scopeOf(word);
    if (scope !== Scope.NONE) {
      // What one rule of several says about a request says nothing about the others of a connection.
      if (rule.requests.rules.length === 1 && !spec.matches.length) this.#tellKernel(rule, plugin, party, decision, scope, ttlMsOf(word));
      return;
    }
    // Another version declares other fields: its verdict is kept under no key of the live one's.
    if (plugin.splitsFlows || decider !== plugin.live || !decider.guest || decider.guest.fieldsRead & UNSHARED || decision.cookie) return;
    const key = this.#keyOf(plugin, spec, question);
    if (!key) return;
    this.#keepers.add(plugin.setup.id);
    if (this.#kept.size >= KEPT_MAX)
      for (const oldest of this.#kept.keys()) {
        this.#kept.delete(oldest);
        break;
      }
    this.#kept.set(key, { decision, epoch: plugin.setup.epoch, expiresMs: nowMs + ttlMsOf(word) });
  }

  #tellKernel(rule: ProxyRule, plugin: LoadedPlugin, party: Party, decision: Decision, scope: Scope, ttlMs: number): void {
    const { network, tally, error } = this.#parts;
    const set = this.#setFor(decision, party);
    if (decision.allowed && set === undefined) return;
    const none = new Uint8Array(16);
    const byIdentity = scope === Scope.IDENTITY;
    try {
      network.writeVerdict(
        {
          source: byIdentity ? none : party.source,
          destination: byIdentity ? none : party.destination,
          sourceIdentity: byIdentity ? party.sourceIdentity : 0,
          destinationIdentity: byIdentity ? party.destinationIdentity : 0,
          plugin: plugin.setup.id,
          sourcePort: scope === Scope.FLOW ? party.sourcePort : 0,
          destinationPort: party.destinationPort,
          protocol: 6,
          scope,
          direction: Direction.EGRESS,
          context: Context.HTTP,
        },
        {
          expiresNs: process.hrtime.bigint() + BigInt(Math.round(ttlMs)) * 1_000_000n,
          epoch: plugin.setup.epoch,
          backendSet: set ?? 0,
          verdict: !decision.allowed ? Verdict.DENY : set ? Verdict.ROUTE : Verdict.ALLOW,
          once: 0,
        },
      );
      tally.counts.verdicts += 1;
    } catch (problem) {
      error(`${rule.name}: ${(problem as Error).message}`);
    }
  }

  /** The set that the kernel is to use; 0: the destination itself. Undefined where only the proxy can say. */
  #setFor({ to, cookie }: Decision, { service }: Party): number | undefined {
    if (cookie || (to && (to.length !== 1 || !to[0]?.weight))) return undefined;
    const name = to?.[0] ? setName(to[0]) : service;
    return name === '' ? 0 : this.sets.get(name)?.id;
  }

  #fill(rule: ProxyRule, party: Party, request: Request, path: string, nowMs: number): void {
    const { question, identities, pods } = this.#parts;
    question.clearTexts();
    question.hook = Context.HTTP;
    question.words = party.words;
    question.wordsAt = 0;
    question.sourceIdentity = party.sourceIdentity;
    question.destinationIdentity = party.destinationIdentity;
    question.sourcePort = party.sourcePort;
    question.destinationPort = party.destinationPort;
    question.protocol = 6;
    question.direction = Direction.EGRESS;
    question.established = false;
    question.rule = rule.id;
    question.timeMs = nowMs;
    question.source = identities.get(party.sourceIdentity);
    question.destination = identities.get(party.destinationIdentity);
    question.sourcePod = pods.get(party.sourceKey);
    question.destinationPod = pods.get(party.destinationKey);
    question.method = request.method;
    question.host = request.host;
    question.path = path;
    question.query = request.query;
    question.headers = request.headers;
  }

  /** The values of everything that the plugin declares; empty where they are of this one request. */
  #keyOf(plugin: LoadedPlugin, spec: RequestRule, question: Question): string {
    const guest: Guest | undefined = plugin.live.guest;
    if (!guest) return '';
    const { fields, headers, cookies } = guest.reads;
    if (fields & UNSHARED) return '';
    let key = `${plugin.setup.id} ${question.rule} ${spec.plugin} ${question.sourceIdentity} ${question.destinationIdentity} ${question.destinationPort}`;
    if (fields & (PluginField.SOURCE_ADDRESS | PluginField.SOURCE_POD)) key += ` ${question.words.subarray(0, 4)}`;
    if (fields & (PluginField.DESTINATION_ADDRESS | PluginField.DESTINATION_POD)) key += ` ${question.words.subarray(4, 8)}`;
    if (fields & PluginField.METHOD) key += `\n${question.method}`;
    if (fields & PluginField.HOST) key += `\n${question.host}`;
    if (fields & PluginField.PATH) key += `\n${question.path}`;
    if (fields & PluginField.QUERY) key += `\n${question.query}`;
    for (const name of headers) key += `\n${headerOf(question.headers, name) ?? ''}`;
    const sent = cookies.length ? question.headers.filter((_, i) => i % 2 && question.headers[i - 1] === 'cookie').join('; ') : '';
    for (const name of cookies) key += `\n${findCookie(sent, name) ?? ''}`;
    return key.length > KEY_MAX ? '' : key;
  }
}

function factsOf({ method, query, headers }: Request, path: string): RequestFacts {
  return { method, path, query, header: (name) => headerOf(headers, name) };
}

function decided(parts: Partial<Decision> & Pick<Decision, 'allowed'>): Decision {
  return { route: '', to: undefined, status: 0, body: '', reason: '', cookie: '', audited: false, plugin: 0, version: '', ...parts };
}

/** Nobody could decide: the failure policy does. */
function failed(spec: RequestRule, plugin: LoadedPlugin | undefined, id: number, why: string): Decision {
  const reason = `failure policy: ${why}`;
  if (plugin && (plugin.setup.failureAllow || !plugin.setup.enforced))
    return decided({ allowed: true, to: spec.fallback, plugin: id, reason });
  return decided({ allowed: false, status: 503, body: 'nobody can decide about this request\n', plugin: id, reason });
}

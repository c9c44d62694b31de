/**
 * Deciding a request: the first rule that matches says what becomes of it, or names the plugin that does.
 *
 * A verdict that is to hold for longer is kept: here by the values of all that the plugin declares, where it depends on the
 * request (verdict-memory.ts); in the kernel, where it depends only on who talks to whom (kernel-verdicts.ts).
 */
import { Context, Direction, PluginAction, Scope } from '../abi.gen.ts';
import { FAILURE_TEXT, Failure } from '../plugin-runtime/failure.ts';
import type { LoadedPlugin, RunningVersion } from '../plugin-runtime/loaded-plugin.ts';
import type { PluginCaller } from '../plugin-runtime/plugin-caller.ts';
import type { IdentityTexts, PodTexts, Question } from '../plugin-runtime/question.ts';
import { actionOf, scopeOf, ttlMsOf } from '../plugin-runtime/verdict-word.ts';
import type { RequestRule } from '../policy/objects.ts';
import { matchesRequest, type RequestFacts } from '../policy/requests.ts';
import { headerOf } from './head.ts';
import type { KernelVerdicts } from './kernel-verdicts.ts';
import type { ProxyCounts, Request } from './messages.ts';
import { policyPath } from './policy-path.ts';
import { failureVerdict, NO_RULE, pluginVerdict, type RequestVerdict, ruleVerdict } from './request-verdict.ts';
import type { TaggedFlow } from './tagged-flow.ts';
import { VerdictMemory } from './verdict-memory.ts';

const TCP = 6;

export interface DeciderParts {
  readonly plugins: ReadonlyMap<number, LoadedPlugin>;
  readonly caller: PluginCaller;
  readonly question: Question;
  readonly identities: ReadonlyMap<number, IdentityTexts>;
  readonly pods: ReadonlyMap<string, PodTexts>;
  readonly services: ReadonlyMap<string, Uint8Array>;
  readonly kernel: KernelVerdicts;
  readonly counts: Pick<ProxyCounts, 'cached' | 'verdicts'>;
  /** Names a version for people: `canary 1.2.0`. */
  readonly versionName: (serial: number) => string;
  readonly error: (reason: string) => void;
}

export class Decider {
  readonly #parts: DeciderParts;
  readonly #memory = new VerdictMemory();
  /** Verdicts of rules and routes that add nothing of a request's own: made once for each. */
  #made = new WeakMap<RunningVersion, Map<RequestRule, Map<string, RequestVerdict>>>();
  #plain = new WeakMap<RequestRule, RequestVerdict>();
  #keeps = true;

  constructor(parts: DeciderParts) {
    this.#parts = parts;
  }

  /** Forgets verdicts: policy means another thing by them now. */
  forget(): void {
    this.#memory.forget();
    this.#made = new WeakMap();
    this.#plain = new WeakMap();
  }

  decide(flow: TaggedFlow, request: Request, nowMs: number): RequestVerdict {
    const path = policyPath(request.path);
    for (const candidate of flow.rule.requests.rules) {
      if (candidate.matches.length && !matchesRequest(candidate.matches, factsOf(request, path))) continue;
      if (candidate.plugin) return this.#ask(candidate, flow, request, path, nowMs);
      let verdict = this.#plain.get(candidate);
      if (!verdict) this.#plain.set(candidate, (verdict = ruleVerdict(candidate)));
      return verdict;
    }
    return NO_RULE;
  }

  /** The same for somebody who only wants to know: nothing is kept of it. The plugin is asked all the same. */
  explain(flow: TaggedFlow, request: Request, nowMs: number): RequestVerdict {
    this.#keeps = false;
    try {
      return this.decide(flow, request, nowMs);
    } finally {
      this.#keeps = true;
    }
  }

  #ask(spec: RequestRule, flow: TaggedFlow, request: Request, path: string, nowMs: number): RequestVerdict {
    const id = flow.rule.plugins.get(spec.plugin) ?? 0;
    const plugin = this.#parts.plugins.get(id);
    if (!plugin) return failureVerdict(spec, undefined, id, FAILURE_TEXT[Failure.UNKNOWN_PLUGIN]);
    if (plugin.suspended) return failureVerdict(spec, plugin, id, FAILURE_TEXT[Failure.SUSPENDED]);
    this.#fill(flow, request, path, nowMs);
    const { caller, question, counts } = this.#parts;
    const kept = this.#memory.find(plugin, spec, question, nowMs);
    if (kept) {
      counts.cached += 1;
      return kept;
    }
    const failure = caller.ask(plugin, question);
    if (failure) return failureVerdict(spec, plugin, id, FAILURE_TEXT[failure]);
    const verdict = this.#known(spec, plugin) ?? this.#make(spec, plugin);
    if (this.#keeps && ttlMsOf(caller.word)) this.#keep(spec, plugin, flow, verdict, nowMs);
    return verdict;
  }

  /** The verdict that was made of the same word before, where it adds nothing of its own: most requests have one of a few. */
  #known(spec: RequestRule, plugin: LoadedPlugin): RequestVerdict | undefined {
    const { decider, word } = this.#parts.caller;
    const action = actionOf(word);
    if (!decider?.guest || decider.guest.cookie || (action !== PluginAction.ROUTE && action !== PluginAction.ALLOW)) return undefined;
    let bySpec = this.#made.get(decider);
    if (!bySpec) this.#made.set(decider, (bySpec = new Map()));
    let byRoute = bySpec.get(spec);
    if (!byRoute) bySpec.set(spec, (byRoute = new Map()));
    const route = action === PluginAction.ROUTE ? decider.guest.route : '';
    let verdict = byRoute.get(route);
    if (!verdict) byRoute.set(route, (verdict = this.#make(spec, plugin)));
    return verdict;
  }

  #make(spec: RequestRule, plugin: LoadedPlugin): RequestVerdict {
    const { caller, versionName } = this.#parts;
    const { word, decider, reason } = caller;
    return pluginVerdict(spec, plugin, { word, decider, version: decider ? versionName(decider.version.serial) : '', reason });
  }

  /** Keeps a verdict as widely as it may be. */
  #keep(spec: RequestRule, plugin: LoadedPlugin, flow: TaggedFlow, verdict: RequestVerdict, nowMs: number): void {
    const { caller, question } = this.#parts;
    const { word, decider } = caller;
    if (scopeOf(word) !== Scope.NONE) {
      // One rule of several says nothing about the other requests of a connection.
      if (flow.rule.requests.rules.length === 1 && !spec.matches.length) this.#tellKernel(plugin, flow, verdict, word);
      return;
    }
    // Another version declares other fields: its verdict is kept under no key of the live one's.
    if (decider !== plugin.live || !decider.guest) return;
    const { fieldsRead } = decider.guest;
    this.#memory.keep(plugin, spec, question, { verdict, fieldsRead, expiresMs: nowMs + ttlMsOf(word) });
  }

  #tellKernel(plugin: LoadedPlugin, flow: TaggedFlow, verdict: RequestVerdict, word: number): void {
    const { kernel, counts, error } = this.#parts;
    try {
      if (kernel.tell(flow, plugin, verdict, word)) counts.verdicts += 1;
    } catch (problem) {
      error(`${flow.rule.name}: ${(problem as Error).message}`);
    }
  }

  #fill(flow: TaggedFlow, request: Request, path: string, nowMs: number): void {
    const { question, identities, pods, services } = this.#parts;
    question.clearTexts();
    question.hook = Context.HTTP;
    question.words = flow.words;
    question.wordsAt = 0;
    question.sourceIdentity = flow.sourceIdentity;
    question.destinationIdentity = flow.destinationIdentity;
    question.sourcePort = flow.sourcePort;
    question.destinationPort = flow.destinationPort;
    question.protocol = TCP;
    question.direction = Direction.EGRESS;
    question.established = false;
    question.rule = flow.rule.id;
    question.timeMs = nowMs;
    question.source = identities.get(flow.sourceIdentity);
    question.destination = identities.get(flow.destinationIdentity);
    question.sourcePod = pods.get(flow.sourceKey);
    question.destinationPod = pods.get(flow.destinationKey);
    question.destinationService = services.get(flow.destinationKey);
    question.method = request.method;
    question.host = request.host;
    question.path = path;
    question.query = request.query;
    question.headers = request.headers;
  }
}

function factsOf({ method, query, headers }: Request, path: string): RequestFacts {
  return { method, path, query, header: (name) => headerOf(headers, name) };
}

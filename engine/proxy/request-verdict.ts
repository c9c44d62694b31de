/** The verdict on one request: of a rule, of the plugin that it asks, or of the failure policy. */
import { PluginAction, Reason } from '../abi.gen.ts';
import type { LoadedPlugin, RunningVersion } from '../plugin-runtime/loaded-plugin.ts';
import { actionOf } from '../plugin-runtime/verdict-word.ts';
import type { BackendRef, RequestRule } from '../policy/objects.ts';

export interface RequestVerdict {
  readonly allowed: boolean;
  /** Why, as flows have it: enum reason. */
  readonly cause: Reason;
  /** The plugin's name for where it goes; empty where it does not say. */
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
  /** The version that decided: `canary 1.2.0`. */
  readonly version: string;
}

/** A plugin's answer, as its caller leaves it. */
export interface PluginAnswer {
  /** enum verdict_word. */
  readonly word: number;
  readonly decider: RunningVersion | undefined;
  /** Name of that version: `canary 1.2.0`. */
  readonly version: string;
  readonly reason: string;
}

export const NO_RULE: RequestVerdict = verdictOf({
  allowed: false,
  cause: Reason.DROP_POLICY,
  status: 404,
  body: 'no rule matches this request\n',
  reason: 'no rule matches',
});

/** Of a rule that asks nobody. */
export function ruleVerdict(spec: RequestRule): RequestVerdict {
  return verdictOf({ allowed: true, cause: Reason.PASS_POLICY, to: spec.fallback });
}

/** Of a plugin that was asked. */
export function pluginVerdict(spec: RequestRule, plugin: LoadedPlugin, { word, decider, version, reason }: PluginAnswer): RequestVerdict {
  const action = actionOf(word);
  const common = { plugin: plugin.setup.id, version, reason, cause: Reason.PASS_VERDICT };
  if (action === PluginAction.DENY)
    return plugin.setup.enforced
      ? verdictOf({ ...common, allowed: false, cause: Reason.DROP_VERDICT, ...spec.deny, reason: reason || 'denied' })
      : verdictOf({ ...common, allowed: true, to: spec.fallback, audited: true });
  const cookie = decider?.guest?.cookie ?? '';
  if (action === PluginAction.ROUTE && plugin.setup.enforced) {
    const route = decider?.guest?.route ?? '';
    const to = Object.hasOwn(spec.routes, route) ? spec.routes[route] : undefined;
    if (to) return verdictOf({ ...common, allowed: true, route, to, cookie });
    return verdictOf({
      ...common,
      allowed: false,
      cause: Reason.DROP_NO_BACKEND,
      route,
      status: 503,
      body: 'no such route\n',
      reason: `the rule has no route ${route}`,
    });
  }
  const audited = action === PluginAction.AUDIT;
  return verdictOf({ ...common, allowed: true, to: spec.fallback, audited, cookie: audited ? '' : cookie });
}

/** Of the failure policy, where nobody could decide. */
export function failureVerdict(spec: RequestRule, plugin: LoadedPlugin | undefined, id: number, why: string): RequestVerdict {
  const reason = `failure policy: ${why}`;
  if (plugin && (plugin.setup.failureAllow || !plugin.setup.enforced))
    return verdictOf({ allowed: true, cause: Reason.PASS_FAILURE_POLICY, to: spec.fallback, plugin: id, reason });
  const body = 'nobody can decide about this request\n';
  return verdictOf({ allowed: false, cause: Reason.DROP_FAILURE_POLICY, status: 503, body, plugin: id, reason });
}

function verdictOf(parts: Partial<RequestVerdict> & Pick<RequestVerdict, 'allowed' | 'cause'>): RequestVerdict {
  return { route: '', to: undefined, status: 0, body: '', reason: '', cookie: '', audited: false, plugin: 0, version: '', ...parts };
}

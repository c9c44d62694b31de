/**
 * From policies to rules: one list of rules for each policy and direction, with ids, origins and the tier that they belong to.
 *
 * A policy that changes keeps the rules that stay as they are, as the same objects: what depends on them sees no change.
 */
import { Abi, Action, Context, Direction, type Rule } from '../abi.gen.ts';
import type {
  AskRule,
  ClusterPolicy,
  HostPolicy,
  Peer,
  PluginPolicy,
  Policy,
  PolicyRule,
  PortSpec,
  ServerNames,
  TierRule,
} from './snapshot.ts';
import type { StableIds } from './stable-id.ts';

/** In the order in which they are asked. A plugin narrows what the others allow, or replaces them. */
export const TIERS = ['admin', 'network', 'baseline', 'plugin'] as const;
export type TierName = (typeof TIERS)[number];

/** Where a rule comes from, to be shown to people. */
export interface RuleOrigin {
  readonly kind: 'NetworkPolicy' | 'ClusterNetworkPolicy' | 'PluginPolicy' | 'HTTPRoute' | 'HostPolicy';
  readonly tier: TierName;
  /** Empty for what has none. */
  readonly namespace: string;
  /** Several names for what policies say together: that nothing else is allowed. */
  readonly name: string;
  readonly direction: Direction;
  /** Position in the policy's list of that direction; absent where no rule is meant, but that there is none. */
  readonly index?: number;
  /** Its author's name for the rule. */
  readonly title?: string;
}

export type RuleAction = 'accept' | 'deny' | 'pass' | 'ask';

export interface SourcedRule {
  readonly id: number;
  readonly origin: RuleOrigin;
  /** Equal rules of one policy, equal text. */
  readonly text: string;
  /** Of the policy; `own` in its peers. */
  readonly namespace: string;
  readonly peers?: readonly Peer[];
  readonly ports?: readonly PortSpec[];
  readonly action: RuleAction;
  /** What the kernel is told where the rule decides. */
  readonly rule: Rule;
  /** Of a plugin's tag: it also holds where the tiers deny. */
  readonly overrides: boolean;
  /** The plugin that is asked about every DNS answer of the endpoint; no flow is tagged then. */
  readonly dnsPlugin?: number;
}

/** What a policy says beside peers and ports. */
interface Tag {
  readonly action: RuleAction;
  readonly title?: string;
  readonly plugin?: number | undefined;
  readonly context?: Context;
  readonly overrides?: boolean;
  readonly serverNames?: ServerNames | undefined;
  /** The rule itself, where it is about requests. */
  readonly requests?: AskRule | undefined;
}

/** An id that no plugin has: who asks it is denied. */
const NOBODY = 0xffffffff;

/** A policy's rules of one direction. */
export interface PolicyRules {
  /** Names the policy among all: kind, namespace and name. */
  readonly key: string;
  readonly kind: RuleOrigin['kind'];
  readonly tier: TierName;
  readonly namespace: string;
  readonly name: string;
  readonly rules: readonly SourcedRule[];
}

interface Kept {
  readonly policy: object;
  readonly plugins: unknown;
  readonly rules: PolicyRules;
}

/** `NetworkPolicy shop/web ingress[0]` */
export function formatOrigin(origin: RuleOrigin | undefined): string {
  if (!origin) return '';
  const { kind, namespace, name, direction, index, title } = origin;
  const where = direction === Direction.INGRESS ? 'ingress' : 'egress';
  const whose = `${kind} ${namespace ? `${namespace}/` : ''}${name}`;
  return index === undefined ? `${whose} ${where}: no rule allows it` : `${whose} ${where}[${index}]${title ? ` "${title}"` : ''}`;
}

export class RuleBook {
  readonly origins = new Map<number, RuleOrigin>();
  /** Lists of server names, by rule. */
  readonly serverNames = new Map<number, ServerNames>();
  /** Rules about requests. */
  readonly requests = new Map<number, AskRule>();
  readonly #ids: StableIds;
  readonly #kept = new Map<string, Kept>();
  #pluginIds: ReadonlyMap<string, number> = new Map();

  constructor(ids: StableIds) {
    this.#ids = ids;
  }

  /** Ids of the plugins that are declared. What asks another answers nothing: it is denied. */
  setPlugins(pluginIds: ReadonlyMap<string, number>): void {
    this.#pluginIds = pluginIds;
  }

  /** Rules of a NetworkPolicy; undefined where it does not isolate. */
  network(policy: Policy, direction: Direction): PolicyRules | undefined {
    const rules = policy.rules[direction];
    return rules && this.#keep('NetworkPolicy', 'network', policy, direction, rules, () => ({ action: 'accept' }));
  }

  host(policy: HostPolicy, direction: Direction): PolicyRules | undefined {
    const rules = policy.rules[direction];
    return rules && this.#keep('HostPolicy', 'network', policy, direction, rules, () => ({ action: 'accept' }));
  }

  cluster(policy: ClusterPolicy, direction: Direction): PolicyRules | undefined {
    const rules = policy.rules[direction];
    const tier = policy.tier === 'Admin' ? 'admin' : 'baseline';
    return (
      rules &&
      this.#keep('ClusterNetworkPolicy', tier, policy, direction, rules, (rule: TierRule) => ({ action: rule.action, title: rule.name }))
    );
  }

  plugin(policy: PluginPolicy, direction: Direction): PolicyRules | undefined {
    const rules = policy.rules[direction];
    return (
      rules &&
      this.#keep(policy.kind, 'plugin', policy, direction, rules, (rule: AskRule) => ({
        action: 'ask',
        plugin: this.#askedBy(rule),
        context: rule.context,
        // Policy is about the backends of a Service: which of them the endpoint may reach is judged when one is chosen.
        overrides: policy.overrides || rule.services !== undefined,
        serverNames: rule.serverNames,
        requests: rule.requests && rule,
      }))
    );
  }

  /** The plugin that a flow is tagged for; undefined where nobody declared it. */
  #askedBy(rule: AskRule): number | undefined {
    if (rule.serverNames) return Abi.SERVER_NAMES;
    return rule.requests && !rule.plugin ? Abi.ROUTES : this.#pluginIds.get(rule.plugin);
  }

  /** The rule of what the policies of a rule set deny by allowing nothing. */
  isolation(ruleSet: string, policies: readonly PolicyRules[], direction: Direction): number {
    const names = policies.map((policy) => policy.name);
    const name = names.length > 3 ? `${names.slice(0, 3).join(', ')} and ${names.length - 3} more` : names.join(', ');
    const id = this.#ids.get(isolationText(ruleSet));
    const kind = policies[0]?.kind ?? 'NetworkPolicy';
    this.origins.set(id, { kind, tier: 'network', namespace: policies[0]?.namespace ?? '', name, direction });
    return id;
  }

  /** Forgets that rule of a rule set that is gone. */
  forgetIsolation(ruleSet: string): void {
    const text = isolationText(ruleSet);
    const id = this.#ids.find(text);
    if (id === undefined) return;
    this.origins.delete(id);
    this.#ids.drop(text);
  }

  /** Forgets the rules of policies that are gone. */
  forget(kind: RuleOrigin['kind'], policy: { readonly namespace?: string; readonly name: string }): void {
    for (const direction of [Direction.INGRESS, Direction.EGRESS]) {
      const key = keyOf(kind, policy, direction);
      this.#drop(this.#kept.get(key)?.rules.rules ?? []);
      this.#kept.delete(key);
    }
  }

  #keep<R extends PolicyRule>(
    kind: RuleOrigin['kind'],
    tier: TierName,
    policy: { readonly namespace?: string; readonly name: string },
    direction: Direction,
    rules: readonly R[],
    tagOf: (rule: R) => Tag,
  ): PolicyRules {
    const key = keyOf(kind, policy, direction);
    const before = this.#kept.get(key);
    const plugins = tier === 'plugin' ? this.#pluginIds : undefined;
    if (before?.policy === policy && before.plugins === plugins) return before.rules;
    const namespace = policy.namespace ?? '';
    const olds = before?.rules.rules ?? [];
    const sourced = rules.map((rule, index): SourcedRule => {
      const tag = tagOf(rule);
      const text = ruleText(rule, tag);
      const old = olds[index];
      if (old?.text === text) return old;
      const origin: RuleOrigin = { kind, tier, namespace, name: policy.name, direction, index, ...(tag.title && { title: tag.title }) };
      const id = this.#ids.get(originText(origin));
      this.origins.set(id, origin);
      if (tag.serverNames) this.serverNames.set(id, tag.serverNames);
      else this.serverNames.delete(id);
      if (tag.requests) this.requests.set(id, tag.requests);
      else this.requests.delete(id);
      return {
        id,
        origin,
        text,
        namespace,
        ...(rule.peers && { peers: rule.peers }),
        ...(rule.ports && { ports: rule.ports }),
        action: tag.action,
        rule: kernelRule(id, tag),
        overrides: tag.overrides ?? false,
        ...(tag.context === Context.DNS && { dnsPlugin: tag.plugin ?? NOBODY }),
      };
    });
    this.#drop(olds.slice(sourced.length));
    const kept: PolicyRules = { key, kind, tier, namespace, name: policy.name, rules: sourced };
    this.#kept.set(key, { policy, plugins, rules: kept });
    return kept;
  }

  #drop(rules: readonly SourcedRule[]): void {
    for (const { id, origin } of rules) {
      this.origins.delete(id);
      this.serverNames.delete(id);
      this.requests.delete(id);
      this.#ids.drop(originText(origin));
    }
  }
}

function keyOf(kind: string, policy: { readonly namespace?: string; readonly name: string }, direction: Direction): string {
  return `${kind} ${policy.namespace ?? ''}/${policy.name} ${direction}`;
}

function originText({ kind, namespace, name, direction, index }: RuleOrigin): string {
  return `rule ${kind} ${namespace}/${name} ${direction} ${index}`;
}

function isolationText(ruleSet: string): string {
  return `isolation ${ruleSet}`;
}

function kernelRule(id: number, tag: Tag): Rule {
  if (tag.action === 'accept') return { id, plugin: 0, action: Action.ALLOW, context: 0 };
  // A plugin that nobody declared can answer nothing, not even by its failure policy.
  if (tag.action === 'ask' && tag.plugin !== undefined) return { id, plugin: tag.plugin, action: Action.ASK, context: tag.context ?? 0 };
  return { id, plugin: 0, action: Action.DENY, context: 0 };
}

function ruleText(rule: PolicyRule, tag: Tag): string {
  return `${rule.peers?.map(peerText).join() ?? '*'} ${rule.ports?.map(portText).join() ?? '*'} ${JSON.stringify(tag)}`;
}

/** Equal peers, equal text. */
export function peerText(peer: Peer): string {
  if (peer.kind === 'network')
    return peer.except.length ? `${peer.network.text}-${peer.except.map((network) => network.text).join('-')}` : peer.network.text;
  if (peer.kind === 'names') return `names ${peer.patterns.join()}`;
  return JSON.stringify([peer.namespaces, peer.pods]);
}

function portText(port: PortSpec): string {
  return 'name' in port ? `${port.protocol}/"${port.name}"` : `${port.protocol}/${port.first}-${port.last}`;
}

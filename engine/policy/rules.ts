/**
 * From policies to rules: one list of rules for each policy and direction, with ids, origins and the tier that they belong to.
 *
 * A policy that changes keeps the rules that stay as they are, as the same objects: what depends on them sees no change.
 */

import { Abi, Action, Context, Direction, type Rule } from '../abi.gen.ts';
import { selectorText } from './node-peers.ts';
import { objectName } from './object-name.ts';
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
} from './objects.ts';
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
  /** Position in the policy's list of that direction, as it was written; absent where no rule is meant, but that there is none. */
  readonly index?: number;
  /** It is what the rule at that position comes to for Services that are damaged. */
  readonly damaged?: boolean;
  /** Its author's name for the rule. */
  readonly title?: string;
}

export type RuleAction = 'accept' | 'deny' | 'pass' | 'ask';

export interface SourcedRule {
  readonly id: number;
  readonly origin: RuleOrigin;
  /** Equal rules of one policy, equal text. */
  readonly text: string;
  /** Key of the policy, as PolicyRules has it. */
  readonly policy: string;
  /** Of the policy; `own` in its peers. */
  readonly namespace: string;
  readonly peers?: readonly Peer[];
  readonly ports?: readonly PortSpec[];
  readonly action: RuleAction;
  /** The rule as the kernel is told it, where it decides. */
  readonly rule: Rule;
  /** Of a plugin's tag: it also holds where the tiers deny. */
  readonly overrides: boolean;
  /** The plugin that is asked about every DNS answer of the endpoint; no flow is tagged then. */
  readonly dnsPlugin?: number;
}

/** The part of a rule beside peers and ports. */
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
  /** Whether any of them means ports by name. */
  readonly byPortName: boolean;
}

interface Kept {
  policy: object;
  plugins: unknown;
  rules: PolicyRules;
  /** How many rule sets are made of it. */
  users: number;
}

/** Where a rule stands. */
interface RulePlace {
  readonly kind: RuleOrigin['kind'];
  readonly tier: TierName;
  readonly policy: { readonly namespace?: string; readonly name: string };
  readonly direction: Direction;
  readonly index: number;
  readonly damaged?: boolean;
}

/** `NetworkPolicy shop/web ingress[0]` */
export function formatOrigin(origin: RuleOrigin | undefined): string {
  if (!origin) return '';
  return `${nameOfOrigin(origin)} ${originPart(origin)}${origin.index === undefined ? ': no rule allows it' : ''}`;
}

/** `NetworkPolicy shop/web` */
export function nameOfOrigin({ kind, namespace, name }: RuleOrigin): string {
  return `${kind} ${objectName({ namespace, name })}`;
}

/** `ingress[0]`, with its author's name for the rule. */
export function originPart({ direction, index, title }: RuleOrigin): string {
  const where = direction === Direction.INGRESS ? 'ingress' : 'egress';
  return index === undefined ? where : `${where}[${index}]${title ? ` "${title}"` : ''}`;
}

export class RuleBook {
  readonly origins = new Map<number, RuleOrigin>();
  /** Lists of server names, by rule. */
  readonly serverNames = new Map<number, ServerNames>();
  /** Rules about requests. */
  readonly requests = new Map<number, AskRule>();
  /** Rules whose lists of server names, or what they say about requests, changed. Whoever passes them on clears these. */
  readonly touchedServerNames = new Set<number>();
  readonly touchedRequests = new Set<number>();
  readonly #ids: StableIds;
  readonly #kept = new Map<string, Kept>();
  /** Keys of what no rule set is made of, and may be forgotten. */
  readonly #unused = new Set<string>();
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

  /** Keeps the rules of a policy until they are released as often. */
  use({ key }: PolicyRules): void {
    const kept = this.#kept.get(key);
    if (!kept) return;
    kept.users += 1;
    this.#unused.delete(key);
  }

  release({ key }: PolicyRules): void {
    const kept = this.#kept.get(key);
    if (kept && !--kept.users) this.#unused.add(key);
  }

  /** Forgets the rules that no rule set is made of: of policies that are gone, or that were only asked about. */
  forgetUnused(): void {
    for (const key of this.#unused) {
      this.#drop(this.#kept.get(key)?.rules.rules ?? []);
      this.#kept.delete(key);
    }
    this.#unused.clear();
  }

  #keep<R extends PolicyRule & Pick<AskRule, 'written'>>(
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
    const olds = new Map((before?.rules.rules ?? []).map((rule) => [originText(rule.origin), rule]));
    const sourced = rules.map((rule, position) => {
      const place = { kind, tier, policy, direction, index: position, ...rule.written };
      return this.#source(place, rule, tagOf(rule), olds.get(originText(originAt(place))));
    });
    for (const { origin } of sourced) olds.delete(originText(origin));
    this.#drop([...olds.values()]);
    const byPortName = rules.some(({ ports }) => ports?.some((port) => 'name' in port));
    const made: PolicyRules = { key, kind, tier, namespace: policy.namespace ?? '', name: policy.name, rules: sourced, byPortName };
    if (before) Object.assign(before, { policy, plugins, rules: made } satisfies Partial<Kept>);
    else {
      this.#kept.set(key, { policy, plugins, rules: made, users: 0 });
      this.#unused.add(key);
    }
    return made;
  }

  /** The rule at a place of a policy; the old one where it says the same. */
  #source(at: RulePlace, rule: PolicyRule, tag: Tag, old: SourcedRule | undefined): SourcedRule {
    const { kind, tier, policy, direction } = at;
    const text = ruleText(rule, tag);
    if (old?.text === text && old.origin.tier === tier) return old;
    const namespace = policy.namespace ?? '';
    const origin = { ...originAt(at), ...(tag.title && { title: tag.title }) };
    const id = this.#ids.get(originText(origin));
    this.origins.set(id, origin);
    put(this.serverNames, this.touchedServerNames, id, tag.serverNames);
    put(this.requests, this.touchedRequests, id, tag.requests);
    return {
      id,
      origin,
      text,
      policy: keyOf(kind, policy, direction),
      namespace,
      ...(rule.peers && { peers: rule.peers }),
      ...(rule.ports && { ports: rule.ports }),
      action: tag.action,
      rule: kernelRule(id, tag),
      overrides: tag.overrides ?? false,
      ...(tag.context === Context.DNS && { dnsPlugin: tag.plugin ?? NOBODY }),
    };
  }

  #drop(rules: readonly SourcedRule[]): void {
    for (const { id, origin } of rules) {
      this.origins.delete(id);
      put(this.serverNames, this.touchedServerNames, id, undefined);
      put(this.requests, this.touchedRequests, id, undefined);
      this.#ids.drop(originText(origin));
    }
  }
}

/** Sets or takes away what a rule has, and notes a change. */
function put<T>(values: Map<number, T>, touched: Set<number>, id: number, value: T | undefined): void {
  if (value === undefined ? !values.delete(id) : values.get(id) === value) return;
  if (value !== undefined) values.set(id, value);
  touched.add(id);
}

function keyOf(kind: string, policy: { readonly namespace?: string; readonly name: string }, direction: Direction): string {
  return `${kind} ${objectName(policy)} ${direction}`;
}

function originAt({ kind, tier, policy, direction, index, damaged }: RulePlace): RuleOrigin {
  return { kind, tier, namespace: policy.namespace ?? '', name: policy.name, direction, index, ...(damaged && { damaged }) };
}

function originText({ kind, namespace, name, direction, index, damaged }: RuleOrigin): string {
  return `rule ${kind} ${objectName({ namespace, name })} ${direction} ${index}${damaged ? ' damaged' : ''}`;
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
  if (peer.kind === 'nodes') return `nodes ${selectorText(peer.nodes)}`;
  if (peer.kind === 'serviceAccounts') return `service accounts ${peer.accounts.map(objectName).join()}`;
  return JSON.stringify([peer.namespaces, peer.pods]);
}

function portText(port: PortSpec): string {
  return 'name' in port ? `${port.protocol}/"${port.name}"` : `${port.protocol}/${port.first}-${port.last}`;
}

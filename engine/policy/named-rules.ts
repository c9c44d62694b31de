/**
 * Rules about domain names: for each pattern in a rule set, a rule set of its own for addresses that are known by it.
 *
 * There, rules about names that the pattern matches apply to anyone, and those about other names to nobody; everything else
 * stays in its place and order. Every name belongs to its closest pattern among those of all rule sets, and a rule set
 * takes part under its own closest one to that. Addresses stay known under a pattern for as long as their names live, so that
 * a pattern that no rule has any more is remembered until nothing is known under it.
 */
import { Direction, namedKeyCodec } from '../abi.gen.ts';
import { coveringPatterns, covers, patternEntry } from './domain-name.ts';
import { EntryMap, u32 } from './entry-map.ts';
import { RuleSet, type RuleSetWriter } from './rule-set.ts';
import type { PolicyRules, SourcedRule } from './rules.ts';
import type { StableIds } from './stable-id.ts';

/** The rule set for names that one pattern of another one is the closest to. */
interface NamedRuleSet {
  readonly ruleSet: RuleSet;
  members: readonly PolicyRules[];
}

export class NamedRules {
  /** The maps name_patterns and named_rule_sets. */
  readonly patterns = new EntryMap();
  readonly ruleSets = new EntryMap();
  readonly #ids: StableIds;
  readonly #writer: RuleSetWriter;
  /** By base rule set and pattern. */
  readonly #named = new Map<RuleSet, Map<string, NamedRuleSet>>();
  /** Patterns in use, and how many base rule sets have each. */
  readonly #current = new Map<string, number>();
  /** Patterns in use, and those under which addresses may still be known: text → id. */
  readonly #remembered = new Map<string, number>();
  /** Pattern → what covers it, worked out once. */
  readonly #covering = new Map<string, readonly string[]>();
  /** Patterns that came into use or went, and rule sets with others than before: their entries are to be written. */
  readonly #touchedPatterns = new Set<string>();
  readonly #touchedBases = new Set<RuleSet>();
  readonly #narrowed = new WeakMap<PolicyRules, Map<string, PolicyRules>>();
  readonly #applying = new WeakMap<SourcedRule, SourcedRule>();

  constructor(ids: StableIds, writer: RuleSetWriter) {
    this.#ids = ids;
    this.#writer = writer;
  }

  /** Whether any rule is about names. */
  get inUse(): boolean {
    return this.#current.size > 0;
  }

  /** Whether patterns are remembered that no rule has any more. */
  get hasUnused(): boolean {
    return this.#remembered.size > this.#current.size;
  }

  /** Pattern → id, also of those that no rule has any more. */
  get remembered(): ReadonlyMap<string, number> {
    return this.#remembered;
  }

  /** The closest pattern to a name, as the kernel finds it. */
  closest(name: string): string | undefined {
    return coveringPatterns(name).find((pattern) => this.#current.has(pattern));
  }

  /** Takes over a rule set that is new or says something else, before it is known which networks rules name. */
  follow(base: RuleSet): void {
    if (base.direction !== Direction.EGRESS) return;
    const known = this.#named.get(base);
    if (!known && !base.patterns.size) return;
    const named = known ?? new Map<string, NamedRuleSet>();
    this.#named.set(base, named);
    for (const pattern of base.patterns.keys()) this.#followPattern(base, pattern, named);
    for (const pattern of [...named.keys()]) if (!base.patterns.has(pattern)) this.#remove(base, pattern, named);
    if (!named.size) this.#named.delete(base);
  }

  /** Takes a rule set that is gone away. */
  leave(base: RuleSet): void {
    const named = this.#named.get(base);
    for (const pattern of [...(named?.keys() ?? [])]) this.#remove(base, pattern, named as Map<string, NamedRuleSet>);
    this.#named.delete(base);
  }

  /** Brings what leads to the rule sets up to date. */
  refresh(): void {
    for (const base of this.#touchedBases) for (const pattern of this.#remembered.keys()) this.#writeRuleSet(base, pattern);
    for (const pattern of this.#touchedPatterns) {
      this.#writePattern(pattern);
      for (const base of this.#named.keys()) this.#writeRuleSet(base, pattern);
    }
    this.#touchedBases.clear();
    this.#touchedPatterns.clear();
  }

  /** Forgets the patterns that no rule has and under which nothing is known. */
  forget(idsInUse: ReadonlySet<number>): void {
    for (const [pattern, id] of this.#remembered) {
      if (this.#current.has(pattern) || idsInUse.has(id)) continue;
      for (const base of this.#named.keys()) this.ruleSets.delete(namedKey(base.id, id));
      this.#remembered.delete(pattern);
      this.#covering.delete(pattern);
      this.#ids.drop(patternText(pattern));
    }
  }

  #followPattern(base: RuleSet, pattern: string, named: Map<string, NamedRuleSet>): void {
    const { members } = base.membership;
    const own = named.get(pattern);
    if (own) {
      if (own.members !== members) own.ruleSet.setMembers(this.#narrow(members, pattern));
      own.members = members;
      return;
    }
    const id = this.#ids.get(ruleSetText(base, pattern));
    const membership = { ...base.membership, members: this.#narrow(members, pattern) };
    named.set(pattern, { ruleSet: new RuleSet(id, membership, this.#writer), members });
    this.#touchedBases.add(base);
    const users = this.#current.get(pattern) ?? 0;
    this.#current.set(pattern, users + 1);
    if (users) return;
    this.#remembered.set(pattern, this.#ids.get(patternText(pattern)));
    this.#covering.set(pattern, coveringPatterns(pattern));
    this.#touchedPatterns.add(pattern);
  }

  #remove(base: RuleSet, pattern: string, named: Map<string, NamedRuleSet>): void {
    named.get(pattern)?.ruleSet.remove();
    named.delete(pattern);
    this.#ids.drop(ruleSetText(base, pattern));
    this.#touchedBases.add(base);
    const users = (this.#current.get(pattern) ?? 0) - 1;
    if (users > 0) this.#current.set(pattern, users);
    else {
      this.#current.delete(pattern);
      this.#touchedPatterns.add(pattern);
    }
  }

  /** The entry of all patterns that end in the same name. */
  #writePattern(pattern: string): void {
    const suffix = pattern.replace(/^\*\./, '');
    const idOf = (text: string): number => (this.#current.has(text) ? (this.#remembered.get(text) ?? 0) : 0);
    const ids = { exact: idOf(suffix), wildcard: idOf(`*.${suffix}`) };
    const [key, value] = patternEntry(suffix, ids);
    if (ids.exact || ids.wildcard) this.patterns.set(key, value);
    else this.patterns.delete(key);
  }

  /** Under the closest pattern of its own to that one, where it has one that covers it. */
  #writeRuleSet(base: RuleSet, pattern: string): void {
    const key = namedKey(base.id, this.#remembered.get(pattern) ?? 0);
    const named = this.#named.get(base);
    const own = this.#covering.get(pattern)?.find((covering) => named?.has(covering));
    const ruleSet = own === undefined ? undefined : named?.get(own)?.ruleSet;
    if (ruleSet) this.ruleSets.set(key, u32(ruleSet.id));
    else this.ruleSets.delete(key);
  }

  /** The policies as they are about addresses that are known by a pattern. Equal policies, the same objects. */
  #narrow(members: readonly PolicyRules[], pattern: string): PolicyRules[] {
    return members.map((member) => {
      let narrowed = this.#narrowed.get(member);
      if (!narrowed) this.#narrowed.set(member, (narrowed = new Map()));
      let found = narrowed.get(pattern);
      if (!found) narrowed.set(pattern, (found = { ...member, rules: member.rules.map((rule) => this.#apply(rule, pattern)) }));
      return found;
    });
  }

  /** A rule about a name that matches is one about anyone. */
  #apply(rule: SourcedRule, pattern: string): SourcedRule {
    const matches = rule.peers?.some((peer) => peer.kind === 'names' && peer.patterns.some((own) => covers(own, pattern)));
    if (!matches) return rule;
    let applying = this.#applying.get(rule);
    if (!applying) {
      const { peers: _, ...anyone } = rule;
      this.#applying.set(rule, (applying = anyone));
    }
    return applying;
  }
}

/** Key of the named_rule_sets map: struct named_key. */
export function namedKey(ruleSet: number, pattern: number): string {
  const key = Buffer.alloc(namedKeyCodec.size);
  namedKeyCodec.write(key, 0, { ruleSet, pattern });
  return key.toString('latin1');
}

function patternText(pattern: string): string {
  return `names ${pattern}`;
}

function ruleSetText(base: RuleSet, pattern: string): string {
  return `rule set ${base.membership.key} for ${pattern}`;
}

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
import { EntryMap } from './entry-map.ts';
import { RuleSet, type RuleSetWriter } from './rule-set.ts';
import type { PolicyRules, SourcedRule } from './rules.ts';
import type { StableIds } from './stable-id.ts';

/** What a rule set says about the names that one of its patterns is the closest to. */
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
  /** Patterns in use, and those under which addresses may still be known: text → id. */
  readonly #remembered = new Map<string, number>();
  /** Pattern → what covers it, worked out once. */
  readonly #covering = new Map<string, readonly string[]>();
  #current: ReadonlySet<string> = new Set();
  /** Whether the maps' entries may differ from what is wanted. */
  #stale = false;
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

  /** What rule sets say about each of their patterns. */
  get all(): RuleSet[] {
    return [...this.#named.values()].flatMap((named) => [...named.values()].map(({ ruleSet }) => ruleSet));
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

  /** Takes over the rule sets that there are, before it is known which networks rules name. */
  follow(ruleSets: Iterable<RuleSet>): void {
    const bases = new Set([...ruleSets].filter((ruleSet) => ruleSet.direction === Direction.EGRESS && ruleSet.patterns.size));
    for (const base of bases) this.#followBase(base);
    for (const base of this.#named.keys()) if (!bases.has(base)) this.#removeBase(base);
    if (!this.#stale) return;
    this.#current = new Set([...bases].flatMap((base) => [...base.patterns]));
    for (const pattern of this.#current) {
      this.#remembered.set(pattern, this.#ids.get(patternText(pattern)));
      this.#covering.set(pattern, coveringPatterns(pattern));
    }
  }

  /** Brings the entries up to date. */
  refresh(): void {
    for (const named of this.#named.values()) for (const { ruleSet } of named.values()) ruleSet.refresh();
    if (!this.#stale) return;
    this.#writePatterns();
    this.#writeRuleSets();
    this.#stale = false;
  }

  /** Forgets the patterns that no rule has and under which nothing is known. */
  forget(idsInUse: ReadonlySet<number>): void {
    for (const [pattern, id] of this.#remembered) {
      if (this.#current.has(pattern) || idsInUse.has(id)) continue;
      this.#remembered.delete(pattern);
      this.#covering.delete(pattern);
      this.#ids.drop(patternText(pattern));
    }
    this.#writeRuleSets();
  }

  #followBase(base: RuleSet): void {
    let named = this.#named.get(base);
    if (!named) this.#named.set(base, (named = new Map()));
    for (const pattern of named.keys()) if (!base.patterns.has(pattern)) this.#remove(base, pattern, named);
    for (const pattern of base.patterns) {
      let own = named.get(pattern);
      if (!own) {
        this.#stale = true;
        const id = this.#ids.get(ruleSetText(base, pattern));
        const membership = { ...base.membership, members: this.#narrow(base.membership.members, pattern) };
        named.set(pattern, (own = { ruleSet: new RuleSet(id, membership, this.#writer), members: base.membership.members }));
      } else if (own.members !== base.membership.members) {
        own.ruleSet.setMembers(this.#narrow(base.membership.members, pattern));
        own.members = base.membership.members;
      }
    }
  }

  #removeBase(base: RuleSet): void {
    const named = this.#named.get(base) ?? new Map<string, NamedRuleSet>();
    for (const pattern of named.keys()) this.#remove(base, pattern, named);
    this.#named.delete(base);
  }

  #remove(base: RuleSet, pattern: string, named: Map<string, NamedRuleSet>): void {
    this.#stale = true;
    named.get(pattern)?.ruleSet.remove();
    named.delete(pattern);
    this.#ids.drop(ruleSetText(base, pattern));
  }

  #writePatterns(): void {
    const suffixes = new Set([...this.#current].map((pattern) => pattern.replace(/^\*\./, '')));
    const idOf = (pattern: string): number => (this.#current.has(pattern) ? (this.#remembered.get(pattern) ?? 0) : 0);
    replace(
      this.patterns,
      [...suffixes].map((suffix) => patternEntry(suffix, { exact: idOf(suffix), wildcard: idOf(`*.${suffix}`) })),
    );
  }

  #writeRuleSets(): void {
    const entries: [string, Buffer][] = [];
    for (const [base, named] of this.#named)
      for (const [pattern, id] of this.#remembered) {
        const own = this.#covering.get(pattern)?.find((covering) => named.has(covering));
        if (own === undefined) continue;
        const value = Buffer.alloc(4);
        value.writeUInt32LE(named.get(own)?.ruleSet.id ?? 0);
        entries.push([namedKey(base.id, id), value]);
      }
    replace(this.ruleSets, entries);
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

function replace(map: EntryMap, entries: readonly [string, Buffer][]): void {
  const keys = new Set(entries.map(([key]) => key));
  for (const key of [...map.entries.keys()]) if (!keys.has(key)) map.delete(key);
  for (const [key, value] of entries) map.set(key, value);
}

function patternText(pattern: string): string {
  return `names ${pattern}`;
}

function ruleSetText(base: RuleSet, pattern: string): string {
  return `rule set ${base.membership.key} for ${pattern}`;
}

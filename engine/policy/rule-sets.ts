/**
 * The rule sets of a node's endpoints, by the policies that they are made of, and who uses each.
 *
 * One that its last endpoint leaves is retired and kept, for peers that get new identities before the endpoint switches in
 * the kernel; it goes when retire() is called.
 */
import type { NamedRules } from './named-rules.ts';
import type { Pod } from './objects.ts';
import { objectProblem, type ProblemLedger } from './problem.ts';
import { type Membership, RuleSet, type RuleSetWriter } from './rule-set.ts';
import { nameOfOrigin, originPart, type RuleBook } from './rules.ts';
import type { StableIds } from './stable-id.ts';

export interface RuleSetsParts {
  readonly ids: StableIds;
  readonly book: RuleBook;
  readonly writer: Omit<RuleSetWriter, 'isolation' | 'noteStale'>;
  readonly problems: ProblemLedger;
}

export class RuleSets {
  readonly writer: RuleSetWriter;
  readonly #parts: RuleSetsParts;
  readonly #known = new Map<string, { readonly ruleSet: RuleSet; readonly users: Set<Pod> }>();
  /** Those that nobody uses any more, but in the kernel. */
  readonly #retired = new Set<string>();
  /** Made of other rules than when names were looked at last. */
  readonly #changed = new Set<RuleSet>();
  /** With entries that are not up to date, those for names included. */
  readonly #stale = new Set<RuleSet>();

  constructor(parts: RuleSetsParts) {
    this.#parts = parts;
    this.writer = {
      ...parts.writer,
      isolation: (key, policies, direction) => parts.book.isolation(key, policies, direction),
      noteStale: (ruleSet) => this.#stale.add(ruleSet),
    };
  }

  get size(): number {
    return this.#known.size;
  }

  /** The rule set of a membership, for a pod that uses it from now on. */
  use(membership: Membership, pod: Pod): RuleSet {
    const known = this.#known.get(membership.key) ?? this.#make(membership);
    known.users.add(pod);
    const { ruleSet } = known;
    const { members } = ruleSet.membership;
    if (membership.members.some((member, i) => member !== members[i])) {
      ruleSet.setMembers(membership.members);
      this.#changed.add(ruleSet);
    }
    return ruleSet;
  }

  leave(key: string, pod: Pod): void {
    const known = this.#known.get(key);
    known?.users.delete(pod);
    if (known && !known.users.size) this.#retired.add(key);
  }

  /** Takes away what nobody uses; returns whether there was anything. */
  retire(named: NamedRules): boolean {
    const { book, ids } = this.#parts;
    const retired = [...this.#retired].flatMap((key) => {
      const known = this.#known.get(key);
      return known && !known.users.size ? [[key, known.ruleSet] as const] : [];
    });
    this.#retired.clear();
    for (const [key, ruleSet] of retired) {
      named.leave(ruleSet);
      ruleSet.remove();
      for (const member of ruleSet.membership.members) book.release(member);
      this.#known.delete(key);
      this.#changed.delete(ruleSet);
      book.forgetIsolation(key);
      ids.drop(textOf(key));
    }
    return retired.length > 0;
  }

  /** Has what is said for names follow the rule sets that changed. */
  followNames(named: NamedRules): void {
    for (const ruleSet of this.#changed) named.follow(ruleSet);
    this.#changed.clear();
  }

  /** Brings every entry up to date. */
  refresh(): void {
    for (const ruleSet of this.#stale) {
      ruleSet.refresh();
      this.#report(ruleSet);
    }
    this.#stale.clear();
  }

  #make(membership: Membership): { readonly ruleSet: RuleSet; readonly users: Set<Pod> } {
    const { ids, book } = this.#parts;
    for (const member of membership.members) book.use(member);
    const ruleSet = new RuleSet(ids.get(textOf(membership.key)), membership, this.writer);
    this.#changed.add(ruleSet);
    const made = { ruleSet, users: new Set<Pod>() };
    this.#known.set(membership.key, made);
    return made;
  }

  /** Says which rules are not asked, for another one is. */
  #report(ruleSet: RuleSet): void {
    const { origins } = this.#parts.book;
    this.#parts.problems.set(
      `conflicts of rule set ${ruleSet.id}`,
      [...ruleSet.conflicts].flatMap(([notAsked, asked]) => {
        const [origin, other] = [origins.get(notAsked), origins.get(asked)];
        if (!origin || !other) return [];
        const by = `${nameOfOrigin(other)} ${originPart(other)}`;
        return objectProblem(
          { kind: origin.kind, namespace: origin.namespace, name: origin.name, part: originPart(origin) },
          `tags flows that ${by} tags for another plugin: only that one is asked`,
        );
      }),
    );
  }
}

function textOf(key: string): string {
  return `rule set ${key}`;
}

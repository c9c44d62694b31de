/** The difference between two lists, at a cost that hardly depends on how long they are: most of both is the same. */

export interface Difference<T> {
  readonly removed: readonly T[];
  readonly added: readonly T[];
}

/** Elements compare by identity. What only moved is not a difference. */
export function difference<T>(before: readonly T[], after: readonly T[]): Difference<T> {
  let start = 0;
  const shortest = Math.min(before.length, after.length);
  while (start < shortest && before[start] === after[start]) start += 1;
  let end = 0;
  while (end < shortest - start && before[before.length - 1 - end] === after[after.length - 1 - end]) end += 1;
  const old = before.slice(start, before.length - end);
  const fresh = after.slice(start, after.length - end);
  if (!old.length || !fresh.length) return { removed: old, added: fresh };
  const olds = new Set(old);
  const freshs = new Set(fresh);
  return { removed: old.filter((element) => !freshs.has(element)), added: fresh.filter((element) => !olds.has(element)) };
}

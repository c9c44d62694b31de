/** Label selectors. Source: Kubernetes LabelSelector. */
import type { Labels, Requirement, Selector } from './objects.ts';

/**
 * Whether labels satisfy every requirement. A key that is absent satisfies NotIn and DoesNotExist.
 *
 * @example
 * const labels = new Map([['app', 'web']]);
 * matches([{ key: 'app', operator: 'In', values: ['web', 'shop'] }], labels) // true
 * matches([{ key: 'tier', operator: 'NotIn', values: ['front'] }], labels) // true
 * matches([{ key: 'tier', operator: 'Exists', values: [] }], labels) // false
 */
export function matches(selector: Selector, labels: Labels): boolean {
  return selector.every((requirement) => satisfies(requirement, labels));
}

function satisfies({ key, operator, values }: Requirement, labels: Labels): boolean {
  const value = labels.get(key);
  switch (operator) {
    case 'In':
      return value !== undefined && values.includes(value);
    case 'NotIn':
      return value === undefined || !values.includes(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
  }
}

/** Label selectors. Source: Kubernetes LabelSelector. */
import type { Labels, Requirement, Selector } from './snapshot.ts';

/**
 * Whether labels satisfy every requirement. A key that is absent satisfies NotIn and DoesNotExist.
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

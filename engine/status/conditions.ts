/** From what is known of an object on all nodes to its status, in words. */

import { cut } from './node-reporter.ts';
import type { Spread } from './reports.ts';
import type { Condition, ObjectStatus } from './status-schema.ts';

const MESSAGE_MAX = 2048;

export interface Facts {
  readonly generation: number;
  /** Why it cannot be read as it is written; empty: it can. */
  readonly wrong: readonly string[];
  readonly spread: Spread;
}

type Wording = Pick<Condition, 'type' | 'status' | 'reason' | 'message'>;

/** The status. Conditions that say the same as before stand since when they stood. `now`: ISO 8601 */
export function statusOf(facts: Facts, before: ObjectStatus | undefined, now: string): ObjectStatus {
  const { total, ready, failing } = facts.spread;
  return {
    observedGeneration: facts.generation,
    conditions: [accepted(facts), programmed(facts)].map((wording) => {
      const known = before?.conditions?.find(({ type }) => type === wording.type);
      const lastTransitionTime = known?.status === wording.status ? known.lastTransitionTime : now;
      return { ...wording, observedGeneration: facts.generation, lastTransitionTime };
    }),
    nodes: { ready, total, ...(failing.length && { failing: [...failing] }) },
  };
}

function accepted({ wrong }: Facts): Wording {
  const type = 'Accepted';
  if (!wrong.length) return { type, status: 'True', reason: 'Accepted', message: 'It can be enforced.' };
  return { type, status: 'False', reason: 'Invalid', message: cut(wrong, MESSAGE_MAX) };
}

function programmed({ wrong, spread }: Facts): Wording {
  const type = 'Programmed';
  const { total, ready, failing, failingTotal } = spread;
  if (wrong.length)
    return {
      type,
      status: 'False',
      reason: 'Invalid',
      message: 'It is not in force as it is written; a policy closes what it selects until it can be read.',
    };
  if (!total) return { type, status: 'Unknown', reason: 'NoNodes', message: 'No node has reported.' };
  if (ready === total) return { type, status: 'True', reason: 'Programmed', message: `In force on ${nodes(total)}.` };
  const others = failingTotal > failing.length ? [`and ${nodes(failingTotal - failing.length)} more`] : [];
  const message = `In force on ${ready} of ${nodes(total)}`;
  if (!failingTotal) return { type, status: 'False', reason: 'Pending', message: `${message}; the others have not reported it yet.` };
  const why = [...failing.map(({ node, reason }) => `${node}: ${reason}`), ...others].join('; ');
  return { type, status: 'False', reason: 'Failing', message: `${message}; not on ${why}`.slice(0, MESSAGE_MAX) };
}

const nodes = (count: number): string => `${count} ${count === 1 ? 'node' : 'nodes'}`;

/** Whether a status says something new that people wait for; numbers of nodes alone are not. */
export function isNews(status: ObjectStatus, before: ObjectStatus | undefined): boolean {
  const said = ({ observedGeneration, conditions, nodes }: ObjectStatus): string =>
    JSON.stringify([
      observedGeneration,
      conditions?.map(({ type, status, reason, message }) => [type, status, reason, type === 'Accepted' && message]),
      nodes?.failing,
    ]);
  return !before || said(status) !== said(before);
}

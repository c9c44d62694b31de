/** The engine's status, for `/v1/status` and the metrics: what is in force, what is not, and who is told of flows and events. */
import type { z } from 'zod';
import type { Datapath } from '../kernel/datapath.ts';
import type { Pressure } from '../kernel/pressure.ts';
import type { Feed } from '../observe/feed.ts';
import { engineProblem, type Problem, viewProblem } from '../policy/problem.ts';
import type { Reconciler } from '../reconcile/reconciler.ts';
import type * as schemas from './schemas.ts';

export type StatusView = z.infer<typeof schemas.status>;

export interface StatusParts {
  readonly reconciler: Pick<Reconciler, 'status' | 'compiled'>;
  readonly datapath: Pick<Datapath, 'attachment'>;
  readonly pressure: Pick<Pressure, 'maps'>;
  /** Why requests are not decided now. */
  readonly threads: { readonly proxyProblem: string | undefined };
  /** By what they are about. */
  readonly feeds: Readonly<Record<string, Pick<Feed<unknown>, 'outlets'>>>;
}

/** Everything that is not in force as meant: of policy, and of who carries it out. */
export function findProblems({ reconciler, threads }: Pick<StatusParts, 'reconciler' | 'threads'>): Problem[] {
  const { problems } = reconciler.status;
  if (!threads.proxyProblem || !reconciler.compiled.requestRules.size) return [...problems];
  const reason = `requests are not decided and get the failure policy: ${threads.proxyProblem}`;
  return [...problems, engineProblem('rules about HTTP', reason)];
}

export function viewStatus(parts: StatusParts): StatusView {
  const { reconciler, datapath, pressure, feeds } = parts;
  return {
    ...reconciler.status,
    endpoints: [...reconciler.status.endpoints],
    problems: findProblems(parts).map(viewProblem),
    attachment: datapath.attachment,
    maps: pressure.maps,
    outlets: Object.entries(feeds).flatMap(([feed, { outlets }]) => outlets.map((outlet) => ({ feed, ...outlet }))),
  };
}

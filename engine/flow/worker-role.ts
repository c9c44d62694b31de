/**
 * The roles of a flow worker. Of the two there are, one serves: it is activated by the main thread, or takes over from one that
 * overran its budget in a plugin.
 */
import type { Transitions } from '../transitions.ts';

export type WorkerRole = 'standby' | 'serving' | 'stopping';

/**
 * From a worker's own view; what becomes of the evaluation that it stops is drawn in evaluation-guard.ts.
 *
 *     standby -> serving      activate: nobody serves
 *     standby -> serving      take over: it has stopped an evaluation of the one that serves, and finishes its batch
 *     serving -> serving      activate: the main thread may activate one that has just taken over by itself
 *     standby -> stopping     stop
 *     serving -> stopping     stop: with the batch in hand
 *     stopping -> stopping    stop
 */
export const WORKER_ROLE: Transitions<WorkerRole, 'activate' | 'take over' | 'stop'> = {
  standby: { activate: 'serving', 'take over': 'serving', stop: 'stopping' },
  serving: { activate: 'serving', stop: 'stopping' },
  stopping: { stop: 'stopping' },
};

/**
 * The roles of a flow worker. Of the two there are, one serves: it is activated by the main thread, or takes over from one that
 * overran its budget in a plugin.
 */
import type { Transitions } from '../transitions.ts';

export type WorkerRole = 'standby' | 'serving' | 'stopping';

export const WORKER_ROLE: Transitions<WorkerRole, 'activate' | 'take over' | 'stop'> = {
  standby: { activate: 'serving', 'take over': 'serving', stop: 'stopping' },
  // The main thread may activate a standby that has just taken over by itself.
  serving: { activate: 'serving', stop: 'stopping' },
  stopping: { stop: 'stopping' },
};

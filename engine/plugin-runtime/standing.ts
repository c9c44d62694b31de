/**
 * Whether a plugin is asked. One that overran its time is suspended until there is a standby again, so that it can never leave nobody to
 * take over; after some time-outs of one version it is off until another one is in force.
 */
import type { Transitions } from '../transitions.ts';

export type Standing = 'asked' | 'suspended' | 'off';

/**
 * Of a plugin with certain versions in one worker; when others are in force it begins anew, with another plugin in its place.
 *
 *     asked -> suspended        overrun
 *     suspended -> asked        resume: there is a standby again
 *     asked -> off              switch off
 *     suspended -> off          switch off
 *     asked -> asked            resume: it was another worker where it overran
 *     suspended -> suspended    overrun
 *     off -> off                overrun, resume, switch off
 */
export const STANDING: Transitions<Standing, 'overrun' | 'resume' | 'switch off'> = {
  asked: { overrun: 'suspended', 'switch off': 'off', resume: 'asked' },
  suspended: { overrun: 'suspended', resume: 'asked', 'switch off': 'off' },
  off: { overrun: 'off', resume: 'off', 'switch off': 'off' },
};

/** After this many time-outs of one version it is not asked again. */
export const TIMEOUTS_MAX = 3;

/**
 * Time-outs of plugins since their versions were put in force.
 *
 * @example
 * const timeouts = new Timeouts();
 * [timeouts.add(7), timeouts.add(7), timeouts.add(7)] // [false, false, true]
 */
export class Timeouts {
  readonly #counts = new Map<number, number>();

  /** Counts one. Returns whether the plugin is to be switched off. */
  add(plugin: number): boolean {
    const count = (this.#counts.get(plugin) ?? 0) + 1;
    this.#counts.set(plugin, count);
    return count >= TIMEOUTS_MAX;
  }

  forget(plugin: number): void {
    this.#counts.delete(plugin);
  }
}

/**
 * The ids among plugins that stand for the engine's own work, and how flows are treated that it cannot do it for: a list of server names
 * denies; pieces of DNS messages pass as they come, and backend sets have no failure of their own.
 */
import { Abi } from '../abi.gen.ts';
import type { PluginSetup } from '../plugin-runtime/plugin-setup.ts';

export type Treatment = Pick<PluginSetup, 'failureAllow' | 'enforced'>;

export const OWN_WORK: ReadonlyMap<number, Treatment> = new Map([
  [Abi.SERVER_NAMES, { failureAllow: false, enforced: true }],
  [Abi.PIECES, { failureAllow: true, enforced: true }],
  [Abi.ROUTES, { failureAllow: true, enforced: true }],
]);

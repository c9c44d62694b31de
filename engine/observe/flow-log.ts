/** The latest flows that somebody may want to see: those that plugins decided, and those that the kernel alone denied or let pass by a failure policy. */
import { Feed } from './feed.ts';
import { type FlowView, readFlow } from './flow-fields.ts';
import type { Names, Origins } from './flow-origins.ts';

/** Flows kept; older ones are forgotten, first those of whom there are most. */
export const FLOWS_MAX = 4096;

export class FlowLog {
  readonly feed = new Feed<FlowView>(FLOWS_MAX, crowdOf);
  readonly #names: Names;
  /** Flows that happened and came to no outlet: rings that were full, reports that were cut. */
  lost = 0;

  constructor(names: Names) {
    this.#names = names;
  }

  add<Origin extends keyof Origins>(origin: Origin, told: Origins[Origin]): void {
    this.feed.add(readFlow(origin, told, this.#names));
  }

  /** A flow that a plugin was asked about, as people see it, without noting it. */
  describe(flow: Origins['asked']): FlowView {
    return readFlow('asked', flow, this.#names);
  }
}

/** The flows of one endpoint with one reason: who floods pushes out nobody else's, and no other ones of its own. */
function crowdOf({ endpoint, reasonCode }: FlowView): string {
  return `${endpoint} ${reasonCode}`;
}

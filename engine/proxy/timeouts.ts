/** How long things may take, in milliseconds: for both versions of HTTP. */
export interface Timeouts {
  /** All of a head, from its first byte. */
  readonly head: number;
  /** Between two requests. */
  readonly idle: number;
  /** Until something happens on either side, while a request is under way. */
  readonly exchange: number;
  /** Until a backend accepts a connection. */
  readonly connect: number;
}

/** A backend on the same network accepts at once; one that has not after two seconds is not there. */
export const TIMEOUTS: Timeouts = { head: 10_000, idle: 75_000, exchange: 60_000, connect: 2000 };

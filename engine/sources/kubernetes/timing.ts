/** How long anything of the API server is waited for, in milliseconds. Tests have shorter ones. */
export interface Timing {
  /** A connection, and the head of an answer. */
  readonly answerMs: number;
  /** A page of a list, as a whole. */
  readonly pageMs: number;
  /** Without a message or a bookmark, which the server sends each minute, a watch is broken. */
  readonly silenceMs: number;
  /** How long a watch asks the server to last; each takes one between this and twice as much. */
  readonly watchMs: number;
  /** After this much without a byte the connection itself is asked; without an answer for half as long it is broken. */
  readonly pingMs: number;
  /** Between tries: the first, and the longest. */
  readonly backOffMs: readonly [first: number, longest: number];
  /** The longest time that a server may ask for. */
  readonly retryAfterMs: number;
  /** Between looks for a CRD that was not there: at least this, at most twice as much. */
  readonly absentMs: number;
  /** In which a source catches up, or says why not. */
  readonly catchUpMs: number;
}

export const TIMING: Timing = {
  answerMs: 20_000,
  pageMs: 60_000,
  silenceMs: 90_000,
  watchMs: 300_000,
  pingMs: 30_000,
  backOffMs: [250, 10_000],
  retryAfterMs: 30_000,
  absentMs: 15_000,
  catchUpMs: 15_000,
};

/** A time between one and two times as long: nobody does anything at the same moment as all others. */
export function spread(ms: number): number {
  return ms * (1 + Math.random());
}

/** Resolves after a time, or as soon as the signal is given. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done, { once: true });
  });
}

/**
 * The backends that one request is tried with, in either version of HTTP: a first one, and where that cannot take it another one, once.
 * Where nobody takes it, how that is answered.
 */
import type { Backend } from './backends.ts';
import type { ProxyCounts } from './messages.ts';
import type { RequestVerdict } from './request-verdict.ts';
import type { Routing } from './routing.ts';
import type { TaggedFlow } from './tagged-flow.ts';

const TRIES_MAX = 2;
/** Errors of connections that never were. */
const NEVER_CONNECTED: ReadonlySet<string> = new Set(['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'ETIMEDOUT', 'EACCES', 'EPERM']);

/** How a request is answered that no backend answers. */
export interface Unanswered {
  readonly status: number;
  readonly reason: string;
}

export interface AttemptsParts {
  readonly routing: Pick<Routing, 'choose' | 'noteFailure'>;
  readonly counts: Pick<ProxyCounts, 'retries'>;
}

/** Whether an error's name says that the other side was never reached. */
export function isUnreached(code: string): boolean {
  return NEVER_CONNECTED.has(code);
}

export class Attempts {
  readonly #parts: AttemptsParts;
  readonly #client: { readonly flow: TaggedFlow };
  readonly #verdict: RequestVerdict;
  #tries = 0;
  /** The one that was chosen last. */
  backend: Backend | undefined;
  /** Set where none was found. */
  unanswered: Unanswered | undefined;

  constructor(parts: AttemptsParts, client: { readonly flow: TaggedFlow }, verdict: RequestVerdict) {
    this.#parts = parts;
    this.#client = client;
    this.#verdict = verdict;
  }

  /** Chooses the first backend. Returns undefined where there is none, and `unanswered` says how that is answered. */
  first(nowMs: number): Backend | undefined {
    return this.#choose(undefined, '', nowMs);
  }

  /**
   * Chooses another one, after the connection to the last was lost. `unreached`: it never was one. `repeatable`: the request can be sent
   * again as it was, and does no harm twice. Returns undefined where there is none, and `unanswered` says how that is answered.
   */
  next(code: string, unreached: boolean, repeatable: boolean, nowMs: number): Backend | undefined {
    const { routing, counts } = this.#parts;
    const last = this.backend;
    if (last && unreached) routing.noteFailure(last, nowMs);
    if (repeatable && this.#tries < TRIES_MAX) {
      counts.retries += 1;
      return this.#choose(unreached ? last : undefined, code, nowMs);
    }
    return this.#fail(unreached ? 503 : 502, unreached ? unreachedText(code) : 'the backend broke off');
  }

  #choose(except: Backend | undefined, code: string, nowMs: number): Backend | undefined {
    this.#tries += 1;
    const backend = this.#parts.routing.choose(this.#client.flow, this.#verdict, except, nowMs);
    if (!backend) return this.#fail(503, 'there is no backend that is ready and allowed');
    // Nobody waits twice for the same one.
    if (backend === except && code === 'ETIMEDOUT') return this.#fail(503, unreachedText(code));
    this.backend = backend;
    return backend;
  }

  #fail(status: number, reason: string): undefined {
    this.unanswered = { status, reason };
  }
}

function unreachedText(code: string): string {
  return `the backend cannot be reached${code && ` (${code})`}`;
}

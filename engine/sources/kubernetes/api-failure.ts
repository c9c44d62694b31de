/** Why the API server did not give what was asked: one error, by what is to be done about it. */

export type FailureKind =
  /** No connection, no answer, or one that ended too early. */
  | 'unreachable'
  /** An answer that cannot be one of an API server. */
  | 'nonsense'
  /** 401 */
  | 'unknown-user'
  /** 403 */
  | 'forbidden'
  /** 404 */
  | 'absent'
  /** The resourceVersion, or where a list goes on, is none that the server still knows: list again. */
  | 'expired'
  /** More bytes than are read at once: ask for fewer objects. */
  | 'too-large'
  /** Any other status: 429, 5xx. */
  | 'refused';

export class ApiFailure extends Error {
  readonly kind: FailureKind;
  /** How long the server wants to be left alone. */
  readonly retryAfterMs: number | undefined;

  constructor(kind: FailureKind, message: string, retryAfterMs?: number) {
    super(message);
    this.name = 'ApiFailure';
    this.kind = kind;
    this.retryAfterMs = retryAfterMs;
  }
}

/** A Status of the API, as far as it says anything. */
export interface StatusObject {
  readonly code?: number;
  readonly reason?: string;
  readonly message?: string;
  readonly details?: { readonly retryAfterSeconds?: number; readonly causes?: readonly { readonly reason?: string }[] };
}

const KINDS: Readonly<Record<number, FailureKind>> = { 401: 'unknown-user', 403: 'forbidden', 404: 'absent', 410: 'expired' };
/** A server that was restored from an older state does not know what we know; it says so by 504. */
const TOO_LARGE = 'ResourceVersionTooLarge';
const EXPIRED_REASONS = new Set(['Expired', 'Gone']);
const MESSAGE_MAX = 300;

/** The failure that an answer with a status of its own stands for. `retryAfterMs`: of the answer's header. */
export function failureOf(httpStatus: number, status: StatusObject, retryAfterMs?: number): ApiFailure {
  const code = typeof status.code === 'number' ? status.code : httpStatus;
  const expired = EXPIRED_REASONS.has(status.reason ?? '') || status.details?.causes?.some?.(({ reason }) => reason === TOO_LARGE);
  const text = typeof status.message === 'string' && status.message ? `: ${status.message.slice(0, MESSAGE_MAX)}` : '';
  const seconds = status.details?.retryAfterSeconds;
  return new ApiFailure(
    expired ? 'expired' : (KINDS[code] ?? 'refused'),
    `${code} ${typeof status.reason === 'string' ? status.reason : ''}`.trim() + text,
    retryAfterMs ?? (typeof seconds === 'number' && seconds > 0 ? seconds * 1000 : undefined),
  );
}

/** Every error that the engine throws for its operator. What happens to a packet is never thrown: it is returned. */

/** Stable codes, listed in engine/README.md with what to do about each. */
export const ERROR_CODES = [
  'CONFIG_INVALID',
  'NOT_ROOT',
  'NO_BPFFS',
  'NOT_BUILT',
  'KERNEL_UNSUPPORTED',
  'KERNEL_LOAD',
  'KERNEL_CALL',
  'MAP_MISMATCH',
  'MAP_FULL',
  'KERNEL_DISAGREES',
  'ENGINE_RUNNING',
  'SOURCE_MISSING',
  'STATE_DAMAGED',
  'NOTHING_PENDING',
  'API_LISTEN',
  'API_UNREACHABLE',
  'API_REFUSED',
  'API_DENIED',
  'PLUGIN_INVALID',
  'PLUGIN_UNKNOWN',
  'MODULE_UNAVAILABLE',
  'PLUGIN_BUILD',
  'PLUGIN_TEST',
  'LAB',
  'TIMEOUT',
] as const;
export type ErrorCode = (typeof ERROR_CODES)[number];

/**
 * An error that the operator can act on. Its message reads "Cannot <do> <what>: <why>", without a full stop.
 */
export class EngineError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'EngineError';
    this.code = code;
  }
}

/** The text of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The engine's log: JSON lines, or readable ones on a terminal. Goes to stderr; stdout belongs to the commands' results. */
import { type Logger, pino } from 'pino';
import pretty from 'pino-pretty';

export type { Logger } from 'pino';

/** One logger for the process; each room takes a child of it with `room`. */
export function createLogger(level: string): Logger {
  const stream = process.stderr.isTTY
    ? pretty({ destination: 2, ignore: 'pid,hostname', sync: true })
    : pino.destination({ dest: 2, sync: true });
  return pino({ level, base: null }, stream);
}

/** A logger that says nothing, for callers without an audience. */
export const silentLogger: Logger = pino({ level: 'silent' });

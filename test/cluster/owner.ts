/** Processes that own something: told apart from later ones with the same number by when they started. */
import { readFileSync } from 'node:fs';

export interface Owner {
  readonly pid: number;
  /** Clock ticks since the machine started. */
  readonly startTicks: string;
}

/** When a process started, by the text of its /proc/PID/stat; a name in it may have spaces and parentheses. */
export function startTicksIn(stat: string): string {
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}

function startTicks(pid: number): string | undefined {
  try {
    return startTicksIn(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return undefined;
  }
}

export const thisProcess = (): Owner => ({ pid: process.pid, startTicks: startTicks(process.pid) ?? '' });

export const isAlive = ({ pid, startTicks: ticks }: Owner): boolean => startTicks(pid) === ticks;

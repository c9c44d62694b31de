/** Whether this kernel has SCTP sockets, in which upstream's suites send a part of their probes. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

export function hasSctp(): boolean {
  try {
    execFileSync('modprobe', ['-q', 'sctp'], { stdio: 'ignore' });
  } catch {
    // No such module, or nothing that loads one: then it is built in or not there.
  }
  return /^SCTP/m.test(readFileSync('/proc/net/protocols', 'utf8'));
}

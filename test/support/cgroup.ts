/** A cgroup of a test's own, in the unified hierarchy. */
import { mkdirSync, readFileSync, rmdirSync } from 'node:fs';

const mount = readFileSync('/proc/self/mounts', 'utf8')
  .split('\n')
  .map((line) => line.split(' '))
  .find(([, , type]) => type === 'cgroup2')?.[1];

export class TestCgroup {
  /** Below the cgroup2 mount, as an annotation names it. */
  readonly name: string;

  constructor(name: string) {
    this.name = `/sluice-test-${process.pid}-${name}`;
    mkdirSync(this.path);
  }

  get path(): string {
    return `${mount}${this.name}`;
  }

  /** A command that runs another one inside. */
  enter(...command: readonly string[]): string[] {
    return ['sh', '-c', `echo $$ > ${this.path}/cgroup.procs && exec "$@"`, 'sh', ...command];
  }

  /** Removes it; false while processes in it still end. */
  tryRemove(): boolean {
    try {
      rmdirSync(this.path);
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EBUSY') throw error;
      return false;
    }
  }
}

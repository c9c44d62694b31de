/**
 * A program that stays: it has a cgroup of its own, by which it is found and ended, and a log. It lives on when the process that started it
 * ends; who knows its cgroup can stop it.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { isPopulated, killCgroup, makeProcessCgroup, processesIn } from './cgroups.ts';
import { until } from './until.ts';

/** Enters a cgroup, then becomes the rest of the command. A cgroup that was taken away meanwhile ends it. */
export const inCgroup = (procs: string, command: readonly string[]): string[] => [
  'sh',
  '-c',
  'echo 0 >"$0" && exec "$@"',
  procs,
  ...command,
];

export interface DaemonOptions {
  readonly name: string;
  readonly cgroup: string;
  /** Appended to. */
  readonly log: string;
  /** With whatever enters its namespaces; a function is asked at each start. */
  readonly command: readonly string[] | (() => readonly string[]);
  readonly env?: Readonly<Record<string, string>>;
}

export class Daemon {
  readonly name: string;
  readonly cgroup: string;
  readonly log: string;
  readonly #command: () => readonly string[];
  readonly #env: Readonly<Record<string, string>>;
  #ended: string | undefined;
  #end: Promise<number> = Promise.resolve(-1);

  constructor({ name, cgroup, log, command, env }: DaemonOptions) {
    this.name = name;
    this.cgroup = cgroup;
    this.log = log;
    this.#command = typeof command === 'function' ? command : () => command;
    this.#env = env ?? {};
  }

  /** Starts it; also again, after stop(). */
  start(): this {
    mkdirSync(dirname(this.log), { recursive: true });
    const log = openSync(this.log, 'a');
    const [program = '', ...args] = inCgroup(makeProcessCgroup(this.cgroup), this.#command());
    const child = spawn(program, args, {
      detached: true,
      cwd: '/',
      stdio: ['ignore', log, log],
      env: { ...process.env, ...this.#env },
    });
    closeSync(log);
    this.#ended = undefined;
    this.#end = new Promise((resolve) => {
      const end = (how: string, code: number): void => {
        this.#ended = how;
        resolve(code);
      };
      child.on('error', (error) => end(error.message, -1));
      child.on('exit', (code, signal) => end(`it ended with ${signal ?? code}`, code ?? -1));
    });
    child.unref();
    return this;
  }

  /** How it ended, of one that this process started; undefined while it runs. */
  ended(): string | undefined {
    return this.#ended;
  }

  /** Its exit code when it ends, -1 where a signal ended it; of one that this process started. Rejects when waiting is aborted. */
  async exitCode(signal?: AbortSignal): Promise<number> {
    if (!signal) return this.#end;
    signal.throwIfAborted();
    return Promise.race([this.#end, once(signal, 'abort').then((): never => signal.throwIfAborted() as never)]);
  }

  isRunning(): boolean {
    return isPopulated(this.cgroup);
  }

  /** Where to look, with the end of its log: it ends the message of an error. */
  hint(lines = 3): string {
    let text = '';
    try {
      text = readFileSync(this.log, 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
    } catch {
      // Not started: there is nothing to tell.
    }
    return `its log is ${this.log}${text ? `, which ends with:\n${text}` : ''}`;
  }

  signal(signal: NodeJS.Signals): void {
    for (const pid of processesIn(this.cgroup))
      try {
        process.kill(pid, signal);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
      }
  }

  /** Asks it to end, and ends it after `graceMs`; 0 does so at once. */
  async stop(graceMs = 5_000): Promise<void> {
    if (graceMs > 0) {
      this.signal('SIGTERM');
      await until(() => !this.isRunning(), { what: `the end of ${this.name}`, timeoutMs: graceMs }).catch(() => {});
    }
    await killCgroup(this.cgroup);
  }
}

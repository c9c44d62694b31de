/** Other programs, run to their end: what they said, or an error that repeats it. Programs that stay are in daemon.ts. */
import { execFile } from 'node:child_process';

/** Output that is more than this ends the program. */
const OUTPUT_BYTES = 64 << 20;

export interface CommandOptions {
  /** Written to its standard input, which is closed then. Default: nothing. */
  readonly input?: string;
  /** It is killed after this time. Default: one minute. */
  readonly timeoutMs?: number;
  /** Added to this process's environment. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Kills it. */
  readonly signal?: AbortSignal | undefined;
}

/** A program that ended with another code than 0, or could not be started. */
export class CommandError extends Error {
  /** Exit code, or -1 where a signal ended it or it did not start. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;

  constructor(command: readonly string[], { code, stdout, stderr }: { code: number; stdout: string; stderr: string }, cause: Error) {
    super(`Cannot run ${command.join(' ').slice(0, 400)}: ${stderr.trim() || stdout.trim() || cause.message}`, { cause });
    this.name = 'CommandError';
    this.code = code;
    this.stdout = stdout;
    this.stderr = stderr;
  }
}

/** Runs a program to its end. Returns its standard output. @throws CommandError */
export function run(command: readonly string[], options: CommandOptions = {}): Promise<string> {
  const [program = '', ...args] = command;
  return new Promise((resolve, reject) => {
    const child = execFile(
      program,
      args,
      {
        encoding: 'utf8',
        maxBuffer: OUTPUT_BYTES,
        timeout: options.timeoutMs ?? 60_000,
        killSignal: 'SIGKILL',
        env: { ...process.env, ...options.env },
        ...(options.cwd ? { cwd: options.cwd } : {}),
        ...(options.signal ? { signal: options.signal } : {}),
      },
      (error, stdout, stderr) => {
        if (!error) return resolve(stdout);
        reject(new CommandError(command, { code: typeof error.code === 'number' ? error.code : -1, stdout, stderr }, error));
      },
    );
    // A program that ends before it has read everything says by its exit code whether that was wrong.
    child.stdin?.on('error', () => {});
    child.stdin?.end(options.input ?? '');
  });
}

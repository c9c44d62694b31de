/** A lock between processes, held by util-linux's flock: the kernel gives it back when its holder ends, however that comes. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';

/**
 * Takes the lock of a file, which is made and stays. Returns what gives it back.
 *
 * `waiting` is told now and then that somebody else has it.
 */
export async function lock(file: string, waiting: () => void, signal?: AbortSignal): Promise<() => void> {
  const holder = spawn('flock', [file, 'sh', '-c', 'echo; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    // A terminal's Ctrl-C is for the builder, which gives the lock back when it has cleaned up.
    detached: true,
    ...(signal ? { signal } : {}),
  });
  const timer = setInterval(waiting, 15_000);
  const first = setTimeout(waiting, 1_000);
  try {
    await Promise.race([
      once(holder.stdout, 'data'),
      once(holder, 'exit').then(() => Promise.reject(new Error(`Cannot lock ${file}: flock ended; is util-linux installed?`))),
      once(holder, 'error').then(([error]) => Promise.reject(error as Error)),
    ]);
  } finally {
    clearInterval(timer);
    clearTimeout(first);
  }
  return () => void holder.stdin.end();
}

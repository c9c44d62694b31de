/** The Go that builds the programs: found on this machine, and asked to fetch the newer one that a module wants as a module. */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { CommandError, run } from '../command.ts';

/** Where Go is besides the PATH: its own installer's place and Debian's. */
const PLACES = ['go', '/usr/local/go/bin/go', ...['1.26', '1.25', '1.24'].map((version) => `/usr/lib/go-${version}/bin/go`)];
/** The oldest one that reads the modules here. */
const MINIMUM = [1, 24];
const SAY_EVERY_MS = 15_000;

const ENVIRONMENT = { CGO_ENABLED: '0', GOFLAGS: '-mod=readonly', GOTOOLCHAIN: 'auto', GOWORK: 'off' };

/** Whether the text of `go version` is of one that is new enough. */
export function isNewEnough(version: string): boolean {
  const [major = 0, minor = 0] = (/go(\d+)\.(\d+)/.exec(version)?.slice(1) ?? []).map(Number);
  return major > MINIMUM[0]! || (major === MINIMUM[0] && minor >= MINIMUM[1]!);
}

/** @throws Error that says how to have it. */
async function findGo(): Promise<string> {
  for (const place of PLACES) {
    // Outside of a module, so that it is its own version and not that of a module's toolchain.
    const version = await run([place, 'version'], { cwd: '/', env: { GOTOOLCHAIN: 'local' } }).catch(() => '');
    if (isNewEnough(version)) return place;
  }
  throw new Error(`Cannot build programs: there is no Go ${MINIMUM.join('.')} or newer; bash deploy/setup.sh cluster`);
}

export interface GoCommand {
  /** Of the module. */
  readonly directory: string;
  readonly arguments: readonly string[];
  /** For the lines that say how far it is. */
  readonly what: string;
  readonly report: (line: string) => void;
  readonly signal?: AbortSignal | undefined;
}

/** Runs `go build -v` or the like, and says now and then how far it is. @throws CommandError */
export async function go({ directory, arguments: args, what, report, signal }: GoCommand): Promise<void> {
  const program = await findGo();
  const started = performance.now();
  let [downloaded, compiled] = [0, 0];
  const rest: string[] = [];
  const child = spawn(program, args, {
    ...{ cwd: directory, env: { ...process.env, ...ENVIRONMENT }, stdio: ['ignore', 'ignore', 'pipe'] },
    ...(signal ? { signal } : {}),
  });
  createInterface({ input: child.stderr }).on('line', (line) => {
    if (line.startsWith('go: downloading ')) downloaded += 1;
    else if (/^[\w.~-]+(\/[\w.~-]+)*$/.test(line)) compiled += 1;
    else rest.push(line);
  });
  const timer = setInterval(() => {
    const seconds = Math.round((performance.now() - started) / 1000);
    report(`building ${what}: ${compiled} packages compiled, ${downloaded} modules fetched, ${seconds} s`);
  }, SAY_EVERY_MS);
  try {
    const code = await new Promise<number>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code) => resolve(code ?? -1));
    });
    if (code)
      throw new CommandError([program, ...args], { code, stdout: '', stderr: rest.slice(-40).join('\n') }, new Error(`code ${code}`));
  } finally {
    clearInterval(timer);
  }
}

/** Where the source of a required module is on this machine. */
export async function moduleDirectory(directory: string, module: string): Promise<string> {
  const listed = await run([await findGo(), 'list', '-m', '-f', '{{.Dir}}', module], { cwd: directory, env: ENVIRONMENT });
  return listed.trim();
}

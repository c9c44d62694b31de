/**
 * A node of its own for a test: a network namespace in which a lab and an engine run, with its own bpffs directory.
 *
 * remove() takes everything away, also when the test failed half way; call it from afterAll or afterEach.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
/** How much longer than elsewhere things may take: on an emulated machine, ten times. */
const SLOW = Number(process.env.SLUICE_TEST_SLOW ?? 1);
let nodes = 0;

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunningEngine {
  readonly process: ChildProcess;
  /** Its log so far. */
  log(): string;
  /** Ends it with a signal and waits for that. */
  stop(signal?: NodeJS.Signals): Promise<void>;
}

export class TestNode {
  readonly name: string;
  readonly directory: string;
  readonly bpffs: string;
  /** The source directory of the lab, once it is up. */
  source = '';
  /** The command that engines are started by, such as `setpriv` and its flags. */
  wrap: readonly string[] = [];
  readonly #cli: string;
  readonly #engines: RunningEngine[] = [];
  readonly #children: ChildProcess[] = [];

  /** `checkout`: whose engine runs here; a benchmark has an older one beside this one. */
  constructor(checkout: string = root) {
    this.#cli = join(checkout, 'engine/cli/sluice.js');
    nodes += 1;
    this.name = `t${process.pid}-${nodes}`;
    this.directory = mkdtempSync(join(tmpdir(), 'sluice-test-'));
    this.bpffs = `/sys/fs/bpf/sluice-test-${this.name}`;
    execFileSync('ip', ['netns', 'add', this.#netns]);
    try {
      execFileSync('ip', ['-n', this.#netns, 'link', 'set', 'lo', 'up']);
    } catch (error) {
      execFileSync('ip', ['netns', 'delete', this.#netns]);
      rmSync(this.directory, { recursive: true, force: true });
      throw error;
    }
  }

  /** Brings a lab up from manifests, and makes `source` its directory. */
  async lab(manifests: string): Promise<void> {
    const path = join(this.directory, 'lab.yaml');
    writeFileSync(path, manifests);
    const slowly = SLOW > 1 ? ['--ready-timeout', `${10 * SLOW}s`] : [];
    const { stdout } = await this.sluiceOk('lab', 'up', path, '--name', this.name, ...slowly, '-o', 'json');
    this.source = (JSON.parse(stdout) as { source: string }).source;
  }

  /** Writes a manifest into the source, whole or not at all. */
  write(file: string, text: string): void {
    const half = join(this.source, `.${file}.tmp`);
    writeFileSync(half, text);
    renameSync(half, join(this.source, file));
  }

  delete(file: string): void {
    rmSync(join(this.source, file), { force: true });
  }

  /** Starts an engine on the lab's source, and returns when its API answers that it is ready. */
  async engine(...flags: string[]): Promise<RunningEngine> {
    const engine = this.spawnEngine(...flags);
    await until(
      async () => (await this.curl('http://127.0.0.1:9470/readyz')).code === 0,
      15_000,
      () => engine.log(),
    );
    return engine;
  }

  /** Starts an engine without waiting. */
  spawnEngine(...flags: string[]): RunningEngine {
    const state = join(this.directory, 'state');
    mkdirSync(state, { recursive: true });
    const args = [
      ...this.wrap,
      process.execPath,
      this.#cli,
      'run',
      '--source',
      `dir:${this.source}`,
      '--bpffs',
      this.bpffs,
      '--state-dir',
      state,
      ...(flags.includes('--log-level') ? [] : ['--log-level', 'debug']),
      ...flags,
    ];
    const child = spawn('nsenter', [`--net=/run/netns/${this.#netns}`, '--', ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let log = '';
    child.stderr.on('data', (chunk) => (log += chunk));
    child.stdout.on('data', (chunk) => (log += chunk));
    const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    const engine: RunningEngine = {
      process: child,
      log: () => log,
      stop: async (signal = 'SIGTERM') => {
        child.kill(signal);
        await exited;
      },
    };
    this.#engines.push(engine);
    return engine;
  }

  /** Runs the command line on this node. */
  sluice(...args: string[]): Promise<Ran> {
    return this.run(process.execPath, this.#cli, ...args);
  }

  /** The same; throws unless it exits with 0. */
  async sluiceOk(...args: string[]): Promise<Ran> {
    const ran = await this.sluice(...args);
    if (ran.code !== 0) throw new Error(`sluice ${args.join(' ')} exited with ${ran.code}: ${ran.stderr}${ran.stdout}`);
    return ran;
  }

  /** Puts the source as it is now in force; throws where something is not. */
  async apply(): Promise<void> {
    await this.sluiceOk('wait', '--timeout', `${10 * SLOW}s`);
  }

  /** Runs a command in this node's network. */
  run(...command: string[]): Promise<Ran> {
    return runIn(this.#netns, command);
  }

  /** Runs a command in a pod's network. `pod` is NAMESPACE/NAME. */
  exec(pod: string, ...command: string[]): Promise<Ran> {
    return runIn(this.podNetns(pod), command);
  }

  /** Starts a command in a pod's network; it is ended with the node. */
  start(pod: string, ...command: string[]): ChildProcess {
    const child = spawn('nsenter', [`--net=/run/netns/${this.podNetns(pod)}`, '--', ...command], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#children.push(child);
    return child;
  }

  /** Starts a command in this node's network; it is ended with the node. */
  startOnNode(...command: string[]): ChildProcess {
    const child = spawn('nsenter', [`--net=/run/netns/${this.#netns}`, '--', ...command], { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#children.push(child);
    return child;
  }

  /** Ends every engine, and waits for that. */
  async stopEngines(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    for (const engine of this.#engines)
      if (engine.process.exitCode === null && engine.process.signalCode === null) await engine.stop(signal);
  }

  /** Whether a pod reaches an address with TCP: one connection, answered or not within the time. */
  async reaches(pod: string, address: string, port: number, seconds = 0.6): Promise<boolean> {
    const host = address.includes(':') ? `[${address}]` : address;
    return (await this.exec(pod, 'curl', '-gs', '-m', String(seconds * SLOW), '-o', '/dev/null', `http://${host}:${port}/`)).code === 0;
  }

  curl(...args: string[]): Promise<Ran> {
    return this.run('curl', '-gsf', '-m', String(5 * SLOW), ...args);
  }

  /** A JSON answer of the engine's API. */
  async api<T>(path: string, ...args: string[]): Promise<T> {
    const { stdout } = await this.run('curl', '-gs', '-m', String(10 * SLOW), ...args, `http://127.0.0.1:9470${path}`);
    return JSON.parse(stdout) as T;
  }

  /** The IPv4 address that the lab gave a pod; its name without the namespace. */
  podAddress(name: string): string {
    const manifests = readFileSync(join(this.source, 'cluster.yaml'), 'utf8');
    const [, address] = new RegExp(`name: ${name}\\n[\\s\\S]*?ip: ([\\d.]+)`).exec(manifests) ?? [];
    if (!address) throw new Error(`the lab has no pod ${name}`);
    return address;
  }

  podNetns(pod: string): string {
    return `sluice.${this.name}.${pod.replace('/', '.')}`;
  }

  /** @throws Error when something is left, after everything else has been taken away. */
  async remove(): Promise<void> {
    for (const child of this.#children) child.kill('SIGKILL');
    await this.stopEngines('SIGKILL');
    const ran = [await this.sluice('cleanup', '--bpffs', this.bpffs), await this.sluice('lab', 'down', '--name', this.name)];
    execFileSync('ip', ['netns', 'delete', this.#netns]);
    rmSync(this.directory, { recursive: true, force: true });
    const left = ran.filter(({ code }) => code !== 0).map(({ stderr }) => stderr);
    if (left.length) throw new Error(`node ${this.name} was not taken away: ${left.join('; ')}`);
  }

  get #netns(): string {
    return `sluicetest-${this.name}`;
  }
}

function runIn(netns: string, command: readonly string[]): Promise<Ran> {
  return new Promise((resolve) => {
    execFile('nsenter', [`--net=/run/netns/${netns}`, '--', ...command], { maxBuffer: 64 << 20 }, (error, stdout, stderr) => {
      const code = error ? (typeof error.code === 'number' ? error.code : 255) : 0;
      resolve({ code, stdout, stderr });
    });
  });
}

/** Waits for a condition, at most that long. @throws Error with what `explain` says when the time is over. */
export async function until(condition: () => Promise<boolean> | boolean, limitMs: number, explain: () => string = () => ''): Promise<void> {
  const deadline = performance.now() + limitMs * SLOW;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not so within ${limitMs} ms: ${explain()}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

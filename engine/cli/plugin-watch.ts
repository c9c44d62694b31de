/** `sluice plugin watch`: save, and half a second later the version runs as a shadow and says what it would change. */
import { watch } from 'chokidar';
import { EngineError } from '../errors.ts';
import { buildPlugin, Compiler } from '../plugin-tools/build-plugin.ts';
import { CaseRunner } from '../plugin-tools/case-runner.ts';
import { readCases } from '../plugin-tools/cases.ts';
import { modulePath } from '../plugin-tools/paths.ts';
import type { ApiClient } from './client.ts';
import { paint } from './output.ts';
import { readModuleFile, showResults } from './plugin-author-commands.ts';
import { type Plugin, type Pushed, pluginPath, showPushed } from './pushed-plugin.ts';

/** How often the engine is asked what the shadow would have changed. */
const ASK_MS = 500;
/** Editors write a file in several steps. */
const SETTLE_MS = 30;

const KEYS = 'p promotes it, r takes it away or rolls back, q ends';

export async function watchPlugin(client: ApiClient, directory: string, name: string): Promise<void> {
  const session = new WatchSession(client, directory, name);
  await session.run();
}

class WatchSession {
  readonly #client: ApiClient;
  readonly #directory: string;
  readonly #name: string;
  readonly #compiler = new Compiler();
  #shown = '';
  /** The work that is under way; the next waits for it. */
  #busy: Promise<void> = Promise.resolve();

  constructor(client: ApiClient, directory: string, name: string) {
    this.#client = client;
    this.#directory = directory;
    this.#name = name;
  }

  /** Until the author ends it. @throws EngineError when the engine cannot be reached at the beginning. */
  async run(): Promise<void> {
    await this.#client.request<Plugin>('GET', pluginPath(this.#name));
    let timer: NodeJS.Timeout | undefined;
    const files = watch(this.#directory, { ignored: (path) => /\/(build|node_modules)(\/|$)/.test(path), ignoreInitial: true });
    files.on('all', () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.#do(() => this.#build()), SETTLE_MS);
    });
    const asking = setInterval(() => this.#do(() => this.#showChanges()), ASK_MS);
    this.#do(() => this.#build());
    try {
      await this.#keys();
    } finally {
      clearInterval(asking);
      clearTimeout(timer);
      await files.close();
      await this.#busy;
      this.#compiler.close();
    }
  }

  /** One thing after the other; what fails is said, and the session goes on. */
  #do(act: () => Promise<void>): void {
    this.#busy = this.#busy.then(act).catch((error: unknown) => {
      if (!(error instanceof EngineError)) throw error;
      console.log(`${paint('red', error.message)}`);
    });
  }

  async #build(): Promise<void> {
    const started = performance.now();
    const { messages } = await buildPlugin(this.#directory, undefined, this.#compiler);
    if (messages) console.log(messages);
    const module = readModuleFile(modulePath(this.#directory));
    const cases = readCases(this.#directory);
    const runner = await CaseRunner.create(module, cases);
    const results = cases.cases.map((one) => runner.run(one));
    if (results.some(({ differences }) => differences.length)) {
      showResults(results);
      return;
    }
    const { state } = await this.#client.request<Plugin>('GET', pluginPath(this.#name));
    // Without a version in force there is nothing to run beside.
    const mode = state === 'on' ? 'shadow' : 'enforce';
    const pushed = await this.#client.request<Pushed>('PUT', pluginPath(this.#name, `?mode=${mode}`), module);
    this.#shown = '';
    showPushed(pushed, mode);
    console.log(
      paint('dim', `  ${results.length} cases as expected, ${Math.round(performance.now() - started)} ms after the save; ${KEYS}`),
    );
  }

  async #showChanges(): Promise<void> {
    const { candidate } = await this.#client.request<Plugin>('GET', pluginPath(this.#name));
    if (!candidate) return;
    const changes = Object.entries(candidate.changed).map(([change, count]) => `${count} × ${change}`);
    const text = `${candidate.evaluations} evaluations: ${changes.join(', ') || 'nothing would change'}`;
    if (text === this.#shown || !candidate.evaluations) return;
    this.#shown = text;
    console.log(changes.length ? paint('yellow', text) : paint('dim', text));
    const latest = candidate.samples.at(-1) as { live: string; shadow: string; reason: string; flow?: Flow } | undefined;
    if (latest?.flow && changes.length)
      console.log(
        paint(
          'dim',
          `  such as ${partyName(latest.flow.source)} → ${partyName(latest.flow.destination)}:${latest.flow.destination.port}: ${latest.shadow} ${latest.reason}`,
        ),
      );
  }

  /** Resolves when the author wants to end. */
  #keys(): Promise<void> {
    const { stdin } = process;
    stdin.setRawMode?.(true);
    stdin.resume();
    return new Promise((resolve) => {
      const end = (): void => {
        stdin.setRawMode?.(false);
        stdin.destroy();
        process.off('SIGINT', end);
        process.off('SIGTERM', end);
        resolve();
      };
      process.on('SIGINT', end);
      process.on('SIGTERM', end);
      stdin.on('data', (chunk: Buffer) => {
        for (const key of chunk.toString()) {
          if (key === 'p') this.#do(() => this.#change('promote'));
          else if (key === 'r') this.#do(() => this.#change('rollback'));
          else if (key === 'q' || key === '\u0003') end();
        }
      });
    });
  }

  async #change(change: 'promote' | 'rollback'): Promise<void> {
    const plugin = await this.#client.request<Plugin>('POST', pluginPath(this.#name, `/${change}`));
    console.log(paint('green', `${plugin.name} ${plugin.version} (${plugin.sha256.slice(0, 12)}) is in force, epoch ${plugin.epoch}`));
  }
}

interface Flow {
  readonly source: { readonly pod: string; readonly address: string };
  readonly destination: { readonly pod: string; readonly address: string; readonly port: number };
}

function partyName({ pod, address }: { pod: string; address: string }): string {
  return pod || address;
}

/**
 * A process that compiles plugins, one a message: some sources make the compiler loop for ever, and a defect of its own
 * makes it end its process. It stays warm between messages.
 */
import { readFile } from 'node:fs/promises';
import { basename, dirname, relative, resolve } from 'node:path';
import { main } from 'assemblyscript/asc';
import { PolicyTransform } from './policy-transform.ts';

export interface CompileOrder {
  /** Absolute path of the plugin's index.ts. */
  readonly source: string;
  /** Where the SDK's packages are, and its runtime. */
  readonly packages: string;
  readonly runtime: string;
  readonly memoryPages: number;
}

export interface CompileResult {
  readonly module?: Uint8Array;
  /** JSON. */
  readonly sourceMap?: string;
  /** The compiler's messages. */
  readonly messages: string;
}

/** An empty entry for the compiler to begin with; the transform adds the one that this plugin needs. */
const ENTRY = 'sluice-entry.ts';

async function compile({ source, packages, runtime, memoryPages }: CompileOrder): Promise<CompileResult> {
  const directory = dirname(source);
  process.chdir(directory);
  let messages = '';
  const written = new Map<string, string | Uint8Array>();
  const write = (text: string | Uint8Array): void => {
    messages += typeof text === 'string' ? text : Buffer.from(text).toString('utf8');
  };
  const { error } = await main(
    [
      ENTRY,
      ...['-O2', '--exportStart', '_initialize', '--maximumMemory', String(memoryPages), '--noColors', '--sourceMap'],
      ...['--runtime', relative(directory, resolve(runtime)), '--path', packages, '--outFile', 'out.wasm'],
    ],
    {
      stdout: { write },
      stderr: { write },
      transforms: [PolicyTransform],
      readFile: async (name: string, base: string) =>
        name === ENTRY ? `import './${basename(source, '.ts')}';` : readText(resolve(base, name)),
      writeFile: (name: string, content: string | Uint8Array) => void written.set(basename(name), content),
    } as never,
  );
  const module = written.get('out.wasm');
  if (error || !(module instanceof Uint8Array)) return { messages: messages || String(error) };
  return { module, sourceMap: String(written.get('out.wasm.map') ?? ''), messages };
}

function readText(path: string): Promise<string | null> {
  return readFile(path, 'utf8').catch(() => null);
}

process.on('message', (order: CompileOrder) => {
  void compile(order).then((result) => process.send?.(result));
});

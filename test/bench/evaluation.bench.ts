/**
 * What does one evaluation take in the host, from the question to the verdict word, what of it is fuel, and does memory grow?
 *
 * The plugin is the canary example with a request of ten headers. `bare` is the same module without the meter, called the
 * same way; both take turns. Run with `npm run bench evaluation`; needs no root.
 */
import { cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { Context } from '../../engine/abi.gen.ts';
import type { Question } from '../../engine/plugin-runtime/question.ts';
import { auditModule } from '../../engine/plugins/audit.ts';
import { meter } from '../../engine/plugins/fuel.ts';
import { parseModule } from '../../engine/plugins/wasm/module.ts';
import { BuiltPlugins, FUEL, GRANTS, plugin, question, start } from '../support/plugin-modules.ts';

const { values: options } = parseArgs({
  options: { evaluations: { type: 'string', default: '10000000' }, rounds: { type: 'string', default: '15' } },
});
const EVALUATIONS = Number(options.evaluations);
const ROUNDS = Number(options.rounds);
const BATCH = 20_000;
const SAMPLES = 200_000;

const HEADERS = {
  host: 'shop.example.com',
  'user-agent': 'Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0',
  accept: 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8',
  'accept-language': 'en-US,en;q=0.5',
  'accept-encoding': 'gzip, deflate, br',
  cookie: 'session=0123456789abcdef; theme=dark; canary=v2',
  'x-role': 'user',
  'x-request-id': '6f1c2a3b-0000-4000-8000-0123456789ab',
  referer: 'https://shop.example.com/items',
  'cache-control': 'no-cache',
};

/** A parser makes its strings anew for each request: the benchmark's are not the same objects either. */
function requests(): Question[] {
  return Array.from({ length: 64 }, (_, i) => {
    const copy = (text: string): string => Buffer.from(text).toString('latin1');
    const headers = Object.entries(HEADERS).flatMap(([name, value]) => [copy(name), copy(value)]);
    return question({ hook: Context.HTTP, method: 'GET', host: 'shop.example.com', path: copy(`/items/${i}`), query: 'page=2', headers });
  });
}

const percentile = (sorted: Float64Array, share: number): number => sorted[Math.floor(sorted.length * share)] as number;

async function main(): Promise<void> {
  console.log(`${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}, Node ${process.version}\n`);
  const built = new BuiltPlugins();
  try {
    await built.build(['plugins/canary', 'plugins/egress-allow-list']);
    const canary = built.bytes('plugins/canary');
    await measureEvaluation(canary);
    await measureFuel(canary);
    await measureLoop();
    await measureRewrite(built.path('plugins/canary'));
    await measureMemory(canary);
  } finally {
    built.remove();
  }
}

async function measureEvaluation(bytes: Uint8Array): Promise<void> {
  const instance = await start(bytes);
  const asked = requests();
  for (let i = 0; i < 10 * BATCH; i++) instance.evaluate(asked[i & 63] as Question);
  const medians: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const began = performance.now();
    for (let i = 0; i < BATCH; i++) instance.evaluate(asked[i & 63] as Question);
    medians.push(((performance.now() - began) * 1e6) / BATCH);
  }
  medians.sort((a, b) => a - b);
  const single = new Float64Array(SAMPLES);
  const clock = new Float64Array(SAMPLES);
  for (let i = 0; i < SAMPLES; i++) {
    const before = performance.now();
    clock[i] = (performance.now() - before) * 1e6;
    const began = performance.now();
    instance.evaluate(asked[i & 63] as Question);
    single[i] = (performance.now() - began) * 1e6;
  }
  single.sort();
  clock.sort();
  const table = new Table({ head: ['evaluation, ten headers', 'ns', 'wanted'] });
  table.push(['median (of batches)', (medians[ROUNDS >> 1] as number).toFixed(0), '≤ 1000']);
  table.push(['p99 (one by one, clock included)', percentile(single, 0.99).toFixed(0), '≤ 3000']);
  table.push(['p99.9', percentile(single, 0.999).toFixed(0), '']);
  table.push(['the clock itself, p50', percentile(clock, 0.5).toFixed(0), '']);
  console.log(table.toString());
}

/** The same module with and without the meter, taking turns; the host writes the record in neither. */
async function measureFuel(bytes: Uint8Array): Promise<void> {
  const view = parseModule(bytes);
  const instantiate = (code: Uint8Array): Record<string, CallableFunction> => {
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(code as Uint8Array<ArrayBuffer>), {
      env: { abort: () => {} },
      sluice: {},
    });
    (exports._initialize as () => void)();
    return exports as Record<string, CallableFunction>;
  };
  const bare = instantiate(bytes).sluice_eval as (hook: number) => number;
  const metered = instantiate(meter(view, 'sluice_eval', FUEL).bytes).sluice_run as (hook: number) => number;
  const time = (run: (hook: number) => number): number => {
    const began = performance.now();
    for (let i = 0; i < BATCH * 10; i++) run(Context.HTTP);
    return ((performance.now() - began) * 1e6) / (BATCH * 10);
  };
  const pairs: [number, number][] = [];
  for (let round = 0; round < ROUNDS + 3; round++) pairs.push([time(bare), time(metered)]);
  const kept = pairs.slice(3);
  const middle = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1] as number;
  const table = new Table({ head: ['the guest alone', 'bare ns', 'metered ns', 'more', 'ratio', 'wanted'] });
  const more = middle(kept.map(([a, b]) => b - a));
  table.push([
    'canary, an empty request',
    middle(kept.map(([a]) => a)).toFixed(0),
    middle(kept.map(([, b]) => b)).toFixed(0),
    more.toFixed(0),
    middle(kept.map(([a, b]) => b / a)).toFixed(2),
    '≤ 120 more',
  ]);
  console.log(table.toString());
}

async function measureLoop(): Promise<void> {
  const loop = plugin({ evaluate: '(loop $l (br $l)) (i32.const 1)' });
  const divide = plugin({
    evaluate:
      '(local.set $n (i32.const 7)) (loop $l (local.set $n (i32.div_u (i32.const -1) (i32.or (local.get $n) (i32.const 1)))) (br $l)) (i32.const 1)',
  });
  const fill = plugin({ evaluate: '(loop $l (memory.fill (i32.const 9000) (i32.const 1) (i32.const 56000)) (br $l)) (i32.const 1)' });
  const grow = plugin({ evaluate: '(loop $l (drop (memory.grow (i32.const 0))) (br $l)) (i32.const 1)' });
  const table = new Table({ head: ['stopped after its fuel of 1,000,000', 'worst of 20, µs', 'wanted'] });
  for (const [name, bytes] of Object.entries({ 'tight loop': loop, divisions: divide, 'memory.fill': fill, 'memory.grow': grow })) {
    let worst = 0;
    for (let i = 0; i < 20; i++) {
      const instance = await start(bytes);
      const began = performance.now();
      try {
        instance.evaluate(question());
      } catch {
        worst = Math.max(worst, performance.now() - began);
      }
    }
    table.push([name, (worst * 1000).toFixed(0), '≤ 2000']);
  }
  console.log(table.toString());
}

async function measureRewrite(path: string): Promise<void> {
  const { readFileSync } = await import('node:fs');
  const bytes = readFileSync(path);
  const times: number[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    const began = performance.now();
    await auditModule(bytes, GRANTS);
    times.push(performance.now() - began);
  }
  times.sort((a, b) => a - b);
  console.log(
    `audit, meter and compile ${join('plugins', 'canary')} (${bytes.length} bytes): median ${(times[ROUNDS >> 1] as number).toFixed(2)} ms\n`,
  );
}

async function measureMemory(bytes: Uint8Array): Promise<void> {
  const instance = await start(bytes);
  const asked = requests();
  const used = (): { heap: number; buffers: number; guest: number } => {
    globalThis.gc?.();
    const { heapUsed, arrayBuffers, external } = process.memoryUsage();
    return { heap: heapUsed / 1024, buffers: (arrayBuffers + external) / 1024, guest: instance.memoryBytes / 1024 };
  };
  for (let i = 0; i < BATCH; i++) instance.evaluate(asked[i & 63] as Question);
  const before = used();
  for (let i = 0; i < EVALUATIONS; i++) instance.evaluate(asked[i & 63] as Question);
  const after = used();
  const table = new Table({ head: [`KiB, ${EVALUATIONS.toLocaleString('en')} evaluations`, 'before', 'after', 'growth'] });
  for (const kind of ['heap', 'buffers', 'guest'] as const)
    table.push([kind, before[kind].toFixed(0), after[kind].toFixed(0), (after[kind] - before[kind]).toFixed(0)]);
  console.log(table.toString());
}

await main();

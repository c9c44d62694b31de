/** Measures a plugin on its cases: what one evaluation takes in the host, from the question to the verdict word. */
import type { CaseRunner } from './case-runner.ts';
import type { PluginCases } from './cases.ts';

export interface BenchResult {
  readonly name: string;
  readonly evaluations: number;
  /** Nanoseconds: the median and the 99th percentile of batches, each divided by its size. */
  readonly p50Ns: number;
  readonly p99Ns: number;
  readonly fuel: number;
  /** Bytes of the guest's memory, before and after. */
  readonly memoryBytes: readonly [before: number, after: number];
}

/** So short that a pause shows, so long that the clock does not. */
const BATCH = 64;
const WARM_UP = 20_000;

/** One result for each case that ends in a verdict. Others are left out: a trap costs an instance, not an evaluation. */
export function benchPlugin(runner: CaseRunner, { cases }: PluginCases, evaluations: number): BenchResult[] {
  return cases.flatMap((one) => {
    const instance = runner.start();
    if (!instance.answers(one.question.hook)) return [];
    try {
      for (let i = 0; i < WARM_UP; i++) instance.evaluate(one.question);
    } catch {
      return [];
    }
    const before = instance.memoryBytes;
    const batches = Math.max(1, Math.floor(evaluations / BATCH));
    const times = new Float64Array(batches);
    for (let batch = 0; batch < batches; batch++) {
      const started = performance.now();
      for (let i = 0; i < BATCH; i++) instance.evaluate(one.question);
      times[batch] = ((performance.now() - started) * 1e6) / BATCH;
    }
    times.sort();
    const at = (share: number): number => times[Math.min(batches - 1, Math.floor(batches * share))] as number;
    return [
      {
        name: one.name,
        evaluations: batches * BATCH,
        p50Ns: at(0.5),
        p99Ns: at(0.99),
        fuel: instance.fuelUsed,
        memoryBytes: [before, instance.memoryBytes] as const,
      },
    ];
  });
}

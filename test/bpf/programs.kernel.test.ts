/**
 * How much of the verifier's room each program needs: its stack, with the deepest function that it calls, and the instructions that
 * are followed. Printed as a table, so that what grows is seen before the kernel refuses it.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Table from 'cli-table3';
import { beforeAll, describe, expect, inject, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
/** Of a program's own frame: what it calls has the rest. */
const FRAME_MAX = 384;
/** MAX_BPF_STACK of the kernel, for a program and the functions that are called in it at one time. */
const STACK_MAX = 512;
/** The verifier rounds each frame up to this (check_max_stack_depth). */
const FRAME_UNIT = 32;
/** The kernel's limit is a million; its other versions, and other compilers, need half as much again. */
const INSTRUCTIONS_MAX = 400_000;

interface Cost {
  readonly program: string;
  readonly instructions: number;
  readonly frame: number;
  /** The largest frame of a function that the program calls. Where those call others, the verifier alone adds up. */
  readonly callee: number;
  readonly stack: number;
}

function costOf(line: string): Cost {
  const [program = '', ...numbers] = line.split(' ');
  const [instructions = Number.NaN, frame = Number.NaN, ...callees] = numbers.map(Number);
  const callee = Math.max(0, ...callees);
  const rounded = (bytes: number): number => Math.ceil(bytes / FRAME_UNIT) * FRAME_UNIT;
  return { program, instructions, frame, callee, stack: rounded(frame) + rounded(callee) };
}

/** The figures that are too large, in words. */
function tooMuch({ program, instructions, frame, stack }: Cost): string[] {
  return [
    ...(frame <= FRAME_MAX ? [] : [`${program}: a frame of ${frame} bytes`]),
    ...(stack <= STACK_MAX ? [] : [`${program}: ${stack} bytes of stack`]),
    ...(instructions <= INSTRUCTIONS_MAX ? [] : [`${program}: ${instructions} instructions`]),
  ];
}

describe.skipIf(inject('missing'))('what the verifier has to do', () => {
  let costs: Cost[];
  beforeAll(() => {
    const directory = mkdtempSync(join(tmpdir(), 'sluice-verifier-'));
    try {
      const verifier = join(directory, 'verifier');
      execFileSync('gcc', ['-O1', '-Wall', '-Wextra', '-Werror', '-o', verifier, join(root, 'test/bpf/verifier/verifier.c'), '-lbpf']);
      const lines = execFileSync(verifier, [join(root, 'build/endpoint.bpf.o')], { encoding: 'utf8' });
      costs = lines.trim().split('\n').map(costOf);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });

  test('stays below its limits for every program', () => {
    const table = new Table({
      head: ['program', 'instructions', 'frame', 'largest callee', 'stack'],
      style: { head: [], border: [], compact: true },
    });
    const sorted = [...costs].sort((a, b) => b.stack - a.stack || b.instructions - a.instructions);
    table.push(...sorted.map(({ program, instructions, frame, callee, stack }) => [program, instructions, frame, callee, stack]));
    console.log(table.toString());
    expect(costs.length).toBeGreaterThan(10);
    expect(costs.flatMap(tooMuch)).toEqual([]);
  });

  test('is said to be too much where it is', () => {
    expect(tooMuch(costOf('wide 10 392 0'))).toEqual(['wide: a frame of 392 bytes']);
    expect(tooMuch(costOf('deep 10 384 8 136'))).toEqual(['deep: 544 bytes of stack']);
    expect(tooMuch(costOf('long 400001 8'))).toEqual(['long: 400001 instructions']);
    expect(tooMuch(costOf('fits 400000 384 128 104'))).toEqual([]);
  });
});

/** The chain as bpf/stages.h declares it, beside what was compiled and what is drawn. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { drawChain, readChain } from '../../bpf/codegen/stages.ts';
import { ENGINE_STAGES, STAGES } from '../../engine/kernel/stages.gen.ts';
import { findRefusedLoops, readTailCalls } from '../support/bpf-object.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
/** A name in the kernel has 15 bytes. */
const NAME_MAX = 15;

describe('the chain of stages', () => {
  const { entries, stages } = readChain();
  const calls = readTailCalls(`${root}/build/endpoint.bpf.o`);

  test('every edge in the programs is declared, and every declared edge is in the programs', () => {
    const declared = stages.flatMap(({ program, array, number, from }) =>
      from.map((source) => `${source} → ${array}[${number}] ${program}`),
    );
    const compiled = calls.map(({ program, map, index }) => `${program} → ${map}[${index}] ${stages[index ?? -1]?.program}`);
    expect([...new Set(compiled)].sort()).toEqual(declared.sort());
  });

  test('each stage is entered from a program of the chain, and reached from an entry', () => {
    const reached = new Set(entries.map(({ program }) => program));
    for (let before = 0; before !== reached.size; ) {
      before = reached.size;
      for (const { program, from } of stages) if (from.some((source) => reached.has(source))) reached.add(program);
    }
    expect([...reached].sort()).toEqual([...entries, ...stages].map(({ program }) => program).sort());
    for (const { from } of stages) for (const source of from) expect(reached).toContain(source);
  });

  test('no name is longer than the kernel keeps', () => {
    const names = [...entries, ...stages].map(({ program }) => program).concat(stages.map(({ array }) => array));
    expect(names.filter((name) => name.length > NAME_MAX)).toEqual([]);
  });

  test('the loader has each stage once, where others enter it', () => {
    const table = [...STAGES, ...Object.values(ENGINE_STAGES)].map(([array, number, program]) => ({ array, number, program }));
    expect(table.sort((a, b) => a.number - b.number)).toEqual(stages.map(({ array, number, program }) => ({ array, number, program })));
  });

  test('each program stands in the file that the table names', () => {
    for (const { program, file } of [...entries, ...stages])
      expect(readFileSync(`${root}/bpf/${file}`, 'utf8'), `${file} has no ${program}`).toContain(
        `\nint ${program}(struct __sk_buff *skb)\n`,
      );
  });

  test('no loop is laid out as Linux 6.1 refuses it', () => {
    expect(findRefusedLoops(`${root}/build/endpoint.bpf.o`)).toEqual([]);
  });

  test('the drawing in the README is of this chain', () => {
    expect(readFileSync(`${root}/bpf/README.md`, 'utf8')).toContain(drawChain({ entries, stages }));
  });
});

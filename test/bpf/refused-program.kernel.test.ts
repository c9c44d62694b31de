/** A program that the kernel refuses: its error says why, however long the verifier's log is. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { stageSwitchesCodec } from '../../engine/abi.gen.ts';
import { objectPlanCodec } from '../../engine/native.gen.ts';

/** More instructions than a log of 64 KiB has room for, then an access to no memory. */
const REFUSED = `
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
const volatile struct { __u32 names; } switches = { 1 };
SEC("tc") int refused(struct __sk_buff *skb)
{
	asm volatile("${'r2 = 1; '.repeat(3000)}r3 = 7; r0 = *(u64 *)(r3 + 0)" ::: "r0", "r2", "r3");
	return (int)(skb->len + switches.names);
}
char terms[] SEC("license") = "GPL";
`;

describe.skipIf(inject('missing'))('a program that the kernel refuses', async () => {
  const { addressOf, native } = await import('../../engine/kernel/native.ts');
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-refused-'));
    writeFileSync(join(directory, 'refused.bpf.c'), REFUSED);
    const [source, object] = ['refused.bpf.c', 'refused.bpf.o'].map((name) => join(directory, name)) as [string, string];
    const headers = `/usr/include/${execFileSync('gcc', ['-print-multiarch'], { encoding: 'utf8' }).trim()}`;
    execFileSync('clang', ['-target', 'bpf', '-O2', '-g', '-I', headers, '-c', source, '-o', object]);
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  /** The text that is left of the log in a buffer of that size. */
  const load = (size: number): string => {
    const problem = Buffer.alloc(size, 0x7e);
    const [path, pins] = [join(directory, 'refused.bpf.o'), directory].map((text) => Buffer.from(`${text}\0`)) as [Buffer, Buffer];
    const [switches, plan] = [Buffer.alloc(stageSwitchesCodec.size), Buffer.alloc(objectPlanCodec.size)];
    objectPlanCodec.write(plan, 0, {
      path: addressOf(path),
      pinDirectory: addressOf(pins),
      switches: addressOf(switches),
      sizes: 0n,
      problem: addressOf(problem),
      sizeCount: 0,
      problemSize: problem.length,
    });
    expect(native.sluice_object__load(plan, Buffer.alloc(8))).toBeLessThan(0);
    return problem.toString('latin1', 0, problem.indexOf(0));
  };

  test.each([1 << 20, 4096, 600])('has the reason in %i bytes', (size) => {
    const text = load(size);
    expect(text).toMatch(/R3 invalid mem access 'scalar'/);
    expect(text.length).toBeLessThan(size);
  });

  test('has its whole log where there is room', () => {
    expect(load(1 << 20)).toMatch(/BEGIN PROG LOAD LOG[\s\S]{65536,}END PROG LOAD LOG/);
  });
});

/** The kernel's parser of DNS messages in user space, fed by a fuzzer, under sanitizers. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type DnsMessage, encodeMessage, encodeName, QUESTION, RESPONSE } from '../support/dns.ts';

const source = fileURLToPath(new URL('./fuzz/', import.meta.url));
/** A fixed number from a fixed seed: the same inputs each time. SLUICE_FUZZ_RUNS asks for more. */
const RUNS = Number(process.env.SLUICE_FUZZ_RUNS ?? 1_000_000);

const name = 'api.example.com';
const SEEDS: readonly DnsMessage[] = [
  { name, answers: [{ name: QUESTION, data: '192.0.2.1' }] },
  { name, answers: [{ name: QUESTION, type: 'AAAA', data: '2001:db8::1' }] },
  {
    name,
    answers: [
      { name: QUESTION, type: 'CNAME', data: 'edge.test' },
      { name: 'EDGE.test', data: '192.0.2.1' },
      { name: { at: 45 }, data: '192.0.2.2' },
    ],
  },
  { name: 'a.'.repeat(126), answers: [{ name: QUESTION, data: '192.0.2.1' }] },
  { name: `${'a'.repeat(63)}.${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(61)}`, answers: [{ name: QUESTION, data: '192.0.2.1' }] },
  { name, answers: [{ name: Buffer.concat([Buffer.from([1, 97]), encodeName({ at: 33 })]), data: '192.0.2.1' }] },
  { name, answers: Array.from({ length: 64 }, (_, i) => ({ name: QUESTION, data: `192.0.2.${i + 1}` })) },
];

describe('the parser of DNS messages', () => {
  const directory = mkdtempSync(join(tmpdir(), 'sluice-fuzz-'));
  const fuzzer = join(directory, 'dns-fuzz');
  beforeAll(() => {
    const sanitizers = ['-fsanitize=fuzzer,address,undefined', '-fno-sanitize-recover=undefined'];
    const include = `-I/usr/include/${execFileSync('gcc', ['-print-multiarch'], { encoding: 'utf8' }).trim()}`;
    execFileSync('clang', [
      '-g',
      '-O1',
      '-Wall',
      '-Werror',
      '-Wno-unused-function',
      ...sanitizers,
      '-I',
      source,
      include,
      '-o',
      fuzzer,
      join(source, 'dns.fuzz.c'),
    ]);
    mkdirSync(join(directory, 'corpus'));
    SEEDS.forEach((message, i) => {
      writeFileSync(join(directory, 'corpus', String(i)), encodeMessage({ flags: RESPONSE, ...message }));
    });
  }, 60_000);
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  test(`stays within every field, and ends, whatever it reads: ${RUNS} inputs`, () => {
    const { status, stderr } = spawnSync(
      fuzzer,
      ['-seed=20261125', `-runs=${RUNS}`, '-max_len=1500', '-timeout=5', `-artifact_prefix=${directory}/`, join(directory, 'corpus')],
      { encoding: 'utf8', maxBuffer: 64 << 20 },
    );
    expect(status, stderr.slice(-4000)).toBe(0);
    // It went deep: past the question, into chains and addresses.
    const covered = Number(/cov: (\d+) (?!.*cov:)/s.exec(stderr)?.[1]);
    expect(covered).toBeGreaterThan(80);
  }, 300_000);
});

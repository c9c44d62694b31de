/** The comparison of two builds of the programs: silent about two that are the same, and not about those that differ in one place. */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, inject, test } from 'vitest';
import { compare, sideOf } from './differential/differential.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const EPISODE = { seed: 1, firstEpisode: 0, episodes: 1, packets: 30_000 };

describe.skipIf(inject('missing'))('old and new programs', async () => {
  const scratch = mkdtempSync(join(tmpdir(), 'sluice-broken-'));
  afterAll(() => rmSync(scratch, { recursive: true, force: true }));
  const now = await sideOf(root);

  /** The object of this tree with one thing changed. */
  const broken = async (file: string, from: string, to: string): ReturnType<typeof sideOf> => {
    for (const directory of ['bpf', 'native']) cpSync(join(root, directory), join(scratch, directory), { recursive: true });
    const path = join(scratch, 'bpf', file);
    const text = readFileSync(path, 'utf8');
    expect(text).toContain(from);
    writeFileSync(path, text.replace(from, to));
    execFileSync('make', ['-s', '-C', join(scratch, 'native'), '../build/endpoint.bpf.o']);
    return sideOf(root, join(scratch, 'build/endpoint.bpf.o'));
  };

  test('which are the same, are told to be: through most ways that a packet can end', () => {
    const { same, text } = compare({ old: now, new: now, ...EPISODE });
    expect(same, text).toBe(true);
    expect(Number(/\((\d+)\)$/m.exec(text)?.[1])).toBeGreaterThan(45);
  });

  test.each([
    {
      name: 'a length that is not compared',
      file: 'packet.h',
      from: ' || tcp->doff * 4 > payload)',
      to: ')',
      says: /reason (10|35): counted/,
    },
    {
      name: 'a reason that is another one',
      file: 'account.h',
      from: '__u32 key = reason;',
      to: '__u32 key = reason == REASON_DROP_FRAGMENT ? REASON_DROP_MALFORMED : reason;',
      says: /reason 36/,
    },
    {
      name: 'what is noted of a connection',
      file: 'conntrack.h',
      from: 'flags |= CONNECTION_REPLIED;',
      to: 'flags |= 0;',
      says: /map connections|map openings/,
    },
    {
      name: 'where a packet is sent',
      file: 'dns-query.h',
      from: 'bpf_redirect(skb->ifindex, 0)',
      to: 'bpf_redirect(skb->ifindex, 1)',
      says: /by function 23 .*\(1\)/,
    },
    { name: 'a byte of an answer', file: 'dns-query.h', from: 'DNS_ANSWER | (', to: 'DNS_ANSWER | 16 | (', says: /by function 23/ },
  ])('which differ, are not: $name', async ({ file, from, to, says }) => {
    const { same, text } = compare({ old: now, new: await broken(file, from, to), ...EPISODE });
    expect(same).toBe(false);
    expect(text).toMatch(says);
  });
});

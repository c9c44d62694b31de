/** Which HostPolicies are for this node. What is in force, and until when, is in the kernel's tests. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { silentLogger } from '../../../engine/log.ts';
import type { HostPolicy, Node } from '../../../engine/policy/objects.ts';
import { formatProblem, type Problem, viewProblem } from '../../../engine/policy/problem.ts';
import { HostFirewall } from '../../../engine/reconcile/host-firewall.ts';

const node = (labels: Record<string, string>): Node => ({
  name: 'n1',
  labels: new Map(Object.entries(labels)),
  addresses: [],
  podCidrs: [],
});
const zone = (value: string): NonNullable<HostPolicy['nodes']> => [{ key: 'zone', operator: 'In', values: [value] }];
const everywhere: HostPolicy = { name: 'every@1', rules: {} };
const inA: HostPolicy = { name: 'a@1', nodes: zone('a'), rules: {} };
const inB: HostPolicy = { name: 'b@1', nodes: zone('b'), rules: {} };

describe('the host firewall', () => {
  const stateDir = mkdtempSync(join(tmpdir(), 'sluice-host-'));
  const opened: HostFirewall[] = [];
  afterEach(() => {
    for (const firewall of opened.splice(0)) firewall.close();
    rmSync(stateDir, { recursive: true, force: true });
  });

  function firewall(cgroup: { readonly cgroup: string | undefined } = { cgroup: '/' }) {
    const made = new HostFirewall({
      ...cgroup,
      stateDir,
      confirmMs: 60_000,
      nowMs: () => 1000,
      kernelNowNs: () => 0n,
      log: silentLogger,
    });
    opened.push(made);
    /** The names in force, and what was said about it. */
    return (policies: readonly HostPolicy[], own: Node | undefined): [readonly string[] | undefined, string[]] => {
      const problems: Problem[] = [];
      const current = made.next(policies, own, problems)?.current.hostPolicies?.map(({ name }) => name);
      return [current, problems.map((problem) => formatProblem(viewProblem(problem)))];
    };
  }

  test('takes the policies whose selector selects this node, and those without one', () => {
    const next = firewall();
    expect(next([everywhere, inA, inB], node({ zone: 'a' }))).toEqual([['every@1', 'a@1'], []]);
    expect(next([everywhere, inA, inB], node({ zone: 'b' }))).toEqual([['every@1', 'b@1'], []]);
    expect(next([everywhere, inA, inB], node({}))).toEqual([['every@1'], []]);
  });

  test('keeps what was in force while nobody says what this node is, and says so', () => {
    const next = firewall();
    next([everywhere, inA], node({ zone: 'a' }));
    const [current, problems] = next([everywhere, inA, inB], undefined);
    expect(current).toEqual(['every@1', 'a@1']);
    expect(problems).toEqual([expect.stringMatching(/a@1.*nobody has told the labels/), expect.stringMatching(/b@1.*nobody has told/)]);
  });

  test('needs no node for policies that are for every one', () => {
    expect(firewall()([everywhere, { ...inA, nodes: [] }], undefined)).toEqual([['every@1', 'a@1'], []]);
  });

  test('does not wait for one that is invalid and for other nodes', () => {
    const next = firewall();
    const invalid: HostPolicy = { ...inB, invalid: true };
    expect(next([everywhere, invalid], node({ zone: 'a' }))).toEqual([['every@1'], []]);
    expect(next([inA, invalid], node({ zone: 'b' }))[0]).toEqual(['every@1']);
  });

  test('speaks of what is for this node only, where it is off', () => {
    const next = firewall({ cgroup: undefined });
    expect(next([everywhere, inA, inB], node({ zone: 'b' }))).toEqual([
      undefined,
      [expect.stringContaining('every@1'), expect.stringContaining('b@1')],
    ]);
  });
});

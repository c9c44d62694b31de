/** Rules about names over time: what is known under a pattern keeps its meaning when other policies come and go. */
import { expect, test } from 'vitest';
import { Action, Direction } from '../../../engine/abi.gen.ts';
import { parseAddress } from '../../../engine/policy/address.ts';
import { Compiler } from '../../../engine/policy/compile.ts';
import { findIdentity, findNamedRule } from '../../../engine/policy/decide.ts';
import { type Snapshot, snapshotOf, update as updateWhole } from '../../support/compiled.ts';

const PODS = ['web', 'db']
  .map(
    (name, i) =>
      `apiVersion: v1\nkind: Pod\nmetadata: { name: ${name}, namespace: shop, labels: { app: ${name} }, annotations: { sluice.dev/interface: i${i} } }\nspec: {}\nstatus: { podIPs: [{ ip: 10.0.0.${i + 1} }] }\n---\n`,
  )
  .join('');
const policy = (app: string, names: string, port = 443): string => `apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: { name: ${app} }
spec:
  tier: Admin
  priority: 1
  subject: { pods: { namespaceSelector: {}, podSelector: { matchLabels: { app: ${app} } } } }
  egress:
  - { action: Accept, to: [{ domainNames: [${names}] }], protocols: [{ tcp: { destinationPort: { number: ${port} } } }] }
  - { action: Deny, to: [{ networks: [0.0.0.0/0, '::/0'] }] }
---
`;

/** The cluster of two pods, with these policies; pods are the same objects each time. */
const pods = snapshotOf(PODS).Pod;
const cluster = (policies: string): Snapshot => ({ ...snapshotOf(policies), Pod: pods });

function update(compiler: Compiler, policies: string): void {
  updateWhole(compiler, cluster(policies));
  compiler.retire();
}

/** Whether a pod may connect to port 443 of an address that it knows under a pattern. */
function allows(compiler: Compiler, app: string, pattern: number): boolean {
  const endpoint = [...compiler.endpoints.values()].find(({ pod }) => pod.name === app);
  const ruleSet = endpoint?.ruleSets[Direction.EGRESS]?.id ?? 0;
  const identity = findIdentity(compiler, parseAddress('192.0.2.1') as Uint8Array);
  return findNamedRule(compiler, ruleSet, [pattern], { identity, protocol: 6, port: 443 })?.action === Action.ALLOW;
}

test('an address that is known under another policy’s closer pattern stays open when that policy goes', () => {
  const compiler = new Compiler();
  update(compiler, policy('web', "'*.example.com'") + policy('db', 'api.example.com'));
  const known = compiler.named.remembered.get('api.example.com') as number;
  expect(compiler.named.closest('api.example.com')).toBe('api.example.com');
  expect([allows(compiler, 'web', known), allows(compiler, 'db', known)]).toEqual([true, true]);
  update(compiler, policy('web', "'*.example.com'") + policy('db', 'other.test'));
  expect(compiler.named.closest('api.example.com')).toBe('*.example.com');
  expect([allows(compiler, 'web', known), allows(compiler, 'db', known)]).toEqual([true, false]);
  compiler.named.forget(new Set([known]));
  expect(allows(compiler, 'web', known)).toBe(true);
  compiler.named.forget(new Set());
  expect(compiler.named.remembered.has('api.example.com')).toBe(false);
});

test('a change of ports is in force for what is known already', () => {
  const compiler = new Compiler();
  update(compiler, policy('web', "'*.example.com'"));
  const known = compiler.named.remembered.get('*.example.com') as number;
  const before = compiler.named.ruleSets.entries.size;
  update(compiler, policy('web', "'*.example.com'", 80));
  expect(allows(compiler, 'web', known)).toBe(false);
  update(compiler, policy('web', "'*.example.com', '*.example.org'"));
  expect(allows(compiler, 'web', known)).toBe(true);
  expect(compiler.named.ruleSets.entries.size).toBe(before + 1);
});

test('without rules about names nothing of them is left', () => {
  const compiler = new Compiler();
  update(compiler, policy('web', "'*.example.com'"));
  update(compiler, '');
  compiler.named.forget(new Set());
  for (const map of ['named_rule_sets', 'name_patterns', 'policies'] as const) expect(compiler.maps[map].entries.size).toBe(0);
});

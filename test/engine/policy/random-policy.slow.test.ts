/** The compiled maps of random clusters, changed step by step, against an evaluator that reads the manifests. */

import { expect, test } from 'vitest';
import { Action, Direction } from '../../../engine/abi.gen.ts';
import { parseAddress } from '../../../engine/policy/address.ts';
import { Compiler } from '../../../engine/policy/compile.ts';
import { objectName } from '../../../engine/policy/object-name.ts';
import { compiled, EMPTY_SNAPSHOT, ruleOfMaps, type Snapshot, snapshotOf, update } from '../../support/compiled.ts';
import { naiveVerdict } from '../../support/naive-policy.ts';
import { RandomCluster } from '../../support/random-cluster.ts';

const seed = Number(process.env.SLUICE_TEST_SEED ?? 20_261_123);
const CLUSTERS = 15;
const CHANGES = 24;
const PEERS = ['10.0.0.1', '10.0.0.2', '10.0.0.5', '10.9.9.9', '192.0.2.1', 'fd00::1', 'fd00::3', 'fd00::99', '2001:db8::1'];
const PROTOCOLS = [
  { protocol: 'TCP', number: 6 },
  { protocol: 'UDP', number: 17 },
  { protocol: 'SCTP', number: 132 },
  { protocol: 'ICMP', number: 1 },
];

/** By which an endpoint may know a peer: by none, one or several. */
const NAMES = [[], ['a.b.test'], ['x.c.b.test'], ['c.b.test', 'b.test'], ['deep.a.b.test', 'other.test'], ['nobody.test']];

/** Compares every flow of a cluster; returns how many. */
function compareAll(cluster: RandomCluster, compiler: Compiler, where: string): number {
  let count = 0;
  for (const pod of cluster.pods)
    for (const direction of ['ingress', 'egress'] as const)
      for (const [i, peer] of PEERS.entries())
        for (const { protocol, number } of PROTOCOLS)
          for (const port of protocol === 'ICMP' ? [0] : [1, 3, 5, 8]) {
            const name = objectName(pod.metadata);
            const side = direction === 'ingress' ? Direction.INGRESS : Direction.EGRESS;
            const names = direction === 'ingress' ? [] : (NAMES[(i + port) % NAMES.length] ?? []);
            const got = ruleOfMaps(compiler, name, side, parseAddress(peer) as Uint8Array, number, port, names).action === Action.ALLOW;
            const { allowed, tier } = naiveVerdict(cluster, { direction, pod, peer, names, protocol, port });
            count += 1;
            if (got !== allowed)
              expect.fail(
                `${where}: ${name} ${direction} ${peer} (${names}) ${protocol}/${port}: compiled ${got}, naive ${allowed} (${tier})\n${cluster.manifest}`,
              );
          }
  return count;
}

function entriesOf(compiler: Compiler): Record<string, string[]> {
  return Object.fromEntries(
    Object.entries(compiler.maps).map(([map, { entries }]) => [
      map,
      [...entries].map(([key, value]) => Buffer.from(key + value.toString('latin1'), 'latin1').toString('hex')).sort(),
    ]),
  );
}

/** A snapshot in which objects that did not change are those of the one before. */
function snapshotAfter(cluster: RandomCluster, known: Map<object, unknown>): Snapshot {
  const read = (object: object): never => {
    if (!known.has(object)) known.set(object, Object.values(snapshotOf(JSON.stringify(object))).flat()[0]);
    return known.get(object) as never;
  };
  return {
    ...EMPTY_SNAPSHOT,
    Namespace: cluster.namespaces.map(read),
    Pod: cluster.pods.map(read),
    NetworkPolicy: cluster.policies.map(read),
    ClusterNetworkPolicy: cluster.clusterPolicies.map(read),
  };
}

test(`agrees with a naive evaluator on random clusters and every change of them (seed ${seed})`, () => {
  let compared = 0;
  for (let i = 0; i < CLUSTERS; i++) {
    const cluster = new RandomCluster(seed + i);
    const compiler = new Compiler();
    const known = new Map<object, unknown>();
    for (let step = 0; step < CHANGES; step++) {
      for (let n = cluster.below(4); n >= 0; n--) cluster.change();
      update(compiler, snapshotAfter(cluster, known));
      // Entries that still stand beside the new ones must not change what those say.
      if (step % 2) compiler.retire();
      compared += compareAll(cluster, compiler, `seed ${seed + i}, step ${step}`);
    }
  }
  expect(compared).toBeGreaterThan(200_000);
}, 60_000);

test(`a cluster that was changed step by step has the entries of one that is compiled at once (seed ${seed})`, () => {
  for (let i = 0; i < CLUSTERS; i++) {
    const cluster = new RandomCluster(seed + 1000 + i);
    const compiler = new Compiler();
    const known = new Map<object, unknown>();
    for (let step = 0; step < CHANGES; step++) {
      for (let n = cluster.below(4); n >= 0; n--) cluster.change();
      const snapshot = snapshotAfter(cluster, known);
      update(compiler, snapshot);
      compiler.retire();
      // Nothing is known under patterns that are gone.
      compiler.named.forget(new Set());
      expect(entriesOf(compiler), `seed ${seed + 1000 + i}, step ${step}`).toEqual(entriesOf(compiled(snapshot)));
    }
  }
});
